"""The gradient of a batch, as the adapters give it."""

import keras
import numpy as np
from keras import layers

from keras_patterns.backends import current
from keras_patterns.state import preserved

X = np.array([[1.0, 2.0], [3.0, -1.0]], "float32")
Y = np.array([[1.0], [0.0]], "float32")


class Unused(keras.Model):
    """One of its weights plays no part."""

    def __init__(self):
        super().__init__()
        self.used = layers.Dense(1, kernel_initializer="ones", kernel_regularizer=L2)
        self.unused = self.add_weight(shape=(3,), name="unused")

    def call(self, inputs):
        return self.used(inputs)


L2 = keras.regularizers.L2(0.5)


def test_it_is_that_of_the_loss_with_its_penalties():
    model = Unused()
    model.compile("sgd", "mse")
    current().build(model, (X, Y))
    loss, found = current().gradients(model, (X, Y, None))
    # The outputs are 3 and 2, the targets 1 and 0; the penalty is 0.5 times 2.
    assert loss == np.float32(4 + 1)
    by_name = dict(zip((one.name for one in model.trainable_variables), found, strict=True))
    np.testing.assert_allclose(by_name["kernel"], X.T @ [[2], [2]] + 1, rtol=1e-6)
    np.testing.assert_allclose(by_name["bias"], [4], rtol=1e-6)
    assert by_name["unused"] is None or not by_name["unused"].any()


def test_examples_have_their_weights():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    current().build(model, (X, Y))
    loss, _ = current().gradients(model, (X, Y, np.array([1.0, 0.0], "float32")))
    assert loss == 2.0


def test_inside_a_block_that_preserves_the_model_nothing_moves():
    model = keras.Sequential([keras.Input((2,)), layers.BatchNormalization(), layers.Dense(1)])
    model.compile("sgd", "mse")
    current().build(model, (X, Y))
    before = model.get_weights()
    with preserved(model):
        current().gradients(model, (X, Y, None))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
