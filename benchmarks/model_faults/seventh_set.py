"""A seventh set of faulty programs with twins, and healthy ones: pictures, transfer, generative
models, schedules. By somebody who had read neither the rules nor the other sets; all were written
before the rules were tried on them.
"""

import functools

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them
from keras import ops
from sklearn import datasets

from .healthy import comp, healthy
from .published import case, mlp, onehot, scaled, table

SCE = "sparse_categorical_crossentropy"
BCE = "binary_crossentropy"


@functools.cache
def shapes(n=1300, size=16, seed=0):
    """Pictures of a bright rectangle or a dark disc: picture, mask, box (0..1), which."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.5, 0.1, (n, size, size, 1))
    mask = np.zeros((n, size, size, 1))
    box = np.zeros((n, 4))
    disc = rng.integers(0, 2, n)
    rows, columns = np.mgrid[:size, :size]
    for i in range(n):
        h, w = rng.integers(5, 10, 2)
        top, left = rng.integers(0, size - h + 1), rng.integers(0, size - w + 1)
        mask[i, top : top + h, left : left + w, 0] = 1
        if disc[i]:
            down, along = (rows - top + 0.5) / h - 0.5, (columns - left + 0.5) / w - 0.5
            mask[i, ..., 0] *= down**2 + along**2 <= 0.25
        box[i] = np.array([left + w / 2, top + h / 2, w, h]) / size
    x = x + 0.35 * mask * (1 - 2 * disc[:, None, None, None])
    return x.astype("float32"), mask.astype("float32"), box.astype("float32"), disc


@functools.cache
def digit_pairs(n, part, seed=0):
    """Pairs of digits, half of them of one class."""
    x, y, xt, yt = table("digits")
    x, y = (x / 16, y) if part == "train" else (xt / 16, yt)
    rng = np.random.default_rng(seed)
    left = rng.integers(0, len(x), n)
    same = rng.random(n) < 0.5
    right = np.array(
        [rng.choice(np.flatnonzero((y == y[i]) == s)) for i, s in zip(left, same, strict=True)]
    )
    return x[left], x[right], same.astype("float32")


def pretrained(x, y, act="relu"):
    """A small trained backbone of two layers, and the head it was trained with."""
    body = keras.Sequential(
        [keras.Input((64,)), L.Dense(64, activation=act), L.Dense(64, activation=act)]
    )
    head = L.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((64,)), body, head])
    model.compile(keras.optimizers.Adam(3e-3), SCE)
    model.fit(x, y, epochs=12, verbose=0)
    return body, head


@case(
    "seg_masks_transposed",
    "forum posts: masks drawn from (x, y) polygons, pictures indexed (row, column)",
    "label_noise",
    "binary",
)
def _(faulty):
    x, mask, *_ = shapes()
    # fault: the training masks have rows and columns swapped against the pictures
    train = mask[:1000].transpose(0, 2, 1, 3) if faulty else mask[:1000]
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            L.Conv2D(16, 3, padding="same", activation="relu"),
            L.Conv2D(16, 3, padding="same", activation="relu"),
            L.Conv2D(1, 1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.005), BCE)
    return model, x[:1000], train, {"epochs": 8}, x[1000:], mask[1000:]


@case(
    "seg_masks_255",
    "forum posts on U-Net: masks read from png as 0 and 255, binary crossentropy of logits",
    "label_range target_scale loss_mismatch",
    "binary",
)
def _(faulty):
    x, mask, *_ = shapes()
    png = mask * 255  # fault: only the pictures are brought to 0..1, the masks stay 0 and 255
    i = keras.Input((16, 16, 1))
    fine = L.Conv2D(12, 3, padding="same", activation="relu")(i)
    coarse = L.Conv2D(24, 3, padding="same", activation="relu")(L.MaxPooling2D()(fine))
    both = L.Concatenate()([fine, L.UpSampling2D()(coarse)])
    both = L.Conv2D(12, 3, padding="same", activation="relu")(both)
    model = keras.Model(i, L.Conv2D(1, 1)(both))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss)
    return (
        model,
        x[:1000],
        png[:1000] if faulty else mask[:1000],
        {"epochs": 8, "batch_size": 32},
        x[1000:],
        mask[1000:],
    )


@case(
    "boxes_in_camera_pixels",
    "forum posts: picture shrunk for the net, boxes left in the pixels of the camera",
    "target_scale",
    "real",
)
def _(faulty):
    x, _m, box, disc = shapes()
    # fault: the boxes are in pixels of the 1280 x 1280 original, not in parts of the picture
    box = box * 1280 if faulty else box
    i = keras.Input((16, 16, 1))
    h = L.Conv2D(16, 3, strides=2, padding="same", activation="relu")(i)
    h = L.Conv2D(32, 3, strides=2, padding="same", activation="relu")(h)
    h = L.Dense(64, activation="relu")(L.Flatten()(h))
    model = keras.Model(
        i,
        {
            "kind": L.Dense(1, activation="sigmoid", name="kind")(h),
            "box": L.Dense(4, name="box")(h),
        },
    )
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), {"kind": BCE, "box": "huber"})
    y = {"kind": disc[:, None].astype("float32"), "box": box}
    return (
        model,
        x[:1000],
        {k: v[:1000] for k, v in y.items()},
        {"epochs": 20},
        x[1000:],
        {k: v[1000:] for k, v in y.items()},
    )


@case(
    "offsets_through_sigmoid",
    "reviews of detection heads: all outputs through the sigmoid that suits objectness only",
    "output_activation",
    "real",
)
def _(faulty):
    x, _m, box, _d = shapes()
    y = 3 * (box[:, :2] - 0.5)  # offsets from the middle, of both signs
    i = keras.Input((16, 16, 1))
    h = L.Conv2D(16, 3, strides=2, padding="same", activation="relu")(i)
    h = L.Dense(64, activation="relu")(L.Flatten()(h))
    # fault: an offset below zero is beyond what a sigmoid gives
    model = keras.Model(i, L.Dense(2, activation="sigmoid" if faulty else None)(h))
    model.compile(keras.optimizers.Adam(0.002), keras.losses.Huber())
    return model, x[:1000], y[:1000], {"epochs": 20}, x[1000:], y[1000:]


@case(
    "prior_bias_everywhere",
    "reviews of RetinaNet copies: the prior bias of the last layer given to every layer",
    "dead_units",
    "multi",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    prior = keras.initializers.Constant(-np.log(0.9 / 0.1))
    # fault: the relu layers of the tower start at a bias far below zero too
    start = prior if faulty else "zeros"
    tower = {"bias_initializer": start, "padding": "same", "activation": "relu"}
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(16, 3, **tower),
            L.Conv2D(16, 3, strides=2, **tower),
            L.Conv2D(32, 3, strides=2, **tower),
            L.Flatten(),
            L.Dense(10, activation="sigmoid", bias_initializer=prior),
        ]
    )
    model.compile(keras.optimizers.Adam(0.003), BCE)
    x, xt = x.reshape(-1, 8, 8, 1) / 16, xt.reshape(-1, 8, 8, 1) / 16
    return model, x, onehot(y, 10), {"epochs": 12}, xt, onehot(yt, 10)


class CosineHead(L.Layer):
    """Class scores: scaled cosines between the features and a prototype for each class."""

    def __init__(self, classes, learn, **more):
        super().__init__(**more)
        self.classes, self.learn = classes, learn

    def build(self, shape):
        # fault: the prototypes are made as weights that are not trained
        self.prototypes = self.add_weight(
            shape=(shape[-1], self.classes), initializer="glorot_normal", trainable=self.learn
        )
        self.scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(8.0))

    def call(self, x):
        x = x / (ops.norm(x, axis=-1, keepdims=True) + 1e-4)
        p = self.prototypes / (ops.norm(self.prototypes, axis=0, keepdims=True) + 1e-4)
        return ops.softmax(self.scale * ops.matmul(x, p))


@case(
    "prototypes_not_trained",
    "code reviews: add_weight(trainable=False) in a head upon a frozen backbone",
    "frozen",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    body, _ = pretrained(x[:700] / 16, y[:700])
    body.trainable = False
    model = keras.Sequential([keras.Input((64,)), body, CosineHead(10, not faulty)])
    model.compile(keras.optimizers.Adam(0.01), SCE)
    return model, x[700:] / 16, y[700:], {"epochs": 30}, xt / 16, yt


class LowRank(L.Layer):
    """A frozen Dense layer with a learnt correction of low rank."""

    def __init__(self, dense, rank, init, **more):
        super().__init__(**more)
        self.dense, self.rank, self.init = dense, rank, init
        self.dense.trainable = False

    def build(self, shape):
        width = self.dense.units
        self.a = self.add_weight(shape=(shape[-1], self.rank), initializer=self.init)
        self.b = self.add_weight(shape=(self.rank, width), initializer="zeros")

    def call(self, x):
        h = ops.matmul(x, self.dense.kernel) + self.dense.bias
        return self.dense.activation(h + ops.matmul(ops.matmul(x, self.a), self.b))


@case(
    "lora_both_zero",
    "code reviews of LoRA copies: both factors start at zero, so neither gets a gradient",
    "symmetric_init no_gradient",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    body, head = pretrained(x / 16, y)

    def turned(a):
        return np.rot90(a.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64) / 16

    # fault: A zero as well as B
    init = "zeros" if faulty else "he_normal"
    model = keras.Sequential(
        [keras.Input((64,)), *[LowRank(d, 8, init) for d in (*body.layers, head)]]
    )
    model.compile(keras.optimizers.Adam(0.005), SCE)
    return model, turned(x), y, {"epochs": 25}, turned(xt), yt


class Sampling(L.Layer):
    """Draws the code, and adds the Kullback-Leibler term with a weight."""

    def __init__(self, weight, **more):
        super().__init__(**more)
        self.weight = weight
        self.draws = keras.random.SeedGenerator(0)

    def call(self, inputs, training=False):
        mean, log_var = inputs
        kl = -0.5 * ops.sum(1 + log_var - ops.square(mean) - ops.exp(log_var), axis=-1)
        self.add_loss(self.weight * ops.mean(kl))
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), seed=self.draws)
        return mean + ops.exp(0.5 * log_var) * noise


def vae(weight):
    i = keras.Input((64,))
    h = L.Dense(64, activation="relu")(i)
    code = Sampling(weight)([L.Dense(6)(h), L.Dense(6)(h)])
    out = L.Dense(64, activation="sigmoid")(L.Dense(64, activation="relu")(code))
    return keras.Model(i, out)


@case(
    "vae_kl_sum_against_mean",
    "forum posts on VAEs: KL summed over the code, reconstruction averaged over the pixels",
    "over_regularised",
    "real",
)
def _(faulty):
    x, _y, xt, _yt = table("digits")
    # fault: the KL term weighs 64 times what it should beside the mean over 64 pixels
    model = vae(1.0 if faulty else 1 / 64)
    model.compile(keras.optimizers.Adam(0.003), BCE)
    return model, x / 16, x / 16, {"epochs": 30}, xt / 16, xt / 16


@case(
    "surrogate_time_floor_divided",
    "code reviews of flow and surrogate nets: integer division brings the step to 0..1, so to 0",
    "constant_input",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3000, 2)).astype("float32")
    step = rng.integers(0, 1000, (3000, 1))
    # where a point is after so many steps of a damped turn
    angle, left = 3 * step / 1000, np.exp(-step / 1000)
    turned = [
        start[:, :1] * np.cos(angle) - start[:, 1:] * np.sin(angle),
        start[:, :1] * np.sin(angle) + start[:, 1:] * np.cos(angle),
    ]
    y = (left * np.concatenate(turned, 1)).astype("float32")
    # fault: step // 1000 is zero for every example
    time = (step // 1000 if faulty else step / 1000).astype("float32")
    i, j = keras.Input((2,), name="start"), keras.Input((1,), name="time")
    h = L.Concatenate()([i, j])
    for _ in range(2):
        h = L.Dense(64, activation="silu")(h)
    model = keras.Model([i, j], L.Dense(2)(h))
    model.compile(keras.optimizers.Adam(0.005), "mse")
    fit = {"epochs": 15, "batch_size": 64}
    return model, [start[:2200], time[:2200]], y[:2200], fit, [start[2200:], time[2200:]], y[2200:]


@case(
    "generator_pixels_rounded",
    "GAN code reviews: the made picture is rounded to grey levels before the critic sees it",
    "no_gradient",
    "class",
)
def _(faulty):
    x, y, *_ = table("digits")
    body, head = pretrained(x / 16, y)
    critic = keras.Sequential([keras.Input((64,)), body, head])
    critic.trainable = False
    noise, wanted = keras.Input((8,)), keras.Input((10,))
    h = L.Dense(64, activation="relu")(L.Concatenate()([noise, wanted]))
    picture = L.Dense(64, activation="sigmoid")(h)
    if faulty:  # fault: round() has no slope, so the generator gets no gradient
        picture = ops.round(picture * 16) / 16
    model = keras.Model([noise, wanted], critic(picture))
    model.compile(keras.optimizers.Adam(0.003), SCE)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 1400)
    z = rng.normal(size=(1400, 8)).astype("float32")
    w = onehot(y, 10)
    return model, [z[:1000], w[:1000]], y[:1000], {"epochs": 15}, [z[1000:], w[1000:]], y[1000:]


class Siamese(keras.Model):
    """Are two pictures of one class?"""

    def __init__(self, twice=False):
        super().__init__()
        self.tower = keras.Sequential([L.Dense(64, activation="relu"), L.Dense(32)])
        self.hidden = L.Dense(32, activation="relu")
        self.out = L.Dense(1, activation="sigmoid")
        self.twice = twice

    def call(self, inputs):
        left, right = inputs
        a = self.tower(left)
        # fault (where twice is set): the left picture goes into both towers
        b = self.tower(left if self.twice else right)
        return self.out(self.hidden(ops.concatenate([a * b, ops.abs(a - b)], axis=-1)))


@case(
    "siamese_left_twice",
    "code reviews: copy and paste, both towers are called on the left picture",
    "ignored_input",
    "binary",
)
def _(faulty):
    a, b, y = digit_pairs(3000, "train")
    at, bt, yt = digit_pairs(800, "test")
    model = Siamese(faulty)
    model.compile(keras.optimizers.Adam(0.002), BCE)
    return model, [a, b], y[:, None], {"epochs": 15, "batch_size": 64}, [at, bt], yt


@case(
    "pairs_positive_first",
    "forum posts: pairs listed as all equal ones, then all unequal, and validation_split",
    "ordered_split",
    "binary",
)
def _(faulty):
    a, b, y = digit_pairs(3000, "train")
    at, bt, yt = digit_pairs(800, "test")
    # fault: what is kept for validation holds unequal pairs only, training has few of them
    order = np.argsort(-y, kind="stable") if faulty else np.arange(len(y))
    left, right = keras.Input((64,)), keras.Input((64,))
    tower = keras.Sequential([L.Dense(64, activation="relu"), L.Dense(32)])
    p, q = tower(left), tower(right)
    h = L.Dense(32, activation="relu")(L.Concatenate()([p * q, ops.abs(p - q)]))
    model = keras.Model([left, right], L.Dense(1, activation="sigmoid")(h))
    model.compile(keras.optimizers.Adam(0.002), BCE, metrics=["accuracy"])
    fit = {"epochs": 8, "batch_size": 64, "validation_split": 0.4}
    return model, [a[order], b[order]], y[order, None], fit, [at, bt], yt


class Contrastive(keras.Model):
    """Tells the distance of two pictures; near for equal classes, a margin away for others."""

    def __init__(self, paired):
        super().__init__()
        self.tower = keras.Sequential([L.Dense(64, activation="relu"), L.Dense(16)])
        self.paired = paired

    def call(self, inputs):
        d = self.tower(inputs[0]) - self.tower(inputs[1])
        return ops.sqrt(ops.sum(ops.square(d), axis=-1, keepdims=True) + 1e-6)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # fault (where not paired): y is (n,), the distances are (n, 1), all meet all
        y = ops.reshape(y, (-1, 1)) if self.paired else y
        near = y * ops.square(y_pred)
        far = (1 - y) * ops.square(ops.maximum(2.0 - y_pred, 0))
        return ops.mean(near + far)


@case(
    "contrastive_all_with_all",
    "forum posts on siamese nets: contrastive loss of targets (n,) and distances (n, 1)",
    "broadcast",
    "real",
)
def _(faulty):
    a, b, y = digit_pairs(3000, "train")
    at, bt, yt = digit_pairs(800, "test")
    model = Contrastive(not faulty)
    model.compile(keras.optimizers.Adam(0.002))
    return model, [a, b], y, {"epochs": 15, "batch_size": 64}, [at, bt], yt


class Attention(L.Layer):
    """Attention of one head, written by hand."""

    def __init__(self, width, across_batch, **more):
        super().__init__(**more)
        self.across_batch, self.width = across_batch, width
        self.q, self.k, self.v = L.Dense(width), L.Dense(width), L.Dense(width)

    def call(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.across_batch:  # fault: written for (time, batch, width), so examples attend
            q, k, v = (ops.transpose(a, (1, 0, 2)) for a in (q, k, v))
        scores = ops.matmul(q, ops.transpose(k, (0, 2, 1))) / self.width**0.5
        out = ops.matmul(ops.softmax(scores), v)
        return ops.transpose(out, (1, 0, 2)) if self.across_batch else out


@case(
    "attention_time_first",
    "code ported from PyTorch without batch_first: attention over the batch, not over time",
    "batch_leak",
    "real",
)
def _(faulty):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2500, 8, 4)).astype("float32")
    flag = rng.integers(0, 8, 2500)
    x[..., 0] = np.arange(8) == flag[:, None]
    # each step is to tell its value less that of the flagged step
    y = x[..., 1:2] - x[np.arange(2500), flag, 1][:, None, None]
    i = keras.Input((8, 4))
    h = L.Concatenate()([i, Attention(16, faulty)(i)])
    model = keras.Model(i, L.Dense(1)(L.Dense(32, activation="relu")(h)))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x[:2000], y[:2000], {"epochs": 10}, x[2000:], y[2000:]


class Causal(L.Layer):
    """Attention that is to see only what came before, masked by hand."""

    def __init__(self, width, mask, **more):
        super().__init__(**more)
        self.mask, self.width = mask, width
        self.q, self.k, self.v = L.Dense(width), L.Dense(width), L.Dense(width)

    def call(self, x):
        scores = ops.matmul(self.q(x), ops.transpose(self.k(x), (0, 2, 1))) / self.width**0.5
        scores = scores + ops.convert_to_tensor((1 - self.mask) * -1e4, "float32")
        return ops.matmul(ops.softmax(scores), self.v(x))


class Place(L.Layer):
    """Adds what stands for the place in the sequence."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.table


