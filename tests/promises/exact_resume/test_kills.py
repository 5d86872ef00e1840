"""Exact resume: so it is with SIGKILL and fresh processes."""

from contextlib import nullcontext

import pytest
from children import Folder, Relay, check_end, references, run, state
from models import CASES, runnable

from keras_patterns import CheckpointStore
from keras_patterns.testing import assert_same_state

# The others are killed once each: test_exact_resume.py kills all of them at many steps, in
# one process.
THREE_TIMES = {"dense", "moving average", "thawing"}
GROUPS = 6


def kills():
    """For each case that the backend can run, the steps after which it is killed, in the first
    epoch, in the first step of a later one, or before the last step.
    """
    chosen = {}
    for number, name in enumerate(param.id for param in runnable()):
        stride = 4 if CASES[name].needs == "fuses_steps" else 1
        data = CASES[name].arguments
        places = [
            stride,
            -(-data["total_steps"] // data["epochs"]),
            CASES[name].steps - 1 if stride == 1 else 10,
        ]
        chosen[name] = places if name in THREE_TIMES else [places[number % 3]]
    return chosen


def groups():
    """Cases that share their processes. One that is expected to fail has its own."""
    sound = [param.id for param in runnable() if not param.marks]
    shared = [pytest.param(sound[first::GROUPS], id=f"group {first}") for first in range(GROUPS)]
    return shared + [
        pytest.param([param.id], id=param.id, marks=param.marks)
        for param in runnable()
        if param.marks
    ]


@pytest.mark.parametrize("names", groups())
def test_each_case_that_is_killed_goes_on_to_the_same_end(names, tmp_path, subtests):
    relay = Relay(tmp_path / "killed", {name: kills()[name] for name in names})
    expected = references(*names)
    for name in names:
        with subtests.test(name) if len(names) > 1 else nullcontext():
            relay.check(name, expected[name])


@pytest.mark.every_step
@pytest.mark.parametrize(
    "name", [pytest.param(param.id, marks=param.marks) for param in runnable()]
)
def test_each_case_that_is_killed_at_every_step_goes_on_to_the_same_end(name, tmp_path):
    folder = Folder(tmp_path, name)
    # Killed before its first step, a run has left nothing to go on from.
    for step in (4, 6, 10) if CASES[name].needs == "fuses_steps" else range(1, CASES[name].steps):
        folder.kill_at(step)
    assert_same_state(references(name)[name], folder.finish())


def test_killed_twice_in_one_epoch_and_while_saving(tmp_path):
    """In processes that share nothing, not even what an import leaves."""
    folder = Folder(tmp_path, "dense", alone=True)
    folder.kill_at(1)
    folder.kill_at(3)
    for event, count in [("open", 12), ("os.rename", 2), ("os.rename", 5)]:
        folder.child("--saving", event, count, expect=-9)
    assert_same_state(references("dense")["dense"], folder.finish())


def test_killed_during_both_validations(tmp_path):
    folder = Folder(tmp_path, "generator")
    folder.kill_at(4, "--where", "validation")
    folder.kill_at(8, "--where", "validation")
    assert_same_state(references("generator")["generator"], folder.finish())


# What EarlyStopping works out from its arguments at the end of the first epoch that it sees: no
# state.
WORKED_OUT = {
    "callbacks/EarlyStopping",
    "callbacks/EarlyStopping/min_delta",
    "callbacks/EarlyStopping/monitor_op",
}


def test_a_finished_run_is_not_trained_again(tmp_path, subtests):
    names = ["dense", "stops early", "moving average", "early stopping"]
    states, manifests = [], []
    for _ in range(2):
        process = run(tmp_path, *names)
        check_end(process, 0)
        states.append({name: state(tmp_path, name) for name in names})
        manifests.append(
            {
                name: CheckpointStore(tmp_path / name / "checkpoints").latest().manifest
                for name in names
            }
        )
    assert process.stdout.count("there is nothing to train") == len(names)
    assert manifests[0] == manifests[1]
    for name in names:
        with subtests.test(name):
            assert_same_state(
                *(
                    {key: value for key, value in ends[name].items() if key not in WORKED_OUT}
                    for ends in states
                )
            )
