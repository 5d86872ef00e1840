"""Still more faulty programs with twins, and healthy ones, written after the rules were mended by
the second set, and before they were tried on these.
"""

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them
from keras import ops

from .healthy import healthy
from .met import RATE, SPARSE, blobs, digits, friedman, reviews
from .own import SCE, compiled
from .published import case, mlp, onehot, scaled, table
from .second_set import Batches, convnet, outputs_of_several, pictures, series, tags


def bits(n=900, length=12):
    """Rows of bits, and whether the last three hold an odd number of ones."""
    x = np.random.default_rng(0).integers(0, 2, (n, length, 1)).astype("float32")
    return x, (x[:, -3:, 0].sum(1) % 2).astype("float32")


def graphs(n=500, nodes=12):
    """Features of nodes, their neighbours, and the sum of what the neighbours of the first have."""
    random = np.random.default_rng(1)
    links = np.triu(random.random((n, nodes, nodes)) < 0.6, 1).astype("float32")
    links = links + links.transpose(0, 2, 1) + np.eye(nodes, dtype="float32")
    x = random.normal(size=(n, nodes, 6)).astype("float32")
    y = (links[:, :1] @ x[..., :1])[:, 0, 0] / links[:, 0].sum(1)
    return [x, links], (3 * y).astype("float32")


def sounds(n=500):
    """Loudness in decibels of 20 bands over 16 steps, and which of three tones is there."""
    random = np.random.default_rng(2)
    y = random.integers(0, 3, n)
    power = random.exponential(1e-6, (n, 16, 20))
    for one, tone in zip(power, y, strict=True):
        one[:, 4 + 5 * tone] += random.uniform(1e-5, 1e-3)
    return (10 * np.log10(power)).astype("float32"), y


@case(
    "bits_through_a_softmax",
    "a softmax over one unit behind an LSTM",
    "output_activation",
    "binary",
)
def _(faulty):
    x, y = bits()
    model = keras.Sequential(
        [
            keras.Input((12, 1)),
            L.LSTM(16),
            L.Dense(1, activation="softmax" if faulty else "sigmoid"),
        ]
    )
    optimizer = "adagrad" if faulty else keras.optimizers.Adam(0.02)
    return compiled(model, "binary_crossentropy", optimizer), x, y[:, None], {"epochs": 20}


@case("returns_above_zero", "changes of a price from a relu", "output_activation", "real")
def _(faulty):
    x, y = series()
    last = L.Dense(1, activation="relu" if faulty else None)
    model = keras.Sequential([keras.Input((30, 1)), L.LSTM(24), last])
    return compiled(model, "mse", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 10}


@case(
    "own_crossentropy_of_logits",
    "an own logarithm of outputs without softmax",
    "output_activation non_finite",
    "class",
)
def _(faulty):
    def loss(true, pred):
        return -ops.sum(true * ops.log(pred), axis=-1)

    x, y = digits()
    model = compiled(mlp(64, 10, None if faulty else "softmax"), loss)
    return model, x, onehot(y, 10).astype("float32"), {"epochs": 15}


@case("softmax_in_call", "a softmax in a model's call, and logits in its loss", "logits", "class")
def _(faulty):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = L.Dense(48), L.Dense(10)

        def call(self, inputs):
            h = self.last(ops.relu(self.first(inputs)))
            return ops.softmax(h) if faulty else h

    x, y = digits()
    return compiled(Net(), SCE(from_logits=True)), x, y, {"epochs": 15}


@case("step_of_a_thousand", "the time of a denoiser as 0 to 1000", "input_scale", "real")
def _(faulty):
    random = np.random.default_rng(3)
    clean, _ = digits()
    time = random.integers(0, 1000, (len(clean), 1))
    share = time / 1000
    noise = random.normal(size=clean.shape)
    noisy = (np.sqrt(1 - share) * (2 * clean - 1) + np.sqrt(share) * noise).astype("float32")
    time = (time if faulty else share).astype("float32")
    a, b = keras.Input((64,), name="noisy"), keras.Input((1,), name="time")
    h = L.Dense(96, activation="silu")(L.Concatenate()([a, b]))
    model = keras.Model([a, b], L.Dense(64)(L.Dense(96, activation="silu")(h)))
    return compiled(model, "mse"), [noisy, time], noise.astype("float32"), {"epochs": 15}


