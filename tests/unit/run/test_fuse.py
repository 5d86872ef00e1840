"""Steps in blocks that are one program: when, and with what end."""

import functools
import gc
import math
import os
import re
import signal
import threading
import types
import weakref
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from models import Scaled

import keras_patterns as kp
from keras_patterns.backends import CannotFuseError, current
from keras_patterns.data import stacked
from keras_patterns.run import blocks, comparing, fusing
from keras_patterns.testing import assert_resumes_exactly, assert_same_state
from keras_patterns.testing.comparison import run_state

X = np.random.default_rng(0).normal(size=(66, 4)).astype("float32")
Y = X[:, :1] * 2
# Nine steps a pass, the last one of two examples.
DATA = {"x": X, "y": Y, "batch_size": 8}


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return X[index : index + 8], Y[index : index + 8]


def compiled(optimizer="adam", **arguments):
    keras.utils.set_random_seed(3)
    hidden = [keras.layers.Dense(6, activation="tanh"), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(1)])
    model.compile(optimizer, "mse", metrics=["mae"], **arguments)
    return model


@pytest.fixture
def said(monkeypatch):
    """What is said of blocks."""
    lines = []
    monkeypatch.setattr(fusing, "say", lambda text, **_: lines.append(text))
    monkeypatch.setattr(fusing, "_TIMED", 2)
    # Nothing depends on how fast this machine is.
    monkeypatch.setattr(stacked, "_MOST_SECONDS", float("inf"))
    monkeypatch.setattr(fusing, "_LEAST_SHARE", 0.0)
    monkeypatch.setattr(fusing, "_PATIENCE", math.inf)
    return lines


@pytest.fixture
def programs(monkeypatch):
    """How often blocks of each length were asked for."""
    taken = []
    prepare = blocks.Blocks.prepare

    def noted(self, step, left):
        taken.append(prepare(self, step, left))
        return taken[-1]

    monkeypatch.setattr(blocks.Blocks, "prepare", noted)
    return taken


def end(model=None, **how):
    model = model or compiled()
    arguments = {**DATA, "total_steps": 40, "epochs": 2, "seed": 0, "verbose": 0, **how}
    return run_state(model, kp.fit(model, **arguments))


@functools.cache
def one_by_one():
    """The end of the usual run without blocks."""
    return end(fuse=False)


def test_a_block_ends_at_each_boundary_and_at_a_batch_of_another_size(said, programs):
    expected = end(fuse=False, log_every_steps=5)
    assert programs == []
    assert_same_state(expected, end(fuse=True, log_every_steps=5))
    # Steps 2 to 40: boundaries at multiples of five, and a batch of two examples at 8, 17, 26, 35.
    assert programs == [3, 3, 1, 1, 5, 2, 1, 2, 5, 1, 1, 3, 5, 1, 4]
    assert len(said) == 1
    assert "from step 2 on" in said[0]


def test_neither_the_length_of_a_block_nor_logs_change_a_bit(said, programs, monkeypatch):
    long = {"x": np.tile(X, (5, 1)), "y": np.tile(Y, (5, 1)), "batch_size": 3, "total_steps": 100}
    expected = end(fuse=False, **long, epochs=1)
    for most in (2, 7, 16, 64):
        monkeypatch.setattr(stacked, "_MOST_STEPS", most)
        assert_same_state(expected, end(fuse=True, **long, epochs=1))
        assert programs[-2:] == {2: [2, 2], 7: [7, 7], 16: [16, 2], 64: [64, 34]}[most]
    logged = end(fuse=True, **long, epochs=1, log_every_steps=10)
    pure = {key: value for key, value in logged.items() if "step_logs" not in key}
    assert_same_state({key: expected[key] for key in pure}, pure)


def of_grain(broken=None):
    """Nine batches a pass, the last one of two examples."""
    grain = pytest.importorskip("grain")

    def example(index):
        if index == broken:
            raise OSError("the disk is gone")
        return X[index], Y[index]

    return grain.MapDataset.range(len(X)).seed(1).map(example).batch(8).to_iter_dataset()


def test_batches_of_a_loader_are_collected(said, programs):
    def run(fuse):
        data = {"x": of_grain(), "y": None, "batch_size": None}
        return end(fuse=fuse, **data, log_every_steps=5)

    expected = run(False)
    assert programs == []
    assert_same_state(expected, run(True))
    assert programs == [3, 3, 1, 1, 5, 2, 1, 2, 5, 1, 1, 3, 5, 1, 4]
    assert "in blocks" in said[0]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="batches are no tensors there")
