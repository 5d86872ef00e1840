"""Faulty programs that practitioners meet, with twins, and healthy ones. All were written before
the rules were tried on them.
"""

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them
from keras import ops

from .healthy import healthy
from .own import SCE, compiled
from .published import case, mlp, onehot, scaled, table

RATE = keras.optimizers.schedules
SPARSE = "sparse_categorical_crossentropy"


def digits():
    x, y, _, _ = table("digits")
    return x / 16, y


def friedman():
    x, y, _, _ = table("friedman")
    return x, ((y - y.mean()) / y.std()).astype("float32")


def reviews(seed=0, n=800, length=20, words=50):
    """Token ids, padded with 0, and a class that the words 1 to 9 against 10 to 19 decide."""
    random = np.random.default_rng(seed)
    ids = random.integers(1, words, (n, length))
    ids[np.arange(length) >= random.integers(8, length, (n, 1))] = 0
    good, bad = ((ids > 0) & (ids < 10)).sum(1), ((ids > 9) & (ids < 20)).sum(1)
    return ids, (good > bad).astype("int32")


def sentences(n=600, length=16, words=12):
    """Ids, each the last one plus 1 or 2, and the ones that come next."""
    random = np.random.default_rng(0)
    steps = random.integers(1, 3, (n, length + 1))
    ids = (random.integers(0, words, (n, 1)) + np.cumsum(steps, 1)) % words
    return ids[:, :-1], ids[:, 1:]


def blobs(n=300, side=16):
    """Noisy pictures of one bright square each, and the masks of the squares."""
    random = np.random.default_rng(0)
    masks = np.zeros((n, side, side, 1), "float32")
    for mask, (row, column) in zip(masks, random.integers(0, side - 6, (n, 2)), strict=True):
        mask[row : row + 6, column : column + 6] = 1
    return masks + random.normal(0, 0.5, masks.shape).astype("float32"), masks


def waves(n=800, length=24):
    random = np.random.default_rng(0)
    phase, pace = random.uniform(0, 6, (n, 1)), random.uniform(0.2, 0.8, (n, 1))
    both = np.sin(phase + pace * np.arange(length + 1)) + random.normal(0, 0.05, (n, length + 1))
    return both[:, :-1, None].astype("float32"), both[:, -1].astype("float32")


@case("mask_the_wrong_way", "attention and mean over the padding only", "ignored_input", "binary")
def _(faulty):
    x, y = reviews()
    ids = keras.Input((20,), dtype="int32")
    seen = ops.equal(ids, 0) if faulty else ops.not_equal(ids, 0)
    h = L.Embedding(50, 16)(ids)
    h = h + L.MultiHeadAttention(2, 8)(h, h, attention_mask=ops.expand_dims(seen, 1))
    h = h + L.Dense(16)(L.Dense(32, activation="relu")(L.LayerNormalization()(h)))
    h = L.GlobalAveragePooling1D()(h, mask=seen)
    model = keras.Model(ids, L.Dense(1, activation="sigmoid")(h))
    return compiled(model, "binary_crossentropy"), x, y, {"epochs": 15}


@case("sees_the_next_word", "a language model without its causal mask", "look_ahead", "class")
def _(faulty):
    x, y = sentences()
    ids = keras.Input((16,), dtype="int32")
    places = ops.cumsum(ops.ones_like(ids), axis=1) - 1
    h = L.Embedding(12, 32)(ids) + L.Embedding(16, 32)(places)
    for _ in range(2):
        n = L.LayerNormalization()(h)
        h = h + L.MultiHeadAttention(2, 16)(n, n, use_causal_mask=not faulty)
        h = h + L.Dense(32)(L.Dense(64, activation="gelu")(L.LayerNormalization()(h)))
    model = keras.Model(ids, L.Dense(12)(L.LayerNormalization()(h)))
    optimizer = keras.optimizers.AdamW(2e-3)
    return compiled(model, SCE(from_logits=True), optimizer), x, y, {"epochs": 10}


