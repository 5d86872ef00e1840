"""Exact resume: SIGTERM and SIGINT save the run and end the process; it goes on exactly."""

from contextlib import nullcontext

import numpy as np
import pytest
from children import Folder, references
from killers import HOW, Sender
from models import regressor

import keras_patterns as kp
from keras_patterns import CheckpointStore
from keras_patterns.testing import assert_same_state


def test_the_run_is_saved_and_goes_on_exactly(tmp_path):
    """One run that is stopped at five places, one after the other."""
    folder = Folder(tmp_path, "dense")
    for where, at, name, saved in [
        ("step", 2, "term", (3, 1)),  # the step in flight is done first
        ("step", 3, "int", (4, 0)),  # the last one of an epoch: validation is still to come
        ("validation", 4, "term", (4, 0)),
        ("step", 4, "int", (5, 1)),  # the first step of an epoch: on_epoch_begin is not told twice
        ("validation", 8, "term", (8, 0)),
    ]:
        printed = folder.child(
            "--where", where, "--at", at, "--signals", name, expect=128 + HOW[name]
        )
        assert f"stopped by {HOW[name].name} after step {saved[0]} of 8" in printed
        assert "Run the same script again to go on." in printed
        position = CheckpointStore(folder.path / "checkpoints").latest().position
        assert (position.step, position.phase) == saved
    assert_same_state(references("dense")["dense"], folder.finish())


def test_a_signal_ends_it_at_once(tmp_path):
    """The second one of a kind, and one outside the main thread, where none can be caught."""
    folder = Folder(tmp_path, "dense")
    for at, how, name, said in [
        (2, ["int", "int"], "int", "once more ends the run at once"),
        (5, ["term", "term"], "term", "once more ends the run at once"),
        (
            6,
            ["term", "--thread"],
            "term",
            "not in the main thread, so a signal to stop is not caught",
        ),
    ]:
        assert said in folder.child("--at", at, "--signals", *how, expect=-HOW[name])
        assert CheckpointStore(folder.path / "checkpoints").latest().position.step == at
    assert_same_state(references("dense")["dense"], folder.finish("--thread"))


def test_a_save_that_was_due_is_made_after_the_validation():
    """Stopped in the last step of an epoch, which `every_steps` asks for: with its score it is
    kept, as in a run left alone.
    """
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    for batch in (-1, 4):
        for again in (True, False) if batch > 0 else (False,):
            keeps = {"every_steps": 5, "keep_last": 1, "keep_every_steps": 5, "keep_best": 1}
            data = {
                "batch_size": 8,
                "epochs": 3,
                "seed": 0,
                "verbose": 0,
                "validation_data": (x, x[:, 0]),
            }
            callbacks = [
                kp.Checkpoint(f"run-{batch}", **keeps),
                Sender("step", batch if again else -1, ["term"]),
            ]
            with pytest.raises(kp.RunInterrupted) if again else nullcontext():
                kp.fit(regressor(), x, x[:, 0], callbacks=callbacks, **data)
        found = kp.CheckpointStore(f"run-{batch}")
        assert found.steps() == [5, 10, 15]
        assert all(entry.score is not None for entry in found.entries())