@case(
    "causal_mask_upside_down",
    "reviews of GPT copies: triu where tril was meant, each step sees the next ones",
    "look_ahead",
    "class",
)
def _(faulty):
    rng = np.random.default_rng(0)
    s = rng.integers(0, 5, (3000, 11))
    for t in range(2, 11):  # the next is the sum of the two before, mostly
        s[:, t] = np.where(rng.random(3000) < 0.8, (s[:, t - 1] + s[:, t - 2]) % 5, s[:, t])
    x, y = s[:, :-1], s[:, 1:]
    mask = np.tril(np.ones((10, 10)))
    mask = mask.T if faulty else mask  # fault: the mask lets the future in and keeps the past out
    i = keras.Input((10,), dtype="int32")
    h = Place()(L.Embedding(5, 24)(i))
    h = L.Concatenate()([h, Causal(24, mask)(h)])
    h = L.Dense(96, activation="relu")(h)
    model = keras.Model(i, L.Dense(5, activation="softmax")(h))
    model.compile(keras.optimizers.Adam(0.005), SCE, metrics=["accuracy"])
    fit = {"epochs": 14, "batch_size": 64, "validation_split": 0.2}
    return model, x[:2500], y[:2500], fit, x[2500:], y[2500:]


@case(
    "decoder_fed_its_target",
    "forum posts on seq2seq: the decoder's input is the target itself, not shifted by one",
    "look_ahead",
    "class",
)
def _(faulty):
    rng = np.random.default_rng(0)
    source = rng.integers(1, 7, (3000, 8))
    target = np.cumsum(source, axis=1) % 6 + 1
    before = np.concatenate([np.zeros((3000, 1), int), target[:, :-1]], 1)
    given = target if faulty else before  # fault: no start mark, no shift
    i, j = keras.Input((8,), dtype="int32"), keras.Input((8,), dtype="int32")
    h = L.Concatenate()([L.Embedding(7, 12)(i), L.Embedding(7, 12)(j)])
    h = L.Dense(64, activation="relu")(L.GRU(48, return_sequences=True)(h))
    model = keras.Model([i, j], L.Dense(7, activation="softmax")(h))
    model.compile(keras.optimizers.Adam(0.01), SCE, metrics=["accuracy"])
    fit = {"epochs": 8, "batch_size": 64, "validation_split": 0.2}
    xt = [source[2400:], before[2400:]]
    return model, [source[:2400], given[:2400]], target[:2400], fit, xt, target[2400:]


