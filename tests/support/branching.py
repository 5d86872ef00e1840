"""Layers for models that several backends load: one that does the same on all, and one that asks
which backend runs.
"""

import keras
from keras import layers


class Same(layers.Layer):
    """Doubles."""

    def call(self, inputs):
        return inputs * 2


class Branching(layers.Layer):
    """Doubles the first unit, on torch alone."""

    def call(self, inputs):
        factor = 2.0 if keras.backend.backend() == "torch" else 1.0
        return inputs * keras.ops.convert_to_tensor([factor, 1.0, 1.0])


def make(layer=Same):
    """Two outputs, one of which has the layer before it."""
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, "tanh")(inputs)
    outputs = {"left": layers.Dense(2)(hidden), "right": layer()(hidden)}
    model = keras.Model(inputs, outputs, name="two")
    model.compile(keras.optimizers.Adam(0.01), {"left": "mse", "right": "mse"})
    return model