@pytest.mark.parametrize("workers", [0, 2])
def test_tensors_stay_tensors(said, programs, workers):
    from torch import from_numpy
    from torch.utils.data import DataLoader, TensorDataset

    def run(fuse):
        examples = TensorDataset(from_numpy(X), from_numpy(Y))
        loader = DataLoader(examples, batch_size=8, shuffle=True, num_workers=workers)
        return end(fuse=fuse, x=loader, y=None, batch_size=None)

    assert_same_state(run(False), run(True))
    assert programs[:2] == [6, 1]
    assert "in blocks" in said[0]


def of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(20, seed=1).batch(8)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow does that")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_program_reads_a_pipeline_by_itself(said, programs, jit_compile):
    def run(fuse):
        # Sets the global seed, on which the order depends.
        model = compiled(jit_compile=jit_compile)
        data = {"x": of_tensorflow(), "y": None, "batch_size": None}
        return end(model, fuse=fuse, **data, log_every_steps=5)

    expected = run(False)
    assert programs == []
    assert_same_state(expected, run(True))
    # The size of a batch is open.
    assert programs == [3, *[5] * 7]
    assert "in blocks" in said[0]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow does that")
def test_a_killed_run_on_a_pipeline_ends_in_the_same_bits(said):
    how = {"seed": 0, "total_steps": 40, "epochs": 2, "every_steps": 7}
    assert_resumes_exactly(compiled, of_tensorflow(), None, **how, kill_at=(9, 21), fuse=True)
    assert any("in blocks" in line for line in said)


@pytest.mark.parametrize("kills", [(9, 21), (20, 33)])
def test_a_killed_run_on_a_loader_ends_in_the_same_bits(said, kills):
    data = of_grain()
    how = {"seed": 0, "total_steps": 40, "epochs": 2, "every_steps": 7}
    assert_resumes_exactly(compiled, data, None, **how, kill_at=kills, fuse=True)
    assert any("in blocks" in line for line in said)


def test_an_error_of_a_loader_comes_after_the_steps_before_it(said, programs):
    data = of_grain(broken=6 * 8 + 1)
    with pytest.raises(OSError, match="the disk is gone"):
        kp.fit(compiled(), data, total_steps=40, seed=0, verbose=0, fuse=True)
    assert sum(programs) == 4


@pytest.mark.sampled(3, "fused", "tensorflow")
@pytest.mark.parametrize("kills", [(9, 21), (9,), (20, 33)])
def test_a_killed_run_in_blocks_ends_in_the_same_bits(said, kills):
    assert_resumes_exactly(
        compiled,
        X,
        Y,
        batch_size=8,
        seed=0,
        total_steps=40,
        epochs=2,
        every_steps=7,
        kill_at=kills,
        fuse=True,
    )


def test_callbacks_act_between_blocks_as_between_steps(said):
    def callbacks():
        return [
            kp.EarlyStopping("loss", patience=1, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10.0),
        ]

    how = {"epochs": 8, "validation_data": (X[:16], Y[:16]), "validate_every_steps": 6}
    expected = end(fuse=False, callbacks=callbacks(), **how)
    assert_same_state(expected, end(fuse=True, callbacks=callbacks(), **how))
    assert "in blocks" in said[0]


OPTIMIZERS = ["SGD", "Adam", "Nadam"]
if keras.backend.backend() == "torch":
    # Each has a code of its own there, some of which reads the rate on the host.
    OPTIMIZERS += ["RMSprop", "AdamW", "Adadelta", "Adagrad", "Adamax", "Adafactor", "Ftrl"]
    OPTIMIZERS += ["Lion", "Lamb", "Muon"]


@pytest.mark.sampled(3, "fused", "tensorflow")
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("momentum", [False, True])
def test_a_rate_that_a_callback_changes_holds_in_the_next_block(said, name, momentum):
    if momentum and name not in ("SGD", "RMSprop"):
        pytest.skip("it has none to choose")

    def model():
        how = {"momentum": 0.9} if momentum else {}
        return compiled(getattr(keras.optimizers, name)(0.1, **how))

    def callbacks():
        return [keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10.0)]

    expected = end(model(), fuse=False, epochs=8, callbacks=callbacks())
    assert_same_state(expected, end(model(), fuse=True, epochs=8, callbacks=callbacks()))
    # Nadam on PyTorch makes numbers of tensors.
    is_in_blocks = name != "Nadam" or keras.backend.backend() != "torch"
    assert ("in blocks" in said[-1]) == is_in_blocks