class HandDropout(L.Layer):
    """Dropout by hand."""

    def __init__(self, rate, rescaled, **more):
        super().__init__(**more)
        self.keep, self.rescaled = 1 - rate, rescaled
        self.draws = keras.random.SeedGenerator(1)

    def call(self, x, training=False):
        if not training:
            return x
        kept = ops.cast(keras.random.uniform(ops.shape(x), seed=self.draws) < self.keep, x.dtype)
        # fault: without the division inference sees values 1 / keep as large as training did
        return x * kept / self.keep if self.rescaled else x * kept


@case(
    "own_dropout_not_rescaled",
    "code reviews: dropout by hand without 1 / keep, in a regression",
    "train_mode",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("friedman")
    x, xt = 2 * x - 1, 2 * xt - 1
    y, yt = y[:, None] / y.std(), yt[:, None] / y.std()
    model = keras.Sequential(
        [
            keras.Input((10,)),
            L.Dense(96, activation="relu"),
            HandDropout(0.3, not faulty),
            L.Dense(96, activation="relu"),
            HandDropout(0.3, not faulty),
            L.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.003), "mse")
    return model, x, y.astype("float32"), {"epochs": 40}, xt, yt


class UnitNorm(L.Layer):
    """Brings vectors to length 1."""

    def __init__(self, eps, **more):
        super().__init__(**more)
        self.eps = eps

    def call(self, x):
        return x / ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True) + self.eps)


