"""Batches that a thread makes ahead of the training: what was not trained on comes again, errors
come in their place, and no thread outlives the run.
"""

import os
import signal
import threading

import keras
import numpy as np
import pytest

import keras_patterns as kp
from keras_patterns.backends import _read_ahead
from keras_patterns.data import ArraySource
from keras_patterns.testing import assert_same_state, run_state

X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)

reads_here = pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorFlow reads arrays by itself"
)


def read_as_on_an_accelerator(monkeypatch):
    """Keras takes one batch more than a step needs, and moves it to the device."""
    from keras.src.backend.jax.trainer import JAXEpochIterator as Reader

    def get_iterator(self):
        return self._one_batch_ahead_iterator(self.data_adapter.get_jax_iterator())

    monkeypatch.setattr(Reader, "_get_iterator", get_iterator)


@pytest.fixture(autouse=True, params=["CPU", *["accelerator"] * (keras.backend.backend() == "jax")])
def always_ahead(monkeypatch, request):
    monkeypatch.setattr(_read_ahead, "_WORTH_IT", 0)
    if request.param == "accelerator":
        read_as_on_an_accelerator(monkeypatch)
    yield
    assert not reads_ahead()


def reads_ahead():
    return "keras-patterns-batches" in [one.name for one in threading.enumerate()]


class Broken(RuntimeError):
    pass


class At(keras.callbacks.Callback):
    """Does something before a step."""

    def __init__(self, step, act):
        super().__init__()
        self.left, self.act = step, act

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            self.act()

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def fail():
    raise Broken("in a callback")


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


def break_batch(monkeypatch, number):
    """The batch of this number cannot be read."""
    make = ArraySource.batch

    def failing(self, step):
        if step == number:
            raise OSError("the disk is gone")
        return make(self, step)

    monkeypatch.setattr(ArraySource, "batch", failing)


class Freezes(kp.Hook):
    """Leaves `fit` in the middle of an epoch."""

    def next_boundary(self, step):
        return 17 if step < 17 else None

    def on_boundary(self, boundary):
        if boundary.step == 17:
            return kp.SetTrainable(lambda model: setattr(model.layers[0], "trainable", False))
        return None


def train(folder, *callbacks):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    history = kp.fit(
        model,
        X,
        Y,
        batch_size=4,
        epochs=2,
        seed=0,
        verbose=0,
        callbacks=[*callbacks, Freezes(), kp.Checkpoint(folder, every_steps=5)],
    )
    return run_state(model, history)


def test_a_run_is_the_same_as_without(tmp_path, monkeypatch):
    ahead = train(tmp_path / "ahead", At(0, fail))
    monkeypatch.setattr(_read_ahead, "_WORTH_IT", float("inf"))
    assert_same_state(train(tmp_path / "in step", At(0, fail)), ahead)


@pytest.mark.parametrize(("act", "error"), [(fail, Broken), (stop, kp.RunInterrupted)])
def test_a_run_that_was_left_goes_on_as_if_it_had_not_been(tmp_path, act, error):
    expected = train(tmp_path / "whole", At(0, act))
    with pytest.raises(error):
        train(tmp_path / "left", At(13, act))
    assert_same_state(train(tmp_path / "left", At(0, act)), expected)


@reads_here
def test_an_error_of_the_data_comes_as_it_is_and_after_the_steps_before_it(tmp_path, monkeypatch):
    break_batch(monkeypatch, 13)
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path, At(13, lambda: seen.append("the step before")))
    assert seen


@reads_here
def test_a_thread_reads_ahead(tmp_path):
    seen = []
    train(tmp_path, At(12, lambda: seen.append(reads_ahead())))
    assert seen == [True]


@reads_here
def test_the_error_of_a_callback_is_not_taken_for_one_of_the_data(tmp_path, monkeypatch):
    break_batch(monkeypatch, 14)
    with pytest.raises(Broken, match="in a callback"):
        train(tmp_path, At(13, fail))


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 30])
def test_a_model_that_is_not_built_trains_on_each_batch(fuse, steps):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1.0), lambda y, outputs: -outputs, metrics=["mae"])
    kp.fit(model, X, Y, batch_size=4, total_steps=steps, shuffle=False, fuse=fuse, verbose=0)
    batches = X.reshape(15, 4, 4).mean(axis=1)
    expected = sum(batches[step % 15] for step in range(steps))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model.layers[0].kernel)[:, 0], expected, atol=1e-5
    )
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == steps


def loop(folder, at=None, act=fail):
    """A loop of one's own, which adds its batches to a kernel."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    with kp.Run(
        model,
        plan=kp.StepPlan(30, 15),
        data=(X, Y),
        batch_size=4,
        checkpoint=kp.Checkpoint(folder, every_steps=5),
        seed=0,
    ) as run:
        for step, (x, _) in run.steps():
            if step == at:
                act()
            kernel = model.layers[0].kernel
            kernel.assign_add(keras.ops.reshape(keras.ops.mean(x, axis=0), (4, 1)))
    return run_state(model, run.history)


def test_a_loop_of_ones_own_is_the_same_as_without(tmp_path, monkeypatch):
    seen = []
    ahead = loop(tmp_path / "ahead", 12, lambda: seen.append(reads_ahead()))
    assert seen == [True]
    assert not reads_ahead()
    monkeypatch.setattr(_read_ahead, "_WORTH_IT", float("inf"))
    assert_same_state(loop(tmp_path / "in step"), ahead)


def test_a_loop_of_ones_own_that_was_left_goes_on(tmp_path):
    expected = loop(tmp_path / "whole")
    with pytest.raises(Broken):
        loop(tmp_path / "left", 13)
    assert_same_state(loop(tmp_path / "left"), expected)


def test_a_loop_of_ones_own_gets_an_error_of_the_data_in_its_place(tmp_path, monkeypatch):
    break_batch(monkeypatch, 13)
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        loop(tmp_path, 12, lambda: seen.append("the step before"))
    assert seen


def test_a_loader_whose_sampler_draws_is_not_read_in_a_thread():
    torch_data = pytest.importorskip("torch.utils.data")
    from keras_patterns.data import make_source

    class Own(torch_data.Sampler):
        def __len__(self):
            return 60

        def __iter__(self):
            return iter(np.random.permutation(60).tolist())

    examples = list(zip(X, Y, strict=True))
    for sampler, expected in ((None, True), (Own(), False)):
        loader = torch_data.DataLoader(examples, batch_size=4, sampler=sampler, num_workers=1)
        assert make_source(loader).thread_safe is expected
