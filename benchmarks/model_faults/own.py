"""Faulty programs of our own, of faults that published collections hold few of, with twins."""

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them

from .published import case, mlp, onehot, scaled, table

SCE = keras.losses.SparseCategoricalCrossentropy


class AlwaysTraining(L.Layer):
    """Calls a BatchNormalization in training mode, whatever is asked for."""

    def __init__(self):
        super().__init__()
        self.norm = L.BatchNormalization(momentum=0.9)

    def call(self, inputs):
        return self.norm(inputs, training=True)


def compiled(model, loss, optimizer="adam", **more):
    model.compile(optimizer, loss, **more)
    return model


def digits(model, loss="sparse_categorical_crossentropy", optimizer="adam", x=1.0, y=None, **fit):
    """A model on the digits, with inputs times a number."""
    inputs, labels, test, test_labels = table("digits")
    labels = labels if y is None else y(labels)
    compiled(model, loss, optimizer)
    return model, inputs * (x / 16), labels, {"epochs": 15, **fit}, test * (x / 16), test_labels


@case("double_softmax", "logits are softmaxed by the model and by the loss", "logits", "class")
def _(faulty):
    return digits(mlp(64, 10, "softmax"), SCE(from_logits=faulty))


@case("sigmoid_as_logits", "a sigmoid under from_logits=True", "logits", "binary")
def _(faulty):
    x, y, xt, yt = table("cancer")
    x, xt = scaled(x, xt)
    loss = keras.losses.BinaryCrossentropy(from_logits=faulty)
    return compiled(mlp(30, 1, "sigmoid"), loss), x, y, {"epochs": 20}, xt, yt


@case("softmax_twice", "a softmax layer behind a Dense with softmax", "output_activation", "class")
def _(faulty):
    model = mlp(64, 10, "softmax")
    if faulty:
        model.add(L.Softmax())
    return digits(model)


@case("two_units_too_few", "eight units for ten classes", "output_width", "class")
def _(faulty):
    return digits(mlp(64, 8 if faulty else 10, "softmax"))


@case("one_unit_per_number", "three outputs for one number", "output_width", "real")
def _(faulty):
    x, y, xt, yt = table("friedman")
    y, yt = (y - y.mean()) / y.std(), (yt - y.mean()) / y.std()
    return compiled(mlp(10, 3 if faulty else 1, None), "mse"), x, y, {"epochs": 20}, xt, yt


@case("plus_minus_one", "labels of -1 and 1 under binary crossentropy", "label_range", "binary")
def _(faulty):
    x, y, xt, yt = table("moons")
    y = 2 * y - 1 if faulty else y
    model = compiled(mlp(2, 1, "sigmoid"), "binary_crossentropy", keras.optimizers.Adam(0.01))
    return model, x, y.astype("float32"), {"epochs": 20}, xt, yt


@case("missing_values", "a missing value in one example of a hundred", "non_finite", "class")
def _(faulty):
    model, x, y, fit, xt, yt = digits(mlp(64, 10, "softmax"))
    if faulty:
        x = x.copy()
        x[::100, 5] = np.nan
    return model, x, y, fit, xt, yt


@case("log_of_zero", "a logarithm of inputs that are zero at places", "non_finite", "class")
def _(faulty):
    inputs = keras.Input((64,))
    hidden = keras.ops.log(inputs) if faulty else keras.ops.log1p(inputs)
    outputs = L.Dense(10, activation="softmax")(L.Dense(32, activation="relu")(hidden))
    return digits(keras.Model(inputs, outputs))