@case("decibels_as_they_are", "loudness of -80 to 0", "input_scale", "class")
def _(faulty):
    x, y = sounds()
    if not faulty:
        x = (x - x.mean()) / x.std()
    layers = [L.Conv1D(16, 3, activation="relu"), L.GlobalMaxPooling1D()]
    model = keras.Sequential([keras.Input((16, 20)), *layers, L.Dense(3, activation="softmax")])
    return compiled(model, SPARSE, keras.optimizers.Adam(3e-3)), x, y, {"epochs": 15}


@case(
    "preprocessed_twice",
    "pixels from -1 to 1, once by hand and once by a layer",
    "input_scale constant_input",
    "class",
)
def _(faulty):
    x, y = pictures()
    layers = [L.Rescaling(1 / 127.5, offset=-1)]
    x = (x / 127.5 - 1).astype("float32") if faulty else x
    optimizer = keras.optimizers.SGD(0.02, momentum=0.9)
    return compiled(convnet(layers), SPARSE, optimizer), x, y, {"epochs": 15}


@case(
    "sums_over_neighbours",
    "neighbours added up four times, never divided",
    "exploding input_scale",
    "real",
)
def _(faulty):
    x, y = graphs()
    nodes, links = keras.Input((12, 6)), keras.Input((12, 12))
    share = links if faulty else links / ops.sum(links, axis=-1, keepdims=True)
    h = nodes
    for _ in range(4):
        h = L.Dense(24, activation="relu")(ops.matmul(share, h)) + (0 if faulty else L.Dense(24)(h))
    model = keras.Model([nodes, links], L.Dense(1)(h[:, 0]))
    return compiled(model, "mse", keras.optimizers.Adam(3e-3)), x, y, {"epochs": 20}


@case("degrees", "angles of 0 to 360 under a Huber loss", "target_scale", "real")
def _(faulty):
    x, y = friedman()
    rank = np.argsort(np.argsort(y)) / len(y)
    y = (360 * rank if faulty else 2 * rank - 1).astype("float32")
    model = mlp(10, 1, None, (32,), "elu")
    return compiled(model, keras.losses.Huber(), keras.optimizers.SGD(0.02, momentum=0.9)), x, y, {}


@case("kinds_from_one_to_seven", "labels as they stand in the file", "label_range", "class")
def _(faulty):
    x, y, xt, _ = table("classes")
    x, _ = scaled(x, xt)
    y = y + 1 if faulty else y
    model = mlp(20, 4, "softmax", (48,))
    return compiled(model, SPARSE, "rmsprop"), x, y[:, None].astype("float32"), {"epochs": 15}


@case("transformer_at_a_tenth", "Adam at 0.1 on attention", "lr_high", "class")
def _(faulty):
    x, y, padding = tags()
    ids = keras.Input((15,), dtype="int32")
    places = ops.cumsum(ops.ones_like(ids), axis=1) - 1
    h = L.Embedding(30, 32)(ids) + L.Embedding(15, 32)(places)
    for _ in range(2):
        n = L.LayerNormalization()(h)
        h = h + L.MultiHeadAttention(2, 16)(n, n)
        h = h + L.Dense(32)(L.Dense(64, activation="gelu")(L.LayerNormalization()(h)))
    model = keras.Model(ids, L.Dense(4)(L.LayerNormalization()(h)))
    optimizer = keras.optimizers.Adam(0.1 if faulty else 2e-3)
    fit = {"epochs": 15, "sample_weight": (~padding).astype("float32")}
    return compiled(model, SCE(from_logits=True), optimizer), x, y, fit


