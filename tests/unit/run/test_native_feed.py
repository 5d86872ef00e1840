"""Data that TensorFlow reads or makes by itself: the same batches, without Python."""

import keras
import numpy as np
import pytest

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.data import ArraySource

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.skipif(not current().gathers, reason="the backend reads none by itself")

X = np.random.default_rng(0).normal(size=(26, 4)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")


def model(built=True, **compiled):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(3, "tanh"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    net = keras.Sequential(([keras.Input((4,))] if built else []) + layers)
    net.compile(keras.optimizers.Adam(0.01), "mse", weighted_metrics=["mae"], **compiled)
    return net


def dataset():
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(9).batch(4).prefetch(2)


def result(net, history):
    return history.history, [weight.tolist() for weight in net.get_weights()]


@pytest.fixture
def no_python(monkeypatch):
    def refuse(batch):
        raise AssertionError("a batch has come to Python")

    monkeypatch.setattr("keras_patterns.backends.loaders._tensorflow._to_host", refuse)


@pytest.mark.parametrize("fused", [1, 3])
@pytest.mark.parametrize("built", [True, False])
def test_a_dataset_is_read_by_tensorflow_as_in_model_fit(no_python, fused, built):
    expected = model(built)
    expected = result(
        expected,
        expected.fit(dataset().repeat(), epochs=3, steps_per_epoch=7, shuffle=False, verbose=0),
    )
    net = model(built, steps_per_execution=fused)
    assert result(net, kp.fit(net, dataset(), epochs=3, verbose=0, seed=0)) == expected


def test_segments_go_on_where_the_last_one_has_ended(no_python):
    """Epochs of another length cut the run into calls of `fit`."""
    weights = []
    for epochs in (1, 2, 3):
        net = model()
        kp.fit(net, dataset(), total_steps=17, epochs=epochs, verbose=0, seed=0)
        weights.append([weight.tolist() for weight in net.get_weights()])
    assert weights[0] == weights[1] == weights[2]


def test_a_dataset_whose_shapes_are_not_told_builds_the_model():
    def opaque(x, y):
        return tf.py_function(lambda a: a, [x], tf.float32), y

    plain = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    open_shape = plain.map(lambda x, y: (tf.reshape(x, tf.stack([-1, tf.shape(x)[1]])), y))
    for data in (plain.map(opaque), open_shape):
        net = model(built=False)
        kp.fit(net, data, epochs=2, verbose=0, seed=0)
        assert net.get_weights()[0].shape == (4, 3)


ARRAYS = {
    "float32": {"x": X, "y": Y},
    "float64": {"x": X.astype("float64"), "y": Y},
    "bytes in the other order": {"x": X.astype(">f4"), "y": Y},
    "whole numbers": {"x": (X * 50).astype("int16"), "y": Y.astype("uint8")},
    "columns of another array": {"x": np.concatenate([X, X], 1)[:, ::2], "y": Y},
    "weights": {"x": X, "y": Y, "sample_weight": np.arange(26.0)},
    "weights of classes": {"x": X, "y": Y, "class_weight": {1: 3.0}},
    "in their order": {"x": X, "y": Y, "shuffle": False},
    "shuffled within batches": {"x": X, "y": Y, "shuffle": "batch"},
}


@pytest.mark.parametrize("name", ARRAYS)
def test_batches_of_arrays_that_tensorflow_makes_are_those_of_python(name, monkeypatch):
    found = []
    for gathers in (True, False):
        monkeypatch.setattr(type(current()), "gathers", gathers)
        net = model()
        history = kp.fit(net, **ARRAYS[name], batch_size=4, epochs=3, verbose=0, seed=0)
        found.append(result(net, history))
    assert found[0] == found[1]


def test_a_batch_that_is_left_out_is_left_out_of_those_that_tensorflow_makes(monkeypatch, tmp_path):
    x = X.copy()
    x[5] = np.nan
    found = []
    for gathers in (True, False):
        monkeypatch.setattr(type(current()), "gathers", gathers)
        net = model()
        callbacks = [kp.NonFiniteGuard(), kp.Checkpoint(tmp_path / str(gathers), every_steps=2)]
        plan = kp.StepPlan.from_epochs(21, 3)
        history = kp.fit(net, x, Y, batch_size=4, plan=plan, verbose=0, seed=0, callbacks=callbacks)
        found.append(result(net, history))
        assert np.isfinite(net.get_weights()[0]).all()
    assert found[0] == found[1]


def test_what_does_not_lie_in_memory_as_numbers_is_read_batch_by_batch(tmp_path):
    mapped = np.memmap(tmp_path / "x", "float32", "w+", shape=(8, 4))
    texts = np.array(["a", "b"])
    for x in (mapped, mapped[2:], np.asarray(mapped)[::2], texts, texts.astype(object)):
        assert ArraySource(x).gathered is None
    assert ArraySource(X, Y).gathered is not None


def test_shuffled_validation_data_are_the_same_for_each_validation():
    validation = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(26).batch(4).take(2)
    net = model()
    net.optimizer.learning_rate = 0.0
    history = kp.fit(
        net, X, Y, batch_size=4, epochs=3, verbose=0, seed=0, validation_data=validation
    )
    assert len(set(history.history["val_loss"])) == 1
