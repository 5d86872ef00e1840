"""Real architectures take a new head, and are trained frozen and then with their last block
thawed."""

from fnmatch import fnmatchcase

import keras
import numpy as np
import pytest
from keras import layers

import keras_patterns as kp
from keras_patterns.state.snapshot import copy_values

# The last block of each, by the names of its layers.
LAST_BLOCKS = {
    "MobileNetV3Small": ["expanded_conv_10_*", "conv_1*"],
    "VGG19": ["block5_*"],
    "ResNet50": ["conv5_block3_*"],
    "EfficientNetB0": ["block7a_*", "top_*"],
    "ConvNeXtTiny": ["convnext_tiny_stage_3_block_2_*"],
}
LIGHT = {"MobileNetV3Small"}
NAMES = [
    pytest.param(name, marks=[] if name in LIGHT else [pytest.mark.architectures])
    for name in LAST_BLOCKS
]
BATCH, STEPS = 8, 6

_rng = np.random.default_rng(4)
X = _rng.random((BATCH * STEPS, 32, 32, 3), "float32")
Y = np.arange(len(X)) % 5


class Halfway(keras.callbacks.Callback):
    """The weights after the first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.weights = weights(self.model)


def weights(model):
    return copy_values({variable.path: variable for variable in model.weights})


def paths(model, *patterns):
    """Of the weights of the layers with such names, BatchNorm's statistics included."""
    chosen = [
        layer
        for layer in model.layers
        if any(fnmatchcase(layer.name, pattern) for pattern in patterns)
    ]
    return {variable.path for layer in chosen for variable in layer.weights}


def moved(before, after):
    return {path for path in after if not np.array_equal(before[path], after[path])}


@pytest.mark.usefixtures("numpy_weights")
@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_body_stays_to_the_bit_and_its_last_block_is_thawed(name):
    body = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3))
    model = kp.replace_head(body, layers.Dense(5, activation="softmax", name="classes"))
    kp.freeze(model, slice(-1))
    # It goes by the signs of gradients, which are tiny behind so many layers that no one has
    # trained. An odd number of steps of the same length never leads back.
    model.compile(keras.optimizers.Lion(0.001), "sparse_categorical_crossentropy")
    before, halfway = weights(model), Halfway()
    thaw = kp.GradualUnfreeze({STEPS // 2: LAST_BLOCKS[name]}, verbose=0)
    how = {"batch_size": BATCH, "total_steps": STEPS, "epochs": 2, "seed": 0, "verbose": 0}
    history = kp.fit(model, X, Y, **how, callbacks=[thaw, halfway])
    assert len(before) == len(model.weights)
    assert moved(before, halfway.weights) == paths(model, "classes")
    assert moved(halfway.weights, weights(model)) == paths(model, "classes", *LAST_BLOCKS[name])
    assert np.isfinite(history.history["loss"]).all()
