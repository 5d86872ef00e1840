"""Validation inside epochs: when, what it leaves untouched, who is told, and what a stop there
does.
"""

import keras
import numpy as np
import pytest
from children import Folder, references
from models import CASES, FEATURES, LABELS, TRAIN, VALIDATION, recurrent, runnable, unseeded_dropout

import keras_patterns as kp
from keras_patterns.testing import assert_same_state, run_state


class Told(kp.Hook):
    def __init__(self, stop_at=None):
        super().__init__()
        self.told = []
        self.stop_at = stop_at

    def on_boundary(self, boundary):
        if boundary.epoch is not None:
            self.told.append((boundary.step, "epoch"))
        elif boundary.validation is not None:
            self.told.append((boundary.step, sorted(boundary.validation)))
            if boundary.step == self.stop_at:
                return kp.Stop("asked to")
        return None


def train(make_model, **arguments):
    keras.utils.set_random_seed(3)
    model = make_model()
    callbacks = arguments.get("callbacks", [])
    return model, kp.fit(model, **arguments, seed=0, verbose=0), callbacks


def test_it_runs_at_the_multiples_and_at_the_ends_of_epochs():
    told = Told()
    data = {**TRAIN, **VALIDATION, "total_steps": 10, "epochs": 2}
    _, history, _ = train(
        CASES["dense"].make_model, **data, validate_every_steps=2, callbacks=[told]
    )
    names = ["val_accuracy", "val_loss"]
    assert told.told == [
        (2, names),
        (4, names),
        (5, "epoch"),
        (6, names),
        (8, names),
        (10, "epoch"),
    ]
    assert [row["step"] for row in history.validations] == [2, 4, 5, 6, 8, 10]
    assert len(history.history["val_loss"]) == 2
    assert history.epoch_end_steps == [5, 10]


def test_ends_of_epochs_can_be_left_out():
    data = {**TRAIN, **VALIDATION, "total_steps": 8, "epochs": 2}
    _, history, _ = train(
        CASES["dense"].make_model, **data, validate_every_steps=2, validation_freq=()
    )
    assert [row["step"] for row in history.validations] == [2, 4, 6, 8]
    # The ends of these epochs are multiples.
    assert len(history.history["val_loss"]) == 2
    _, history, _ = train(
        CASES["dense"].make_model, **data, validate_every_steps=3, validation_freq=()
    )
    assert [row["step"] for row in history.validations] == [3, 6]
    assert "val_loss" not in history.history


SERIES = {**CASES["stateful recurrent"].arguments}


@pytest.mark.parametrize(
    ("make_model", "arguments"),
    [
        (CASES["dense"].make_model, {**TRAIN, **VALIDATION}),
        (unseeded_dropout, {**TRAIN, **VALIDATION}),
        (
            lambda: recurrent(keras.layers.SimpleRNN),
            {**SERIES, "validation_data": (SERIES["x"][:8], SERIES["y"][:8])},
        ),
    ],
    ids=["dense", "unseeded dropout", "stateful recurrent"],
)
def test_training_is_as_it_would_be_without(make_model, arguments):
    """Weights, slots, seeds, running metrics and History; `validation_freq` is the same in both."""
    model, history, _ = train(make_model, **arguments)
    ends = history.validations
    without = run_state(model, history)
    model, history, _ = train(make_model, **arguments, validate_every_steps=1)
    assert len(history.validations) == 8
    history.validations = [
        row for row in history.validations if row["step"] in history.epoch_end_steps
    ]
    assert history.validations == ends
    assert_same_state(without, run_state(model, history))


def test_it_measures_what_evaluate_measures():
    """At step 3 of 8: as a run that ends there."""
    short, _, _ = train(CASES["dense"].make_model, **{**TRAIN, "total_steps": 3, "epochs": 1})
    expected = short.evaluate(*VALIDATION["validation_data"], return_dict=True, verbose=0)
    _, history, _ = train(CASES["dense"].make_model, **TRAIN, **VALIDATION, validate_every_steps=3)
    for name, value in expected.items():
        np.testing.assert_allclose(history.validations[0][f"val_{name}"], value, rtol=1e-6)


def test_a_stop_inside_an_epoch_trains_no_further_step():
    told = Told(stop_at=3)
    model, history, _ = train(
        CASES["dense"].make_model, **TRAIN, **VALIDATION, validate_every_steps=3, callbacks=[told]
    )
    assert [step for step, _ in told.told] == [3, 3]
    assert int(model.optimizer.iterations) == 3
    assert history.epoch_end_steps == [3]
    # The row of the epoch that was cut short has what it was stopped by.
    assert history.history["val_loss"] == [history.validations[0]["val_loss"]]
    assert history.history["loss"]
    model.predict(FEATURES[:2], verbose=0)
    again = model.fit(FEATURES, LABELS, epochs=1, verbose=0)
    assert np.isfinite(again.history["loss"][0])


def test_a_run_stopped_inside_an_epoch_is_finished():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Told, "get_state", lambda self: {"told": [step for step, _ in self.told]}, raising=False
        )
        patch.setattr(Told, "set_state", lambda self, state: None, raising=False)
        for _ in range(2):
            told = Told(stop_at=3)
            model, history, _ = train(
                CASES["dense"].make_model,
                **TRAIN,
                **VALIDATION,
                validate_every_steps=3,
                callbacks=[told, kp.Checkpoint("run")],
            )
            assert int(model.optimizer.iterations) == 3
            assert history.epoch_end_steps == [3]
    assert told.told == []


@pytest.mark.parametrize("case", runnable(["dense", "fused steps"]))
def test_steps_that_run_together(case):
    data = {
        **case.arguments,
        **VALIDATION,
        "total_steps": 12,
        "epochs": 2,
        "validate_every_steps": 3,
        "log_every_steps": None,
    }
    _, history, _ = train(case.make_model, **data)
    # At the first boundary from each multiple on; at the ends of epochs as always.
    expected = {1: [3, 6, 9, 12], 4: [4, 6, 10, 12]}[case.make_model().steps_per_execution]
    assert [row["step"] for row in history.validations] == expected
    assert history.epoch_end_steps == [6, 12]


def test_killed_and_stopped_during_it(tmp_path):
    """A signal in the middle of it saves the state before it, and the run goes on with the
    validation.
    """
    name = "validation by steps"
    folder = Folder(tmp_path / "killed", name)
    folder.child("--at", 3, "--where", "validation", expect=-9)
    folder.child("--at", 3, "--where", "validation", "--signals", "term", expect=143)
    folder.child("--at", 6, "--where", "validation", "--signals", "term", expect=143)
    assert_same_state(references(name)[name], folder.finish())


def test_arguments_are_checked():
    with pytest.raises(
        ValueError, match="validate_every_steps=5 needs validation_data= or validation_split="
    ):
        train(CASES["dense"].make_model, **TRAIN, validate_every_steps=5)
    with pytest.raises(ValueError, match="`validate_every_steps` must be at least 1"):
        train(CASES["dense"].make_model, **TRAIN, **VALIDATION, validate_every_steps=0)
    with pytest.raises(TypeError, match="`validate_every_steps` must be a whole number"):
        train(CASES["dense"].make_model, **TRAIN, **VALIDATION, validate_every_steps=0.5)