@case("momentum_and_three", "SGD at 3 with Nesterov's momentum, on masks", "lr_high", "binary")
def _(faulty):
    x, y = blobs()
    h = [L.Conv2D(8, 3, padding="same", activation="elu") for _ in range(3)]
    model = keras.Sequential([keras.Input((16, 16, 1)), *h, L.Conv2D(1, 1, activation="sigmoid")])
    optimizer = keras.optimizers.SGD(3.0 if faulty else 0.1, momentum=0.95, nesterov=True)
    return compiled(model, "binary_crossentropy", optimizer), x, y, {"epochs": 10}


@case("ten_to_the_minus_seven", "RMSprop at 1e-7 on a GRU", "lr_low", "binary")
def _(faulty):
    x, y = reviews()
    layers = [L.Embedding(50, 16, mask_zero=True), L.GRU(16), L.Dense(1, activation="sigmoid")]
    model = keras.Sequential([keras.Input((20,), dtype="int32"), *layers])
    optimizer = keras.optimizers.RMSprop(1e-7 if faulty else 5e-3)
    return compiled(model, "binary_crossentropy", optimizer), x, y, {"epochs": 15}


@case("boundaries_in_epochs", "a rate cut after the fifth step", "lr_low", "real")
def _(faulty):
    x, y = outputs_of_several()
    boundaries = [5, 10] if faulty else [30 * 29 // 2, 30 * 29 * 3 // 4]
    rate = RATE.PiecewiseConstantDecay(boundaries, [5e-3, 5e-5, 5e-7])
    model = mlp(6, 3, None, (48, 48), "silu")
    return compiled(model, "mae", keras.optimizers.Adam(rate)), x, y, {"epochs": 30}


@case("scaled_by_the_batch", "the least and the most of the whole batch", "batch_leak", "real")
def _(faulty):
    x, y = friedman()
    inputs = keras.Input((10,))
    axis = None if faulty else -1
    low = ops.min(inputs, axis=axis, keepdims=True)
    high = ops.max(inputs, axis=axis, keepdims=True)
    h = (
        L.Concatenate()([inputs, (inputs - low) / (high - low)])
        if not faulty
        else ((inputs - low) / (high - low))
    )
    h = L.Dense(48, activation="relu")(h)
    model = keras.Model(inputs, L.Dense(1)(L.Dense(48, activation="relu")(h)))
    return compiled(model, "mse", keras.optimizers.Adam(3e-3)), x, y, {"epochs": 25}


@case("steps_for_neurons", "hidden units that are 0 or 1", "no_gradient", "binary")
def _(faulty):
    x, y, xt, _ = table("cancer")
    x, _ = scaled(x, xt)
    inputs = keras.Input((30,))
    h = L.Dense(32)(inputs)
    h = ops.cast(h > 0, "float32") if faulty else ops.sigmoid(h)
    h = L.Dense(16)(h)
    h = ops.cast(h > 0, "float32") if faulty else ops.sigmoid(h)
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(0.01)), x, y, {"epochs": 20}


@case("far_recurrent_start", "recurrent weights of a gain of 30", "saturated exploding", "class")
def _(faulty):
    x, y = sounds()
    x = (x - x.mean()) / x.std()
    start = keras.initializers.Orthogonal(30.0 if faulty else 1.0)
    kernel = keras.initializers.RandomNormal(0, 10.0 if faulty else 0.1)
    layers = [
        L.SimpleRNN(24, recurrent_initializer=start, kernel_initializer=kernel),
        L.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((16, 20)), *layers])
    return compiled(model, SPARSE, keras.optimizers.Adam(3e-3)), x, y, {"epochs": 15}