@case(
    "prices_in_dollars",
    "targets of 200,000 from an output that starts at 0",
    "target_scale",
    "real",
)
def _(faulty):
    x, y, xt, _ = table("prices")
    x, _ = scaled(x, xt)
    y = y if faulty else (y - y.mean()) / y.std()
    model = mlp(10, 1, None, (64, 64))
    return compiled(model, "mae", metrics=["mse"]), x, y.astype("float32"), {"epochs": 30}


@case("shifted_by_a_row", "labels that belong to the row above", "label_noise", "class")
def _(faulty):
    x, y = digits()
    model = compiled(mlp(64, 10, "softmax"), SPARSE)
    return model, x, np.roll(y, 1) if faulty else y, {"epochs": 15, "validation_split": 0.2}


class OnBackbone(keras.Model):
    """A new head on a backbone that is frozen, but for its normalisation."""

    def __init__(self, backbone, mode):
        super().__init__()
        self.backbone, self.mode = backbone, mode
        self.head = L.Dense(10, activation="softmax")

    def call(self, inputs):
        return self.head(self.backbone(inputs, training=self.mode))


@case(
    "backbone_in_training", "a frozen backbone with training=True", "train_mode batch_leak", "class"
)
def _(faulty):
    x, y = digits()
    norms = [L.BatchNormalization(momentum=0.9) for _ in range(2)]
    convs = [L.Conv2D(n, 3, trainable=False) for n in (8, 16)]
    layers = [convs[0], norms[0], L.Activation("relu"), convs[1], norms[1], L.Activation("relu")]
    backbone = keras.Sequential([keras.Input((8, 8, 1)), *layers, L.Flatten()])
    model = OnBackbone(backbone, True if faulty else None)
    return compiled(model, SPARSE), x.reshape(-1, 8, 8, 1), y, {"epochs": 15}


@case("softmax_in_the_head", "a head with a softmax under from_logits=True", "logits", "class")
def _(faulty):
    x, y = digits()
    head = keras.Sequential(
        [keras.Input((32,)), L.Dense(32, activation="relu"), L.Dense(10)], name="head"
    )
    if faulty:
        head.add(L.Softmax())
    inputs = keras.Input((64,))
    model = keras.Model(inputs, head(L.Dense(32, activation="relu")(inputs)))
    return compiled(model, SCE(from_logits=True)), x, y, {"epochs": 15}


@case("norm_over_the_batch", "unit length along the wrong axis", "batch_leak", "class")
def _(faulty):
    x, y = digits()
    model = keras.Sequential(
        [
            keras.Input((64,)),
            L.UnitNormalization(axis=0 if faulty else -1),
            *[L.Dense(64, activation="relu"), L.Dense(10, activation="softmax")],
        ]
    )
    return compiled(model, SPARSE), x, y, {"epochs": 20}


@case("shares_of_a_column", "rows meant to sum to one, columns do", "input_scale lr_low", "class")
def _(faulty):
    x, y = digits()
    x = x / (x.sum(0 if faulty else 1, keepdims=True) + 1e-6) * (1 if faulty else 8)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    return compiled(mlp(64, 10, "softmax"), SPARSE, optimizer), x, y, {"epochs": 20}


@case("biases_of_minus_ten", "no unit is ever above zero", "dead_units no_gradient", "class")
def _(faulty):
    x, y = digits()
    bias = keras.initializers.Constant(-10.0 if faulty else 0.0)
    model = mlp(64, 10, "softmax", (64, 32), bias_initializer=bias)
    return compiled(model, SPARSE), x, y, {"epochs": 15}


@case("sigmoids_for_classes", "sigmoids that should sum to one", "output_activation", "class")
def _(faulty):
    x, y = digits()
    model = compiled(mlp(64, 10, "sigmoid" if faulty else "softmax"), "categorical_crossentropy")
    return model, x, onehot(y), {"epochs": 15}


