"""Steps in blocks end where steps one by one do, in every bit, for every case of the table."""

import functools
import importlib

import keras
import numpy as np
import pytest
from children import Relay, references
from models import CASES, FEATURES, runnable

import keras_patterns as kp
from keras_patterns.backends import Block, current
from keras_patterns.data import stacked
from keras_patterns.run import comparing, fusing
from keras_patterns.state.preservation import preserved
from keras_patterns.state.variables import find_variables
from keras_patterns.testing import assert_resumes_exactly, assert_same_state
from keras_patterns.testing.comparison import run_state

# A callback that hears of each batch; steps_per_execution; data whose code may look at the model.
ONE_BY_ONE = {
    *("user's callback", "fused steps", "PyDataset", "random layer in a PyDataset", "generator"),
}
IS_ON_CPU = current().device().lower().endswith(" cpu")
IN_BLOCKS = {
    # A convolution in a loop is slow on a CPU.
    "jax": {*CASES} - ONE_BY_ONE - ({"convolutional"} if IS_ON_CPU else set()),
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

# Weights, slots and values that a block is compared from.
STATES = 40


def at_once(monkeypatch):
    """Blocks after two steps, however slow this machine is."""
    monkeypatch.setattr(fusing, "_TIMED", 2)
    monkeypatch.setattr(fusing, "_PATIENCE", float("inf"))
    monkeypatch.setattr(stacked, "_MOST_SECONDS", float("inf"))


def made(case, folder):
    """A new model, and the arguments of its training."""
    keras.utils.set_random_seed(5)
    model = case.make_model()
    how = {name: value() if callable(value) else value for name, value in case.arguments.items()}
    if case.saved:
        how["callbacks"] = [*how.get("callbacks", []), kp.Checkpoint(folder)]
    return model, how


def end(case, folder, **how):
    model, arguments = made(case, folder)
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
    expected = end(case, tmp_path / "steps", fuse=False)
    assert_same_state(expected, end(case, tmp_path / "blocks", fuse=True))
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


def differences(monkeypatch, model, how):
    """Compares a block with its steps from many states, where a run compares them from one.

    A sum that is rounded otherwise in one step of a hundred passes the comparison of a run.
    """
    found, compared_once = [], comparing.Candidate.compared

    def compared(candidate):
        by_itself, program = candidate.trial.by_itself, candidate._program
        for seed in range(STATES):
            scale = functools.partial(scaled, random=np.random.default_rng(seed))
            batches = keras.tree.map_structure(scale, candidate.trial.batches)
            trial = comparing.Trial(batches, candidate.trial.sample, by_itself)
            count = len(batches)
            room = min(program.rooms, default=count)
            block = None if by_itself else Block(stacked.stacked(batches, room), count)
            with preserved(model):
                for variable in find_variables(model).variables.values():
                    variable.assign(scale(keras.ops.convert_to_numpy(variable.value)))
                found.append(comparing.difference(model, program, block, trial, candidate._each))
        return compared_once(candidate)

    at_once(monkeypatch)
    monkeypatch.setattr(comparing.Candidate, "compared", compared)
    kp.fit(model, **how, seed=0, verbose=0, fuse=True)
    assert len(found) >= STATES
    return [one for one in found if one]


def scaled(array, random):
    """Each number scaled by itself; the signs stay, as a slot may be a sum of squares."""
    if array is None or "float" not in str(array.dtype) or not array.shape:
        return array
    scales = np.exp(0.5 * random.normal(size=array.shape))
    return (np.asarray(array) * scales).astype(array.dtype)


@pytest.mark.fused
@pytest.mark.parametrize("case", runnable([name for name in CASES if is_in_blocks(name)]))
def test_each_case_rounds_alike_from_many_states(case, monkeypatch, tmp_path):
    assert differences(monkeypatch, *made(case, tmp_path)) == []


SUMMED = {
    "linear": ("mape", "sgd", list),
    "dense": ("mse", "adam", lambda: [keras.layers.Dense(7, activation="tanh")]),
    "normalised": ("log_cosh", "rmsprop", lambda: [keras.layers.LayerNormalization()]),
    "batch": ("mae", "adamw", lambda: [keras.layers.Dense(7), keras.layers.BatchNormalization()]),
    "dropout": ("huber", "nadam", lambda: [keras.layers.Dense(7), keras.layers.Dropout(0.3)]),
}


def compiled_by_xla(name):
    """A small net, whose sums XLA merges with what is around them where it may."""
    keras.utils.set_random_seed(5)
    loss, optimizer, hidden = SUMMED[name]
    last = [keras.layers.ActivityRegularization(l1=0.01, l2=0.01), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *hidden(), *last])
    model.compile(optimizer, loss, jit_compile=True)
    data = {"x": FEATURES[:, :4], "y": 2 * FEATURES[:, :1], "batch_size": 5}
    return model, {**data, "total_steps": 16, "log_every_steps": 4}


@pytest.mark.fused
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="its operations are the same ones")
@pytest.mark.parametrize("name", SUMMED)
def test_sums_that_xla_may_merge_round_alike_from_many_states(name, monkeypatch):
    assert differences(monkeypatch, *compiled_by_xla(name)) == []


@pytest.mark.fused
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="a branch of JAX's is taken away")
@pytest.mark.skipif(not IS_ON_CPU, reason="XLA merges no such sums on other devices")
def test_many_states_tell_a_loop_whose_sums_are_merged(monkeypatch):
    """The control: no step of the loop is a branch."""
    lax = importlib.import_module("jax").lax
    monkeypatch.setattr(lax, "cond", lambda is_next, step, skip, *given: step(*given))
    assert differences(monkeypatch, *compiled_by_xla("linear")) != []
