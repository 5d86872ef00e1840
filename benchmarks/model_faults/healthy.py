"""Healthy programs of other kinds than the twins: whatever is found in them is a false alarm."""

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them

from .published import scaled, table

HEALTHY = {}
SCE = keras.losses.SparseCategoricalCrossentropy


def healthy(make):
    """Registers the function that makes a program."""
    HEALTHY[make.__name__] = make
    return make


def comp(model, loss, optimizer="adam"):
    model.compile(optimizer, loss)
    return model


@healthy
def residual_bn():
    x, y, *_ = table("digits")
    i = h = keras.Input((64,))
    h = L.Dense(64)(h)
    for _ in range(4):
        r = L.Dense(64)(L.Activation("relu")(L.BatchNormalization()(h)))
        h = L.Add()([h, r])
    return comp(keras.Model(i, L.Dense(10)(h)), SCE(from_logits=True)), x / 16, y, {}


@healthy
def frozen_backbone():
    x, y, *_ = table("digits")
    base = keras.Sequential(
        [keras.Input((64,)), L.Dense(64, activation="relu"), L.Dense(64, activation="relu")]
    )
    base.trainable = False
    return (
        comp(
            keras.Sequential([keras.Input((64,)), base, L.Dense(10, activation="softmax")]),
            "sparse_categorical_crossentropy",
        ),
        x / 16,
        y,
        {},
    )


@healthy
def linear_regression():
    x, y, xt, _yt = table("diabetes")
    x, _ = scaled(x, xt)
    y = (y - y.mean()) / y.std()
    return (
        comp(keras.Sequential([keras.Input((10,)), L.Dense(1)]), "mse", keras.optimizers.SGD(0.05)),
        x,
        y,
        {},
    )


@healthy
def multilabel():
    x, y, xt, _ = table("labels")
    x, _ = scaled(x, xt)
    return (
        comp(
            keras.Sequential(
                [
                    keras.Input((30,)),
                    L.Dense(64, activation="relu"),
                    L.Dropout(0.2),
                    L.Dense(6, activation="sigmoid"),
                ]
            ),
            "binary_crossentropy",
        ),
        x,
        y.astype("float32"),
        {},
    )


@healthy
def transformer():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 40, (800, 12))
    y = (x < 10).any(1).astype(int)
    i = keras.Input((12,), dtype="int32")
    h = L.Embedding(40, 16)(i)
    h = L.LayerNormalization()(h + L.MultiHeadAttention(2, 8)(h, h))
    h = L.LayerNormalization()(h + L.Dense(16)(L.Dense(32, activation="gelu")(h)))
    return (
        comp(keras.Model(i, L.Dense(2)(L.GlobalAveragePooling1D()(h))), SCE(from_logits=True)),
        x,
        y,
        {},
    )


@healthy
def raw_iris_adam():
    x, y, *_ = table("iris")
    return (
        comp(
            keras.Sequential(
                [
                    keras.Input((4,)),
                    L.Dense(16, activation="relu"),
                    L.Dense(3, activation="softmax"),
                ]
            ),
            "sparse_categorical_crossentropy",
            keras.optimizers.Adam(0.01),
        ),
        x,
        y,
        {"batch_size": 16},
    )


@healthy
def conv_bn_dropout():
    x, y, *_ = table("digits")
    m = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(16, 3, padding="same", use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
            L.MaxPooling2D(),
            L.Conv2D(32, 3, padding="same", activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dropout(0.5),
            L.Dense(10, activation="softmax"),
        ]
    )
    return (
        comp(m, "sparse_categorical_crossentropy"),
        x.reshape(-1, 8, 8, 1) / 16,
        y,
        {"validation_split": 0.2},
    )


@healthy
def normalization_raw():
    x, y, *_ = table("prices")
    n = L.Normalization()
    n.adapt(x)
    y = (y - y.mean()) / y.std()
    return (
        comp(
            keras.Sequential([keras.Input((10,)), n, L.Dense(64, activation="relu"), L.Dense(1)]),
            "mse",
        ),
        x,
        y,
        {},
    )


