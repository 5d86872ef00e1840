"""kp.initialize: its rules, its data, its seeds."""

import random

import keras
import numpy as np
import pytest

import keras_patterns as kp

DATA = np.random.default_rng(1).normal(3.0, 5.0, (256, 20)).astype("float32")


def deep(activation="relu", depth=4):
    layers = [keras.layers.Dense(100, activation, name=f"hidden_{one}") for one in range(depth)]
    return keras.Sequential([keras.Input((20,)), *layers, keras.layers.Dense(3, name="head")])


@pytest.mark.parametrize(
    ("rule", "variance"),
    [
        ("he", 2 / 200),
        ("glorot", 2 / 500),
        ("lecun", 1 / 200),
        (keras.initializers.RandomNormal(0.0, 0.3), 0.09),
    ],
)
def test_the_variance_of_a_rule(rule, variance):
    model = keras.Sequential([keras.Input((200,)), keras.layers.Dense(300)])
    kp.initialize(model, rule)
    kernel, bias = model.get_weights()
    assert kernel.var() == pytest.approx(variance, rel=0.03)
    assert kernel.mean() == pytest.approx(0, abs=0.01)
    assert not bias.any()


def test_orthogonal_is_orthonormal():
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dense(20)])
    kp.initialize(model, "orthogonal")
    kernel = model.get_weights()[0]
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(20), atol=1e-5)


def test_parts_have_their_own_rules_and_the_last_counts():
    model = deep()
    before = {one.path: one.numpy() for one in model.weights}
    kp.initialize(model, [("hidden_*", "zeros"), ("hidden_1", "ones"), ("head/bias", "ones")])
    now = {one.path.split("/", 1)[1]: one.numpy() for one in model.weights}
    assert (now["hidden_1/kernel"] == 1).all()
    assert not now["hidden_0/kernel"].any()
    assert (now["head/bias"] == 1).all()
    for path in ("head/kernel", "hidden_1/bias"):
        np.testing.assert_array_equal(now[path], before[f"sequential/{path}"])


def test_the_seed_decides_and_each_weight_has_its_own_numbers():
    def values(seed, rule="he"):
        model = deep()
        kp.initialize(model, rule, seed=seed)
        return [layer.get_weights()[0] for layer in model.layers[1:3]]

    one, again, other = values(3), values(3), values(4)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(*one)
    # An initializer of Keras's would give layers of one shape the same numbers.
    assert not np.array_equal(*values(0, keras.initializers.HeNormal(seed=1)))


def test_no_random_state_is_drawn_from():
    model = deep()
    before = random.getstate(), np.random.get_state()[1].tolist()
    kp.initialize(model, "he")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_lsuv_gives_every_layer_outputs_of_variance_1(activation):
    """Measured here by NumPy, layer by layer; on raw data the plain rule is far off."""
    for rule, is_near in (("lsuv", True), ("glorot", False)):
        model = deep(activation, depth=6)
        kp.initialize(model, rule, x=DATA)
        variances, inputs = [], DATA.astype("float64")
        for layer in model.layers:
            kernel, bias = layer.get_weights()
            outputs = inputs @ kernel + bias
            variances.append(outputs.var())
            inputs = np.maximum(outputs, 0) if activation == "relu" else np.tanh(outputs)
        assert (np.abs(np.array(variances) - 1) < 0.02).all() == is_near


def test_lsuv_of_convolutions_inside_a_nested_model():
    inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="conv")])
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), inner, keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    images = np.random.default_rng(0).normal(1.0, 9.0, (32, 8, 8, 1)).astype("float32")
    kp.initialize(model, "lsuv", x=images)
    outputs = [keras.ops.convert_to_numpy(part(images)) for part in (inner, model)]
    assert [one.var() for one in outputs] == pytest.approx([1.0, 1.0], abs=0.02)


@pytest.mark.parametrize(
    ("rules", "x", "error", "said"),
    [
        ("best", None, ValueError, "a rule must be one of 'he', 'glorot'"),
        ({}, None, TypeError, "`rules` must be a rule, a mapping"),
        (7, None, TypeError, "`rules` must be a rule, a mapping"),
        ({"hiden_1": "he"}, None, ValueError, "Near names are 'hidden_1'"),
        ("lsuv", None, ValueError, '"lsuv" scales by the outputs on data. Give x='),
        ("lsuv", 0 * DATA, ValueError, '"lsuv" cannot scale .*hidden_0/kernel'),
        ("lsuv", np.where(DATA > 9, np.nan, DATA), ValueError, "have the variance nan on `x`"),
    ],
)
def test_what_cannot_be_done_changes_nothing(rules, x, error, said):
    model = deep()
    before = model.get_weights()
    with pytest.raises(error, match=said):
        kp.initialize(model, rules, x=x)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_lsuv_is_refused_for_recurrent_layers():
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.LSTM(2)])
    with pytest.raises(ValueError, match="lstm/lstm_cell/kernel' is one of a LSTMCell"):
        kp.initialize(model, "lsuv", x=np.ones((2, 4, 3)))


def test_a_model_without_weights_yet_is_refused():
    with pytest.raises(ValueError, match="is not built, so it has no weights yet"):
        kp.initialize(keras.Sequential([keras.layers.Dense(2)]), "he")
