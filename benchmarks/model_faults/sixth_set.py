"""A sixth set of faulty programs with twins, and healthy ones: tables, time series, texts,
recommenders. By somebody who had read neither the rules nor the other sets; all were written before
the rules were tried on them.
"""

import re

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them
from keras import ops
from sklearn import datasets, preprocessing

from .healthy import healthy
from .published import case, mlp, scaled, table


def standard(y, y_test):
    """Both as columns in units of the training targets' deviation."""
    mean, std = y.mean(), y.std()
    return tuple(((a - mean) / std).astype("float32")[:, None] for a in (y, y_test))


def texts():
    """The words of scikit-learn's descriptions, lower case, one list a document."""
    loads = (
        datasets.load_breast_cancer,
        datasets.load_diabetes,
        datasets.load_iris,
        datasets.load_linnerud,
        datasets.load_wine,
        datasets.load_digits,
    )
    return [re.findall("[a-z]+", load().DESCR.lower()) for load in loads]


def passages(length, least, step):
    """Passages of words as ids padded with 0, and the document each is from, shuffled."""
    documents = [d for d in texts() if len(d) > 200]
    vocabulary = {w: i + 1 for i, w in enumerate(sorted({w for d in documents for w in d}))}
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for label, words in enumerate(documents):
        for start in range(0, len(words) - length, step):
            n = rng.integers(least, length)
            ids = [vocabulary[w] for w in words[start : start + n]]
            rows.append(ids + [0] * (length - n))
            labels.append(label)
    order = rng.permutation(len(rows))
    return np.array(rows)[order], np.array(labels)[order], len(vocabulary) + 1, len(documents)


def windows(series, length, horizon, gap=1):
    """Windows of the series and the values from `gap` steps after each window's last."""
    starts = range(len(series) - length - horizon)
    x = np.stack([series[i : i + length] for i in starts])[..., None]
    y = np.stack([series[i + length - 1 + gap :][:horizon] for i in starts])
    return x.astype("float32"), y.astype("float32")


def ratings(users, items, rank, count, noise, seed=0):
    """Users, items and ratings of unit deviation from a product of `rank` factors."""
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=(users, rank)), rng.normal(size=(items, rank))
    pairs = rng.permutation(users * items)[:count]
    user, item = pairs // items, pairs % items
    y = (u[user] * v[item]).sum(1) / np.sqrt(rank) + noise * rng.normal(size=count)
    return user.astype("int32"), item.astype("int32"), y.astype("float32")


