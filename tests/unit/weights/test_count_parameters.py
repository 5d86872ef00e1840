"""kp.count_parameters: figures that come from paper."""

import keras
import pytest

import keras_patterns as kp


def net():
    layers = [
        keras.layers.Dense(5, "relu", name="body"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(2, name="head"),
    ]
    return keras.Sequential([keras.Input((3,)), *layers])


def rows(counts):
    return {row.part: row for row in counts.rows}


def test_the_parts_of_a_model():
    model = net()
    model.compile("adam", "mse")
    counts = kp.count_parameters(model, batch_size=10)
    found = rows(counts)
    assert [(one.parameters, one.trained) for one in counts.rows] == [
        (20, 20),
        (20, 10),
        (0, 0),
        (12, 12),
    ]
    assert found["body"].weights == found["body"].gradients == 80
    assert found["norm"].weights == 80
    assert found["norm"].gradients == 40
    # Two moments of Adam for what is trained; ten rows of outputs.
    assert [one.slots for one in counts.rows] == [160, 80, 0, 96]
    assert [one.activations for one in counts.rows] == [200, 200, 200, 80]
    total = counts.total
    assert (total.parameters, total.trained, total.weights, total.gradients) == (52, 42, 208, 168)
    assert counts.bytes == 208 + 168 + 336 + 680


@pytest.mark.parametrize(
    ("optimizer", "per_kernel"),
    [
        (keras.optimizers.SGD(), 0),
        (keras.optimizers.SGD(momentum=0.9), 1),
        (keras.optimizers.Adam(use_ema=True), 3),
        (keras.optimizers.Adam(gradient_accumulation_steps=2), 3),
        (keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), 2),
    ],
)
def test_slots_before_and_after_the_first_step(optimizer, per_kernel):
    model = net()
    model.compile(optimizer, "mse")
    expected = kp.count_parameters(model)
    assert rows(expected)["head"].slots == per_kernel * 48
    optimizer.build(model.trainable_variables)
    assert kp.count_parameters(model) == expected


def test_what_is_frozen_has_neither_gradient_nor_slots():
    model = net()
    model.compile("adam", "mse")
    kp.freeze(model, "body")
    body = rows(kp.count_parameters(model))["body"]
    assert (body.parameters, body.trained, body.gradients, body.slots) == (20, 0, 0, 0)


def test_a_nested_model_is_one_part_or_many():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1, name="top")(net()(inputs)))
    model.layers[1].name = "inner"
    whole, parts = kp.count_parameters(model), kp.count_parameters(model, depth=2)
    assert [row.part for row in whole.rows] == ["inner", "top"]
    assert rows(parts).keys() >= {"inner/body", "inner/norm", "inner/head", "top"}
    assert whole.total.parameters == parts.total.parameters == 55
    assert whole.total.activations == parts.total.activations == 32 * 4 * (5 + 5 + 5 + 2 + 1)


def test_half_precision_counts_half():
    layer = keras.layers.Dense(4, dtype="mixed_float16", use_bias=False)
    counts = kp.count_parameters(keras.Sequential([keras.Input((3,)), layer]), batch_size=1)
    assert (counts.total.weights, counts.total.activations) == (48, 8)


class Own(keras.Model):
    """Of its own `call`, whose graph nobody knows."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(2)

    def call(self, inputs):
        return self.head(inputs)


def test_what_is_not_known_is_said():
    model = Own()
    model(keras.ops.ones((1, 3)))
    counts = kp.count_parameters(model)
    assert (counts.total.parameters, counts.total.slots, counts.total.activations) == (
        8,
        None,
        None,
    )
    assert counts.bytes is None
    assert "?" in str(counts)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"depth": 1.5}, TypeError, "`depth` must be a whole number"),
        ({"model": keras.Sequential([])}, ValueError, "is not built"),
        ({"model": 3}, TypeError, "must be a Keras model"),
    ],
)
def test_arguments_are_checked(how, error, said):
    with pytest.raises(error, match=said):
        kp.count_parameters(**{"model": net(), **how})
