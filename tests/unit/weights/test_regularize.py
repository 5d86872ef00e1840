"""kp.regularize: the penalty that it sets is in the loss, and in the file of the model."""

import keras
import numpy as np
import pytest

import keras_patterns as kp
from keras_patterns.optimizers.where import nodes_of

X = np.zeros((4, 3), "float32")
Y = np.zeros((4, 2), "float32")
L1, L2 = 0.03, 0.1


def net(*extra):
    """On zeros, with biases of 0: the data have no gradient of the kernels."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="low"),
            *extra,
            keras.layers.Dense(2, name="high"),
        ]
    )
    model.compile(keras.optimizers.SGD(1.0), "mse")
    return model


def name_of(weight):
    """Its layer and itself: the name of a Sequential goes when it is loaded from a file."""
    return "/".join(weight.path.split("/")[-2:])


def gradients(model):
    """The gradient of the loss by each weight, by its path: what a step at the rate 1 takes."""
    before = model.get_weights()
    loss = model.fit(X, Y, batch_size=4, verbose=0).history["loss"][0]
    moved = zip(model.weights, before, model.get_weights(), strict=True)
    return loss, {name_of(one): old - new for one, old, new in moved}


def expected(weights, l1=L1, l2=L2):
    return l1 * np.sign(weights) + 2 * l2 * weights


def assert_penalized(model, *paths, l1=L1, l2=L2):
    """By the gradient of a real step, and by the loss of a step and of `evaluate`."""
    before = {name_of(one): one.numpy() for one in model.weights}
    chosen = [before[path] for path in paths]
    penalty = sum(l1 * np.abs(one).sum() + l2 * np.square(one).sum() for one in chosen)
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(penalty, rel=1e-5, abs=1e-8)
    loss, found = gradients(model)
    assert loss == pytest.approx(penalty, rel=1e-5, abs=1e-8)
    for path, weight in before.items():
        want = expected(weight, l1, l2) if path in paths else np.zeros_like(weight)
        np.testing.assert_allclose(found[path], want, rtol=1e-4, atol=1e-6, err_msg=path)


def test_kernels_of_a_new_model():
    model = net()
    kp.regularize(model, L1, L2)
    assert_penalized(model, "low/kernel", "high/kernel")


def test_a_model_whose_steps_are_compiled():
    """And the control: setting the argument of a built layer, as people do, does nothing."""
    model = net()
    assert_penalized(model)
    model.layers[0].kernel_regularizer = keras.regularizers.L1L2(L1, L2)
    assert_penalized(model)
    kp.regularize(model, L1, L2, "low")
    assert_penalized(model, "low/kernel")
    kp.regularize(model, l2=0.0)
    assert_penalized(model)


@pytest.mark.parametrize(
    ("where", "paths"),
    [
        ("high", ["high/kernel"]),
        ("*/bias", ["low/bias", "high/bias"]),
        (["low", "low/bias"], ["low/kernel", "low/bias"]),
        ("l*", ["low/kernel"]),
        (-1, ["high/kernel"]),
        ("*", ["low/kernel", "high/kernel"]),
    ],
)
def test_weights_are_selected(where, paths):
    model = net()
    kp.regularize(model, l2=L2, where=where)
    found = {name_of(one) for one in model.weights if one.regularizer}
    assert found == set(paths)


def test_a_model_from_a_file_has_the_penalty(tmp_path):
    model = net()
    kp.regularize(model, L1, L2, "high")
    kp.regularize(model, L1, L2, "low/kernel")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_penalized(loaded, "high/kernel", "low/kernel")


SAVED = {
    "convolution": (keras.layers.Conv1D(2, 2), (4, 3)),
    "depthwise": (keras.layers.DepthwiseConv1D(2), (4, 3)),
    "separable": (keras.layers.SeparableConv1D(2, 2), (4, 3)),
    "LSTM": (keras.layers.LSTM(2), (4, 3)),
    "both ways": (keras.layers.Bidirectional(keras.layers.GRU(2)), (4, 3)),
    "in time": (keras.layers.TimeDistributed(keras.layers.Dense(2)), (4, 3)),
    "embedding": (keras.layers.Embedding(5, 2), (4,)),
    "nested": (keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), (3,)),
}


@pytest.mark.parametrize("name", SAVED)
def test_the_file_has_the_penalties_of_every_kind_of_layer(name, tmp_path):
    layer, shape = SAVED[name]
    model = keras.Sequential([keras.Input(shape), type(layer).from_config(layer.get_config())])
    kp.regularize(model, l2=L2)
    before = [one.regularizer and one.regularizer.get_config() for one in model.weights]
    assert any(before)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [one.regularizer and one.regularizer.get_config() for one in loaded.weights] == before


def test_what_no_file_can_hold_is_named():
    inputs = keras.Input((3, 4))
    attention = keras.layers.MultiHeadAttention(2, 2)
    model = keras.Model(inputs, attention(inputs, inputs))
    with pytest.warns(UserWarning, match=r"the penalty of '.*/kernel'.* not in the file"):
        kp.regularize(model, l2=L2)
    assert len(model.losses) == 4


def test_a_frozen_part_is_penalized_once_it_is_thawed():
    model = net()
    kp.freeze(model, "low")
    kp.regularize(model, L1, L2)
    assert_penalized(model, "high/kernel")
    kp.unfreeze(model, "low")
    assert_penalized(model, "low/kernel", "high/kernel")


@pytest.mark.parametrize(
    "layer", [keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout]
)
@pytest.mark.parametrize("before", [0.0, 0.2])
def test_rates_of_dropout(layer, before, tmp_path):
    """Also of a layer that was made without one, and so without a generator."""
    model = net(layer(before, name="drop"))
    model.fit(X, Y, verbose=0)
    kp.regularize(model, dropout=0.5)
    drop = model.get_layer("drop")
    assert drop.rate == 0.5
    ones = np.ones((1, 4), "float32")
    assert not np.array_equal(drop(ones, training=True), ones)
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").get_layer("drop").rate == 0.5
    kp.regularize(model, dropout=0.0)
    np.testing.assert_array_equal(drop(ones, training=True), ones)


def test_a_rate_is_compiled_into_the_next_step():
    layers = [keras.layers.Dropout(0.0), keras.layers.Dense(200, kernel_initializer="identity")]
    model = keras.Sequential([keras.Input((200,)), *layers])
    model.compile(keras.optimizers.SGD(0.0), "mae")
    ones = np.ones((4, 200), "float32")
    assert model.fit(ones, ones, verbose=0).history["loss"] == [0.0]
    kp.regularize(model, dropout=0.5)
    # Each number is 0 or 2.
    assert model.fit(ones, ones, verbose=0).history["loss"] == [1.0]


class Interrupting(keras.layers.Dense):
    """Interrupts whoever sets its penalty once it is built."""

    def __setattr__(self, name, value):
        if name == "kernel_regularizer" and getattr(self, "armed", False) and value is not None:
            raise KeyboardInterrupt
        super().__setattr__(name, value)


def test_an_interruption_leaves_it_undone():
    last = Interrupting(2, name="last")
    model = net(keras.layers.Dropout(0.0, name="drop"), last)
    last.armed = True
    with pytest.raises(KeyboardInterrupt):
        kp.regularize(model, l2=L2, dropout=0.5)
    assert model.losses == []
    assert [node.layer.rate for node in nodes_of(model) if node.path == "drop"] == [0.0]
    assert [layer.kernel_regularizer for layer in model.layers if layer.name != "drop"] == [
        None
    ] * 3
    assert_penalized(model)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({}, ValueError, "nothing is asked"),
        ({"l2": -0.1}, ValueError, "`l2` must be finite, at least 0"),
        ({"l1": "much"}, TypeError, "`l1` must be a number"),
        ({"dropout": 1.0}, ValueError, "`dropout` must be finite, at least 0 and less than 1"),
        ({"l2": 0.1, "where": "lov"}, ValueError, "Near names are 'low'"),
        ({"l2": 0.1, "dropout": 0.1}, ValueError, "there is no dropout layer"),
        (
            {"l2": 0.1, "where": lambda layer: layer.name == "norm"},
            ValueError,
            "selects no kernel",
        ),
    ],
)
def test_arguments_are_checked(how, error, said):
    model = net(keras.layers.LayerNormalization(name="norm"))
    with pytest.raises(error, match=said):
        kp.regularize(model, **how)
    assert model.losses == []