def test_a_value_that_is_not_finite_is_found_and_left_out(said, tmp_path):
    spoiled = X.copy()
    spoiled[13, 1] = np.nan

    def run(fuse):
        guard = kp.NonFiniteGuard(every_steps=6)
        folder = kp.Checkpoint(tmp_path / str(fuse), every_steps=6)
        return end(fuse=fuse, x=spoiled, callbacks=[guard, folder])

    assert_same_state(run(False), run(True))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="its operations are the same ones")
def test_no_sum_is_rounded_otherwise_in_a_loop_of_xla(said):
    """So rarely that no comparison of two steps and one validation would show it."""

    def run(fuse):
        penalty = functools.partial(keras.layers.ActivityRegularization, l1=0.01, l2=0.01)
        model = built((4,), penalty)
        model.compile(keras.optimizers.SGD(0.01), "mape", jit_compile=True)
        validation = {"validation_data": (X[:60], Y[:60]), "validation_batch_size": 5}
        how = {"log_every_steps": 4, "validate_every_steps": 2, **validation}
        return end(model, fuse=fuse, batch_size=5, total_steps=60, **how)

    assert_same_state(run(False), run(True))
    assert "in blocks" in said[0]


def test_few_steps_do_not_pay(said, programs):
    end(fuse="auto")
    assert programs == []
    (line,) = said
    assert line.startswith("steps are run one by one: so few steps are left")


def test_the_history_tells_the_ways(said):
    history = kp.fit(compiled(), **DATA, total_steps=8, seed=0, verbose=0, fuse=True)
    (one,) = history.ways
    assert (one["step"], one["way"]) == (2, "in blocks")
    assert "program" in one["why"]
    history = kp.fit(compiled(), **DATA, total_steps=8, seed=0, verbose=0, fuse="auto")
    (one,) = history.ways
    assert (one["step"], one["way"], one["why"][:12]) == (0, "one by one", "so few steps")
    assert kp.fit(compiled(), **DATA, total_steps=8, seed=0, verbose=0).ways == []


@pytest.mark.parametrize(
    ("set_up", "how", "reason"),
    [
        ({}, {"batch_size": 32}, "an epoch has so few steps"),
        ({"_LEAST_SHARE": 1e9}, {}, "a step takes so long"),
    ],
)
def test_where_blocks_would_not_pay(said, programs, monkeypatch, set_up, how, reason):
    monkeypatch.setattr("keras_patterns.state.programs._ROOM", 0.0)
    for name, value in set_up.items():
        monkeypatch.setattr(fusing, name, value)
    history = kp.fit(compiled(), **{**DATA, **how}, epochs=4, seed=0, verbose=0, fuse="auto")
    (one,) = history.ways
    assert one["why"].startswith(reason)
    assert programs == []


def test_many_steps_pay(said, programs, monkeypatch):
    monkeypatch.setattr("keras_patterns.state.programs._ROOM", 0.0)
    assert_same_state(one_by_one(), end(fuse="auto"))
    assert programs


def test_a_program_that_is_not_equal_is_not_used(said, programs, monkeypatch):
    """The control: without the comparison, the end would be another one."""
    monkeypatch.setattr("keras_patterns.state.programs._ROOM", 0.0)
    make = type(current()).block_program

    def wrong(self, *how):
        program = make(self, *how)
        function = program.function

        def train(take):
            def scaled():
                one = take()
                if isinstance(one, blocks.Block):
                    x, y = map(np.array, one.batches)
                    # What follows the last batch may be anything.
                    x[: one.count] *= np.float32(1 + 1e-6)
                    return blocks.Block((x, y), one.count)
                return one

            return function(scaled)

        program.function = train
        return program

    monkeypatch.setattr(type(current()), "block_program", wrong)
    expected = one_by_one()
    for fuse in ("auto", True):
        assert_same_state(expected, end(fuse=fuse))
    assert programs == []
    assert "a block is not equal to its steps" in said[0]
    monkeypatch.setattr(comparing, "difference", lambda *_: "")
    with pytest.raises(AssertionError, match="differ"):
        assert_same_state(expected, end(fuse="auto"))


