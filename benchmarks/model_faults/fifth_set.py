"""A fifth set of faulty programs with twins, and healthy ones, by somebody who had read neither the
rules nor the other sets. All were written, and committed, before the rules were tried on them; the
loss of `siamese_root` is another since, as the first one was no fault on TensorFlow.
"""

import functools

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them
from keras import ops
from sklearn import datasets

from .fourth_set import loads, ratings
from .healthy import healthy
from .met import SPARSE, digits
from .own import SCE, compiled
from .published import case, mlp, onehot, scaled, table

BCE = "binary_crossentropy"


def pictures():
    """The digits as pictures of 0..255, and their classes: to train on, and to test."""
    x, y, xt, yt = table("digits")
    shaped = [(part * 255 / 16).reshape(-1, 8, 8, 1) for part in (x, xt)]
    return shaped[0], y, shaped[1], yt


def convolutional(*first, last="softmax"):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *first,
            L.Conv2D(16, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(10, activation=last),
        ]
    )


def progress():
    """Ten columns of patients with diabetes, and how far it has gone a year later."""
    x, y, xt, yt = table("diabetes")
    x, xt = scaled(x, xt)
    return x, y[:, None].astype("float32"), xt, yt[:, None].astype("float32")


@functools.cache
def text():
    """The words that describe five tables of scikit-learn."""
    loaders = [f"load_{name}" for name in ("digits", "breast_cancer", "iris", "wine", "diabetes")]
    return tuple(getattr(datasets, name)().DESCR.lower() for name in loaders)


def passages(words=12, length=48):
    """Passages of the descriptions as numbers of words, zeros behind; whose description it is."""
    known, rows, labels = {}, [], []
    for label, description in enumerate(text()):
        split = description.split()
        for start in range(0, len(split) - words, 4):
            part = [known.setdefault(word, len(known) + 1) for word in split[start:][:words]]
            rows.append(part + [0] * (length - words))
            labels.append(label)
    order = np.random.default_rng(50).permutation(len(rows))
    return np.array(rows)[order], np.array(labels)[order], len(known) + 1


def pairs(n=3000):
    """Pairs of digits, half of the same class, and whether they are of the same."""
    x, y = digits()
    random = np.random.default_rng(51)
    first, same = random.integers(0, len(y), n), random.integers(0, 2, n)
    partners = [
        random.choice(np.flatnonzero((y == y[i]) == bool(like)))
        for i, like in zip(first, same, strict=True)
    ]
    return x[first], x[partners], same[:, None].astype("float32")


def placed(n=1500, side=14):
    """Digits somewhere in a larger picture, their classes, and the corner where each lies."""
    x, y = digits()
    random = np.random.default_rng(52)
    pick, corner = random.integers(0, len(y), n), random.integers(0, side - 8, (n, 2))
    canvas = np.zeros((n, side, side, 1), "float32")
    for picture, i, (row, column) in zip(canvas, pick, corner, strict=True):
        picture[row : row + 8, column : column + 8, 0] = x[i].reshape(8, 8)
    return canvas, y[pick], corner.astype("float32")


@case(
    "scaled_twice",
    "keras-team/keras, EfficientNet and others: the model scales by 255, and so does the script",
    "input_scale",
    "class",
)
def _(faulty):
    x, y, xt, yt = pictures()
    model = compiled(
        convolutional(L.Rescaling(1 / 255)), SPARSE, keras.optimizers.SGD(0.05, momentum=0.9)
    )
    by = 255 if faulty else 1
    return model, x / by, y, {"epochs": 10}, xt / by, yt


@case(
    "integers_of_shares",
    "SO, pandas: columns scaled to 0..1, then cast to integers",
    "constant_input ignored_input",
    "binary",
)
def _(faulty):
    x, y, xt, yt = table("cancer")
    low, high = x.min(0), x.max(0)
    x, xt = (x - low) / (high - low), (xt - low) / (high - low)
    if faulty:
        x, xt = x.astype("int64").astype("float32"), xt.astype("int64").astype("float32")
    return compiled(mlp(30, 1, "sigmoid"), BCE), x, y[:, None], {"epochs": 30}, xt, yt


class Distance(L.Layer):
    """The Euclidean distance of two rows."""

    def __init__(self, least):
        super().__init__()
        self.least = least

    def call(self, first, second):
        squares = ops.sum(ops.square(first - second), axis=-1, keepdims=True)
        return ops.sqrt(ops.maximum(squares, self.least))


