"""Real kills: SIGKILL, fresh processes, and the same end, bit for bit."""

import pytest
from children import Folder, reference
from models import CASES, runnable

from keras_patterns import CheckpointStore
from keras_patterns.testing import assert_same_state


def names(chosen=CASES):
    return [pytest.param(param.id, marks=param.marks) for param in runnable(chosen)]


@pytest.mark.parametrize("name", names())
def test_killed_three_times(name, tmp_path):
    """In the first epoch, in the first step of a later one, and before the last step."""
    steps, epochs = CASES[name].steps, CASES[name].arguments["epochs"]
    folder = Folder(tmp_path, name)
    stride = 4 if CASES[name].needs == "fuses_steps" else 1
    for step in (stride, -(-CASES[name].arguments["total_steps"] // epochs), steps - 1 if stride == 1 else 10):
        folder.kill_at(step)
    found = folder.finish()
    assert_same_state(reference(tmp_path / "reference", name), found)


@pytest.mark.every_step
@pytest.mark.parametrize("name", names())
def test_killed_at_every_step(name, tmp_path):
    folder = Folder(tmp_path, name)
    # Killed before its first step, a run has left nothing to go on from.
    for step in (4, 6, 10) if CASES[name].needs == "fuses_steps" else range(1, CASES[name].steps):
        folder.kill_at(step)
    assert_same_state(reference(tmp_path / "reference", name), folder.finish())


@pytest.fixture
def dense_reference(tmp_path):
    return lambda: reference(tmp_path / "reference", "dense")


def test_killed_twice_in_one_epoch(tmp_path, dense_reference):
    folder = Folder(tmp_path, "dense")
    folder.kill_at(1)
    folder.kill_at(3)
    assert_same_state(dense_reference(), folder.finish())


def test_killed_during_both_validations(tmp_path):
    name = "generator"
    folder = Folder(tmp_path, name)
    folder.kill_at(4, "--where", "validation")
    folder.kill_at(8, "--where", "validation")
    assert_same_state(reference(tmp_path / "reference", name), folder.finish())


@pytest.mark.parametrize(("event", "count"), [("open", 12), ("os.rename", 2), ("os.rename", 5)])
def test_killed_while_saving(event, count, tmp_path, dense_reference):
    folder = Folder(tmp_path, "dense")
    folder.child("--saving", event, count, expect=-9)
    folder.child("--saving", event, count, expect=-9)
    assert_same_state(dense_reference(), folder.finish())


# What EarlyStopping works out from its arguments at the end of the first epoch that it sees: no state.
WORKED_OUT = {"callbacks/EarlyStopping", "callbacks/EarlyStopping/min_delta", "callbacks/EarlyStopping/monitor_op"}


@pytest.mark.parametrize("name", ["dense", "stops early", "moving average", "early stopping"])
def test_a_finished_run_is_not_trained_again(name, tmp_path):
    folder = Folder(tmp_path, name)
    first = folder.finish()
    before = CheckpointStore(tmp_path / "checkpoints").latest().manifest
    printed = folder.child("--state", "state.json", "--at", 0)
    assert "there is nothing to train" in printed
    again = folder.finish()
    told = [{key: value for key, value in state.items() if key not in WORKED_OUT} for state in (first, again)]
    assert_same_state(*told)
    assert CheckpointStore(tmp_path / "checkpoints").latest().manifest == before