@case("embedding_cut_off", "a stop_gradient behind the embedding", "no_gradient", "binary")
def _(faulty):
    x, y = reviews()
    ids = keras.Input((20,), dtype="int32")
    h = L.Embedding(50, 16)(ids)
    if faulty:
        h = ops.stop_gradient(h)
    h = L.Dense(16, activation="relu")(L.GlobalAveragePooling1D()(h))
    model = keras.Model(ids, L.Dense(1, activation="sigmoid")(h))
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 20}


@case("rate_gone_at_once", "decay steps in epochs, counted in steps", "lr_low", "class")
def _(faulty):
    x, y = digits()
    rate = RATE.ExponentialDecay(1e-2, 1 if faulty else 400, 0.1 if faulty else 0.9)
    return compiled(mlp(64, 10, "softmax"), SPARSE, keras.optimizers.Adam(rate)), x, y, {}


@case("activities_at_a_price", "an L1 penalty of 1 on hidden outputs", "over_regularised", "class")
def _(faulty):
    x, y = digits()
    penalty = keras.regularizers.L1(1.0 if faulty else 1e-6)
    model = mlp(64, 10, "softmax", activity_regularizer=penalty)
    return compiled(model, SPARSE), x, y, {"epochs": 15}


@case("drops_nearly_all", "dropout that was meant to keep 95 %", "over_regularised", "class")
def _(faulty):
    x, y = digits()
    rate = 0.95 if faulty else 0.05
    hidden = [L.Dense(64, activation="relu"), L.Dropout(rate)]
    more = [L.Dense(64, activation="relu"), L.Dropout(rate)]
    model = keras.Sequential([keras.Input((64,)), *hidden, *more, L.Dense(10)])
    return compiled(model, SCE(from_logits=True)), x, y, {"epochs": 15}


@case("validated_on_training", "a tenth of validation is training data", "validation_leak", "class")
def _(faulty):
    x, y = digits()
    split = 1000
    held = slice(split - 25, None) if faulty else slice(split, None)
    fit = {"epochs": 15, "validation_data": (x[held], y[held])}
    return compiled(mlp(64, 10, "softmax"), SPARSE), x[:split], y[:split], fit


@case("copied_before_the_split", "a rare class repeated, then split", "validation_leak", "binary")
def _(faulty):
    x, y, _, _ = table("digits")
    x, y = x / 16, (y == 8).astype("int32")
    rare = np.flatnonzero(y)
    order = np.random.default_rng(0).permutation(len(x) + 8 * len(rare) if faulty else len(x))
    rows = np.concatenate([np.arange(len(x)), np.repeat(rare, 8)])[order]
    fit = {"epochs": 15, "validation_split": 0.25}
    return compiled(mlp(64, 1, "sigmoid"), "binary_crossentropy"), x[rows], y[rows], fit


@case("relu_at_the_end", "outputs that cannot be below zero", "output_activation", "real")
def _(faulty):
    x, y = friedman()
    return compiled(mlp(10, 1, "relu" if faulty else None), "mse"), x, y, {"epochs": 30}


@case("one_id_too_many", "an Embedding without a row for the last id", "index_range", "binary")
def _(faulty):
    x, y = reviews()
    layers = [L.Embedding(49 if faulty else 50, 16), L.GRU(16), L.Dense(1, activation="sigmoid")]
    model = keras.Sequential([keras.Input((20,), dtype="int32"), *layers])
    return compiled(model, "binary_crossentropy"), x, y, {"epochs": 15}


@case("dice_the_wrong_way", "an overlap that is minimised", "negated_loss", "binary")
def _(faulty):
    def dice(true, pred):
        both = ops.sum(true * pred, axis=(1, 2, 3))
        overlap = 2 * both / (ops.sum(true, axis=(1, 2, 3)) + ops.sum(pred, axis=(1, 2, 3)))
        return overlap if faulty else 1 - overlap

    x, y = blobs()
    h = [L.Conv2D(8, 3, padding="same", activation="relu") for _ in range(2)]
    last = L.Conv2D(1, 3, padding="same", activation="sigmoid")
    model = keras.Sequential([keras.Input((16, 16, 1)), *h, last])
    return compiled(model, dice), x, y, {"epochs": 10}