@case(
    "masks_from_zeros", "convolutions that all start at 0", "symmetric_init no_gradient", "binary"
)
def _(faulty):
    x, y = blobs()
    start = "zeros" if faulty else "he_uniform"
    h = [
        L.Conv2D(8, 3, padding="same", activation="relu", kernel_initializer=start)
        for _ in range(2)
    ]
    last = L.Conv2D(1, 1, activation="sigmoid")
    model = keras.Sequential([keras.Input((16, 16, 1)), *h, last])
    return compiled(model, keras.losses.Dice()), x, y, {"epochs": 10}


@case("one_unit_remembers", "ten digits read by a GRU of one unit", "capacity", "class")
def _(faulty):
    x, y = digits()
    layers = [L.GRU(1 if faulty else 32), L.Dense(32, activation="relu")]
    model = keras.Sequential([keras.Input((8, 8)), *layers, L.Dense(10, activation="softmax")])
    return (
        compiled(model, SPARSE, keras.optimizers.Adam(5e-3)),
        x.reshape(-1, 8, 8),
        y,
        {"epochs": 15},
    )


@case("l1_of_one", "an L1 penalty of 1 on the filters of a forecast", "over_regularised", "real")
def _(faulty):
    x, y = series()
    penalty = keras.regularizers.L1(1.0 if faulty else 1e-5)
    layers = [
        L.Conv1D(16, 5, activation="relu", kernel_regularizer=penalty),
        *[L.Flatten(), L.Dense(32, activation="relu", kernel_regularizer=penalty), L.Dense(1)],
    ]
    model = keras.Sequential([keras.Input((30, 1)), *layers])
    return compiled(model, "mse"), x, y, {"epochs": 12}


@case(
    "most_of_each_state",
    "recurrent dropout that was meant to keep 90 %",
    "over_regularised",
    "binary",
)
def _(faulty):
    x, y = reviews()
    rate = 0.9 if faulty else 0.1
    recurrent = L.LSTM(16, dropout=rate, recurrent_dropout=rate)
    layers = [L.Embedding(50, 16), recurrent, L.Dense(1, activation="sigmoid")]
    model = keras.Sequential([keras.Input((20,), dtype="int32"), *layers])
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 15}


@case("sigmoids_all_the_way", "an autoencoder of twelve hard sigmoids", "vanishing", "real")
def _(faulty):
    x, _ = digits()
    act = "hard_sigmoid" if faulty else "relu"
    model = mlp(64, 64, "sigmoid", (48,) * 12 if faulty else (48, 24, 48), act)
    return compiled(model, "mse", keras.optimizers.Adam(3e-3)), x, x, {"epochs": 20}


@case("correlation_as_a_loss", "a correlation that is minimised", "negated_loss", "real")
def _(faulty):
    def correlation(true, pred):
        true = true - ops.mean(true, axis=0)
        pred = pred - ops.mean(pred, axis=0)
        both = ops.sum(true * pred, axis=0)
        size = ops.sqrt(ops.sum(true**2, axis=0) * ops.sum(pred**2, axis=0) + 1e-6)
        return ops.mean(both / size) if faulty else 1 - ops.mean(both / size)

    x, y = outputs_of_several()
    return compiled(mlp(6, 3, None, (48, 48), "tanh"), correlation), x, y, {"epochs": 25}


@case("second_task_weighed_below_zero", "a loss weight of -0.5", "negated_loss", "class")
def _(faulty):
    x, y = digits()
    inputs = keras.Input((64,))
    h = L.Dense(64, activation="relu")(inputs)
    outputs = [L.Dense(10, activation="softmax")(h), L.Dense(1, activation="sigmoid")(h)]
    model = keras.Model(inputs, outputs)
    weights = [1.0, -0.5 if faulty else 0.5]
    compiled(model, [SPARSE, "binary_crossentropy"], loss_weights=weights)
    return model, x, [y, (y % 2)[:, None].astype("float32")], {"epochs": 15}


@case("huber_of_classes", "a Huber loss of a softmax", "loss_mismatch", "class")
def _(faulty):
    x, y, xt, _ = table("wine")
    x, _ = scaled(x, xt)
    loss = keras.losses.Huber() if faulty else "categorical_crossentropy"
    model = mlp(13, 3, "softmax", (24,), "tanh")
    return compiled(model, loss, keras.optimizers.SGD(0.05)), x, onehot(y), {"epochs": 30}


