"""An eighth set of faulty programs with twins, and healthy ones: of all kinds. By somebody who had
read neither the rules nor the other sets; all were written before the rules were tried on them.
"""

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them
from keras import ops
from sklearn import datasets

from .healthy import healthy
from .published import case, mlp, onehot, scaled, table

SCE = "sparse_categorical_crossentropy"
Adam = keras.optimizers.Adam


def images():
    x, y, xt, yt = table("digits")
    return x.reshape(-1, 8, 8, 1) / 16, y, xt.reshape(-1, 8, 8, 1) / 16, yt


def zscored(y, yt):
    return (
        ((y - y.mean()) / y.std()).astype("float32")[:, None],
        ((yt - y.mean()) / y.std()).astype("float32")[:, None],
    )


def texts():
    load = ("iris", "diabetes", "breast_cancer", "wine", "digits", "linnerud")
    return [getattr(datasets, "load_" + name)().DESCR for name in load]


def cut(x, n):
    """The first n rows of all arrays, and the rest."""
    return {k: v[:n] for k, v in x.items()}, {k: v[n:] for k, v in x.items()}


@case(
    "missing_brand_code",
    "code review: pandas category codes give -1 for a missing value, which wraps to the last row",
    "index_range",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(1)
    n = 3000
    brand = rng.choice(np.arange(-1, 8), n, p=[0.25] + [0.07] * 7 + [0.26])
    region = rng.integers(0, 5, n)
    num = rng.normal(size=(n, 3)).astype("float32")
    effect = np.array([2.0, 0.3, -0.5, 0.8, -0.2, 0.5, -0.7, 0.1, -2.0])
    y = effect[brand + 1] + 0.5 * num[:, 0] * (region - 2) + 0.2 * rng.normal(size=n)
    # fault: the codes go into the table as they are, missing ones as -1
    shift = 0 if faulty else 1
    x = {"num": num, "brand": brand + shift, "region": region}
    inputs = {
        "num": keras.Input((3,), name="num"),
        "brand": keras.Input((), dtype="int32", name="brand"),
        "region": keras.Input((), dtype="int32", name="region"),
    }
    h = L.Concatenate()(
        [
            inputs["num"],
            L.Embedding(8 + shift, 4)(inputs["brand"]),
            L.Embedding(5, 3)(inputs["region"]),
        ]
    )
    h = L.Dense(32, activation="relu")(h)
    model = keras.Model(inputs, L.Dense(1)(h))
    model.compile(Adam(0.01), "mse")
    x, xt = cut(x, 2400)
    y = y.astype("float32")[:, None]
    return model, x, y[:2400], {"epochs": 12}, xt, y[2400:]


class CharBlock(L.Layer):
    """One block of self-attention under a triangular mask."""

    def __init__(self, width, mask, **more):
        super().__init__(**more)
        self.mask = mask
        self.attend = L.MultiHeadAttention(2, width // 2)
        self.norm = L.LayerNormalization()
        self.feed = keras.Sequential([L.Dense(2 * width, activation="relu"), L.Dense(width)])

    def build(self, shape):
        self.place = self.add_weight(shape=shape[1:], initializer="random_normal", name="place")
        self.attend.build(shape, shape)
        self.norm.build(shape)
        self.feed.build(shape)

    def call(self, x):
        x = x + self.place
        t = x.shape[1]
        h = self.norm(x + self.attend(x, x, attention_mask=self.mask(ops.ones((1, t, t)))))
        return h + self.feed(h)


@case(
    "char_lm_mask_upside_down",
    "forum: mask of a text model made by triu, so that each place sees what follows",
    "look_ahead",
    "class",
)
def _(faulty):
    text = "".join(c if c.isalpha() else " " for c in " ".join(texts()).lower() if c.isascii())
    ids = np.array([0 if c == " " else ord(c) - 96 for c in " ".join(text.split())])
    starts = np.random.default_rng(0).permutation(len(ids) - 25)[:2600]
    rows = ids[starts[:, None] + np.arange(25)]
    i = keras.Input((24,), dtype="int32")
    h = L.Embedding(27, 32)(i)
    # fault: triu lets place t attend to t and all that follows; tril is meant
    h = CharBlock(32, ops.triu if faulty else ops.tril)(h)
    model = keras.Model(i, L.Dense(27, activation="softmax")(h))
    model.compile(Adam(0.005), SCE)
    x, y = rows[:, :-1], rows[:, 1:]
    return model, x[:2000], y[:2000], {"epochs": 10}, x[2000:], y[2000:]


class AttentionPool(L.Layer):
    """Mean of the steps, weighted by a learnt score."""

    def __init__(self, axis, **more):
        super().__init__(**more)
        self.axis = axis
        self.score = L.Dense(1)

    def build(self, shape):
        self.score.build(shape)

    def call(self, x):
        return ops.sum(ops.softmax(self.score(x), axis=self.axis) * x, axis=1)


@case(
    "attention_pool_over_batch",
    "code review: the weights of a pooling layer are normalised over axis 0, the examples",
    "batch_leak",
    "class",
)
def _(faulty):
    rng = np.random.default_rng(2)
    n = 2000
    y = rng.integers(0, 4, n)
    x = rng.normal(size=(n, 20, 6)).astype("float32")
    x[:, :, 5] = 0
    at = rng.integers(0, 20, n)
    x[np.arange(n), at, 5] = 3
    x[np.arange(n), at, :4] += 2.5 * np.eye(4)[y]
    i = keras.Input((20, 6))
    h = L.Dense(16, activation="tanh")(i)
    # fault: softmax over axis 0 weighs an example's step against those of the other examples
    h = AttentionPool(0 if faulty else 1)(h)
    model = keras.Model(i, L.Dense(4, activation="softmax")(h))
    model.compile(Adam(0.01), SCE)
    return model, x[:1500], y[:1500], {"epochs": 12}, x[1500:], y[1500:]


@case(
    "gaussian_nll_column",
    "forum: likelihood loss that takes p[:, 0], of shape (n,), from targets of shape (n, 1)",
    "broadcast",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("friedman")
    y, yt = zscored(y, yt)

    def nll(t, p):
        # fault: p[:, 0] drops the axis that the targets keep, t - mean is (n, n)
        mean, logvar = (p[:, 0], p[:, 1]) if faulty else (p[:, :1], p[:, 1:])
        return ops.mean(0.5 * (logvar + ops.square(t - mean) * ops.exp(-logvar)))

    model = mlp(10, 2, None, (48, 24), "swish")
    model.compile(Adam(0.005), nll)
    return model, x, y, {"epochs": 40}, xt, yt


@case(
    "wind_direction_tanh",
    "code review: directions in radians, up to 2.8, from a head that ends in tanh",
    "output_activation",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(4)
    angle = rng.uniform(-2.8, 2.8, 1800)
    across, down = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    x = np.cos(angle)[:, None, None] * across + np.sin(angle)[:, None, None] * down
    x = (x + 0.2 * rng.normal(size=x.shape)).astype("float32")[..., None]
    y = angle.astype("float32")[:, None]
    model = keras.Sequential(
        [
            keras.Input((9, 9, 1)),
            L.Conv2D(12, 3, activation="relu"),
            L.Conv2D(12, 3, 2, activation="relu"),
            L.Flatten(),
            L.Dense(48, activation="relu"),
            # fault: two thirds of the targets lie beyond what tanh can give
            L.Dense(1, activation="tanh" if faulty else None),
        ]
    )
    model.compile(Adam(0.003), "mse")
    return model, x[:1300], y[:1300], {"epochs": 15}, x[1300:], y[1300:]


def _(faulty):
    x, y = datasets.make_classification(
        2400, 15, n_informative=8, weights=[0.75], class_sep=1.3, flip_y=0.01, random_state=4
    )
    x, y = x.astype("float32") / 2, y.astype("float32")[:, None]

    def focal(t, p):
        p = ops.clip(p, 1e-6, 1 - 1e-6)
        pos = -t * ops.square(1 - p) * ops.log(p)
        return ops.mean(pos - (1 - t) * ops.square(p) * ops.log(1 - p))

    # fault: the head has no sigmoid, scores outside of (0, 1) get no gradient
    model = mlp(15, 1, None if faulty else "sigmoid", (32,))
    model.compile(Adam(0.003), focal)
    return model, x[:1700], y[:1700], {"epochs": 30}, x[1700:], y[1700:]


@case(
    "demand_mae",
    "code review: demand that is zero on most days, under the absolute error: its median is 0",
    "loss_mismatch",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(5)
    n = 3600
    store, day = rng.integers(0, 8, n), rng.integers(0, 7, n)
    price = rng.normal(size=n).astype("float32")
    rate = np.linspace(0.15, 0.4, 8)[store]
    size = 1 + np.exp(0.6 - 0.8 * price) * np.where(day > 4, 2.5, 1)
    y = (rng.random(n) < rate) * size
    x = {"store": store, "day": onehot(day, 7), "price": price[:, None]}
    inputs = {
        "store": keras.Input((), dtype="int32", name="store"),
        "day": keras.Input((7,), name="day"),
        "price": keras.Input((1,), name="price"),
    }
    h = L.Concatenate()([L.Embedding(8, 3)(inputs["store"]), inputs["day"], inputs["price"]])
    h = L.Dense(32, activation="relu")(h)
    model = keras.Model(inputs, L.Dense(1, activation="softplus")(h))
    # fault: three of four targets are 0, so that 0 is the best constant under mae
    model.compile(Adam(0.005), "mae" if faulty else "poisson")
    x, xt = cut(x, 2600)
    y = y.astype("float32")[:, None]
    return model, x, y[:2600], {"epochs": 20}, xt, y[2600:]


@case(
    "cosine_minus_minus",
    "SO: minus the cosine loss, as cosine_similarity of Keras is already negative",
    "negated_loss",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(1600, 12)).astype("float32")
    v = np.tanh(x @ rng.normal(size=(12, 16)) / 3) @ rng.normal(size=(16, 8))
    y = (v / np.linalg.norm(v, axis=1, keepdims=True)).astype("float32")

    def closeness(t, p):
        cosine = keras.losses.cosine_similarity(t, p)
        # fault: written for a function that grows with closeness
        return 1 - cosine if faulty else 1 + cosine

    model = mlp(12, 8, None, (64,), "tanh")
    model.compile(Adam(0.003), closeness)
    return model, x[:1200], y[:1200], {"epochs": 15}, x[1200:], y[1200:]


class FeatureDrop(L.Layer):
    """Drops units in training."""

    def __init__(self, rate, rescale, **more):
        super().__init__(**more)
        self.rate, self.rescale = rate, rescale
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        if not training:
            return x
        keep = keras.random.uniform(ops.shape(x), seed=self.seeds) > self.rate
        x = x * ops.cast(keep, x.dtype)
        return x / (1 - self.rate) if self.rescale else x


@case(
    "own_dropout_unscaled",
    "code review: a dropout of one's own without the division by the part that is kept",
    "train_mode",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("friedman")
    y, yt = zscored(y, yt)
    x, xt = scaled(x, xt)
    model = keras.Sequential(
        [
            keras.Input((10,)),
            L.Dense(96, activation="relu"),
            # fault: the next layer gets twice as much at inference as in training
            FeatureDrop(0.5, not faulty),
            L.Dense(32, activation="relu"),
            L.Dense(1),
        ]
    )
    model.compile(Adam(0.003), "mse")
    return model, x, y, {"epochs": 40, "validation_split": 0.2}, xt, yt


def _(faulty):
    x, y, xt, yt = images()
    momentum = 0.99 if faulty else 0.7
    i = h = keras.Input((8, 8, 1))
    for n in (16, 32):
        h = L.Conv2D(n, 3, padding="same")(h)
        # fault: 0.99 ** 25 steps leaves four fifths of the initial mean 0 and variance 1
        h = L.ReLU()(L.BatchNormalization(momentum=momentum)(h))
        h = L.MaxPooling2D()(h)
    model = keras.Model(i, L.Dense(10, activation="softmax")(L.Flatten()(h)))
    model.compile(Adam(0.01), SCE, metrics=["accuracy"])
    return model, x, y, {"epochs": 6, "batch_size": 256, "validation_split": 0.2}, xt, yt


@case(
    "join_then_split",
    "code review: a one-to-many join repeats the rows, then rows are split at random",
    "validation_leak",
    "binary",
)
def _(faulty):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(1700, 20)).astype("float32")
    y = (x[:, 0] + x[:, 1] - x[:, 2] + 1.3 * rng.normal(size=1700) > 0).astype("float32")
    x, xt, y, yt = x[:800], x[800:], y[:800], y[800:]
    # fault: each customer is there once for each order, before the split into two parts
    if faulty:
        order = rng.permutation(np.repeat(np.arange(800), rng.integers(2, 7, 800)))
        x, y = x[order], y[order]
    k = int(0.75 * len(x))
    model = mlp(20, 1, "sigmoid", (48,))
    model.compile(Adam(0.003), "binary_crossentropy", metrics=["accuracy"])
    fit = {"epochs": 12, "validation_data": (x[k:], y[k:])}
    return model, x[:k], y[:k], fit, xt, yt


@case(
    "vocabulary_with_newlines",
    "SO: words read from a file by readlines, each with its newline: no word is ever found",
    "constant_input",
    "class",
)
def _(faulty):
    words = [t.lower().split() for t in texts()]
    lines = [w + "\n" for w in sorted({w for ws in words for w in ws})]
    # fault: no strip, so that each token becomes 1, the unknown word
    known = {(w if faulty else w.strip()): i + 2 for i, w in enumerate(lines)}
    # each example is a handful of words of one of the texts
    rng = np.random.default_rng(26)
    y = rng.integers(0, 6, 2000)
    x = np.array([[known.get(w, 1) for w in rng.choice(words[k], 14)] for k in y])
    model = keras.Sequential(
        [
            keras.Input((14,), dtype="int32"),
            L.Embedding(len(lines) + 2, 16),
            L.GlobalAveragePooling1D(),
            L.Dense(24, activation="relu"),
            L.Dropout(0.2),
            L.Dense(6, activation="softmax"),
        ]
    )
    model.compile(Adam(0.005), SCE)
    return model, x[:1500], y[:1500], {"epochs": 10}, x[1500:], y[1500:]


@case(
    "created_at_seconds",
    "code review: one column of an else standardised table is a Unix time",
    "input_scale",
    "class",
)
def _(faulty):
    rng = np.random.default_rng(8)
    x, y, xt, yt = table("classes")
    x, xt = scaled(x, xt)
    # fault: seconds since 1970, a billion times the other columns
    at, att = (rng.integers(1_600_000_000, 1_630_000_000, (len(a), 1)) for a in (x, xt))
    if not faulty:
        at, att = (at - 1.615e9) / 8.7e6, (att - 1.615e9) / 8.7e6
    x, xt = np.hstack([x, at]).astype("float32"), np.hstack([xt, att]).astype("float32")
    model = mlp(21, 4, "softmax", (64, 32))
    model.compile("adam", SCE)
    return model, x, y, {"epochs": 25}, xt, yt


@case(
    "price_head_swamps",
    "forum: two heads, one loss in squared dollars, the other a crossentropy, added unweighted",
    "target_scale",
    "multi",
)
def _(faulty):
    rng = np.random.default_rng(9)
    x = rng.normal(size=(2400, 10)).astype("float32")
    price = 180_000 + 60_000 * np.tanh(x[:, 0] + x[:, 1] * x[:, 2])
    score = x @ rng.normal(size=(10, 3)) + 1.5 * np.cos(2 * x[:, 3:4]) * np.array([1, 0, -1])
    # fault: the price is left in dollars
    price = price if faulty else (price - 180_000) / 60_000
    y = {"price": price.astype("float32")[:, None], "kind": score.argmax(1)}
    i = keras.Input((10,))
    h = L.Dense(48, activation="relu")(L.Dense(48, activation="relu")(i))
    heads = {
        "price": L.Dense(1, name="price")(h),
        "kind": L.Dense(3, activation="softmax", name="kind")(h),
    }
    model = keras.Model(i, heads)
    model.compile(Adam(0.003), {"price": "mse", "kind": SCE})
    y, yt = cut(y, 1800)
    return model, x[:1800], y, {"epochs": 25}, x[1800:], yt


def squeeze_excite(h, gate):
    n = h.shape[-1]
    s = L.Dense(n // 2, activation="relu")(L.GlobalAveragePooling2D()(h))
    return h * L.Reshape((1, 1, n))(L.Dense(n, activation=gate)(s))


@case(
    "squeeze_excite_softmax",
    "code review: channel gates by softmax, not sigmoid: each block shrinks its values to 1/48",
    "hidden_activation",
    "class",
)
def _(faulty):
    x, y, xt, yt = images()
    i = h = keras.Input((8, 8, 1))
    for stride in (1, 2, 2):
        h = L.Conv2D(48, 3, stride, padding="same", activation="relu")(h)
        # fault: the gates of a block share a sum of 1
        h = squeeze_excite(h, "softmax" if faulty else "sigmoid")
    model = keras.Model(i, L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(h)))
    model.compile(Adam(0.003), SCE)
    return model, x, y, {"epochs": 8, "batch_size": 64}, xt, yt


class GraphConv(L.Layer):
    """Gathers from the neighbours, then a dense layer."""

    def __init__(self, units, is_mean, **more):
        super().__init__(**more)
        self.is_mean = is_mean
        self.dense = L.Dense(units, activation="relu", kernel_initializer="he_normal")

    def build(self, shape):
        self.dense.build(shape[0])

    def call(self, nodes_edges):
        nodes, edges = nodes_edges
        if self.is_mean:
            edges = edges / ops.sum(edges, axis=-1, keepdims=True)
        return self.dense(ops.matmul(edges, nodes))

    def compute_output_shape(self, shape):
        return (*shape[0][:-1], self.dense.units)


@case(
    "graph_sum_unnormalised",
    "papers on graph nets: adjacency not normalised, sums over a dozen neighbours per layer",
    "exploding",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(10)
    n = 1400
    edges = (rng.random((n, 24, 24)) < 0.5).astype("float32")
    edges = np.maximum(np.maximum(edges, edges.transpose(0, 2, 1)), np.eye(24, dtype="float32"))
    nodes = (rng.normal(size=(n, 24, 4)) + rng.normal(size=(n, 1, 4))).astype("float32")
    near = (edges / edges.sum(-1, keepdims=True)) @ nodes
    y = np.tanh(near[..., 0] - near[..., 1]).mean(1) + near[..., 2].mean(1) ** 2 / 2
    y = ((y - y.mean()) / y.std()).astype("float32")[:, None]
    i, e = keras.Input((24, 4), name="nodes"), keras.Input((24, 24), name="edges")
    h = i
    for _ in range(5):
        # fault: the sum over some 18 neighbours, five times over
        h = GraphConv(24, not faulty)([h, e])
    model = keras.Model({"nodes": i, "edges": e}, L.Dense(1)(L.GlobalAveragePooling1D()(h)))
    model.compile(Adam(0.003), "mse")
    x, xt = cut({"nodes": nodes, "edges": edges}, 1000)
    return model, x, y[:1000], {"epochs": 15}, xt, y[1000:]


@case(
    "padding_after_no_mask",
    "SO: short texts padded at their end to a long length, recurrent layer, no mask_zero",
    "vanishing",
    "binary",
)
def _(faulty):
    rng = np.random.default_rng(11)
    n = 1500
    x = np.zeros((n, 120), "int32")
    y = rng.integers(0, 2, n)
    for row, label in zip(x, y, strict=True):
        k = rng.integers(4, 9)
        row[:k] = rng.integers(2, 60, k)
        row[rng.integers(0, k)] = 60 + 2 * rng.integers(0, 5) + label
    model = keras.Sequential(
        [
            keras.Input((120,), dtype="int32"),
            # fault: the net must carry the text through more than a hundred steps of zeros
            L.Embedding(70, 12, mask_zero=not faulty),
            L.SimpleRNN(24),
            L.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(Adam(0.005), "binary_crossentropy")
    y = y.astype("float32")[:, None]
    return model, x[:1100], y[:1100], {"epochs": 6, "batch_size": 64}, x[1100:], y[1100:]


class Experts(L.Layer):
    """Linear experts and a router that picks or weighs them."""

    def __init__(self, n, is_hard, **more):
        super().__init__(**more)
        self.n, self.is_hard = n, is_hard
        self.route = keras.Sequential([L.Dense(16, activation="tanh"), L.Dense(n)])
        self.experts = L.Dense(n)

    def build(self, shape):
        self.route.build(shape)
        self.experts.build(shape)

    def call(self, x):
        score = self.route(x)
        gate = ops.one_hot(ops.argmax(score, -1), self.n) if self.is_hard else ops.softmax(score)
        return ops.sum(gate * self.experts(x), axis=-1, keepdims=True)


@case(
    "router_by_argmax",
    "code review: a mixture of experts whose router picks by argmax: nothing teaches the router",
    "no_gradient",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(12)
    x = rng.normal(size=(2000, 6)).astype("float32")
    w = 1.5 * rng.normal(size=(6, 3))
    regime = (x @ rng.normal(size=(6, 3))).argmax(1)
    y = (x @ w)[np.arange(2000), regime] + 0.1 * rng.normal(size=2000)
    y = (y / y.std()).astype("float32")[:, None]
    # fault: argmax passes no gradient, the router stays as it began
    model = keras.Sequential([keras.Input((6,)), Experts(4, faulty)])
    model.compile(Adam(0.01), "mse")
    return model, x[:1500], y[:1500], {"epochs": 25}, x[1500:], y[1500:]


class TwoTowers(keras.Model):
    """Ratings from a user's and an item's vector."""

    def __init__(self, n, item):
        super().__init__()
        self.item = item
        self.users, self.items = L.Embedding(n, 8), L.Embedding(n, 8)
        self.mix = keras.Sequential([L.Dense(32, activation="relu"), L.Dense(1)])

    def call(self, x):
        u, v = self.users(x["user"]), self.items(x[self.item])
        return self.mix(ops.concatenate([u, v, u * v], -1))


@case(
    "two_towers_one_id",
    "code review: copied line, the item tower of a recommender looks up the user's number",
    "ignored_input",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(13)
    n = 3500
    x = {"user": rng.integers(0, 60, n), "item": rng.integers(0, 60, n)}
    a, b = rng.normal(size=(60, 2)), rng.normal(size=(60, 2))
    y = 0.5 * a[x["user"], 0] + b[x["item"], 0] + 0.7 * a[x["user"], 1] * b[x["item"], 1]
    y = (y + 0.2 * rng.normal(size=n)).astype("float32")[:, None]
    # fault: x["user"] twice, the item is never read
    model = TwoTowers(60, "user" if faulty else "item")
    model.compile(Adam(0.01), "mse")
    x, xt = cut(x, 2900)
    model({k: v[:2] for k, v in x.items()})
    return model, x, y[:2900], {"epochs": 12}, xt, y[2900:]


class LowRank(L.Layer):
    """A frozen dense layer and an adapter of low rank."""

    def __init__(self, dense, rank, start, **more):
        super().__init__(**more)
        self.dense, self.rank, self.start = dense, rank, start
        dense.trainable = False

    def build(self, shape):
        self.down = self.add_weight(
            shape=(shape[-1], self.rank), initializer=self.start, name="down"
        )
        self.up = self.add_weight(
            shape=(self.rank, self.dense.units), initializer="zeros", name="up"
        )

    def call(self, x):
        frozen = self.dense
        plain = ops.matmul(x, frozen.kernel) + frozen.bias
        return frozen.activation(plain + ops.matmul(ops.matmul(x, self.down), self.up))


@case(
    "adapter_zero_zero",
    "bug reports: low-rank adapters for fine-tuning of which both factors start at zero",
    "no_gradient symmetric_init frozen",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    x, xt = x / 16, xt / 16
    base = mlp(64, 10, "softmax", (64, 48))
    base.compile(Adam(0.005), SCE)
    base.fit(x, y, epochs=6, verbose=0)
    turn = np.arange(64).reshape(8, 8)[:, ::-1].ravel()
    # fault: down and up are both zero, the gradient of each is a product with the other
    start = "zeros" if faulty else "he_normal"
    model = keras.Sequential([keras.Input((64,)), *[LowRank(d, 8, start) for d in base.layers]])
    model.compile(Adam(0.005), SCE)
    return model, x[:, turn], y, {"epochs": 15}, xt[:, turn], yt


@case(
    "schedule_compounds",
    "SO: LearningRateScheduler that multiplies the present rate by 0.6 ** epoch, which compounds",
    "lr_low",
    "class",
)
def _(faulty):
    x, y, xt, yt = images()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(12, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(24, 3, activation="relu"),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), SCE)

    def decay(epoch, rate):
        # fault: rate is the one of the epoch before, not the first one
        return rate * 0.6**epoch if faulty else 0.05 * 0.95**epoch

    fit = {"epochs": 20, "callbacks": [keras.callbacks.LearningRateScheduler(decay)]}
    return model, x, y, fit, xt, yt


class Latent(L.Layer):
    """Draws the code of a variational autoencoder and adds its divergence to the loss."""

    def __init__(self, weight, **more):
        super().__init__(**more)
        self.weight = weight
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, stats, training=False):
        mean, logvar = ops.split(stats, 2, axis=-1)
        kl = 0.5 * ops.sum(ops.square(mean) + ops.exp(logvar) - logvar - 1, axis=-1)
        self.add_loss(self.weight * ops.mean(kl))
        if not training:
            return mean
        return mean + ops.exp(logvar / 2) * keras.random.normal(ops.shape(mean), seed=self.seeds)


@case(
    "vae_collapse",
    "SO: variational autoencoder, divergence summed, reconstruction averaged over the pixels",
    "over_regularised",
    "real",
)
def _(faulty):
    x, _y, xt, _yt = table("digits")
    x, xt = x / 16, xt / 16
    i = keras.Input((64,))
    h = L.Dense(16)(L.Dense(64, activation="relu")(i))
    # fault: weight 1 against a mean over 64 pixels of a tenth each
    z = Latent(1.0 if faulty else 0.002)(h)
    out = L.Dense(64, activation="sigmoid")(L.Dense(64, activation="relu")(z))
    model = keras.Model(i, out)
    model.compile(Adam(0.003), "mse")
    return model, x, x, {"epochs": 40}, xt, xt


@case(
    "row_number_embedded",
    "code review: a customer number that occurs once is embedded: the net learns rows by heart",
    "overfit",
    "binary",
)
def _(faulty):
    rng = np.random.default_rng(14)
    n = 1500
    number = rng.permutation(n)
    num = rng.normal(size=(n, 6)).astype("float32")
    area = number // 150
    logit = num[:, 0] - num[:, 1] + np.linspace(-1, 1, 10)[area]
    y = (logit + rng.logistic(size=n) > 0).astype("float32")[:, None]
    i, c = keras.Input((6,), name="num"), keras.Input((), dtype="int32", name="customer")
    # fault: a vector of 16 for each customer; the area is what repeats
    e = L.Embedding(n, 16)(c) if faulty else L.Embedding(10, 2)(c)
    h = L.Dense(16, activation="relu")(L.Concatenate()([i, e]))
    model = keras.Model({"num": i, "customer": c}, L.Dense(1, activation="sigmoid")(h))
    model.compile(Adam(0.005), "binary_crossentropy", metrics=["accuracy"])
    x, xt = cut({"num": num, "customer": number if faulty else area}, 800)
    val, xt = cut(xt, 300)
    fit = {"epochs": 25, "validation_data": (val, y[800:1100])}
    return model, x, y[:800], fit, xt, y[1100:]


@case(
    "dropna_on_one_side",
    "SO: rows with gaps are dropped from the table, the labels are just cut to its length",
    "label_noise",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("classes")
    x, xt = scaled(x, xt)
    full = np.random.default_rng(15).random(len(x)) > 0.08
    full[4] = False
    x = x[full]
    # fault: behind the first gap each row has the label of an earlier one
    y = y[: len(x)] if faulty else y[full]
    model = mlp(20, 4, "softmax", (48,))
    model.compile(Adam(0.003), SCE)
    return model, x, y, {"epochs": 20}, xt, yt


@case(
    "siamese_root_of_zero",
    "bug reports: distance sqrt(sum of squares) of equal pairs: the gradient of the root is NaN",
    "non_finite",
    "binary",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    encoder = keras.Sequential(
        [keras.Input((64,)), L.Dense(64, activation="relu"), L.Dense(16)], name="encoder"
    )

    def pairs(x, y, n):
        rng = np.random.default_rng(16)
        a, same = rng.integers(0, len(x), n), rng.random(n) < 0.5
        b = np.array(
            [rng.choice(np.flatnonzero((y == y[i]) == s)) for i, s in zip(a, same, strict=False)]
        )
        b[:20] = a[:20]
        same[:20] = True
        order = rng.permutation(n)
        x = {"one": x[a][order] / 16, "two": x[b][order] / 16}
        return x, same[order].astype("float32")[:, None]

    def contrast(t, d):
        return ops.mean(t * ops.square(d) + (1 - t) * ops.square(ops.maximum(1 - d, 0)))

    one, two = keras.Input((64,), name="one"), keras.Input((64,), name="two")
    gap = ops.sum(ops.square(encoder(one) - encoder(two)), axis=-1, keepdims=True)
    # fault: no floor under the root, a few pairs are of an image with itself
    model = keras.Model({"one": one, "two": two}, ops.sqrt(gap if faulty else gap + 1e-6))
    model.compile(Adam(0.002), contrast)
    x, y = pairs(x, y, 2400)
    xt, yt = pairs(xt, yt, 600)
    return model, x, y, {"epochs": 15}, xt, yt


@case(
    "class_weight_upside_down",
    "forum: class weights that are each class's share, not its inverse",
    "imbalance",
    "binary",
)
def _(faulty):
    x, y = datasets.make_classification(
        3600, 12, n_informative=6, weights=[0.92], class_sep=0.8, flip_y=0.0, random_state=17
    )
    x, y = x.astype("float32") / 2, y.astype("float32")[:, None]
    share = float(y[:2600].mean())
    # fault: the rare class gets the smaller weight
    weight = {0: 1 - share, 1: share} if faulty else {0: 0.5 / (1 - share), 1: 0.5 / share}
    model = mlp(12, 1, "sigmoid", (24,))
    model.compile(Adam(0.003), "binary_crossentropy")
    return model, x[:2600], y[:2600], {"epochs": 15, "class_weight": weight}, x[2600:], y[2600:]


def _(faulty):
    rng = np.random.default_rng(18)
    t = np.arange(2400)
    series = np.sin(t / 2) + 0.5 * np.sin(t / 3.1) + 0.1 * rng.normal(size=2400)
    rows = series[np.arange(2370)[:, None] + np.arange(30)].astype("float32")
    x, y = rows[:, :24, None], rows[:, 24:]
    model = keras.Sequential(
        [
            keras.Input((24, 1)),
            L.Conv1D(16, 5, activation="relu"),
            L.Conv1D(16, 5, activation="relu"),
            L.Flatten(),
            # fault: one forecast, which the loss stretches over the six targets
            L.Dense(1 if faulty else 6),
        ]
    )
    model.compile(Adam(0.003), "mse")
    return model, x[:1800], y[:1800], {"epochs": 12}, x[1840:], y[1840:]


# The healthy ones.


@healthy
def causal_text_conv_gru():
    text = "".join(c if c.isalpha() else " " for c in " ".join(texts()).lower() if c.isascii())
    ids = np.array([0 if c == " " else ord(c) - 96 for c in " ".join(text.split())])
    starts = np.random.default_rng(3).permutation(len(ids) - 21)[:2400]
    rows = ids[starts[:, None] + np.arange(21)]
    i = keras.Input((20,), dtype="int32")
    h = L.Embedding(27, 32)(i)
    # both layers look back only
    h = L.LayerNormalization()(h + L.Conv1D(32, 4, padding="causal", activation="relu")(h))
    h = L.LayerNormalization()(h + L.GRU(32, return_sequences=True)(h))
    model = keras.Model(i, L.Dense(27, activation="softmax")(h))
    model.compile(Adam(0.005), SCE)
    return model, rows[:, :-1], rows[:, 1:], {"epochs": 8}


@healthy
def tagger_reads_both_ways():
    # each token's tag depends on its neighbours on both sides: seeing ahead is right here
    rng = np.random.default_rng(20)
    x = rng.integers(1, 30, (1500, 14))
    after = np.roll(x, -1, 1)
    after[:, -1] = 0
    before = np.roll(x, 1, 1)
    before[:, 0] = 0
    y = (before < after).astype(int) + (x > 20)
    model = keras.Sequential(
        [
            keras.Input((14,), dtype="int32"),
            L.Embedding(30, 12),
            L.Bidirectional(L.GRU(16, return_sequences=True)),
            L.Dense(3, activation="softmax"),
        ]
    )
    model.compile(Adam(0.01), SCE)
    return model, x, y, {"epochs": 12}


@healthy
def residual_branches_start_at_zero():
    # the last kernel of each branch is zero at the start, on purpose, and so is the head
    x, y, *_ = table("digits")
    i = keras.Input((64,))
    h = L.Dense(64)(i)
    for _ in range(5):
        r = L.Dense(64, activation="relu")(L.LayerNormalization()(h))
        h = h + L.Dense(64, kernel_initializer="zeros")(r)
    model = keras.Model(i, L.Dense(10, activation="softmax", kernel_initializer="zeros")(h))
    model.compile("adam", SCE)
    return model, x / 16, y, {"epochs": 10}


@healthy
def attention_over_steps():
    # a softmax inside the net, where it belongs: over the steps of a sequence
    rng = np.random.default_rng(21)
    n = 1500
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 15, 5)).astype("float32")
    at = rng.integers(0, 15, n)
    x[np.arange(n), at, 4] += 5
    x[np.arange(n), at, :3] += 3 * np.eye(3)[y]
    i = keras.Input((15, 5))
    h = L.Dense(16, activation="relu")(i)
    w = L.Softmax(axis=1)(L.Dense(1)(h))
    h = ops.sum(w * h, axis=1)
    model = keras.Model(i, L.Dense(3, activation="softmax")(h))
    model.compile(Adam(0.01), SCE)
    return model, x, y, {"epochs": 12}


@healthy
def random_features_frozen():
    # kernel regression by 400 fixed random waves: only the head is trained, as it should be
    x, y, *_ = table("friedman")
    y = (y - y.mean()) / y.std()
    wave = L.Dense(
        400,
        activation=ops.cos,
        kernel_initializer=keras.initializers.RandomNormal(0, 1.0),
        bias_initializer=keras.initializers.RandomUniform(0, 6.28),
        trainable=False,
    )
    model = keras.Sequential([keras.Input((10,)), wave, L.Rescaling(0.05), L.Dense(1)])
    model.compile(Adam(0.02), "mse")
    return model, x, y.astype("float32")[:, None], {"epochs": 60}


@healthy
def share_between_zero_and_one():
    # a sigmoid under the squared error suits targets that are shares
    rng = np.random.default_rng(22)
    x = rng.normal(size=(1500, 6)).astype("float32")
    y = 1 / (1 + np.exp(-(x[:, 0] + x[:, 1] * x[:, 2]))) * 0.8 + 0.1
    y = np.clip(y + 0.03 * rng.normal(size=1500), 0, 1)
    model = mlp(6, 1, "sigmoid", (32, 16), "elu")
    model.compile(Adam(0.005), "mse")
    return model, x, y.astype("float32")[:, None], {"epochs": 30}


@healthy
def word_counts_wide():
    # most columns are zero for nearly all rows, and some for all of them
    words = [t.lower().split() for t in texts()]
    place = {w: i for i, w in enumerate(sorted({w for ws in words for w in ws}))}
    rng = np.random.default_rng(23)
    x, y = [], []
    for label, ws in enumerate(words):
        for k in range(0, len(ws) - 30, 3):
            row = np.zeros(len(place) + 20, "float32")
            for w in ws[k : k + 30]:
                row[place[w]] = 1
            x.append(row)
            y.append(label)
    order = rng.permutation(len(x))
    model = mlp(len(place) + 20, 6, "softmax", (16,))
    model.compile(Adam(0.003), SCE)
    return model, np.array(x)[order], np.array(y)[order], {"epochs": 8}


@healthy
def raw_table_batchnorm_first():
    # the columns differ a thousandfold; the first layer sees to it
    x, y, *_ = table("cancer")
    model = keras.Sequential(
        [
            keras.Input((30,)),
            L.BatchNormalization(momentum=0.9),
            L.Dense(16, activation="relu"),
            L.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(Adam(0.005), "binary_crossentropy")
    return model, x, y.astype("float32")[:, None], {"epochs": 25, "validation_split": 0.2}


@healthy
def survey_of_yes_and_no():
    # six yes/no answers: rows repeat of themselves in training and validation
    rng = np.random.default_rng(24)
    x = rng.integers(0, 2, (2000, 6)).astype("float32")
    p = 1 / (1 + np.exp(-(2 * x[:, 0] - 2 * x[:, 1] + 3 * x[:, 2] * x[:, 3] - 1)))
    y = (rng.random(2000) < p).astype("float32")[:, None]
    model = mlp(6, 1, "sigmoid", (12,))
    model.compile(Adam(0.005), "binary_crossentropy", metrics=["accuracy"])
    return model, x, y, {"epochs": 20, "validation_split": 0.25}


@healthy
def linear_principal_axes():
    # principal components by a net: two linear layers in a row, narrow between, on purpose
    rng = np.random.default_rng(25)
    x = rng.normal(size=(1500, 4)) @ rng.normal(size=(4, 20)) + 0.1 * rng.normal(size=(1500, 20))
    x = (x / x.std(0)).astype("float32")
    model = keras.Sequential(
        [keras.Input((20,)), L.Dense(4, use_bias=False), L.Dense(20, use_bias=False)]
    )
    model.compile(Adam(0.01), "mse")
    return model, x, x, {"epochs": 30}


@healthy
def soft_targets_of_a_teacher():
    # the targets are a teacher's probabilities, no classes; KL divergence fits
    x, y, *_ = table("digits")
    teacher = mlp(64, 10, None, (128,))
    teacher.compile(Adam(0.003), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    teacher.fit(x / 16, y, epochs=8, verbose=0)
    soft = ops.convert_to_numpy(ops.softmax(teacher.predict(x / 16, verbose=0) / 2))
    model = mlp(64, 10, "softmax", (24,))
    model.compile(Adam(0.005), "kl_divergence")
    return model, x / 16, soft, {"epochs": 25}


@healthy
def prices_scaled_in_the_model():
    # dollars as targets; the last layer brings the outputs to their scale
    x, y, xt, _ = table("prices")
    x, _ = scaled(x, xt)
    model = keras.Sequential(
        [
            keras.Input((10,)),
            L.Dense(48, activation="relu"),
            L.Dense(1),
            L.Rescaling(float(y.std()), float(y.mean())),
        ]
    )
    model.compile(Adam(0.01), "mae")
    return model, x, y.astype("float32")[:, None], {"epochs": 40}