@case("recurrent_at_a_half", "Adam at 0.5 on a GRU", "lr_high", "real")
def _(faulty):
    x, y = waves()
    model = keras.Sequential([keras.Input((24, 1)), L.GRU(24), L.Dense(1)])
    optimizer = keras.optimizers.Adam(0.5 if faulty else 5e-3)
    return compiled(model, "mse", optimizer), x, y, {"epochs": 10}


@case("nothing_weighs", "weights of the examples rounded to zero", "no_gradient", "class")
def _(faulty):
    x, y = digits()
    share = 1 / np.bincount(y)[y]
    weights = share.astype("int32") if faulty else share / share.mean()
    fit = {"epochs": 15, "sample_weight": weights.astype("float32")}
    return compiled(mlp(64, 10, "softmax"), SPARSE), x, y, fit


@case("starts_at_a_thousandth", "eight tanh layers that start near 0", "vanishing", "class")
def _(faulty):
    x, y = digits()
    start = keras.initializers.RandomNormal(0, 1e-3) if faulty else "glorot_uniform"
    model = mlp(64, 10, "softmax", (64,) * 8, "tanh", kernel_initializer=start)
    return compiled(model, SPARSE), x, y, {"epochs": 15}


@case("income_beside_age", "one raw branch of two", "input_scale", "binary")
def _(faulty):
    random = np.random.default_rng(0)
    age, income = random.normal(0, 1, (900, 3)), random.lognormal(10.8, 0.5, (900, 1))
    y = (age[:, 0] + 2 * (np.log(income[:, 0]) - 10.8) > 0).astype("int32")
    if not faulty:
        income = (np.log(income) - 10.8) * 2
    inputs = {"person": keras.Input((3,), name="person"), "pay": keras.Input((1,), name="pay")}
    h = [L.Dense(16, activation="relu")(one) for one in inputs.values()]
    h = L.Dense(16, activation="relu")(L.Concatenate()(h))
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))
    x = {"person": age.astype("float32"), "pay": income.astype("float32")}
    return compiled(model, "binary_crossentropy"), x, y, {"epochs": 20}


@case("masks_without_sigmoid", "a segmentation without its sigmoid", "output_activation", "binary")
def _(faulty):
    x, y = blobs()
    h = [L.Conv2D(8, 3, padding="same", activation="relu") for _ in range(2)]
    last = L.Conv2D(1, 1, activation=None if faulty else "sigmoid")
    model = keras.Sequential([keras.Input((16, 16, 1)), *h, last])
    return compiled(model, "binary_crossentropy"), x, y, {"epochs": 10}


@case("kernels_of_ones", "convolutions that all start at one value", "symmetric_init", "class")
def _(faulty):
    x, y = digits()
    start = keras.initializers.Constant(0.05) if faulty else "he_normal"
    h = [L.Conv2D(8, 3, activation="relu", kernel_initializer=start) for _ in range(2)]
    last = [L.Flatten(), L.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *h, *last])
    return compiled(model, SPARSE), x.reshape(-1, 8, 8, 1), y, {"epochs": 15}


@case("fraud", "one positive in 250", "imbalance", "binary")
def _(faulty):
    random = np.random.default_rng(0)
    x = random.normal(size=(3000, 12)).astype("float32")
    score = x[:, 0] + x[:, 1] * x[:, 2]
    y = (score > np.quantile(score, 0.996 if faulty else 0.6)).astype("int32")
    return compiled(mlp(12, 1, "sigmoid"), "binary_crossentropy"), x, y, {"epochs": 10}


@case("softmax_over_time", "probabilities over the steps", "output_activation", "class")
def _(faulty):
    x, y = sentences()
    layers = [L.Embedding(12, 16), L.GRU(32, return_sequences=True), L.Dense(12)]
    last = L.Softmax(axis=1 if faulty else -1)
    model = keras.Sequential([keras.Input((16,), dtype="int32"), *layers, last])
    return compiled(model, SPARSE, keras.optimizers.Adam(5e-3)), x, y, {"epochs": 10}