@healthy
def imbalanced_80_20():
    x, y, *_ = table("moons")
    keep = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:70]]
    return (
        comp(
            keras.Sequential(
                [
                    keras.Input((2,)),
                    L.Dense(32, activation="relu"),
                    L.Dense(2, activation="softmax"),
                ]
            ),
            "sparse_categorical_crossentropy",
            keras.optimizers.Adam(0.01),
        ),
        x[keep],
        y[keep],
        {},
    )


@healthy
def counts_poisson():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 4)).astype("float32")
    y = rng.poisson(np.exp(0.5 * x[:, 0] - 0.3 * x[:, 1] + 0.5))
    return (
        comp(
            keras.Sequential(
                [
                    keras.Input((4,)),
                    L.Dense(16, activation="tanh"),
                    L.Dense(1, activation="exponential"),
                ]
            ),
            keras.losses.Poisson(),
            keras.optimizers.Adam(0.01),
        ),
        x,
        y[:, None].astype("float32"),
        {},
    )


@healthy
def hard_noise():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 10)).astype("float32")
    y = (x[:, 0] + 1.5 * rng.normal(size=1500) > 0).astype("float32")
    return (
        comp(
            keras.Sequential(
                [
                    keras.Input((10,)),
                    L.Dense(16, activation="relu"),
                    L.Dense(1, activation="sigmoid"),
                ]
            ),
            "binary_crossentropy",
        ),
        x,
        y,
        {},
    )


@healthy
def gru_sequence():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 10, 2)).astype("float32")
    y = np.cumsum(x[..., :1], 1) / 3
    return (
        comp(
            keras.Sequential([keras.Input((10, 2)), L.GRU(16, return_sequences=True), L.Dense(1)]),
            "mse",
            keras.optimizers.Adam(0.01),
        ),
        x,
        y,
        {},
    )


@healthy
def l2_dropout():
    x, y, *_ = table("digits")
    return (
        comp(
            keras.Sequential(
                [
                    keras.Input((64,)),
                    L.Dense(64, activation="relu", kernel_regularizer="l2"),
                    L.Dropout(0.5),
                    L.Dense(10, activation="softmax"),
                ]
            ),
            "sparse_categorical_crossentropy",
        ),
        x / 16,
        y,
        {},
    )


@healthy
def schedule_rate():
    x, y, *_ = table("digits")
    return (
        comp(
            keras.Sequential(
                [
                    keras.Input((64,)),
                    L.Dense(64, activation="relu"),
                    L.Dense(10, activation="softmax"),
                ]
            ),
            "sparse_categorical_crossentropy",
            keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.2, 1000), momentum=0.9),
        ),
        x / 16,
        y,
        {},
    )


@healthy
def huber_small_net():
    x, y, *_ = table("friedman")
    y = (y - y.mean()) / y.std()
    return (
        comp(
            keras.Sequential([keras.Input((10,)), L.Dense(32, activation="swish"), L.Dense(1)]),
            keras.losses.Huber(),
            keras.optimizers.AdamW(3e-3),
        ),
        x,
        y[:, None],
        {},
    )


@healthy
def count_regression_mse():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 4)).astype("float32")
    y = rng.poisson(np.exp(0.5 * x[:, 0] + 0.5))
    return (
        comp(
            keras.Sequential(
                [
                    keras.Input((4,)),
                    L.Dense(32, activation="relu"),
                    L.Dense(1, activation="softplus"),
                ]
            ),
            "mse",
            keras.optimizers.Adam(0.01),
        ),
        x,
        y.astype("float32"),
        {},
    )


@healthy
def lstm():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 12, 3)).astype("float32")
    y = (x[:, :, 0].sum(1) > 0).astype("float32")
    return (
        comp(
            keras.Sequential([keras.Input((12, 3)), L.LSTM(16), L.Dense(1, activation="sigmoid")]),
            "binary_crossentropy",
            keras.optimizers.Adam(0.01),
        ),
        x,
        y[:, None],
        {},
    )
