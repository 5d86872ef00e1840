"""SIGTERM and SIGINT: what they save, how the process ends, and that the run goes on exactly."""

import pytest
from children import Folder, reference
from run_case import HOW

from keras_patterns import CheckpointStore
from keras_patterns.testing import assert_same_state


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return reference(tmp_path_factory.mktemp("signals") / "reference", "dense")


@pytest.mark.parametrize("name", ["term", "int"])
@pytest.mark.parametrize(
    ("where", "at", "saved"),
    [
        ("step", 2, (3, 1)),  # the step in flight is done first
        ("step", 4, (5, 1)),  # the first step of an epoch: on_epoch_begin is not told twice
        ("step", 3, (4, 0)),  # the last one: validation is still to come
        ("validation", 4, (4, 0)),
        ("validation", 8, (8, 0)),
    ],
)
def test_the_run_is_saved_and_goes_on_exactly(name, where, at, saved, tmp_path, expected):
    folder = Folder(tmp_path, "dense")
    printed = folder.child("--where", where, "--at", at, "--signals", name, expect=128 + HOW[name])
    assert f"stopped by {HOW[name].name} after step {saved[0]} of 8" in printed
    assert "Run the same script again to go on." in printed
    position = CheckpointStore(tmp_path / "checkpoints").latest().position
    assert (position.step, position.phase) == saved
    assert_same_state(expected, folder.finish())


@pytest.mark.parametrize("name", ["term", "int"])
def test_a_second_signal_ends_it_at_once(name, tmp_path, expected):
    folder = Folder(tmp_path, "dense")
    printed = folder.child("--at", 2, "--signals", name, name, expect=-HOW[name])
    assert "once more ends the run at once" in printed
    assert CheckpointStore(tmp_path / "checkpoints").latest().position.step == 2
    assert_same_state(expected, folder.finish())


def test_outside_the_main_thread(tmp_path, expected):
    folder = Folder(tmp_path, "dense")
    printed = folder.child("--thread", "--at", 2, "--signals", "term", expect=-HOW["term"])
    assert "not in the main thread, so a signal to stop is not caught" in printed
    folder.child("--thread", "--state", "state.json")
    assert_same_state(expected, folder.finish())