def margin(y_true, y_pred):
    """A contrastive loss of distances; 1 is for the same."""
    return y_true * y_pred + (1 - y_true) * ops.maximum(1 - y_pred, 0)


@case(
    "siamese_root",
    "keras-team/keras, mnist_siamese: the root of a distance of 0, where a picture meets itself",
    "non_finite",
    "real",
)
def _(faulty):
    first, second, same = pairs()
    sides = [keras.Input((64,)), keras.Input((64,))]
    encoder = mlp(64, 16, None, (64,))
    distance = Distance(0.0 if faulty else 1e-6)(*[encoder(side) for side in sides])
    model = compiled(keras.Model(sides, distance), margin)
    cut, tests = 2400, [first[2400:], second[2400:]]
    return model, [first[:cut], second[:cut]], same[:cut], {"epochs": 15}, tests, same[cut:]


@case(
    "order_of_names",
    "SO: pictures in the order of os.listdir (1, 10, 100, 2), labels in that of a table",
    "label_noise",
    "class",
)
def _(faulty):
    x, y, xt, yt = pictures()
    order = sorted(range(len(y)), key=lambda i: f"{i}.png")
    model = compiled(convolutional(L.Rescaling(1 / 255)), SPARSE)
    return model, x[order], y if faulty else y[order], {"epochs": 15}, xt, yt


