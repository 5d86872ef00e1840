"""Steps in blocks end where steps one by one do, in every bit, for every case of the table."""

import keras
import pytest
from children import Relay, references
from models import CASES, runnable

import keras_patterns as kp
from keras_patterns.data import stacked
from keras_patterns.run import fusing
from keras_patterns.testing import assert_resumes_exactly, assert_same_state
from keras_patterns.testing.comparison import run_state

# A callback that hears of each batch; steps_per_execution; data whose code may look at the model.
ONE_BY_ONE = {
    *("user's callback", "fused steps", "PyDataset", "random layer in a PyDataset", "generator"),
}
IN_BLOCKS = {
    # A convolution in a loop is slow on a CPU.
    "jax": {*CASES} - ONE_BY_ONE - {"convolutional"},
    "tensorflow": {*CASES} - ONE_BY_ONE,
    # A value is read on the host in a loop over time steps, of a momentum that is a variable, and
    # where Nadam makes numbers of tensors.
    "torch": {*CASES}
    - ONE_BY_ONE
    - {
        *("stateful recurrent", "stateful LSTM", "cycled momentum", "shorter last epoch"),
        # A LearningRateScheduler, whose function may change what the code of a step does.
        *("planted NaN", "Keras's callbacks"),
    },
}


# The ordinary run takes a fixed sample; `nox -s fused` takes the rest.
SAMPLE = [
    *("dense", "custom train_step", "gradient accumulation", "planted NaN", "generator"),
]


def at_once(monkeypatch):
    """Blocks after two steps, however slow this machine is."""
    monkeypatch.setattr(fusing, "_TIMED", 2)
    monkeypatch.setattr(fusing, "_PATIENCE", float("inf"))
    monkeypatch.setattr(stacked, "_MOST_SECONDS", float("inf"))


def end(case, tmp_path, **how):
    keras.utils.set_random_seed(5)
    model = case.make_model()
    arguments = {
        name: value() if callable(value) else value for name, value in case.arguments.items()
    }
    if case.saved:
        callbacks = [*arguments.pop("callbacks", []), kp.Checkpoint(tmp_path / str(how))]
        arguments["callbacks"] = callbacks
    history = kp.fit(model, **arguments, seed=0, verbose=0, **how)
    return run_state(model, history)


@pytest.mark.parametrize("case", runnable(SAMPLE))
def test_blocks_end_as_single_steps_do(case, monkeypatch, tmp_path):
    check(case, monkeypatch, tmp_path)


@pytest.mark.fused
@pytest.mark.parametrize("case", runnable([name for name in CASES if name not in SAMPLE]))
def test_each_other_case_ends_as_single_steps_do(case, monkeypatch, tmp_path):
    check(case, monkeypatch, tmp_path)


def check(case, monkeypatch, tmp_path):
    said = []
    at_once(monkeypatch)
    monkeypatch.setattr(fusing, "say", lambda text, **_: said.append(text))
    expected = end(case, tmp_path, fuse=False)
    assert_same_state(expected, end(case, tmp_path, fuse=True))
    name = next(name for name, one in CASES.items() if one is case)
    assert any("in blocks" in line for line in said) == is_in_blocks(name), said


def is_in_blocks(name):
    return name in IN_BLOCKS[keras.backend.backend()]


@pytest.mark.fused
@pytest.mark.parametrize("case", runnable([name for name in CASES if is_in_blocks(name)]))
def test_each_case_that_is_killed_goes_on_in_blocks(case, monkeypatch):
    at_once(monkeypatch)
    kills = range(3, case.steps - 2, 3)
    assert_resumes_exactly(
        case.make_model, **case.arguments, fuse=True, kill_at=kills, every_steps=3
    )


def check_kills(names, tmp_path, subtests):
    """In real processes, in a block that is not saved; the end is that of single steps."""
    kills = {name: [4 if number % 2 else CASES[name].steps - 2] for number, name in names}
    every = ("--every", 3)
    relay = Relay(tmp_path, kills, every=3, arguments=["--blocks", *every])
    for name, expected in references(*kills, arguments=every).items():
        with subtests.test(name):
            relay.check(name, expected)


KILLED = [
    (number, param.id)
    for number, param in enumerate(runnable([name for name in CASES if is_in_blocks(name)]))
    # These are saved at other steps, too, or have something due at nearly every step.
    if not param.marks and param.id not in ("thawing", "Prechelt", "switched augmentation")
]


def test_a_case_that_dies_of_sigkill_in_a_block(tmp_path, subtests):
    check_kills(KILLED[:2], tmp_path, subtests)


@pytest.mark.fused
def test_each_case_that_dies_of_sigkill_in_a_block(tmp_path, subtests):
    check_kills(KILLED[2:], tmp_path, subtests)