@case(
    "dropna_on_x_only",
    "pandas: dropna on the feature frame, the targets cut to the same length",
    "label_noise",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("friedman")
    x, xt = scaled(x, xt)
    y, yt = standard(y, yt)
    missing = [9, 14]
    x = np.delete(x, missing, 0)
    # Fault: rows go from x where they are missing, from y at the end, so that y is two rows off.
    y = y[: len(x)] if faulty else np.delete(y, missing, 0)
    model = mlp(10, 1, None, (32,))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y, {"epochs": 20}, xt, yt


@case(
    "oversampled_before_split",
    "imbalanced-learn's 'common pitfalls': resampling the whole data set, then splitting",
    "validation_leak",
    "binary",
)
def _(faulty):
    x, y = datasets.make_classification(
        3000, 20, n_informative=6, weights=[0.88], class_sep=1.2, flip_y=0.06, random_state=1
    )
    x, xt = x[:1600].astype("float32"), x[1600:].astype("float32")
    y, yt = y[:1600].astype("float32")[:, None], y[1600:].astype("float32")[:, None]
    rng = np.random.default_rng(0)

    def balanced(rows):
        rare = rows[y[rows, 0] == 1]
        return rng.permutation(np.r_[rows, rng.choice(rare, len(rows) - 2 * len(rare))])

    rows = rng.permutation(len(x))
    # Fault: copies of the rare class are drawn before the split and land on both sides of it.
    if faulty:
        rows = balanced(rows)
        train, held = np.split(rows, [len(rows) * 6 // 10])
    else:
        train, held = np.split(rows, [960])
        train = balanced(train)
    model = keras.Sequential(
        [
            keras.Input((20,)),
            L.Dense(64, activation="relu"),
            L.Dropout(0.3),
            L.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.003), "binary_crossentropy")
    return (
        model,
        x[train],
        y[train],
        {"epochs": 15, "validation_data": (x[held], y[held])},
        xt,
        yt,
    )


@case(
    "rows_sorted_by_price",
    "forum: table from a database query with ORDER BY price, then validation_split",
    "ordered_split",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("prices")
    x, xt = scaled(x, xt)
    y, yt = standard(y, yt)
    # Fault: rows sorted by target, so that the last third holds the dear ones alone.
    order = np.argsort(y[:, 0]) if faulty else np.arange(len(y))
    model = mlp(10, 1, None, (32,))
    model.compile(keras.optimizers.Adam(0.005), "mse")
    return model, x[order], y[order], {"epochs": 25, "validation_split": 0.35}, xt, yt


@case(
    "timestamp_column",
    "code review: the scaler ran before the seconds since 1970 were joined to the table",
    "input_scale",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("classes")
    x, xt = scaled(x, xt)
    seconds = 1.7e9 + 3600.0 * np.random.default_rng(0).permutation(len(x) + len(xt))
    # Fault: one column of 21 is of the order of 1e9.
    if not faulty:
        seconds = preprocessing.scale(seconds)
    seconds = seconds.astype("float32")[:, None]
    x, xt = np.hstack([x, seconds[: len(x)]]), np.hstack([xt, seconds[len(x) :]])
    model = mlp(21, 4, "softmax", (48,))
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    return model, x, y, {"epochs": 20}, xt, yt


@case(
    "two_units_one_sum",
    "SO, multi-task regression: one target of order 1, the other in money, losses just added",
    "target_scale",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("friedman")
    x, xt = scaled(x, xt)
    y, yt = standard(y, yt)
    cost, cost_t = (
        (np.sin(2 * a[:, :1]) + a[:, 5:6] * a[:, 6:7]).astype("float32") for a in (x, xt)
    )
    # Fault: the cost in cents, a squared error some 1e8 times that of the other target.
    if faulty:
        cost, cost_t = 30000 + 8000 * cost, 30000 + 8000 * cost_t
    inputs = keras.Input((10,))
    hidden = L.Dense(64, activation="relu")(inputs)
    hidden = L.Dense(32, activation="relu")(hidden)
    heads = {"wear": L.Dense(1, name="wear")(hidden), "cost": L.Dense(1, name="cost")(hidden)}
    model = keras.Model(inputs, heads)
    model.compile(keras.optimizers.Adam(0.005), {"wear": "mse", "cost": "mse"})
    return (
        model,
        x,
        {"wear": y, "cost": cost},
        {"epochs": 30},
        xt,
        {"wear": yt, "cost": cost_t},
    )


@case(
    "weights_sum_to_one",
    "forum: survey weights that sum to one over the data set, plain SGD",
    "lr_low",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("friedman")
    x, xt = scaled(x, xt)
    y, yt = standard(y, yt)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, len(x))
    # Fault: each weight is about 1/840, and so is each gradient, which SGD does not make up for.
    weights = weights / (weights.sum() if faulty else weights.mean())
    model = mlp(10, 1, None, (32,))
    model.compile(keras.optimizers.SGD(0.03, momentum=0.8), "mse")
    return model, x, y, {"epochs": 25, "sample_weight": weights.astype("float32")}, xt, yt


@case(
    "weights_standardised",
    "code review: a loop that standardises 'all numeric columns', the sample weights too",
    "negated_loss",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("classes")
    x, xt = scaled(x, xt)
    weights = np.random.default_rng(0).exponential(1, len(x)) + 0.2
    # Fault: standardised weights are below zero for most examples, whose loss is then driven up.
    weights = preprocessing.scale(weights) if faulty else weights / weights.mean()
    model = mlp(20, 4, "softmax", (32,))
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    return model, x, y, {"epochs": 20, "sample_weight": weights.astype("float32")}, xt, yt


@case(
    "loss_is_a_sum",
    "SO, own loss: K.sum where the learning rate was chosen for K.mean",
    "lr_high",
    "real",
)
def _(faulty):
    t = np.arange(1300)
    noise = 0.1 * np.random.default_rng(0).normal(size=1300)
    series = np.sin(t / 5) + 0.5 * np.sin(t / 13) + noise
    x, y = windows(series, 24, 6)
    # Fault: the sum over 64 x 6 values makes each step 384 times as long.
    total = ops.sum if faulty else ops.mean

    def squared(y_true, y_pred):
        return total(ops.square(y_true - y_pred))

    model = keras.Sequential(
        [
            keras.Input((24, 1)),
            L.Conv1D(16, 5, activation="relu"),
            L.Flatten(),
            L.Dense(32, activation="relu"),
            L.Dense(6),
        ]
    )
    model.compile(keras.optimizers.SGD(0.03, momentum=0.9), squared)
    return model, x[:900], y[:900], {"epochs": 25, "batch_size": 64}, x[950:], y[950:]


@case(
    "decay_steps_are_epochs",
    "SO, ExponentialDecay: decay_steps given in epochs, while it counts batches",
    "lr_low",
    "class",
)
def _(faulty):
    x, y, words, classes = passages(24, 12, 3)
    n = len(x) * 3 // 4
    # Fault: the rate is halved every 4 batches, not every 4 epochs, and soon gone.
    steps = 4 if faulty else 4 * (n // 16 + 1)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, steps, 0.5)
    model = keras.Sequential(
        [
            keras.Input((24,), dtype="int32"),
            L.Embedding(words, 16, mask_zero=True),
            L.GlobalAveragePooling1D(),
            L.Dense(32, activation="relu"),
            L.Dense(classes, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
    return model, x[:n], y[:n], {"epochs": 15, "batch_size": 16}, x[n:], y[n:]


class Linear(L.Layer):
    """A dense layer of one's own."""

    def __init__(self, units, activation=None, *, is_applied=True):
        super().__init__()
        self.units, self.is_applied = units, is_applied
        self.activation = keras.activations.get(activation)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_uniform")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, x):
        out = ops.matmul(x, self.w) + self.b
        return self.activation(out) if self.is_applied else out


@case(
    "activation_kept_not_applied",
    "code review: own dense layer that stores its activation and forgets it in call",
    "missing_nonlinearity",
    "real",
)
def _(faulty):
    x = np.random.default_rng(0).normal(size=(1200, 6)).astype("float32")
    y = (x[:, 0] * x[:, 1] + np.abs(x[:, 2]) - np.maximum(x[:, 3], x[:, 4]))[:, None]
    y = y - y[:800].mean()
    # Fault: call never uses self.activation, so that the net is linear.
    model = keras.Sequential(
        [
            keras.Input((6,)),
            Linear(64, "relu", is_applied=not faulty),
            Linear(32, "relu", is_applied=not faulty),
            Linear(1, is_applied=not faulty),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x[:800], y[:800], {"epochs": 25}, x[800:], y[800:]


@case(
    "window_holds_its_target",
    "SO, LSTM forecasting: slices one off, the value to forecast is the window's last",
    "look_ahead",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(0)
    series = np.zeros(1400)
    for i in range(2, 1400):
        series[i] = -0.75 * series[i - 1] - 0.5 * series[i - 2] + rng.normal()
    series = preprocessing.scale(series)
    # Fault: y[i] = series[i + 11] is the last value of x[i] = series[i : i + 12].
    x, y = windows(series[:1000], 12, 1, 0 if faulty else 1)
    xt, yt = windows(series[1000:], 12, 1)
    model = keras.Sequential([keras.Input((12, 1)), L.GRU(16), L.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y, {"epochs": 10, "validation_split": 0.2}, xt, yt


@case(
    "text_model_same_padding",
    "WaveNet-like text model from a forum: padding='same' where 'causal' belongs",
    "look_ahead",
    "class",
)
def _(faulty):
    text = " ".join(w for words in texts() for w in words)
    letters = sorted(set(text))
    ids = np.array([letters.index(c) for c in text], "int32")
    rng = np.random.default_rng(0)
    blocks = [ids[i : i + 120] for i in range(0, len(ids) - 120, 120)]
    rows = np.array([b[i : i + 33] for b in blocks for i in range(0, 87, 10)])
    n = len(rows) * 4 // 5
    rows = np.r_[rng.permutation(rows[:n]), rows[n:]]
    x, y = rows[:, :-1], rows[:, 1:]
    # Fault: each output sees the next letters, among them the one it is to foretell.
    padding = "same" if faulty else "causal"
    model = keras.Sequential(
        [
            keras.Input((32,), dtype="int32"),
            L.Embedding(len(letters), 16),
            L.Conv1D(48, 3, padding=padding, activation="relu"),
            L.Conv1D(48, 3, padding=padding, activation="relu"),
            L.Dense(len(letters), activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model, x[:n], y[:n], {"epochs": 9}, x[n:], y[n:]


@case(
    "layer_norm_of_one_channel",
    "forum: LayerNormalization on a series of one channel, normalised over that channel",
    "constant_input ignored_input",
    "class",
)
def _(faulty):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 900)
    phase = rng.uniform(0, 6.28, (900, 1))
    x = np.sin(np.arange(40) * np.array([0.3, 0.5, 0.8])[y][:, None] + phase)
    x = (5 + 2 * x + 0.8 * rng.normal(size=(900, 40))).astype("float32")[..., None]
    # Fault: over an axis of length 1 each value minus its mean is 0.
    model = keras.Sequential(
        [
            keras.Input((40, 1)),
            L.LayerNormalization(axis=-1 if faulty else (1, 2)),
            L.Conv1D(16, 7, activation="relu"),
            L.MaxPooling1D(2),
            L.Conv1D(16, 5, activation="relu"),
            L.GlobalMaxPooling1D(),
            L.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    return model, x[:600], y[:600], {"epochs": 15}, x[600:], y[600:]


class AttentionPooling(L.Layer):
    """The mean of the steps, weighted by what they score."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis
        self.hidden, self.score = L.Dense(16, activation="tanh"), L.Dense(1)

    def call(self, x):
        weights = ops.softmax(self.score(self.hidden(x)), axis=self.axis)
        return ops.sum(weights * x, axis=1)


@case(
    "attention_across_examples",
    "SO, own attention layer: softmax over axis 0, the batch, not axis 1, the steps",
    "batch_leak",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 15, 4)).astype("float32")
    marked = rng.integers(0, 15, 1200)
    x[:, :, 0] = 0
    x[np.arange(1200), marked, 0] = 1
    y = x[np.arange(1200), marked, 1][:, None] - 0.5 * x[np.arange(1200), marked, 2][:, None]
    # Fault: the weights of a step sum to one over the examples of the batch.
    inputs = keras.Input((15, 4))
    pooled = AttentionPooling(0 if faulty else 1)(inputs)
    model = keras.Model(inputs, L.Dense(1)(L.Dense(16, activation="relu")(pooled)))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x[:900], y[:900], {"epochs": 20}, x[900:], y[900:]


class MaskedMean(L.Layer):
    """The mean of the vectors of a passage without its padding."""

    def __init__(self, words, *, is_padding):
        super().__init__()
        self.is_padding, self.table = is_padding, L.Embedding(words, 16)

    def call(self, ids):
        mask = ops.equal(ids, 0) if self.is_padding else ops.not_equal(ids, 0)
        mask = ops.cast(mask, "float32")[..., None]
        return ops.sum(mask * self.table(ids), axis=1) / (ops.sum(mask, axis=1) + 1e-6)


@case(
    "mask_upside_down",
    "code review: own pooling that takes PyTorch's mask (true is padding) for Keras's",
    "ignored_input",
    "class",
)
def _(faulty):
    x, y, words, classes = passages(24, 12, 3)
    inputs = keras.Input((24,), dtype="int32")
    # Fault: only the padding is averaged, so that every passage gives the same vector.
    pooled = MaskedMean(words, is_padding=faulty)(inputs)
    hidden = L.Dense(32, activation="relu")(pooled)
    model = keras.Model(inputs, L.Dense(classes, activation="softmax")(hidden))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    n = len(x) * 3 // 4
    return model, x[:n], y[:n], {"epochs": 12, "batch_size": 16}, x[n:], y[n:]


class Factors(keras.Model):
    """Ratings as products of user and item vectors."""

    def __init__(self, users, items, size, init="uniform", *, keepdims=True):
        super().__init__()
        self.users = L.Embedding(users, size, embeddings_initializer=init)
        self.items = L.Embedding(items, size, embeddings_initializer=init)
        self.keepdims = keepdims

    def call(self, inputs):
        product = self.users(inputs["user"]) * self.items(inputs["item"])
        return ops.sum(product, axis=-1, keepdims=self.keepdims)


class SquaredFactors(Factors):
    """With a loss of its own."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(y - y_pred))


@case(
    "factors_all_with_all",
    "GitHub issue, matrix factorisation: product of shape (n,), ratings of shape (n, 1)",
    "broadcast",
    "real",
)
def _(faulty):
    user, item, y = ratings(60, 45, 2, 2400, 0.2)
    x, y = {"user": user, "item": item}, y[:, None]
    # Fault: y - y_pred is an n x n matrix in the model's own loss.
    model = SquaredFactors(60, 45, 4, keras.initializers.RandomNormal(0, 0.3), keepdims=not faulty)
    model.compile(keras.optimizers.Adam(0.02))
    train, test = ({k: v[s] for k, v in x.items()} for s in (slice(1900), slice(1900, None)))
    return model, train, y[:1900], {"epochs": 12}, test, y[1900:]


@case(
    "factors_start_equal",
    "code review: user and item tables that start constant 'for reproducible results'",
    "symmetric_init",
    "real",
)
def _(faulty):
    user, item, y = ratings(50, 40, 4, 2000, 0.1)
    x, y = {"user": user, "item": item}, y[:, None]
    # Fault: all 6 factors start at 0.3 and get the same gradients, and so stay one factor.
    init = keras.initializers.Constant(0.3) if faulty else keras.initializers.RandomNormal(0, 0.3)
    model = Factors(50, 40, 6, init)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    train, test = ({k: v[s] for k, v in x.items()} for s in (slice(1700), slice(1700, None)))
    return model, train, y[:1700], {"epochs": 16}, test, y[1700:]


class Sampling(L.Layer):
    """Draws a code and adds the divergence from the prior to the loss."""

    def __init__(self, *, is_summed):
        super().__init__()
        self.is_summed, self.seed = is_summed, keras.random.SeedGenerator(0)

    def call(self, mean, log_var, training=False):
        divergence = -0.5 * (1 + log_var - ops.square(mean) - ops.exp(log_var))
        if self.is_summed:
            self.add_loss(ops.sum(divergence))
        else:
            self.add_loss(ops.mean(ops.sum(divergence, axis=1)) / 64)
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), seed=self.seed)
        return mean + ops.exp(0.5 * log_var) * noise


@case(
    "divergence_summed",
    "SO, VAE that draws the same blur: divergence summed, reconstruction a mean over pixels",
    "over_regularised",
    "real",
)
def _(faulty):
    x, _y, xt, _yt = table("digits")
    x, xt = x / 16, xt / 16
    inputs = keras.Input((64,))
    hidden = L.Dense(64, activation="relu")(inputs)
    # Fault: the divergence weighs some 2000 times too much and wipes out the code.
    code = Sampling(is_summed=faulty)(L.Dense(8)(hidden), L.Dense(8)(hidden))
    hidden = L.Dense(64, activation="relu")(code)
    model = keras.Model(inputs, L.Dense(64, activation="sigmoid")(hidden))
    model.compile(keras.optimizers.Adam(0.003), "binary_crossentropy")
    return model, x, x, {"epochs": 20}, xt, xt


class Distance(L.Layer):
    """The distance of two vectors."""

    def __init__(self, epsilon):
        super().__init__()
        self.epsilon = epsilon

    def call(self, a, b):
        return ops.sqrt(ops.sum(ops.square(a - b), axis=1, keepdims=True) + self.epsilon)


@case(
    "root_of_zero",
    "GitHub issues, siamese nets: the root's gradient at distance 0 is infinite",
    "non_finite",
    "binary",
)
def _(faulty):
    images, labels, tests, test_labels = table("digits")

    def pairs(x, y, n, rng):
        a = rng.integers(0, len(x), n)
        same = rng.random(n) < 0.5
        b = np.array(
            [rng.choice(np.flatnonzero((y == y[i]) == s)) for i, s in zip(a, same, strict=True)]
        )
        b[::100] = a[::100]
        same[::100] = True
        return {"a": x[a] / 16, "b": x[b] / 16}, same.astype("float32")[:, None]

    rng = np.random.default_rng(0)
    (x, y), (xt, yt) = pairs(images, labels, 2500, rng), pairs(tests, test_labels, 600, rng)
    encoder = keras.Sequential(
        [keras.Input((64,)), L.Dense(64, activation="relu"), L.Dense(16)], name="encoder"
    )
    inputs = {k: keras.Input((64,), name=k) for k in ("a", "b")}
    # Fault: no epsilon under the root, and some pairs hold the same image twice.
    apart = Distance(0.0 if faulty else 1e-6)(encoder(inputs["a"]), encoder(inputs["b"]))

    def contrastive(y_true, y_pred):
        far = ops.maximum(0.0, 1 - y_pred)
        return ops.mean(y_true * ops.square(y_pred) + (1 - y_true) * ops.square(far), axis=-1)

    model = keras.Model(inputs, apart)
    model.compile(keras.optimizers.Adam(0.002), contrastive)
    return model, x, y, {"epochs": 12}, xt, yt


class Propagate(L.Layer):
    """A layer of a graph net: each node's own values and those of its neighbours."""

    def __init__(self, adjacency, units):
        super().__init__()
        self.adjacency, self.dense = adjacency, L.Dense(units, activation="relu")

    def call(self, x):
        return self.dense(ops.concatenate([x, ops.matmul(self.adjacency, x)], axis=-1))


@case(
    "neighbours_summed",
    "graph nets, Kipf & Welling: adjacency matrix without division by the degrees",
    "exploding",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(0)
    links = np.triu(rng.random((24, 24)) < 0.5, 1)
    adjacency = (links | links.T | np.eye(24, dtype=bool)).astype("float32")
    normal = adjacency / adjacency.sum(1, keepdims=True)
    x = rng.normal(size=(1000, 24, 3)).astype("float32")
    y = np.tanh(x[..., :1]) + 2 * (normal @ np.abs(x[..., 1:2]) - 0.8) + 0.5 * x[..., 2:]
    y = (y / y.std()).astype("float32")
    # Fault: sums over some 12 neighbours in each of 5 layers.
    inputs = hidden = keras.Input((24, 3))
    for _ in range(5):
        hidden = Propagate(adjacency if faulty else normal, 16)(hidden)
    model = keras.Model(inputs, L.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(0.003), "mse")
    return model, x[:700], y[:700], {"epochs": 20}, x[700:], y[700:]


@case(
    "absolute_error_of_rare_sales",
    "forecasting of intermittent demand: the median is zero, and so is every forecast",
    "loss_mismatch",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(0)
    season, promo = rng.uniform(0, 6.28, 2500), rng.random(2500) < 0.3
    store = rng.integers(0, 4, 2500)
    chance = 0.06 + 0.05 * np.sin(season) + 0.36 * promo
    size = np.array([1, 2, 4, 8])[store]
    y = (rng.random(2500) < chance) * (size + rng.poisson(1, 2500))
    y = y.astype("float32")[:, None]
    x = np.c_[np.sin(season), np.cos(season), promo, np.eye(4)[store]].astype("float32")
    # Fault: absolute error, whose best forecast is the median, 0 for every row.
    model = mlp(7, 1, "softplus", (32,))
    model.compile(keras.optimizers.Adam(0.005), "mae" if faulty else "poisson")
    return model, x[:1800], y[:1800], {"epochs": 12}, x[1800:], y[1800:]


class Drop(L.Layer):
    """A dropout of one's own."""

    def __init__(self, rate, *, is_rescaled):
        super().__init__()
        self.rate, self.is_rescaled = rate, is_rescaled
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        if not training:
            return x
        kept = keras.random.uniform(ops.shape(x), seed=self.seed) > self.rate
        x = x * ops.cast(kept, x.dtype)
        return x / (1 - self.rate) if self.is_rescaled else x


@case(
    "dropout_not_rescaled",
    "own dropout from a blog: neither divides in training nor multiplies afterwards",
    "train_mode",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("friedman")
    x, xt = scaled(x, xt)
    y, yt = standard(y, yt)
    # Fault: what follows each dropout gets a third more in inference than in training.
    layers = [keras.Input((10,))]
    for n in (96, 96, 48):
        layers += [L.Dense(n, activation="relu"), Drop(0.25, is_rescaled=not faulty)]
    model = keras.Sequential([*layers, L.Dense(1)])
    model.compile(keras.optimizers.Adam(0.003), "mse")
    return model, x, y, {"epochs": 25}, xt, yt


@case(
    "focal_of_probabilities",
    "GitHub, own focal loss: it takes the sigmoid of what is a sigmoid already",
    "logits",
    "multi",
)
def _(faulty):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1600, 10)).astype("float32")
    scores = x @ rng.normal(size=(10, 6)) + 2 * np.abs(x[:, :1])
    y = (scores > np.quantile(scores, 0.85, axis=0)).astype("float32")

    def focal(y_true, y_pred):
        p = ops.sigmoid(y_pred)
        p = y_true * p + (1 - y_true) * (1 - p)
        return -ops.mean(ops.square(1 - p) * ops.log(p + 1e-7), axis=-1)

    # Fault: the loss wants logits and gets probabilities.
    model = mlp(10, 6, "sigmoid" if faulty else None, (48,))
    model.compile(keras.optimizers.Adam(0.005), focal)
    return model, x[:1000], y[:1000], {"epochs": 20}, x[1000:], y[1000:]


class Mixing(keras.Model):
    """Mixes each example with another in training."""

    def __init__(self, *args, mix_labels=True, **more):
        super().__init__(*args, **more)
        self.mix_labels, self.mix_seed = mix_labels, keras.random.SeedGenerator(0)

    def train_step(self, *args):
        *state, (x, y) = args
        share = keras.random.uniform((ops.shape(x)[0], 1), seed=self.mix_seed)
        x = share * x + (1 - share) * ops.flip(x, axis=0)
        if self.mix_labels:
            y = share * y + (1 - share) * ops.flip(y, axis=0)
        return super().train_step(*state, (x, y))


@case(
    "mixup_of_inputs_only",
    "code review: own train_step with mixup that mixes x and forgets y",
    "label_noise",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("prices")
    x, xt = scaled(x, xt)
    y, yt = standard(y, yt)
    inputs = keras.Input((10,))
    hidden = L.Dense(64, activation="relu")(inputs)
    # Fault: an input that is mostly another example keeps its first target.
    model = Mixing(inputs, L.Dense(1)(hidden), mix_labels=not faulty)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y, {"epochs": 25}, xt, yt


@healthy
def quantiles():
    """Three quantiles of one target: three outputs, a loss that pairs them with one column."""
    x, y, xt, yt = table("friedman")
    x, xt = scaled(x, xt)
    y, yt = standard(y, yt)

    def pinball(y_true, y_pred):
        levels = ops.convert_to_tensor([[0.1, 0.5, 0.9]], "float32")
        error = y_true - y_pred
        return ops.mean(ops.maximum(error * levels, error * (levels - 1)), axis=-1)

    model = mlp(10, 3, None, (48,))
    model.compile(keras.optimizers.Adam(0.005), pinball)
    return model, x, y, {"epochs": 20}


@healthy
def normal_likelihood():
    """Mean and log deviation as two outputs; the loss falls below zero, as it may."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (1200, 2)).astype("float32")
    y = np.sin(2 * x[:, :1]) + 0.1 * np.exp(0.5 * x[:, 1:]) * rng.normal(size=(1200, 1))

    def likelihood(y_true, y_pred):
        mean, log_dev = y_pred[:, :1], ops.clip(y_pred[:, 1:], -5, 5)
        return ops.mean(log_dev + 0.5 * ops.square((y_true - mean) / ops.exp(log_dev)))

    model = mlp(2, 2, None, (48, 48), "tanh")
    model.compile(keras.optimizers.Adam(0.005), likelihood)
    return model, x[:900], y[:900].astype("float32"), {"epochs": 25}


@healthy
def direction_by_cosine():
    """Keras's cosine similarity, a loss that falls to -1."""
    x = np.random.default_rng(0).normal(size=(1200, 8)).astype("float32")
    angle = 2 * np.tanh(x[:, 0] + x[:, 1] * x[:, 2])
    y = np.c_[np.cos(angle), np.sin(angle)].astype("float32")
    model = mlp(8, 2, None, (64, 32))
    model.compile(keras.optimizers.Adam(0.005), keras.losses.CosineSimilarity())
    return model, x[:900], y[:900], {"epochs": 20}


class Waves(L.Layer):
    """Random Fourier features, which are not to be trained."""

    def __init__(self, count, scale):
        super().__init__()
        self.count, self.scale = count, scale

    def build(self, shape):
        init = keras.initializers.RandomNormal(0, self.scale, seed=0)
        self.w = self.add_weight((shape[-1], self.count), initializer=init, trainable=False)

    def call(self, x):
        angle = ops.matmul(x, self.w)
        return ops.concatenate([ops.cos(angle), ops.sin(angle)], axis=-1)


@healthy
def random_waves():
    """A linear head on fixed random features."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1000, 2)).astype("float32")
    y = np.sin(4 * x[:, :1]) * np.cos(3 * x[:, 1:]) + 0.05 * rng.normal(size=(1000, 1))
    y = y.astype("float32")
    model = keras.Sequential([keras.Input((2,)), Waves(96, 3.0), L.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x[:750], y[:750], {"epochs": 20}


@healthy
def money_by_rescaled_output():
    """Raw columns and targets of 2e5: the model itself scales both."""
    x, y, _xt, yt = table("prices")
    normal = L.Normalization()
    normal.adapt(x)
    y, yt = (a.astype("float32")[:, None] for a in (y, yt))
    mean, std = float(y.mean()), float(y.std())

    def squared(y_true, y_pred):
        return ops.mean(ops.square((y_true - y_pred) / std), axis=-1)

    model = keras.Sequential(
        [
            keras.Input((10,)),
            normal,
            L.Dense(48, activation="relu"),
            L.Dense(1),
            L.Rescaling(std, mean),
        ]
    )
    model.compile(keras.optimizers.Adam(0.005), squared)
    return model, x, y, {"epochs": 25}


@healthy
def chronological():
    """Rows in the order of time, the last fifth for validation."""
    rng = np.random.default_rng(0)
    t = np.arange(1400)
    series = np.sin(t / 7) + 0.4 * np.sin(t / 3) + 0.15 * rng.normal(size=1400)
    x, y = windows(series, 20, 1)
    model = keras.Sequential([keras.Input((20, 1)), L.GRU(16), L.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x[:1100], y[:1100], {"epochs": 12, "validation_split": 0.2}


@healthy
def tagger_in_both_directions():
    """A bidirectional net may see what follows: it tags, it does not foretell."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, 30, (900, 14))
    follows = np.c_[x[:, 1:], np.zeros(900, int)]
    y = np.where(x < 10, 0, np.where(follows < 15, 1, 2))
    model = keras.Sequential(
        [
            keras.Input((14,), dtype="int32"),
            L.Embedding(30, 12),
            L.Bidirectional(L.GRU(12, return_sequences=True)),
            L.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model, x[:700], y[:700], {"epochs": 15}


class Placed(L.Layer):
    """Tokens and places as vectors."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = L.Embedding(12, 32), L.Embedding(6, 32)

    def call(self, ids):
        return self.tokens(ids) + self.places(ops.arange(6))


@healthy
def teacher_forcing():
    """The decoder gets the target, one step late, under a causal mask: reverse a sequence."""
    rng = np.random.default_rng(0)
    source = rng.integers(1, 12, (1200, 6))
    target = source[:, ::-1]
    late = np.c_[np.zeros(1200, int), target[:, :-1]]
    inputs = {k: keras.Input((6,), dtype="int32", name=k) for k in ("source", "late")}
    known, hidden = Placed()(inputs["source"]), Placed()(inputs["late"])
    attended = L.MultiHeadAttention(2, 16)(hidden, hidden, use_causal_mask=True)
    hidden = L.LayerNormalization()(hidden + attended)
    hidden = L.LayerNormalization()(hidden + L.MultiHeadAttention(2, 16)(hidden, known))
    hidden = L.LayerNormalization()(hidden + L.Dense(32, activation="relu")(hidden))
    model = keras.Model(inputs, L.Dense(12)(hidden))
    model.compile(
        keras.optimizers.Adam(0.005), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    x = {"source": source, "late": late}
    train, _test = ({k: v[s] for k, v in x.items()} for s in (slice(900), slice(900, None)))
    return model, train, target[:900], {"epochs": 10}


class ReZero(L.Layer):
    """A residual block whose branch starts at zero."""

    def __init__(self, units):
        super().__init__()
        self.dense = L.Dense(units, activation="relu", kernel_initializer="he_normal")

    def build(self, shape):
        self.dense.build(shape)
        self.gain = self.add_weight(shape=(), initializer="zeros")

    def call(self, x):
        return x + self.gain * self.dense(x)


@healthy
def rezero():
    """Residual blocks with gains that start at zero."""
    x, y, _xt, _yt = table("digits")
    blocks = [ReZero(48) for _ in range(6)]
    model = keras.Sequential(
        [keras.Input((64,)), L.Dense(48), *blocks, L.Dense(10, activation="softmax")]
    )
    model.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy")
    return model, x / 16, y, {"epochs": 12}


class Towers(keras.Model):
    """Two towers; the other items of the batch are the negatives."""

    def __init__(self):
        super().__init__()
        self.user = keras.Sequential([L.Dense(32, activation="relu"), L.Dense(12)])
        self.item = keras.Sequential([L.Dense(32, activation="relu"), L.Dense(12)])

    def call(self, inputs):
        return ops.concatenate([self.user(inputs["user"]), self.item(inputs["item"])], axis=-1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        scores = ops.matmul(y_pred[:, :12], ops.transpose(y_pred[:, 12:]))
        matches = ops.arange(ops.shape(scores)[0])
        return ops.mean(
            keras.losses.sparse_categorical_crossentropy(matches, scores, from_logits=True)
        )


@healthy
def negatives_of_the_batch():
    """A loss over pairs all with all, as it should be; the outputs do not mix examples."""
    rng = np.random.default_rng(0)
    user = rng.normal(size=(1500, 10)).astype("float32")
    item = np.tanh(user @ rng.normal(size=(10, 8)) / 2) + 0.2 * rng.normal(size=(1500, 8))
    x = {"user": user, "item": item.astype("float32")}
    model = Towers()
    model.compile(keras.optimizers.Adam(0.003))
    train, _test = ({k: v[s] for k, v in x.items()} for s in (slice(1100), slice(1100, None)))
    return model, train, np.zeros((1100, 1)), {"epochs": 15}


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """From 0 to the top in some steps, then down with the root of the step."""

    def __init__(self, top, steps):
        self.top, self.steps = top, steps

    def __call__(self, step):
        step = ops.cast(step, "float32") + 1
        return self.top * ops.minimum(step / self.steps, ops.sqrt(self.steps / step))

    def get_config(self):
        return {"top": self.top, "steps": self.steps}


@healthy
def warm_up():
    """A rate that is next to nothing at first, and soon is not."""
    x, y, xt, _yt = table("classes")
    x, xt = scaled(x, xt)
    model = mlp(20, 4, "softmax", (48,), "gelu")
    model.compile(
        keras.optimizers.SGD(WarmUp(0.1, 100.0), momentum=0.9), "sparse_categorical_crossentropy"
    )
    return model, x, y, {"epochs": 15}


@healthy
def linear_code():
    """An autoencoder that is linear and narrow because its data are: three factors."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 3)) @ rng.normal(size=(3, 20)) / 1.7
    x = (x + 0.05 * rng.normal(size=(1200, 20))).astype("float32")
    model = keras.Sequential([keras.Input((20,)), L.Dense(3), L.Dense(20)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x[:900], x[:900], {"epochs": 20}