def test_blocks_that_take_longer_are_given_up(said, programs, monkeypatch):
    monkeypatch.setattr("keras_patterns.state.programs._ROOM", 0.0)
    slow = property(lambda self: "blocks took longer" if len(programs) > 3 else "")
    monkeypatch.setattr(blocks.Blocks, "drawback", slow)
    assert_same_state(one_by_one(), end(fuse="auto"))
    assert len(programs) == 4


def test_short_blocks_are_given_up(said, programs, monkeypatch):
    monkeypatch.setattr("keras_patterns.state.programs._ROOM", 0.0)
    how = {**DATA, "total_steps": 80, "epochs": 2, "seed": 0, "verbose": 0, "log_every_steps": 3}
    history = kp.fit(compiled(), **how, fuse="auto")
    assert [one["way"] for one in history.ways] == ["in blocks", "one by one"]
    assert history.ways[1]["why"] == "something was due after so few steps"
    assert len(programs) == 8
    assert history.history == kp.fit(compiled(), **how).history


def test_another_call_on_the_model_compiles_nothing(said, monkeypatch):
    made = []
    make = type(current()).block_program
    monkeypatch.setattr(
        type(current()),
        "block_program",
        lambda self, *how: made.append(1) or make(self, *how),
    )
    model = compiled()
    for _ in range(2):
        end(model, fuse=True)
    # On PyTorch the code of a step may do another thing by then.
    runs_python = keras.backend.backend() == "torch"
    assert len(made) == 1 + runs_python
    model.compile("sgd", "mse")
    end(model, fuse=True)
    assert len(made) == 2 + runs_python
    gone = weakref.ref(model)
    del model
    keras.utils.clear_session()
    gc.collect()
    assert gone() is None


@pytest.fixture
def compiling(monkeypatch):
    """Compiling a program takes until it is released; what is called first comes from inside."""
    held = SimpleNamespace(release=threading.Event(), first=lambda: None)
    make = type(current()).block_program

    def slow(self, *how):
        program = make(self, *how)

        def compile_slowly():
            held.first()
            assert held.release.wait(240)

        program.compilation = lambda block: compile_slowly
        return program

    monkeypatch.setattr(type(current()), "block_program", slow)
    yield held
    held.release.set()


def test_steps_go_on_while_a_program_is_compiled(said, monkeypatch, compiling):
    """Not where the person said that there are to be blocks, which would come the later."""
    monkeypatch.setattr("keras_patterns.state.programs._ROOM", 0.0)
    monkeypatch.setattr(fusing, "_PATIENCE", 0.0)
    monkeypatch.setattr(fusing, "_LOOKS_EVERY", 1e-9)
    looks = []
    is_compiled = comparing.Candidate.is_compiled

    def counted(self, seconds=0.0):
        looks.append(seconds)
        if len(looks) == 6:
            compiling.release.set()
        return is_compiled(self, 60.0 if compiling.release.is_set() else seconds)

    monkeypatch.setattr(comparing.Candidate, "is_compiled", counted)
    expected = one_by_one()
    assert_same_state(expected, end(fuse="auto"))
    assert len(looks) == 6
    # One step for each look.
    assert "from step 7 on" in said[0]


def test_a_signal_does_not_wait_for_a_compiler(said, compiling, tmp_path):
    compiling.first = lambda: os.kill(os.getpid(), signal.SIGTERM)
    expected = one_by_one()
    with pytest.raises(kp.RunInterrupted) as stopped:
        end(fuse=True, callbacks=[kp.Checkpoint(tmp_path)])
    assert stopped.value.step == 2
    assert not compiling.release.is_set()
    compiling.first = lambda: None
    compiling.release.set()
    assert_same_state(expected, end(fuse=True, callbacks=[kp.Checkpoint(tmp_path)]))


@pytest.mark.parametrize(
    ("make", "how", "reason"),
    [
        (compiled, {"callbacks": [keras.callbacks.TerminateOnNaN()]}, "TerminateOnNaN hears"),
        (compiled, {"x": Pairs(), "y": None, "batch_size": None}, "code of the data"),
        (lambda: compiled(run_eagerly=True), {}, "eagerly|compiled"),
    ],
)
def test_why_steps_are_run_one_by_one(said, programs, make, how, reason):
    expected = end(make(), fuse=False, **how)
    assert_same_state(expected, end(make(), fuse=True, **how))
    assert programs == []
    assert len(said) == 1
    assert said[0].startswith("steps are run one by one: ")
    assert re.search(reason, said[0])