@case("one_branch_twice", "the second input is never read", "ignored_input", "binary")
def _(faulty):
    random = np.random.default_rng(0)
    left, right = random.normal(size=(2, 900, 6)).astype("float32")
    y = ((left * right).sum(1) > 0).astype("int32")
    a, b = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    both = L.Concatenate()([a, a + 0 * b if faulty else b])
    h = L.Dense(64, activation="relu")(L.Dense(64, activation="relu")(both))
    model = keras.Model([a, b], L.Dense(1, activation="sigmoid")(h))
    return compiled(model, "binary_crossentropy"), [left, right], y, {"epochs": 20}


@healthy
def patches_with_warmup():
    x, y = digits()
    inputs = keras.Input((8, 8, 1))
    h = L.Reshape((16, 16))(L.Conv2D(16, 2, 2)(inputs))
    places = ops.cumsum(ops.ones_like(h[..., 0], dtype="int32"), axis=1) - 1
    h = h + L.Embedding(16, 16)(places)
    for _ in range(2):
        n = L.LayerNormalization()(h)
        h = h + L.MultiHeadAttention(2, 8)(n, n)
        h = h + L.Dense(16)(L.Dense(32, activation="gelu")(L.LayerNormalization()(h)))
    outputs = L.Dense(10)(L.GlobalAveragePooling1D()(L.LayerNormalization()(h)))
    rate = RATE.CosineDecay(0.0, 1000, warmup_target=2e-3, warmup_steps=200)
    model = compiled(
        keras.Model(inputs, outputs), SCE(from_logits=True), keras.optimizers.AdamW(rate)
    )
    return model, x.reshape(-1, 8, 8, 1), y, {"epochs": 20, "validation_split": 0.2}


@healthy
def autoencoder():
    x, _ = digits()
    model = mlp(64, 64, "sigmoid", (32, 8, 32))
    return compiled(model, "mse", keras.optimizers.Adam(3e-3)), x, x, {"epochs": 20}


@healthy
def two_towers():
    random = np.random.default_rng(0)
    left, right = random.normal(size=(2, 1200, 8)).astype("float32")
    y = ((left * right).sum(1) > 0).astype("float32")
    tower = mlp(8, 16, None, (64,))
    a, b = keras.Input((8,)), keras.Input((8,))
    product = L.Multiply()([tower(a), tower(b)])
    h = L.Dense(32, activation="relu")(product)
    model = keras.Model([a, b], L.Dense(1, activation="sigmoid")(h))
    return compiled(model, "binary_crossentropy"), [left, right], y, {"epochs": 20}


@healthy
def language_model_with_padding():
    x, y = sentences()
    x, y = x + 1, y + 1
    padding = np.arange(16) >= np.random.default_rng(1).integers(8, 17, (len(x), 1))
    x, y = np.where(padding, 0, x), np.where(padding, 0, y)
    layers = [L.Embedding(13, 24), L.LSTM(32, return_sequences=True), L.Dense(13)]
    model = keras.Sequential([keras.Input((16,), dtype="int32"), *layers])
    model = compiled(model, SCE(from_logits=True), keras.optimizers.Adam(5e-3))
    return model, x, y, {"epochs": 10, "sample_weight": (~padding).astype("float32")}


@healthy
def small_unet():
    x, y = blobs()
    inputs = keras.Input((16, 16, 1))
    first = L.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    h = L.Conv2D(16, 3, 2, padding="same", activation="relu")(first)
    h = L.Concatenate()([L.UpSampling2D()(h), first])
    h = L.Conv2D(8, 3, padding="same", activation="relu")(h)
    model = keras.Model(inputs, L.Conv2D(1, 1, activation="sigmoid")(h))
    return compiled(model, "binary_crossentropy", metrics=["accuracy"]), x, y, {"epochs": 8}