@case("whole_division", "pixels of 0 to 255 divided as whole numbers", "constant_input", "class")
def _(faulty):
    model, x, y, fit, xt, yt = digits(mlp(64, 10, "softmax"))
    pixels = (x * 254).astype("uint8")
    return model, (pixels // 255 if faulty else pixels / 255), y, fit, xt, yt


@case("divided_twice", "inputs divided by 255 twice", "input_scale lr_low", "class")
def _(faulty):
    return digits(mlp(64, 10, "softmax"), x=1 / 255 if faulty else 1.0)


@case("mean_over_batch", "centred by the mean of the batch", "batch_leak", "class")
def _(faulty):
    inputs = keras.Input((64,))
    axis = 0 if faulty else -1
    hidden = inputs - keras.ops.mean(inputs, axis=axis, keepdims=True)
    outputs = L.Dense(10, activation="softmax")(L.Dense(32, activation="relu")(hidden))
    return digits(keras.Model(inputs, outputs))


@case("softmax_inside", "a hidden layer with a softmax", "hidden_activation vanishing", "class")
def _(faulty):
    hidden = [L.Dense(64, activation="softmax" if faulty else "relu") for _ in range(2)]
    last = L.Dense(10, activation="softmax")
    return digits(keras.Sequential([keras.Input((64,)), *hidden, last]))


@case("penalty", "an L2 penalty a thousand times too large", "over_regularised", "class")
def _(faulty):
    penalty = keras.regularizers.L2(10.0 if faulty else 1e-3)
    return digits(mlp(64, 10, "softmax", kernel_regularizer=penalty))


@case(
    "norm_in_training",
    "BatchNormalization called in training mode",
    "train_mode batch_leak",
    "class",
)
def _(faulty):
    inputs = keras.Input((64,))
    norm = AlwaysTraining() if faulty else L.BatchNormalization(momentum=0.9)
    hidden = norm(L.Dense(32)(inputs))
    outputs = L.Dense(10, activation="softmax")(L.Activation("relu")(hidden))
    return digits(keras.Model(inputs, outputs))


@case("weighted_below_zero", "a weight of the loss below zero", "negated_loss", "class")
def _(faulty):
    x, y, xt, yt = table("digits")
    model = mlp(64, 10, "softmax")
    model.compile("adam", "sparse_categorical_crossentropy", loss_weights=-1.0 if faulty else 1.0)
    return model, x / 16, y, {"epochs": 15}, xt / 16, yt


@case("huge_start", "initial weights of a deviation of 10", "exploding saturated", "class")
def _(faulty):
    start = keras.initializers.RandomNormal(0, 10.0) if faulty else "glorot_uniform"
    return digits(mlp(64, 10, "softmax", (32, 32), "tanh", kernel_initializer=start))


@case("deep_sigmoids", "ten layers of sigmoids", "vanishing", "class")
def _(faulty):
    act = "sigmoid" if faulty else "relu"
    return digits(mlp(64, 10, "softmax", (32,) * 10, act))


@case("clipped", "gradients clipped to a norm of a millionth", "lr_low", "class")
def _(faulty):
    norm = 1e-6 if faulty else 1.0
    return digits(mlp(64, 10, "softmax"), optimizer=keras.optimizers.SGD(0.2, clipnorm=norm))


@case("momentum_and_rate", "SGD at 2 with momentum", "lr_high", "class")
def _(faulty):
    rate = 2.0 if faulty else 0.05
    return digits(mlp(64, 10, "softmax"), optimizer=keras.optimizers.SGD(rate, momentum=0.9))


@case("argmax_inside", "the loss sees rounded probabilities", "no_gradient", "class")
def _(faulty):
    inputs = keras.Input((64,))
    outputs = L.Dense(10, activation="softmax")(L.Dense(32, activation="relu")(inputs))
    if faulty:
        outputs = (keras.ops.round(10 * outputs) + 1) / 20
        outputs = outputs / keras.ops.sum(outputs, axis=-1, keepdims=True)
    return digits(keras.Model(inputs, outputs))


@case("kilometres", "targets in millions", "target_scale", "real")
def _(faulty):
    x, y, xt, yt = table("friedman")
    factor = 1e6 if faulty else 1 / y.std()
    y, yt = (y - y.mean()) * factor, (yt - y.mean()) * factor
    return compiled(mlp(10, 1, None), "mse"), x, y, {"epochs": 30}, xt, yt


@case("two_in_the_middle", "one unit between 64 inputs and ten classes", "capacity", "class")
def _(faulty):
    hidden = (64, 1, 64) if faulty else (64, 16, 64)
    return digits(mlp(64, 10, "softmax", hidden, "tanh"))


@case("mse_of_classes", "squared errors of a softmax", "loss_mismatch", "class")
def _(faulty):
    loss = "mse" if faulty else "categorical_crossentropy"
    return digits(mlp(64, 10, "softmax"), loss, y=onehot)