def test_a_framework_that_fails_is_a_reason(said, monkeypatch):
    monkeypatch.setattr(comparing, "difference", lambda *_: 1 / 0)
    assert_same_state(one_by_one(), end(fuse=True))
    assert said == ["steps are run one by one: no program could be made (division by zero)."]


def test_an_error_of_the_program_is_a_reason(said, monkeypatch):
    def refuse(self, *how):
        raise CannotFuseError("no")

    monkeypatch.setattr(type(current()), "block_program", refuse)
    assert_same_state(one_by_one(), end(fuse=True))
    assert said == ["steps are run one by one: no."]


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="fuse must be"):
        end(fuse="always")


class Counting(keras.layers.Layer):
    """Its Python code moves something in each call."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.calls = 0
        self.random = np.random.default_rng(4)

    def call(self, inputs):
        if self.how == "a number":
            self.calls += 1
        if self.how == "a generator":
            self.random.normal()
        if self.how == "a global generator":
            np.random.normal()
        return inputs


@pytest.mark.sampled(3, "fused", "tensorflow")
@pytest.mark.parametrize("how", ["a number", "a generator", "a global generator", "nothing"])
@pytest.mark.parametrize("fuse", ["auto", True])
def test_what_the_code_of_a_step_moves_is_moved_as_often(said, monkeypatch, how, fuse):
    monkeypatch.setattr("keras_patterns.state.programs._ROOM", 0.0)

    def run(fuse):
        layer = Counting(how)
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return end(model, fuse=fuse), layer.calls, layer.random.bit_generator.state

    (expected, *moved), (found, *others) = run(False), run(fuse)
    assert_same_state(expected, found)
    assert moved == others
    # Other frameworks run the code once, when they trace it.
    is_in_blocks = keras.backend.backend() != "torch" or how == "nothing"
    assert any("in blocks" in line for line in said) == is_in_blocks, said


NUMBER = 0
LIST = [0]
MODULE = types.ModuleType("counted_here")


def late_number(targets, outputs):
    global NUMBER
    NUMBER += 1
    return keras.losses.mean_squared_error(targets, outputs) * (1.0 if NUMBER < 20 else 0.5)


def late_list(targets, outputs):
    LIST[0] += 1
    return keras.losses.mean_squared_error(targets, outputs) * (1.0 if LIST[0] < 20 else 0.5)


def late_in_a_module(targets, outputs):
    MODULE.count += 1
    return keras.losses.mean_squared_error(targets, outputs) * (1.0 if MODULE.count < 20 else 0.5)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others trace the step once")
@pytest.mark.parametrize("loss", [late_number, late_list, late_in_a_module])
def test_what_a_step_counts_in_its_module_is_counted_as_often(said, loss):
    """The count has an effect that the steps of the comparison do not show."""

    def run(fuse):
        global NUMBER
        NUMBER = LIST[0] = MODULE.count = 0
        return end(built((4,), loss=loss), fuse=fuse), NUMBER, LIST[0], MODULE.count

    (expected, *counted), (found, *others) = run(False), run(True)
    assert_same_state(expected, found)
    assert counted == others
    assert re.search("each step moves .*(NUMBER|LIST|MODULE.count)", said[0])


def test_another_call_with_batches_of_another_form_has_a_program_of_its_own(said):
    def run(fuse):
        model = compiled()
        end(model, fuse=fuse)
        end(model, fuse=fuse, batch_size=4)
        return end(model, fuse=fuse, batch_size=11, sample_weight=np.linspace(0, 2, 66))

    assert_same_state(run(False), run(True))
    assert len(said) == 3


class Annealing(keras.callbacks.Callback):
    """Moves a number of the model that is no variable."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.scale = 1.0 / (epoch + 2)