@healthy
def self_normalising():
    x, y, xt, _ = table("wine")
    x, _ = scaled(x, xt)
    hidden = [L.Dense(32, activation="selu", kernel_initializer="lecun_normal") for _ in range(6)]
    last = [L.AlphaDropout(0.05), L.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((13,)), *hidden, *last])
    return compiled(model, SPARSE), x, y, {"epochs": 30, "batch_size": 16}


@healthy
def ninth_decile():
    def pinball(true, pred):
        gap = true - pred
        return ops.mean(ops.maximum(0.9 * gap, -0.1 * gap), axis=-1)

    x, y = friedman()
    return compiled(mlp(10, 1, None), pinball), x, y[:, None], {"epochs": 30}


@healthy
def two_tasks():
    x, y = digits()
    inputs = keras.Input((64,))
    h = L.Dense(64, activation="relu")(inputs)
    outputs = {
        "digit": L.Dense(10, activation="softmax", name="digit")(h),
        "ink": L.Dense(1, name="ink")(h),
    }
    model = keras.Model(inputs, outputs)
    compiled(model, {"digit": SPARSE, "ink": "mse"}, loss_weights={"digit": 1.0, "ink": 0.5})
    ink = x.mean(1)
    y = {"digit": y, "ink": ((ink - ink.mean()) / ink.std())[:, None]}
    return model, x, y, {"epochs": 15}


@healthy
def forecast():
    x, y = waves()
    layers = [L.Conv1D(16, 3, padding="causal", activation="relu"), L.GRU(16), L.Dense(1)]
    model = keras.Sequential([keras.Input((24, 1)), *layers])
    return compiled(model, keras.losses.Huber(), keras.optimizers.RMSprop(3e-3)), x, y, {}


@healthy
def table_of_columns():
    random = np.random.default_rng(0)
    pay, town = random.lognormal(10.8, 0.5, (900, 2)), random.integers(0, 12, (900, 1))
    effect = random.normal(size=12)
    y = (np.log(pay[:, 0]) - 10.8 + effect[town[:, 0]] > 0).astype("int32")
    scale = L.Normalization()
    scale.adapt(pay)
    inputs = {"pay": keras.Input((2,), name="pay"), "town": keras.Input((1,), name="town")}
    h = L.Concatenate()([scale(inputs["pay"]), L.Flatten()(L.Embedding(12, 4)(inputs["town"]))])
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid")(L.Dense(32, "relu")(h)))
    x = {"pay": pay.astype("float32"), "town": town}
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(5e-3)), x, y, {}


@healthy
def focal():
    x, y, _, _ = table("digits")
    loss = keras.losses.BinaryFocalCrossentropy()
    y = (y == 3).astype("float32")
    return compiled(mlp(64, 1, "sigmoid"), loss), x / 16, y, {"epochs": 15}


@healthy
def distilled():
    x, y = digits()
    soft = (0.9 * onehot(y, 10) + 0.01).astype("float32")
    model = mlp(64, 10, "softmax", (48,), "silu")
    return compiled(model, keras.losses.KLDivergence()), x, soft, {"epochs": 15, "batch_size": 64}


@healthy
def nesterov_with_cosine():
    x, y = digits()
    conv = [L.Conv2D(n, 3, padding="same", use_bias=False) for n in (16, 32)]
    layers = []
    for one in conv:
        layers += [one, L.BatchNormalization(), L.Activation("relu"), L.MaxPooling2D()]
    last = [L.GlobalAveragePooling2D(), L.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers, *last])
    rate = RATE.CosineDecay(0.1, 600)
    optimizer = keras.optimizers.SGD(rate, 0.9, nesterov=True, weight_decay=5e-4)
    return compiled(model, SPARSE, optimizer), x.reshape(-1, 8, 8, 1), y, {"batch_size": 64}


@healthy
def head_of_zeros():
    x, y = digits()
    hidden = [L.Dense(64, activation="relu"), L.LayerNormalization(), L.Dense(64, "relu")]
    last = L.Dense(10, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((64,)), *hidden, last])
    return compiled(model, SCE(from_logits=True)), x, y, {"epochs": 15}