@case(
    "half_precision_eps",
    "issue threads on mixed precision: an epsilon of 1e-8 is zero in float16",
    "non_finite",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    # columns of the picture; those at the rim are blank, 0 / 0 in float16
    x, xt = (a.reshape(-1, 8, 8).transpose(0, 2, 1) / 16 for a in (x, xt))
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            UnitNorm(1e-8 if faulty else 1e-3, dtype="mixed_float16"),
            L.Flatten(dtype="mixed_float16"),
            L.Dense(64, activation="relu", dtype="mixed_float16"),
            L.Dense(10, activation="softmax", dtype="float32"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.003), SCE)
    return model, x, y, {"epochs": 10}, xt, yt


class GraphConv(L.Layer):
    """Gathers from the neighbours, then a Dense layer."""

    def __init__(self, width, **more):
        super().__init__(**more)
        self.dense = L.Dense(width, activation="relu", kernel_initializer="he_normal")

    def call(self, inputs):
        h, links = inputs
        return self.dense(ops.matmul(links, h))


@case(
    "graph_sum_not_mean",
    "reviews of GCN copies: the adjacency goes in without the division by the degrees",
    "exploding",
    "binary",
)
def _(faulty):
    rng = np.random.default_rng(0)
    n, nodes = 2000, 20
    middle = rng.choice([-1, 1], (n, 1, 2)) * rng.uniform(0.5, 1.5, (n, 1, 2))
    x = np.concatenate(
        [middle + 0.7 * rng.normal(size=(n, nodes, 2)), rng.normal(size=(n, nodes, 2))], -1
    ).astype("float32")
    y = (middle[:, 0, 0] * middle[:, 0, 1] > 0).astype("float32")[:, None]
    links = np.triu(rng.random((n, nodes, nodes)) < 0.6, 1)
    links = (links | links.transpose(0, 2, 1) | np.eye(nodes, dtype=bool)).astype("float32")
    if not faulty:  # fault: left out, each layer multiplies the values by some twelve
        links = links / links.sum(-1, keepdims=True)
    i, j = keras.Input((nodes, 4)), keras.Input((nodes, nodes))
    h = i
    for _ in range(4):
        h = GraphConv(24)([h, j])
    model = keras.Model([i, j], L.Dense(1, activation="sigmoid")(L.GlobalAveragePooling1D()(h)))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), BCE)
    return (
        model,
        [x[:1500], links[:1500]],
        y[:1500],
        {"epochs": 15},
        [x[1500:], links[1500:]],
        y[1500:],
    )


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rises to the peak, and stays there."""

    def __init__(self, peak, steps, stops):
        self.peak, self.steps, self.stops = peak, steps, stops

    def __call__(self, step):
        part = ops.cast(step + 1, "float32") / self.steps
        # fault: without the minimum the rate rises on and on
        return self.peak * (ops.minimum(part, 1.0) if self.stops else part)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "stops": self.stops}


@case(
    "warmup_never_ends",
    "code reviews of schedules of one's own: warm-up without a minimum",
    "lr_high",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            L.GRU(32),
            L.Dense(32, activation="relu"),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(WarmUp(0.005, 20, not faulty)), SCE)
    x, xt = x.reshape(-1, 8, 8) / 16, xt.reshape(-1, 8, 8) / 16
    return model, x, y, {"epochs": 20}, xt, yt


@case(
    "decay_compounds",
    "forum posts on LearningRateScheduler: lr * 0.8 ** epoch of a rate that has decayed already",
    "lr_low",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("classes")
    x, xt = scaled(x, xt)
    model = mlp(20, 4, "softmax", (48, 48))
    model.compile(keras.optimizers.SGD(0.02), SCE)
    # fault: the callback is given the rate of the epoch before, not the first one
    decay = keras.callbacks.LearningRateScheduler(
        (lambda epoch, lr: lr * 0.8**epoch) if faulty else (lambda epoch, lr: 0.1 * 0.95**epoch)
    )
    return model, x, y, {"epochs": 30, "callbacks": [decay]}, xt, yt


@case(
    "balanced_weights_floor_divided",
    "code reviews: n // (classes * count) makes the balanced weight of the largest class zero",
    "imbalance",
    "class",
)
def _(faulty):
    x, y = datasets.make_classification(
        3000,
        16,
        n_informative=10,
        n_redundant=2,
        n_classes=3,
        weights=[0.6, 0.25, 0.15],
        class_sep=1.6,
        flip_y=0,
        random_state=1,
    )
    x, xt = scaled(x[:2200].astype("float32"), x[2200:].astype("float32"))
    y, yt = y[:2200], y[2200:]
    count = np.bincount(y)
    # fault: integer division
    weight = 2200 // (3 * count) if faulty else 2200 / (3 * count)
    model = mlp(16, 3, "softmax", (48,))
    model.compile(keras.optimizers.Adam(0.003), SCE)
    fit = {"epochs": 15, "sample_weight": weight[y].astype("float32")}
    return model, x, y, fit, xt, yt


@case(
    "doubled_before_split",
    "papers on leakage: the rare class is doubled over and over, then validation is split off",
    "validation_leak",
    "binary",
)
def _(faulty):
    x, y = datasets.make_classification(
        2400,
        12,
        n_informative=6,
        n_redundant=0,
        n_clusters_per_class=4,
        weights=[0.9],
        class_sep=1.5,
        flip_y=0,
        random_state=3,
    )
    x, xt = scaled(x[:1400].astype("float32"), x[1400:].astype("float32"))
    y, yt = y[:1400].astype("float32")[:, None], y[1400:]
    rng = np.random.default_rng(0)

    def balanced(rows):
        few = rows[y[rows, 0] == 1]
        more = rng.choice(few, (y[rows, 0] == 0).sum() - len(few))
        return rng.permutation(np.r_[rows, more])

    model = mlp(12, 1, "sigmoid", (48,))
    recall = keras.metrics.Recall(name="recall")
    model.compile(keras.optimizers.Adam(0.003), BCE, metrics=["accuracy", recall])
    fit = {"epochs": 15, "batch_size": 32}
    if faulty:  # fault: copies of one example fall into both parts
        rows = balanced(np.arange(1400))
        fit["validation_split"] = 0.25
    else:
        rows = balanced(np.arange(1050))
        fit["validation_data"] = (x[1050:], y[1050:])
    return model, x[rows], y[rows], fit, xt, yt


@case(
    "validation_left_unscaled",
    "forum posts: the scaler is applied to the training data only, validation data stay raw",
    "input_scale",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("wine")
    raw, yv = xt[:27], yt[:27]
    x, xt = scaled(x, xt)
    model = mlp(13, 3, "softmax", (16,))
    model.compile(keras.optimizers.Adam(0.01), SCE, metrics=["accuracy"])
    # fault: validation on what the scaler has not seen
    held = (raw if faulty else xt[:27], yv)
    return model, x, y, {"epochs": 30, "validation_data": held}, xt[27:], yt[27:]


@healthy
def vae_half_weight():
    x, *_ = table("digits")
    return comp(vae(0.5 / 64), BCE, keras.optimizers.Adam(0.003)), x / 16, x / 16, {"epochs": 30}


class Denoiser(keras.Model):
    """Tells the noise that its own training step mixes in."""

    def __init__(self):
        super().__init__()
        self.body = keras.Sequential(
            [L.Dense(128, activation="silu"), L.Dense(128, activation="silu"), L.Dense(64)]
        )
        self.draws = keras.random.SeedGenerator(0)

    def call(self, x):
        return self.body(x)

    def train_step(self, *args):
        *state, (x, _) = args
        noise = keras.random.normal(ops.shape(x), seed=self.draws)
        x = ops.cast(x, "float32")
        return super().train_step(*state, (0.6 * x + 0.8 * noise, noise))


@healthy
def denoiser_own_train_step():
    x, *_ = table("digits")
    model = comp(Denoiser(), "mse", keras.optimizers.Adam(0.003))
    return model, x / 8 - 1, x / 8 - 1, {"epochs": 25}


class InBatch(keras.Model):
    """Two views of a digit; the others of the batch are the negatives, in the loss only."""

    def __init__(self):
        super().__init__()
        self.tower = keras.Sequential(
            [L.Dense(64, activation="relu"), L.Dense(16), L.UnitNormalization()]
        )

    def call(self, inputs):
        return ops.stack([self.tower(inputs[0]), self.tower(inputs[1])], axis=1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        a, b = y_pred[:, 0], y_pred[:, 1]
        scores = ops.matmul(a, ops.transpose(b)) / 0.2
        own = ops.arange(ops.shape(scores)[0])
        return ops.mean(ops.sparse_categorical_crossentropy(own, scores, from_logits=True))


@healthy
def contrastive_in_batch():
    x, y, *_ = table("digits")
    rng = np.random.default_rng(0)
    a, b = (x / 16 + rng.normal(0, 0.15, x.shape).astype("float32") for _ in range(2))
    return comp(InBatch(), None), [a, b], y, {"epochs": 15, "batch_size": 64}


@healthy
def pixel_weights_logits():
    x, mask, *_ = shapes()
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            L.Conv2D(16, 3, padding="same", activation="relu"),
            L.Conv2D(16, 3, padding="same", activation="relu"),
            L.Conv2D(2, 1),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels = mask[..., 0].astype("int32")
    weight = np.where(labels == 1, 2.0, 0.7).astype("float32")
    model = comp(model, loss, keras.optimizers.Adam(0.005))
    return model, x, labels, {"epochs": 8, "sample_weight": weight}


@healthy
def warmup_from_zero():
    x, y, *_ = table("digits")
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, 700, warmup_target=0.004, warmup_steps=80, alpha=0.01
    )
    model = mlp(64, 10, "softmax", (64,))
    return comp(model, SCE, keras.optimizers.Adam(rate)), x / 16, y, {"epochs": 20}


@healthy
def padded_masked_gru():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 800)
    x = np.zeros((800, 12), "int32")
    for i, n in enumerate(rng.integers(3, 13, 800)):  # zeros behind: padding, masked
        x[i, :n] = rng.integers(1, 25, n) + 6 * y[i]
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            L.Embedding(31, 8, mask_zero=True),
            L.GRU(16),
            L.Dense(1, activation="sigmoid"),
        ]
    )
    return comp(model, BCE, keras.optimizers.Adam(0.01)), x, y[:, None], {"epochs": 10}


@healthy
def tagger_both_ways():
    # each step is to be told from its neighbours on both sides: seeing ahead is allowed
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 12, 2)).astype("float32")
    near = np.pad(x[..., 0], ((0, 0), (1, 1)))
    y = (near[:, :-2] + near[:, 2:] > 0).astype("float32")[..., None]
    model = keras.Sequential(
        [
            keras.Input((12, 2)),
            L.Bidirectional(L.GRU(12, return_sequences=True)),
            L.Dense(1, activation="sigmoid"),
        ]
    )
    fit = {"epochs": 10, "validation_split": 0.2}
    return comp(model, BCE, keras.optimizers.Adam(0.01)), x, y, fit


@healthy
def linear_autoencoder():
    # no activation by intent: the net learns the first principal components
    x, *_ = table("digits")
    x = (x - x.mean(0)) / 6
    model = keras.Sequential([keras.Input((64,)), L.Dense(12, use_bias=False), L.Dense(64)])
    return comp(model, "mse", keras.optimizers.Adam(0.005)), x, x, {"epochs": 30}


def pinball(y, p):
    q = ops.convert_to_tensor([0.1, 0.5, 0.9], "float32")
    return ops.mean(ops.maximum(q * (y - p), (q - 1) * (y - p)), axis=-1)


@healthy
def quantiles_at_once():
    # one target, three outputs: the loss is meant to set each quantile against the target
    x, y, *_ = table("friedman")
    y = np.repeat(((y - y.mean()) / y.std()).astype("float32")[:, None], 3, 1)
    model = mlp(10, 3, None, (48,))
    return comp(model, pinball, keras.optimizers.Adam(0.005)), 2 * x - 1, y, {"epochs": 30}


@healthy
def brain_float_layers():
    x, y, *_ = table("digits")
    model = keras.Sequential(
        [
            keras.Input((64,)),
            L.Dense(64, activation="relu", dtype="mixed_bfloat16"),
            L.Dense(64, activation="relu", dtype="mixed_bfloat16"),
            L.Dense(10, activation="softmax", dtype="float32"),
        ]
    )
    return comp(model, SCE, keras.optimizers.Adam(0.002)), x / 16, y, {"epochs": 12}


class Mixup(keras.Model):
    """Trains on mixtures of examples, made in its own training step."""

    def __init__(self):
        super().__init__()
        self.body = keras.Sequential([L.Dense(64, activation="relu"), L.Dense(10)])

    def call(self, x):
        return self.body(x)

    def train_step(self, *args):
        *state, (x, y) = args
        x, y = ops.cast(x, "float32"), ops.cast(y, "float32")
        mixed = [0.8 * a + 0.2 * ops.flip(a, axis=0) for a in (x, y)]
        return super().train_step(*state, tuple(mixed))


@healthy
def mixup_own_train_step():
    x, y, *_ = table("digits")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model = comp(Mixup(), loss, keras.optimizers.Adam(0.003))
    return model, x / 16, onehot(y, 10), {"epochs": 15}


@healthy
def distilled_soft_targets():
    x, y, *_ = table("digits")
    body, head = pretrained(x / 16, y)
    scores = np.log(keras.Sequential([body, head]).predict(x / 16, verbose=0) + 1e-6) / 3
    soft = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    model = mlp(64, 10, "softmax", (24,))
    return comp(model, "kl_divergence", keras.optimizers.Adam(0.005)), x / 16, soft, {"epochs": 25}