def scaled():
    keras.utils.set_random_seed(3)
    model = Scaled([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("log_every", [2, None])
def test_what_a_callback_moves_in_the_model_is_heeded_as_one_by_one(said, log_every):
    """On PyTorch at the next step, elsewhere not at all: the step was traced before."""

    def run(fuse):
        how = {"epochs": 4, "callbacks": [Annealing()], "log_every_steps": log_every}
        return end(scaled(), fuse=fuse, **how)

    assert_same_state(run(False), run(True))


def test_what_changes_between_two_calls_is_heeded_as_one_by_one(said):
    def run(fuse):
        model = scaled()
        end(model, fuse=fuse)
        model.scale = 0.1
        return end(model, fuse=fuse)

    assert_same_state(run(False), run(True))


def test_what_is_compiled_anew_is_traced_anew(said):
    """Even before the garbage of the last call is collected."""

    def run(fuse):
        model = scaled()
        end(model, fuse=fuse, validation_data=(X, Y))
        model.scale = 0.1
        model.compile("adam", "mse")
        return end(model, fuse=fuse, validation_data=(X, Y))

    gc.collect()
    gc.disable()
    try:
        assert_same_state(run(False), run(True))
    finally:
        gc.enable()


def built(shape, *makers, loss="mse"):
    keras.utils.set_random_seed(3)
    hidden = [make() for make in makers]
    model = keras.Sequential([keras.Input(shape), *hidden, keras.layers.Dense(1)])
    model.compile("adam", loss)
    return model


RECURRENT = {
    "recurrent dropout": lambda: keras.layers.LSTM(3, recurrent_dropout=0.4),
    "dropout": lambda: keras.layers.SimpleRNN(3, dropout=0.4),
    "both": lambda: keras.layers.GRU(3, dropout=0.2, recurrent_dropout=0.4),
}


@pytest.mark.sampled(3, "fused", "tensorflow")
@pytest.mark.parametrize("name", RECURRENT)
def test_a_step_that_cannot_be_noted_leaves_nothing_behind(said, name):
    def model():
        return built((2, 2), RECURRENT[name])

    x = X.reshape(-1, 2, 2)
    assert_same_state(end(model(), x=x, fuse=False), end(model(), x=x, fuse=True))
    assert said


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow does that")
def test_a_pipeline_is_compared_in_the_shape_that_it_has(said):
    import tensorflow as tf

    def run(fuse):
        model = built((4,), keras.layers.BatchNormalization, keras.layers.LayerNormalization)
        dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(13, drop_remainder=True)
        return end(model, fuse=fuse, x=dataset, y=None, batch_size=None)

    assert_same_state(run(False), run(True))
    assert "in blocks" in said[0]


class Trains(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.train_on_batch(X[:8], Y[:8])


class Fits(keras.callbacks.Callback):
    """A second data set in each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        stop, history = self.model.stop_training, self.model.history
        self.model.fit(X[:20], Y[:20], batch_size=8, shuffle=False, verbose=0)
        self.model.stop_training, self.model.history = stop, history


class Looks(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["mean"] = float(self.model.predict(X, verbose=0).mean())
        logs["other"] = self.model.evaluate(X, Y, verbose=0, return_dict=True)["loss"]


class Moves(keras.callbacks.Callback):
    """Weights, the rate, a slot, a frozen layer and what Python draws from."""

    def on_epoch_begin(self, epoch, logs=None):
        np.random.normal()
        self.model.layers[0].bias.assign(self.model.layers[0].bias + 0.25)

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.01 / (epoch + 1)
        slot = self.model.optimizer.variables[2]
        slot.assign(slot * 0.5)


class Remakes(keras.callbacks.Callback):
    """Another function with another number in it, as after a change of what is trained."""

    def __init__(self, when):
        super().__init__()
        self.when = when
        self.told = []

    def remake(self, epoch):
        if epoch == 1:
            self.model.scale = 0.1
            self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.told.append(epoch)
        if self.when == "begin":
            self.remake(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.told.append(-epoch)
        if self.when == "end":
            self.remake(epoch)


class StopsAtTheBegin(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            self.model.stop_training = True


class HearsSteps(kp.Hook):
    def __init__(self):
        super().__init__()
        self.heard = 0

    def on_step_logs(self, logs):
        self.heard += 1


@pytest.mark.sampled(3, "fused", "tensorflow")
@pytest.mark.parametrize("kind", [Trains, Fits, Looks, Moves, StopsAtTheBegin])
@pytest.mark.parametrize("first", [66, 330])
def test_a_callback_of_ones_own_may_do_what_it_likes_between_epochs(said, programs, kind, first):
    """With epochs of nine steps, or of forty-two."""
    if kind is Fits and keras.backend.backend() == "torch":
        pytest.skip("steps are run one by one there")
    data = {"x": np.tile(X, (first // 66, 1)), "y": np.tile(Y, (first // 66, 1))}
    how = {**data, "total_steps": None, "epochs": 4}
    expected = end(fuse=False, callbacks=[kind()], **how)
    assert_same_state(expected, end(fuse=True, callbacks=[kind()], **how))
    if keras.backend.backend() == "torch":
        assert programs == []
        assert f"{kind.__name__} may change what the code of a step does" in said[0]
    else:
        assert programs


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others hold no copy")
def test_arrays_that_change_are_those_that_the_framework_holds(said, programs):
    def run(fuse):
        x = X.copy()

        class Changes(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                x[:] *= 0.5

        return end(fuse=fuse, x=x, callbacks=[Changes()])

    assert_same_state(run(False), run(True))
    assert programs


@pytest.mark.sampled(3, "fused", "tensorflow")
@pytest.mark.parametrize("when", ["begin", "end"])
@pytest.mark.parametrize("tail", [0, 2])
def test_a_callback_that_makes_another_train_function(said, when, tail):
    """The steps are chosen for anew, and nobody is told of an epoch twice."""
    size = 64 + tail
    how = {"x": X[:size], "y": Y[:size], "total_steps": None, "epochs": 4}
    callbacks = Remakes(when), Remakes(when)
    expected = end(scaled(), fuse=False, callbacks=[callbacks[0]], **how)
    found = end(scaled(), fuse=True, callbacks=[callbacks[1]], **how)
    assert_same_state(expected, found)
    assert callbacks[0].told == callbacks[1].told
    if keras.backend.backend() != "torch":
        assert ["in blocks" in line for line in said] == [True, True]


class Compiles(keras.callbacks.Callback):
    """Where `fit` begins anew, for a last epoch that is shorter."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.model.compile("sgd", "mse", metrics=["mae"])


class Schedules(keras.callbacks.Callback):
    """The optimizer has no variable of the rate from then on."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            rate = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
            self.model.optimizer.learning_rate = rate


class Measures(keras.callbacks.Callback):
    """The model has two variables more from then on."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.model.extra = keras.metrics.Mean(name="extra")


@pytest.mark.parametrize("kind", [Schedules, pytest.param(Measures, marks=pytest.mark.fused)])
def test_a_callback_that_gives_the_model_other_variables(said, kind):
    """JAX compiles the step anew then; others go on as they were."""
    how = {"total_steps": None, "epochs": 4}
    expected = end(compiled("sgd"), fuse=False, callbacks=[kind()], **how)
    callbacks = [kind()]
    model = compiled("sgd")
    assert_same_state(expected, end(model, fuse=True, callbacks=callbacks, **how))
    found = [(one["step"], one["way"]) for one in model.history.ways]
    # The third epoch begins at step 18.
    expected = {
        "jax": [(2, "in blocks"), (18, "one by one")],
        "tensorflow": [(2, "in blocks")],
        "torch": [(0, "one by one")],
    }
    assert found == expected[keras.backend.backend()]


class RemakesAndStops(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            self.model.make_train_function(force=True)
            self.model.stop_training = True


@pytest.mark.parametrize("kind", [Compiles, RemakesAndStops])
def test_a_callback_that_ends_a_program_where_fit_begins_anew_or_stops(said, kind):
    how = {"x": X[:64], "y": Y[:64], "total_steps": 20, "epochs": None}
    assert_same_state(
        end(fuse=False, callbacks=[kind()], **how), end(fuse=True, callbacks=[kind()], **how)
    )


def test_a_train_function_that_is_made_at_the_end_of_the_first_epoch_is_used(said):
    """The first steps of that epoch were a call of `fit` of their own."""

    class First(Remakes):
        def remake(self, epoch):
            super().remake(epoch + 1)

    expected = end(scaled(), fuse=False, callbacks=[First("end")])
    assert_same_state(expected, end(scaled(), fuse=True, callbacks=[First("end")]))


class Clips(keras.callbacks.Callback):
    """Changes what a step would do if its code were read again, and no step of the sample shows."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.clipnorm = 1e-3 if epoch else 5.0


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="callbacks of one's own are refused")
def test_steps_whose_code_may_have_changed_since_it_was_read_are_run_one_by_one(said, monkeypatch):
    monkeypatch.setattr(fusing, "_TIMED", 12)
    # Epochs of nine steps: it acts before the choice.

    def run(fuse):
        model = compiled(keras.optimizers.Adam(clipnorm=100.0))
        return end(model, fuse=fuse, callbacks=[Clips()], total_steps=None, epochs=4)

    assert_same_state(run(False), run(True))
    assert "Clips may have changed what a step does" in said[-1]


def test_a_model_that_tells_its_metrics_otherwise_is_asked_as_often(said, programs):
    class Counts(keras.Sequential):
        asked = 0

        def get_metrics_result(self):
            self.asked += 1
            return {**super().get_metrics_result(), "asked": float(self.asked)}

    def model():
        keras.utils.set_random_seed(3)
        made = Counts([keras.Input((4,)), keras.layers.Dense(1)])
        made.compile("adam", "mse")
        return made

    assert_same_state(end(model(), fuse=False), end(model(), fuse=True))
    assert programs == []
    assert "get_metrics_result would be called more often" in said[0]


def test_a_model_with_a_fit_of_its_own_is_called_as_often(said):
    class Counts(keras.Sequential):
        calls = 0

        def fit(self, *how, **named):
            self.calls += 1
            return super().fit(*how, **named)

    def calls(fuse):
        made = Counts([keras.Input((4,)), keras.layers.Dense(1)])
        made.compile("adam", "mse")
        end(made, fuse=fuse)
        return made.calls

    assert calls(True) == calls(False)
    assert "own fit would be called more often" in said[0]


def test_a_hook_that_hears_of_steps_hears_of_each(said, programs):
    hook = HearsSteps()
    end(fuse=True, callbacks=[hook])
    assert hook.heard == 40
    assert programs == []
    assert "HearsSteps hears of each batch" in said[0]


def on_the_host(targets, outputs):
    factor = 2.0 if keras.ops.convert_to_numpy(targets).sum() > 0 else 1.0
    return keras.ops.mean(keras.ops.square(targets - outputs)) * factor


def as_a_list(targets, outputs):
    return keras.ops.mean(keras.ops.square(targets - outputs)) * targets.tolist()[0][0]


def masked(targets, outputs):
    return keras.ops.mean(keras.ops.square(targets - outputs)[targets > 0])


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others trace the step")
@pytest.mark.parametrize("loss", [on_the_host, as_a_list, masked])
def test_a_step_that_looks_at_values_is_not_noted(said, programs, loss):
    def model():
        return built((4,), loss=loss)

    assert_same_state(end(model(), fuse=False), end(model(), fuse=True))
    assert programs == []
    assert "reads a value on the host" in said[0]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="a DataLoader is read there")
def test_data_whose_code_may_look_at_the_model_are_not_collected(said, programs):
    from torch.utils.data import DataLoader, Dataset

    class Looks(Dataset):
        def __init__(self, model):
            self.model = model

        def __len__(self):
            return len(X)

        def __getitem__(self, index):
            return X[index] * float(self.model.optimizer.iterations.value), Y[index]

    def run(fuse):
        model = compiled()
        return end(model, fuse=fuse, x=DataLoader(Looks(model), 8), y=None, batch_size=None)

    assert_same_state(run(False), run(True))
    assert programs == []
    assert "code of the data" in said[0]


class Given:
    """Data of which only the first batches are asked for."""

    def __init__(self, *samples):
        self.samples, self.source, self.stream = samples, None, None


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([(X[:8], Y[:8]), (X[:8, :3], Y[:8])], "different shapes"),
        ([(X[:8], 0.5)], "0.5, which is no array"),
    ],
)
def test_batches_that_make_no_block(samples, reason):
    with pytest.raises(CannotFuseError, match=reason):
        comparing.Trial.of(Given(*samples))


def test_no_room_is_made_that_no_block_needs(said, monkeypatch):
    compared = []
    find = comparing.difference

    def noted(*how):
        compared.append(how)
        return find(*how)

    monkeypatch.setattr(comparing, "difference", noted)
    monkeypatch.setattr(stacked, "_MOST_STEPS", 8)
    model = compiled()
    end(model, fuse=True)
    assert len(compared) == 1
    monkeypatch.setattr(stacked, "_MOST_STEPS", 64)
    end(model, fuse=True)
    # With rooms, for longer blocks it is compared anew; on PyTorch in each call.
    assert len(compared) == {"jax": 3, "tensorflow": 1, "torch": 2}[keras.backend.backend()]