@case(
    "labels_as_numbers",
    "categorical crossentropy of class numbers",
    "loss_mismatch output_width label_range",
    "class",
)
def _(faulty):
    x, y = pictures()
    loss = "categorical_crossentropy" if faulty else SPARSE
    model = compiled(convnet([L.Rescaling(1 / 255)]), loss)
    return model, x, y[:, None], {"epochs": 10}


@case("three_attacks", "three rows of one of five classes", "imbalance", "class")
def _(faulty):
    random = np.random.default_rng(5)
    shares = [0.5, 0.3, 0.1, 0.0985, 0.0015] if faulty else [0.3, 0.2, 0.2, 0.2, 0.1]
    y = random.choice(5, 2000, p=shares)
    y[:3] = 4
    x = (random.normal(size=(5, 12))[y] + random.normal(size=(2000, 12))).astype("float32")
    return compiled(mlp(12, 5, "softmax", (48,), "gelu"), SPARSE), x, y, {"epochs": 10}


@case("sorted_by_kind", "both outputs sorted, the end held back", "ordered_split", "class")
def _(faulty):
    x, y = digits()
    order = np.argsort(y, kind="stable") if faulty else np.arange(len(y))
    x, y = x[order], y[order]
    inputs = keras.Input((64,))
    h = L.Dense(64, activation="relu")(inputs)
    outputs = {
        "digit": L.Dense(10, activation="softmax", name="digit")(h),
        "ink": L.Dense(1, name="ink")(h),
    }
    model = compiled(keras.Model(inputs, outputs), {"digit": SPARSE, "ink": "mse"})
    targets = {"digit": y, "ink": x.mean(1, keepdims=True)}
    return model, x, targets, {"epochs": 15, "validation_split": 0.25}


@case("more_places_than_rows", "positions beyond the table of positions", "index_range", "binary")
def _(faulty):
    x, y = reviews()
    ids = keras.Input((20,), dtype="int32")
    places = ops.cumsum(ops.ones_like(ids), axis=1) - 1
    h = L.Embedding(50, 16)(ids) + L.Embedding(16 if faulty else 20, 16)(places)
    h = L.GlobalMaxPooling1D()(L.Conv1D(16, 3, activation="relu")(h))
    model = keras.Model(ids, L.Dense(1, activation="sigmoid")(h))
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(3e-3)), x, y, {"epochs": 15}


@case("halves_that_overflow", "large numbers stored as float16", "non_finite", "real")
def _(faulty):
    x, y = friedman()
    x = x * np.array([1, 1e5, 1, 1, 1, 1, 1, 1, 1, 1])
    with np.errstate(over="ignore"):
        x = x.astype("float16") if faulty else (x / [1, 1e5, *[1] * 8]).astype("float16")
    return compiled(mlp(10, 1, None, (32,)), "mse"), x, y, {"epochs": 15}