@case(
    "norm_of_one_feature",
    "SO: LayerNormalization over the one feature of a series, which leaves zeros",
    "ignored_input constant_input",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    normed = [L.LayerNormalization(), L.Reshape((64, 1))]
    model = keras.Sequential(
        [
            keras.Input((64,)),
            *(reversed(normed) if faulty else normed),
            L.Conv1D(16, 9, strides=2, activation="relu"),
            L.Conv1D(16, 5, strides=2, activation="relu"),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )
    return compiled(model, SPARSE), x / 16, y, {"epochs": 15}, xt / 16, yt


@case(
    "norm_over_one_example",
    "SO: BatchNormalization, and batches of a single row",
    "train_mode ignored_input",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("wine")
    x, xt = scaled(x, xt)
    layers = [L.Dense(16), L.BatchNormalization(), L.Activation("relu")]
    model = keras.Sequential([keras.Input((13,)), *layers, L.Dense(3, activation="softmax")])
    fit = {"epochs": 15, "batch_size": 1 if faulty else 8}
    return compiled(model, SPARSE, keras.optimizers.Adam(0.01)), x, y, fit, xt, yt


class Pooled(L.Layer):
    """The mean of the steps, weighted by a softmax of scores."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis
        self.scores = L.Dense(1)

    def build(self, shape):
        self.scores.build(shape)

    def call(self, steps):
        weights = ops.softmax(5.0 * self.scores(steps), axis=self.axis)
        return ops.sum(weights * steps, axis=1)


@case(
    "attention_over_batch",
    "review: a softmax over axis 0, the examples, where the steps were meant",
    "batch_leak",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    rows = keras.Input((8, 8))
    steps = L.Conv1D(32, 5, padding="same", activation="relu")(rows)
    both = L.Concatenate()([Pooled(0 if faulty else 1)(steps), L.GlobalAveragePooling1D()(steps)])
    model = keras.Model(rows, L.Dense(10, activation="softmax")(both))
    x, xt = (part.reshape(-1, 8, 8) / 16 for part in (x, xt))
    return compiled(model, SPARSE), x, y, {"epochs": 20}, xt, yt


@case(
    "all_but_the_last",
    "Kaggle: all layers but the last are frozen, and the last is the softmax",
    "frozen no_gradient",
    "class",
)
def _(faulty):
    x, y, xt, yt = pictures()
    base = convolutional(L.Rescaling(1 / 255))
    compiled(base, SPARSE).fit(x[y < 5], y[y < 5], epochs=3, verbose=0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), *base.layers[:-1], L.Dense(10), L.Activation("softmax")]
    )
    for layer in model.layers[: -1 if faulty else -2]:
        layer.trainable = False
    return compiled(model, SPARSE, keras.optimizers.Adam(0.01)), x, y, {"epochs": 10}, xt, yt


def f1(is_rounded):
    """One less the F1 of a batch; rounded predictions have no gradient."""

    def loss(y_true, y_pred):
        y_pred = ops.round(y_pred) if is_rounded else y_pred
        both = ops.sum(y_true * y_pred)
        return 1 - 2 * both / (ops.sum(y_true) + ops.sum(y_pred) + 1e-7)

    return loss


@case("rounded_f1", "SO: F1 as the loss, of rounded predictions", "no_gradient", "binary")
def _(faulty):
    x, y, xt, yt = table("cancer")
    x, xt = scaled(x, xt)
    y = y[:, None].astype("float32")
    return compiled(mlp(30, 1, "sigmoid"), f1(faulty)), x, y, {"epochs": 30}, xt, yt


@case(
    "factors_from_zero",
    "review: both tables of a factorisation start at 0, where their product has no slope",
    "symmetric_init no_gradient",
    "real",
)
def _(faulty):
    user, item, rating = ratings()
    sides = [keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")]
    start = "zeros" if faulty else "uniform"
    vectors = [
        L.Flatten()(L.Embedding(n, 8, embeddings_initializer=start)(side))
        for side, n in zip(sides, (300, 80), strict=True)
    ]
    model = compiled(keras.Model(sides, L.Dot(1)(vectors)), "mse", keras.optimizers.Adam(0.01))
    cut, rating = 3200, rating[:, None]
    fit = {"epochs": 30}
    return (
        model,
        [user[:cut], item[:cut]],
        rating[:cut],
        fit,
        [user[cut:], item[cut:]],
        rating[cut:],
    )


@case(
    "crossentropy_of_scores",
    "SO: an autoencoder's loss below zero: crossentropy on standardised columns",
    "output_activation loss_mismatch label_range target_scale",
    "real",
)
def _(faulty):
    x, _, xt, _ = table("cancer")
    low, high = x.min(0), x.max(0)
    x, xt = scaled(x, xt) if faulty else ((x - low) / (high - low), (xt - low) / (high - low))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return compiled(mlp(30, 30, None, (16, 8, 16)), loss), x, x, {"epochs": 60}, xt, xt


def signed(y_true, y_pred):
    return ops.mean(y_true - y_pred, axis=-1)


@case(
    "error_with_its_sign",
    "SO: a loss of one's own that falls for ever: the mean error, not squared",
    "negated_loss loss_mismatch",
    "real",
)
def _(faulty):
    x, y, xt, yt = progress()
    y, yt = (y - y.mean()) / y.std(), (yt - y.mean()) / y.std()
    model = compiled(mlp(10, 1, None, (16,)), signed if faulty else "mse")
    return model, x, y, {"epochs": 40}, xt, yt


@case(
    "every_step_returned",
    "SO: return_sequences=True in the last GRU, one target a series",
    "broadcast shapes output_width loss_mismatch",
    "real",
)
def _(faulty):
    x, y = loads()
    model = keras.Sequential([keras.Input((36, 1)), L.GRU(16, return_sequences=faulty), L.Dense(1)])
    compiled(model, "mse", keras.optimizers.Adam(0.01))
    return model, x[:720], y[:720, :1], {"epochs": 12}, x[720:], y[720:, :1]


@case(
    "weights_that_sum_to_one",
    "review: sample weights divided by their sum, under plain SGD",
    "lr_low",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    weights = np.random.default_rng(53).uniform(0.5, 1.5, len(y))
    weights = weights / (weights.sum() if faulty else weights.mean())
    model = compiled(mlp(64, 10, "softmax"), SPARSE, keras.optimizers.SGD(0.05, momentum=0.9))
    return model, x / 16, y, {"epochs": 15, "sample_weight": weights}, xt / 16, yt


@case(
    "corners_in_pixels",
    "SO, localisation: corners in pixels beside classes; the classes are not learned",
    "target_scale",
    "class",
)
def _(faulty):
    x, kind, corner = placed()
    corner = corner * 40 if faulty else corner / 6
    image = keras.Input((14, 14, 1))
    h = L.Conv2D(16, 3, activation="relu")(image)
    h = L.Conv2D(16, 3, strides=2, activation="relu")(h)
    h = L.Dense(64, activation="relu")(L.Flatten()(h))
    outputs = {
        "kind": L.Dense(10, activation="softmax", name="kind")(h),
        "corner": L.Dense(2, name="corner")(h),
    }
    model = compiled(keras.Model(image, outputs), {"kind": SPARSE, "corner": "mse"})
    y = {"kind": kind[:1200], "corner": corner[:1200]}
    return model, x[:1200], y, {"epochs": 20}, x[1200:], kind[1200:]


def worst_cases():
    """Patients, and whether it has gone far, which is rare."""
    x, y, xt, yt = progress()
    return x, (y > 270).astype("float32"), xt, (yt > 270).astype("float32")


@case(
    "weights_upside_down",
    "SO: class_weight holds the shares of the classes, not what undoes them",
    "imbalance",
    "binary",
)
def _(faulty):
    x, y, xt, yt = worst_cases()
    rare = float(y.mean())
    weights = {0: 2 * (1 - rare), 1: 2 * rare} if faulty else {0: 0.5 / (1 - rare), 1: 0.5 / rare}
    model = compiled(mlp(10, 1, "sigmoid", (16,)), BCE)
    return model, x, y, {"epochs": 40, "class_weight": weights}, xt, yt


@case(
    "sorted_by_target",
    "SO: validation_split on a table sorted by the target",
    "ordered_split",
    "real",
)
def _(faulty):
    x, y, xt, yt = progress()
    mean, spread = y.mean(), y.std()
    if faulty:
        order = np.argsort(y[:, 0])
        x, y = x[order], y[order]
    model = compiled(mlp(10, 1, None, (16,)), "mse", keras.optimizers.Adam(0.005))
    fit = {"epochs": 40, "validation_split": 0.3}
    return model, x, (y - mean) / spread, fit, xt, (yt - mean) / spread


@case(
    "copies_before_the_split",
    "Kaggle: the rare class is oversampled, and only then the rows are split",
    "validation_leak",
    "binary",
)
def _(faulty):
    x, y, xt, yt = worst_cases()
    random = np.random.default_rng(54)

    def evened(x, y):
        rare = np.flatnonzero(y[:, 0])
        more = random.choice(rare, len(y) - 2 * len(rare))
        return np.concatenate([x, x[more]]), np.concatenate([y, y[more]])

    order = random.permutation(len(y))
    x, y = x[order], y[order]
    if faulty:
        x, y = evened(x, y)
        order = random.permutation(len(y))
        x, y = x[order], y[order]
    cut = int(0.7 * len(y))
    held = (x[cut:], y[cut:])
    x, y = (x[:cut], y[:cut]) if faulty else evened(x[:cut], y[:cut])
    order = random.permutation(len(y))
    model = compiled(mlp(10, 1, "sigmoid"), BCE)
    return model, x[order], y[order], {"epochs": 30, "validation_data": held}, xt, yt


@case(
    "activation_left_aside",
    "review: the activations are computed, and the next layer takes what came before them",
    "missing_nonlinearity",
    "binary",
)
def _(faulty):
    x, y, xt, yt = table("circles")
    inputs = h = keras.Input((2,))
    for _layer in range(2):
        h = L.Dense(24)(h)
        active = L.Activation("relu")(h)
        h = h if faulty else active
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))
    return compiled(model, BCE, keras.optimizers.Adam(0.01)), x, y[:, None], {"epochs": 30}, xt, yt


@case(
    "zeros_behind_the_words",
    "SO: an LSTM reads the padding behind short texts, and forgets the texts",
    "vanishing ignored_input",
    "class",
)
def _(faulty):
    x, y, words = passages()
    model = keras.Sequential(
        [
            keras.Input((x.shape[1],), dtype="int32"),
            L.Embedding(words, 16, mask_zero=not faulty),
            L.LSTM(16),
            L.Dense(5, activation="softmax"),
        ]
    )
    compiled(model, SPARSE, keras.optimizers.Adam(0.01))
    cut = int(0.8 * len(y))
    return model, x[:cut], y[:cut], {"epochs": 8}, x[cut:], y[cut:]


def letters(n=1200, length=24):
    """Letters of the descriptions, and the letter after each."""
    joined = " ".join(text())
    known = {letter: i for i, letter in enumerate(sorted(set(joined)))}
    numbers = np.array([known[letter] for letter in joined])
    start = np.random.default_rng(55).integers(0, len(numbers) - length - 1, (n, 1))
    rows = numbers[start + np.arange(length + 1)]
    return rows[:, :-1], rows[:, 1:], len(known)


@case(
    "both_directions",
    "SO: a Bidirectional layer in a model that is to foretell the next letter",
    "look_ahead",
    "class",
)
def _(faulty):
    x, y, n = letters()
    recurrent = L.GRU(32, return_sequences=True)
    model = keras.Sequential(
        [
            keras.Input((24,), dtype="int32"),
            L.Embedding(n, 16),
            L.Bidirectional(recurrent) if faulty else recurrent,
            L.Dense(n, activation="softmax"),
        ]
    )
    compiled(model, SPARSE, keras.optimizers.Adam(0.01))
    return model, x[:1000], y[:1000], {"epochs": 10}, x[1000:], y[1000:]


@case(
    "encoder_at_a_large_rate",
    "review: an encoder with attention, at a rate that had suited a small net",
    "lr_high",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    rows = keras.Input((8, 8))
    h = L.Conv1D(32, 3, padding="same")(rows)
    for _block in range(2):
        h = L.LayerNormalization()(h + L.MultiHeadAttention(4, 8)(h, h))
        h = L.LayerNormalization()(h + L.Dense(32)(L.Dense(64, activation="relu")(h)))
    model = keras.Model(rows, L.Dense(10, activation="softmax")(L.Flatten()(h)))
    x, xt = (part.reshape(-1, 8, 8) / 16 for part in (x, xt))
    compiled(model, SPARSE, keras.optimizers.Adam(0.1 if faulty else 0.001))
    return model, x, y, {"epochs": 10}, xt, yt


@case(
    "dropout_of_answers",
    "keras-team/keras 5992: Dropout behind the softmax too",
    "over_regularised output_activation non_finite",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("wine")
    x, xt = scaled(x, xt)
    inputs = keras.Input((13,))
    h = L.Dropout(0.2)(L.Dense(32, activation="relu")(inputs))
    h = L.Dense(3, activation="softmax")(h)
    model = keras.Model(inputs, L.Dropout(0.5)(h) if faulty else h)
    return compiled(model, "categorical_crossentropy"), x, onehot(y), {"epochs": 30}, xt, yt


@case(
    "validation_not_scaled",
    "SO: the training pictures are divided by 255, those of the validation are not",
    "input_scale",
    "class",
)
def _(faulty):
    x, y, xt, yt = pictures()
    held = (xt[:200] / (1 if faulty else 255), yt[:200])
    fit = {"epochs": 10, "validation_data": held}
    return compiled(convolutional(), SPARSE), x / 255, y, fit, xt, yt


@healthy
def hinge_of_labels():
    x, y, *_ = table("cancer")
    x, _ = scaled(x, x)
    return compiled(mlp(30, 1, None, (16,)), "hinge"), x, y[:, None], {"epochs": 20}


@healthy
def dollars_from_scores():
    x, y, *_ = table("prices")
    x, _ = scaled(x, x)
    inputs = keras.Input((10,))
    h = L.Dense(32, activation="relu")(L.Dense(32, activation="relu")(inputs))
    price = L.Rescaling(float(y.std()), offset=float(y.mean()))(L.Dense(1)(h))
    return compiled(keras.Model(inputs, price), "mse"), x, y[:, None], {"epochs": 40}


class Drawn(L.Layer):
    """Draws from normals, and adds the divergence from the standard one to the loss."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, mean, log_variance):
        each = 1 + log_variance - ops.square(mean) - ops.exp(log_variance)
        self.add_loss(-0.5 * ops.mean(ops.sum(each, -1)))
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return mean + ops.exp(0.5 * log_variance) * noise


@healthy
def variational_digits():
    x, _ = digits()
    inputs = keras.Input((64,))
    h = L.Dense(64, activation="relu")(inputs)
    code = Drawn()(L.Dense(8)(h), L.Dense(8)(h))
    h = L.Dense(64, activation="relu")(code)
    model = keras.Model(inputs, L.Dense(64, activation="sigmoid")(h))

    def rebuilt(y_true, y_pred):
        return 64 * keras.losses.binary_crossentropy(y_true, y_pred)

    return compiled(model, rebuilt), x, x, {"epochs": 30}


def contrastive(y_true, y_pred):
    """Supervised contrastive loss (Khosla et al. 2020) over the pairs of a batch."""
    labels = ops.reshape(y_true, (-1, 1))
    others = 1 - ops.eye(ops.shape(y_pred)[0])
    scores = ops.matmul(y_pred, ops.transpose(y_pred)) / 0.2
    scores = scores - 1e9 * (1 - others)
    logs = scores - ops.logsumexp(scores, axis=1, keepdims=True)
    same = ops.cast(ops.equal(labels, ops.transpose(labels)), "float32") * others
    return -ops.sum(same * logs, axis=1) / ops.maximum(ops.sum(same, axis=1), 1)


@healthy
def contrastive_digits():
    x, y = digits()
    inputs = keras.Input((64,))
    h = L.Dense(16)(L.Dense(64, activation="relu")(inputs))
    model = keras.Model(inputs, L.UnitNormalization()(h))
    return compiled(model, contrastive), x, y[:, None], {"epochs": 20, "batch_size": 64}


@healthy
def rare_and_weighted():
    x, y = digits()
    random = np.random.default_rng(56)
    keep = (y != 8) | (random.uniform(size=len(y)) < 0.4)
    x, y = x[keep], (y[keep] == 8).astype("float32")
    rare = float(y.mean())
    fit = {"epochs": 20, "class_weight": {0: 0.5 / (1 - rare), 1: 0.5 / rare}}
    return compiled(mlp(64, 1, "sigmoid"), BCE), x, y[:, None], fit


@healthy
def half_precision():
    x, y = digits()
    policy = keras.DTypePolicy("mixed_bfloat16")
    layers = [L.Dense(64, activation="relu", dtype=policy) for _ in range(2)]
    model = keras.Sequential([keras.Input((64,)), *layers, L.Dense(10, dtype="float32")])
    return compiled(model, SCE(from_logits=True)), x, y, {"epochs": 15}


@healthy
def random_features():
    x, y = digits()
    random = keras.initializers.RandomNormal(stddev=0.5)
    features = L.Dense(
        512, activation=ops.cos, kernel_initializer=random, bias_initializer="random_uniform"
    )
    features.trainable = False
    model = keras.Sequential([keras.Input((64,)), features, L.Dense(10, activation="softmax")])
    return compiled(model, SPARSE), x, y, {"epochs": 20}


@healthy
def wide_on_few():
    x, y, *_ = table("iris")
    x, _ = scaled(x, x)
    return compiled(mlp(4, 3, "softmax", (8192,)), SPARSE), x, y, {"epochs": 20}


class Reversed(L.Layer):
    """Gives what it takes; its gradient is turned round (Ganin et al. 2016)."""

    def call(self, inputs):
        return 2 * ops.stop_gradient(inputs) - inputs


@healthy
def adversarial_domains():
    x, y = digits()
    domain = np.arange(len(y)) % 2
    x = np.where(domain[:, None] == 1, 1 - x, x).astype("float32")
    inputs = keras.Input((64,))
    h = L.Dense(32, activation="relu")(L.Dense(64, activation="relu")(inputs))
    judge = L.Dense(16, activation="relu")(Reversed()(h))
    outputs = {
        "kind": L.Dense(10, activation="softmax", name="kind")(h),
        "domain": L.Dense(1, activation="sigmoid", name="domain")(judge),
    }
    model = keras.Model(inputs, outputs)
    compiled(model, {"kind": SPARSE, "domain": BCE}, loss_weights={"kind": 1.0, "domain": 0.2})
    return model, x, {"kind": y, "domain": domain[:, None]}, {"epochs": 30}


def likelihood(y_true, y_pred):
    """The negative logarithm of a normal's likelihood, by its mean and log variance."""
    mean, log_variance = y_pred[:, :1], y_pred[:, 1:]
    return 0.5 * (log_variance + ops.square(y_true - mean) * ops.exp(-log_variance))


@healthy
def spread_of_its_own():
    random = np.random.default_rng(57)
    x = random.uniform(-1, 1, (1000, 1))
    y = np.sin(3 * x) + random.normal(size=x.shape) * (0.05 + 0.2 * (x > 0))
    model = compiled(mlp(1, 2, None), likelihood, keras.optimizers.Adam(0.005))
    return model, x.astype("float32"), y.astype("float32"), {"epochs": 40}


@healthy
def bag_of_words():
    rows, y, words = passages(length=12)
    x = np.zeros((len(y), words), "float32")
    np.add.at(x, (np.arange(len(y))[:, None], rows), 1)
    return compiled(mlp(words, 5, "softmax", (16,)), SPARSE), x, y, {"epochs": 20}


class Mixed(keras.Sequential):
    """Trains on mixtures of an example with another of its batch (Zhang et al. 2018)."""

    def train_step(self, *state_and_data):
        *state, (x, y) = state_and_data
        mixed = (0.7 * x + 0.3 * ops.flip(x, 0), 0.7 * y + 0.3 * ops.flip(y, 0))
        return super().train_step(*state, mixed)


@healthy
def mixed_examples():
    x, y = digits()
    layers = [L.Dense(64, activation="relu"), L.Dense(10, activation="softmax")]
    model = Mixed([keras.Input((64,)), *layers])
    return compiled(model, "categorical_crossentropy"), x, onehot(y), {"epochs": 20}
