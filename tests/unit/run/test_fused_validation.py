"""Validation in blocks that are one program: when, and with what end."""

import keras
import numpy as np
import pytest
from evaluated_blocks import Noise, falsify_blocks, noted_blocks
from models import Scaled

import keras_patterns as kp
from keras_patterns.backends import CannotFuseError, current
from keras_patterns.data import stacked
from keras_patterns.run import fusing
from keras_patterns.run.callback_list import RunCallbacks
from keras_patterns.run.validation import Validation
from keras_patterns.state import fused_evaluation, programs
from keras_patterns.state.fused_evaluation import BlockTerms
from keras_patterns.testing import assert_same_state
from keras_patterns.testing.comparison import run_state

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(66, 4)).astype("float32")
Y = X[:, :1] * 2
# Eleven batches of six; 13 with a last one of two examples.
OTHERS = RANDOM.normal(size=(74, 4)).astype("float32")
VALIDATION = (OTHERS, OTHERS[:, :1])
IN_BLOCKS, ONE_BY_ONE = "validation in blocks", "validation one by one"


def compiled(*more, **arguments):
    keras.utils.set_random_seed(3)
    hidden = [keras.layers.Dense(6), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((4,)), *hidden, *more, keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"], **arguments)
    return model


@pytest.fixture(autouse=True)
def on_any_machine(monkeypatch):
    """Nothing depends on how fast this one is."""
    monkeypatch.setattr(fusing, "_TIMED", 2)
    monkeypatch.setattr(stacked, "_MOST_SECONDS", float("inf"))
    monkeypatch.setattr(fusing, "_LEAST_SHARE", 0.0)
    monkeypatch.setattr(fusing, "_PATIENCE", float("inf"))


@pytest.fixture
def sizes(monkeypatch):
    """How many batches there are in each block, or that there is one of another size."""
    return noted_blocks(monkeypatch)


def fitted(model=None, **how):
    model = model or compiled()
    arguments = {
        **{"x": X, "y": Y, "batch_size": 6, "epochs": 3, "seed": 0, "verbose": 0},
        **{"validation_data": VALIDATION, **how},
    }
    history = kp.fit(model, **arguments)
    ways = [one for one in history.ways if one["way"].startswith("validation")]
    history.ways.clear()
    return run_state(model, history), ways


def in_blocks(reason=None, make=compiled, **how):
    """Asserts that the end is the same, and that blocks were used, or why they were not."""
    expected, none = fitted(make(), fuse=False, **how)
    found, (way,) = fitted(make(), fuse=True, **how)
    assert_same_state(expected, found)
    assert none == []
    assert way["way"] == (ONE_BY_ONE if reason else IN_BLOCKS)
    assert (reason or "each is one program") in way["why"]


def test_each_validation_but_the_first_is_run_in_blocks(sizes):
    in_blocks()
    # The first is run both ways.
    assert sizes == [12, "single"] * 3


@pytest.mark.sampled(3, "fused", "tensorflow")
@pytest.mark.parametrize(
    "how",
    [
        {"validation_steps": 5},
        {"validation_steps": 12},
        {"validation_batch_size": 7},
        {"validation_batch_size": 37},
        {"validation_data": (*VALIDATION, np.linspace(0, 1, 74).astype("float32"))},
        {"validation_data": (OTHERS.astype("float64"), OTHERS[:, 0])},
        {"validation_split": 0.5, "validation_data": None, "validation_batch_size": 3},
        {"validate_every_steps": 4},
        {"validation_freq": 2, "epochs": 5},
    ],
    ids=lambda how: ", ".join(how),
)
def test_whatever_is_evaluated_the_end_is_the_same(how):
    few = how.get("validation_batch_size") == 37
    in_blocks("so few batches" if few else None, **how)


@pytest.mark.sampled(3, "fused", "tensorflow")
@pytest.mark.parametrize("most", [3, 12, 64])
def test_the_length_of_a_block_changes_no_bit(monkeypatch, sizes, most):
    monkeypatch.setattr(stacked, "_MOST_STEPS", most)
    # Those of three batches are too few.
    in_blocks("so few" if most == 3 else None)
    assert sizes[:2] == {3: [], 12: [12, "single"], 64: [12, "single"]}[most]


def test_what_draws_in_a_validation_draws_the_same():
    in_blocks(make=lambda: compiled(Noise()))


def test_what_cannot_be_one_program_is_run_batch_by_batch(monkeypatch):
    make = type(current()).block_program

    def refuse(self, model, sample, tests=False, each=False):
        if tests:
            raise CannotFuseError("no")
        return make(self, model, sample, tests, each)

    monkeypatch.setattr(type(current()), "block_program", refuse)
    in_blocks("no")


def test_a_program_that_is_not_equal_is_not_used(monkeypatch):
    """The control: without the comparison, the end would be another one."""
    falsify_blocks(monkeypatch)
    in_blocks("a block is not equal to its batches")
    expected, _ = fitted(fuse=False)
    monkeypatch.setattr(fused_evaluation, "_outcome", lambda *_: {})
    with pytest.raises(AssertionError, match="val_loss"):
        assert_same_state(expected, fitted(fuse=True)[0])


def test_a_step_that_fails_is_met_where_it_runs_by_itself(monkeypatch):
    monkeypatch.setattr(fused_evaluation._Batches, "evaluate", lambda *_: 1 / 0)
    in_blocks("no program could be made (division by zero)")


def test_a_validation_that_does_not_pay_is_left_alone(monkeypatch):
    monkeypatch.setattr(programs, "_ROOM", 0.0)
    _, (way,) = fitted(fuse="auto")
    assert way["way"] == IN_BLOCKS
    monkeypatch.setattr(programs, "_ROOM", 1e9)
    monkeypatch.setattr(fusing.Fusing, "_no_gain", lambda *_: "")
    _, (way,) = fitted(fuse="auto")
    assert (way["way"], way["why"][:6]) == (ONE_BY_ONE, "so few")


def test_blocks_that_take_longer_are_given_up(monkeypatch):
    monkeypatch.setattr(programs, "_ROOM", 0.0)
    now = iter(range(100))
    monkeypatch.setattr(fused_evaluation.time, "perf_counter", lambda: -(next(now) ** 2))
    _, ways = fitted(fuse="auto")
    assert [way["why"] for way in ways if way["way"] == ONE_BY_ONE] == []
    # Each clock interval is longer than the one before.
    monkeypatch.setattr(fused_evaluation.time, "perf_counter", lambda: next(now) ** 2)
    _, ways = fitted(fuse="auto")
    assert [way["way"] for way in ways] == [IN_BLOCKS, ONE_BY_ONE]
    assert ways[1]["why"] == "blocks took longer"


def test_a_callback_that_hears_of_each_batch_is_told_of_it():
    heard = []

    def listening():
        callback = keras.callbacks.ReduceLROnPlateau(monitor="loss")
        callback.on_test_batch_end = lambda batch, logs=None: heard.append(batch)
        return callback

    _, ways = fitted(fuse=True, callbacks=[listening()])
    assert ways == []
    assert heard == [*range(13)] * 3


class Looks(keras.callbacks.Callback):
    """Uses the model, and what its code reads, around each validation."""

    def on_test_begin(self, logs=None):
        self.model.scale = 3.0
        self.model.evaluate(X[:12], Y[:12], verbose=0)

    def on_test_end(self, logs=None):
        self.model.scale = 1.0


def scaled():
    keras.utils.set_random_seed(3)
    model = Scaled([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def test_whoever_hears_of_a_validation_hears_of_it_as_one_by_one():
    expected, _ = fitted(scaled(), fuse=False, callbacks=[Looks()])
    found, ways = fitted(scaled(), fuse=True, callbacks=[Looks()])
    assert_same_state(expected, found)
    assert ways == []


class Rescales(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.scale = 1.0 / (epoch + 2)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="callbacks of one's own are refused")
def test_a_model_that_was_evaluated_before_is_evaluated_batch_by_batch_beside_them():
    def model():
        made = scaled()
        made.evaluate(*VALIDATION, batch_size=6, verbose=0)
        made.scale = 0.5
        return made

    in_blocks("may have changed", model, callbacks=[Rescales()])
    in_blocks(None, scaled, callbacks=[Rescales()])


def test_data_that_are_no_numpy_arrays():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({name: OTHERS[:, place] for place, name in enumerate("abcd")})
    in_blocks("no NumPy arrays", validation_data=(frame, VALIDATION[1]))


@pytest.mark.parametrize("name", ["evaluate", "reset_metrics"])
def test_a_model_with_a_loop_of_its_own_is_evaluated_by_it(name):
    def model():
        made = scaled()
        kind = type(made)
        made.__class__ = type(
            "Own", (kind,), {name: lambda self, *a, **k: getattr(kind, name)(self, *a, **k)}
        )
        return made

    expected, _ = fitted(model(), fuse=False)
    found, ways = fitted(model(), fuse=True)
    assert_same_state(expected, found)
    assert not any(way["way"] == IN_BLOCKS for way in ways)


def test_another_run_on_the_model_compiles_nothing(monkeypatch):
    made = []
    make = type(current()).block_program

    def counted(self, *how):
        made.append(how)
        return make(self, *how)

    monkeypatch.setattr(type(current()), "block_program", counted)
    model = compiled()
    for _ in range(2):
        fitted(model, fuse=True)
    # On PyTorch the code of a step may do another thing by then.
    assert len(made) == (4 if keras.backend.backend() == "torch" else 2)
    model.compile("sgd", "mse")
    _, (way,) = fitted(model, fuse=True)
    assert way["way"] == IN_BLOCKS


@pytest.mark.sampled(3, "fused", "tensorflow")
@pytest.mark.parametrize("asked", [0, 1, 2, 14])
def test_a_signal_leaves_it_between_two_blocks(asked):
    """The first evaluation is left in its blocks, or in its single batches; the model is put back
    by whoever asked.
    """
    model = compiled()
    fitted(model)
    validation = Validation(VALIDATION, batch_size=6)
    noted = []
    validation.allow_blocks(
        BlockTerms(0.0, lambda calls: True, False, False, lambda way, why: noted.append(way))
    )
    callbacks = RunCallbacks([], model, None, verbose=0, epochs=1, steps=1)
    calls = iter(range(100))
    before = [value.tobytes() for value in model.get_weights()]
    assert validation.run(model, callbacks, lambda: next(calls) == asked) is None
    current().sync(model)
    assert [value.tobytes() for value in model.get_weights()] == before
    # Two blocks, then thirteen batches.
    assert next(calls) == asked + 1
    assert noted == []
    assert set(validation.run(model, callbacks, lambda: False)) == {"val_loss", "val_mae"}