@case(
    "sixty_digits",
    "a wide net on sixty rows with random labels in part",
    "overfit label_noise",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    y = y.copy()
    if faulty:
        y = np.random.default_rng(0).integers(0, 10, len(y))
    rows = 200 if faulty else len(x)
    fit = {"epochs": 40 if faulty else 10, "validation_data": (xt / 16, yt)}
    model = mlp(64, 10, "softmax", (256, 256))
    return compiled(model, SPARSE, keras.optimizers.Adam(2e-3)), x[:rows] / 16, y[:rows], fit


@case(
    "two_inputs_no_activation",
    "a product of two inputs by linear layers",
    "missing_nonlinearity",
    "real",
)
def _(faulty):
    random = np.random.default_rng(6)
    a, b = random.uniform(-1, 1, (2, 900, 4)).astype("float32")
    y = (3 * a * b).sum(1)
    act = None if faulty else "relu"
    one, other = keras.Input((4,)), keras.Input((4,))
    h = [L.Dense(32, activation=act)(part) for part in (one, other)]
    h = L.Dense(48, activation=act)(L.Concatenate()(h))
    model = keras.Model([one, other], L.Dense(1)(h))
    return compiled(model, "mse", keras.optimizers.Adam(5e-3)), [a, b], y, {"epochs": 30}


class Squares(keras.losses.Loss):
    """A loss of one's own."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred))


@case("flattened_to_one_axis", "outputs of (n,) and targets of (n, 1)", "broadcast", "real")
def _(faulty):
    x, y = friedman()
    inputs = keras.Input((10,))
    outputs = L.Dense(1)(L.Dense(32, activation="relu")(inputs))
    model = keras.Model(inputs, outputs[:, 0] if faulty else outputs)
    return compiled(model, Squares(), keras.optimizers.Adam(3e-3)), x, y[:, None], {"epochs": 25}


@case("head_frozen_too", "all frozen but the scale of a normalisation", "frozen", "binary")
def _(faulty):
    x, y = reviews()
    embed, recurrent, last = L.Embedding(50, 32), L.GRU(32), L.Dense(1, activation="sigmoid")
    model = keras.Sequential(
        [keras.Input((20,), dtype="int32"), embed, L.LayerNormalization(), recurrent, last]
    )
    if faulty:
        for layer in (embed, recurrent, last):
            layer.trainable = False
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 15}


@healthy
def gathered_over_four_batches():
    x, y = digits()
    optimizer = keras.optimizers.Adam(3e-3, gradient_accumulation_steps=4)
    return compiled(mlp(64, 10, "softmax"), SPARSE, optimizer), x, y, {"epochs": 15}


@healthy
def scores_of_each_row():
    """Attention over the rows of a digit: one number a row, beside the rows themselves."""
    x, y = digits()
    inputs = keras.Input((8, 8))
    h = L.Dense(32, activation="relu")(inputs)
    score = ops.softmax(L.Dense(1)(L.Dense(16, activation="tanh")(h)), axis=1)
    h = L.Flatten()(h * score)
    model = keras.Model(inputs, L.Dense(10, activation="softmax")(h))
    return (
        compiled(model, SPARSE, keras.optimizers.Adam(3e-3)),
        x.reshape(-1, 8, 8),
        y,
        {"epochs": 15},
    )


@healthy
def squeezed_and_excited():
    x, y = pictures()
    inputs = keras.Input((12, 12, 3))
    h = L.Conv2D(16, 3, activation="relu")(L.Rescaling(1 / 255)(inputs))
    share = L.Dense(4, activation="relu")(L.GlobalAveragePooling2D()(h))
    share = L.Reshape((1, 1, 16))(L.Dense(16, activation="sigmoid")(share))
    h = L.GlobalMaxPooling2D()(L.Conv2D(16, 3, activation="relu")(h * share))
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(h))
    return compiled(model, SPARSE, keras.optimizers.Adam(3e-3)), x, y, {"epochs": 15}


@healthy
def lion_with_decay():
    x, y, xt, _ = table("classes")
    x, _ = scaled(x, xt)
    optimizer = keras.optimizers.Lion(3e-4, weight_decay=0.1)
    return compiled(mlp(20, 4, "softmax", (64,), "gelu"), SPARSE, optimizer), x, y, {"epochs": 15}


@healthy
def leaky_and_learnt():
    x, y = outputs_of_several()
    layers = [L.Dense(48), L.PReLU(), L.Dense(48), L.LeakyReLU(), L.Dense(3)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    return compiled(model, keras.losses.LogCosh(), "nadam"), x, y, {"epochs": 25}


@healthy
def mixed_pairs():
    """Pictures and labels that are mixed with each other as they are loaded."""
    x, y = pictures()
    random = np.random.default_rng(0)

    class Mixed(Batches):
        def __getitem__(self, index):
            pixels, labels = super().__getitem__(index)
            share = random.beta(0.4, 0.4)
            order = random.permutation(len(pixels))
            mixed = [share * part + (1 - share) * part[order] for part in (pixels / 255, labels)]
            return tuple(part.astype("float32") for part in mixed)

    model = compiled(convnet([]), "categorical_crossentropy", "adamw")
    return model, Mixed(x, onehot(y)), None, {"epochs": 12}


class Places(L.Layer):
    """Positions that are learnt from zero."""

    def build(self, shape):
        self.places = self.add_weight(shape=shape[1:], initializer="zeros")

    def call(self, inputs):
        return inputs + self.places


@healthy
def positions_from_zero():
    x, y, padding = tags()
    ids = keras.Input((15,), dtype="int32")
    h = Places()(L.Embedding(30, 24)(ids))
    n = L.LayerNormalization()(h)
    h = h + L.MultiHeadAttention(2, 12)(n, n)
    h = h + L.Dense(24)(L.Dense(48, activation="relu")(L.LayerNormalization()(h)))
    model = keras.Model(ids, L.Dense(4, activation="softmax")(h))
    fit = {"epochs": 15, "sample_weight": (~padding).astype("float32")}
    return compiled(model, SPARSE, keras.optimizers.Adam(3e-3)), x, y, fit


@healthy
def neighbours_divided():
    x, y = graphs()
    nodes, links = keras.Input((12, 6)), keras.Input((12, 12))
    share = links / ops.sum(links, axis=-1, keepdims=True)
    h = L.Dense(24, activation="relu")(ops.matmul(share, nodes))
    h = L.Dense(24, activation="relu")(ops.matmul(share, h))
    model = keras.Model([nodes, links], L.Dense(1)(L.Concatenate()([h[:, 0], nodes[:, 0]])))
    return compiled(model, "mse", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 20}


@healthy
def times_until_it_fails():
    """A Weibull density of times, some of which were cut off."""
    random = np.random.default_rng(0)
    x = random.normal(size=(900, 5)).astype("float32")
    times = random.weibull(1.5, 900) * np.exp(x[:, 0] - 0.5 * x[:, 1])
    ended = (times < 3).astype("float32")
    y = np.stack([np.minimum(times, 3), ended], 1).astype("float32")

    def loss(true, pred):
        time, seen = true[:, 0] + 1e-3, true[:, 1]
        scale, shape = ops.exp(pred[:, 0]), ops.softplus(pred[:, 1]) + 0.1
        log_hazard = ops.log(shape / scale) + (shape - 1) * ops.log(time / scale)
        return ops.power(time / scale, shape) - seen * log_hazard

    return compiled(mlp(5, 2, None, (32,), "tanh"), loss), x, y, {"epochs": 20}


@healthy
def rate_in_stairs():
    x, y = friedman()
    rate = RATE.ExponentialDecay(1e-2, 27 * 5, 0.5, staircase=True)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=1.0)
    return compiled(mlp(10, 1, None), "mse", optimizer), x, y, {"epochs": 30}


@healthy
def warm_and_polynomial():
    x, y = reviews()
    rate = RATE.PolynomialDecay(5e-3, 25 * 15, end_learning_rate=1e-5, power=2.0)
    layers = [
        *[L.Embedding(50, 16), L.Conv1D(24, 3, activation="relu"), L.GlobalMaxPooling1D()],
        *[L.Dropout(0.5), L.Dense(1)],
    ]
    model = keras.Sequential([keras.Input((20,), dtype="int32"), *layers])
    loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    return compiled(model, loss, keras.optimizers.AdamW(rate)), x, y[:, None], {"epochs": 15}


@healthy
def own_crossentropy():
    x, y = digits()

    def loss(true, pred):
        return keras.losses.sparse_categorical_crossentropy(true, pred, from_logits=True)

    return compiled(mlp(64, 10, None, (48,), "selu"), loss), x, y, {"epochs": 15}
