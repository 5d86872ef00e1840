"""A fourth set of faulty programs with twins, and healthy ones: each fault another kind than the
others. All were written, and committed, before the rules were tried on them.
"""

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them
from keras import ops

from .healthy import healthy
from .met import RATE, SPARSE
from .own import SCE, compiled
from .published import case, onehot


def ratings(n=4000, users=300, items=80):
    """Numbers of a user and of an item, and how well the two go together."""
    random = np.random.default_rng(40)
    user, item = random.integers(0, users, n), random.integers(0, items, n)
    tastes, traits = random.normal(size=(users, 2)), random.normal(size=(items, 2))
    rating = (tastes[user] * traits[item]).sum(1) + random.normal(0, 0.2, n)
    return user[:, None], item[:, None], rating.astype("float32")


def scenes(n=300, side=16):
    """Pictures of two stripes before a ground, the kind of each pixel, 255 along the border."""
    random = np.random.default_rng(41)
    kinds = np.zeros((n, side, side), "int64")
    for kind, (row, column) in zip(kinds, random.integers(1, side - 5, (n, 2)), strict=True):
        kind[row : row + 4] = 1
        kind[:, column : column + 4] = 2
    colours = np.array([[0.1, 0.2, 0.6], [0.7, 0.3, 0.2], [0.3, 0.8, 0.3]])
    x = colours[kinds] + random.normal(0, 0.1, (n, side, side, 3))
    kinds[:, [0, -1]] = kinds[:, :, [0, -1]] = 255
    return x.astype("float32"), kinds


def motion(n=600, steps=48):
    """Three axes of an accelerometer, and which of four things its owner does."""
    random = np.random.default_rng(42)
    y = random.integers(0, 4, n)
    pace = np.array([0.0, 0.4, 0.9, 1.6])[y] * random.uniform(0.9, 1.1, n)
    angle = pace[:, None] * np.arange(steps) + random.uniform(0, 6, (n, 1))
    x = np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle)], -1)
    return (x + random.normal(0, 0.3, x.shape)).astype("float32"), y


def loads(n=900, hours=36):
    """The load of a grid by the hour, and that of the next three hours."""
    random = np.random.default_rng(43)
    hour = random.integers(0, 24, (n, 1)) + np.arange(hours + 3)
    level = random.normal(0, 0.5, (n, 1))
    load = np.sin(hour * np.pi / 12) + 0.4 * np.cos(hour * np.pi / 6) + level
    load = (load + random.normal(0, 0.05, load.shape)).astype("float32")
    return load[:, :hours, None], load[:, hours:]


def offers(n=2500):
    """Six columns of an offer, and whether it was chosen (1) or passed over (-1)."""
    random = np.random.default_rng(44)
    x = random.normal(size=(n, 6)).astype("float32")
    worth = x[:, 0] - 0.5 * x[:, 1] ** 2 + x[:, 2] * x[:, 3] + random.normal(0, 0.3, n)
    return x, np.where(worth > np.median(worth), 1, -1).astype("float32")[:, None]


def houses(n=3000):
    """Size, age, floor, distance and two more of a house in their own units, and its price in
    standard units, a column as pandas gives it.
    """
    random = np.random.default_rng(45)
    size, age = random.normal(90, 25, n), random.uniform(0, 60, n)
    floor, distance = random.integers(0, 8, n), random.exponential(5, n)
    x = np.stack([size, age, floor, distance, random.normal(20, 4, n), random.random(n)], 1)
    price = size * (1.5 - age / 60) + 4 * floor - 3 * distance + random.normal(0, 8, n)
    return x.astype("float32"), ((price - price.mean()) / price.std()).astype("float32")[:, None]


def houses_scaled():
    x, y = houses()
    return ((x - x.mean(0)) / x.std(0)).astype("float32"), y


def melodies(n=500, length=24, notes=15):
    """Notes, each two or three steps from the one before, and the notes that come next."""
    random = np.random.default_rng(46)
    steps = random.choice([2, 2, 2, -3], (n, length + 1))
    all_of_them = (random.integers(0, notes, (n, 1)) + np.cumsum(steps, 1)) % notes
    return all_of_them[:, :-1], all_of_them[:, 1:]


def reports(n=1500, length=30, words=200):
    """Ids of the words of a report, and which of three offices it belongs to."""
    random = np.random.default_rng(47)
    x, y = random.integers(1, words, (n, length)), random.integers(0, 3, n)
    for one, office in zip(x, y, strict=True):
        one[random.choice(length, 5, replace=False)] = random.integers(1, 8, 5) + 20 * office
    return x, y


def stripes(n=600, side=12):
    """Pictures of waves along one of two directions, anywhere and of either sign."""
    random = np.random.default_rng(48)
    y = random.integers(0, 2, n)
    place = np.arange(side) * random.uniform(1.2, 2.0, (n, 1)) + random.uniform(0, 6, (n, 1))
    wave = np.sin(place)[:, :, None] + np.zeros(side)
    x = np.where(y[:, None, None] == 1, wave, wave.transpose(0, 2, 1))
    return (x + random.normal(0, 0.3, x.shape)).astype("float32")[..., None], y


def letters(n=2000, length=20, share=0.15):
    """Ids of words, and whether each is nothing, a place, a person or a firm."""
    random = np.random.default_rng(49)
    y = np.where(random.random((n, length)) < share, random.integers(1, 4, (n, length)), 0)
    return 40 * y + random.integers(1, 41, (n, length)), y


@case("user_for_item", "two inputs in the wrong order", "index_range", "real")
def _(faulty):
    user, item, y = ratings()
    a, b = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    left, right = L.Flatten()(L.Embedding(300, 8)(a)), L.Flatten()(L.Embedding(80, 8)(b))
    h = L.Concatenate()([left, right, left * right])
    model = keras.Model([a, b], L.Dense(1)(L.Dense(32, activation="relu")(h)))
    x = [item, user] if faulty else [user, item]
    return compiled(model, "mse", keras.optimizers.Adam(0.01)), x, y, {"epochs": 12}


@case("void_pixels", "pixels that nobody labelled are 255", "label_range", "class")
def _(faulty):
    x, y = scenes()
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            L.Conv2D(16, 3, padding="same", activation="relu"),
            L.Conv2D(16, 3, padding="same", activation="relu"),
            L.Conv2D(3, 1),
        ]
    )
    loss = SCE(from_logits=True, ignore_class=None if faulty else 255)
    return compiled(model, loss, keras.optimizers.Adam(3e-3)), x, y, {"epochs": 12}


@case("one_hour_for_three", "one unit for the next three hours", "output_width broadcast", "real")
def _(faulty):
    x, y = loads()
    model = keras.Sequential([keras.Input((36, 1)), L.GRU(24), L.Dense(1 if faulty else 3)])
    return compiled(model, "mse", keras.optimizers.Adam(0.01)), x, y, {"epochs": 12}


@case("hinge_with_a_plus", "a margin that right answers are to miss", "negated_loss", "binary")
def _(faulty):
    sign = 1 if faulty else -1

    def margin(chosen, score):
        return ops.mean(ops.relu(1 + sign * chosen * score), axis=-1)

    x, y = offers()
    hidden = [L.Dense(48, activation="relu"), L.LayerNormalization()]
    model = keras.Sequential([keras.Input((6,)), *hidden, L.Dense(1)])
    return compiled(model, margin), x, y, {"epochs": 12}


@case("squeezed_in_the_loss", "predictions squeezed, and targets not", "broadcast", "real")
def _(faulty):
    def dearer_is_worse(true, pred):
        error = true - (ops.squeeze(pred, axis=-1) if faulty else pred)
        return ops.mean(ops.where(error > 0, 3 * error, -error), axis=-1)

    x, y = houses_scaled()
    model = keras.Sequential([keras.Input((6,)), L.Dense(64, activation="gelu"), L.Dense(1)])
    return compiled(model, dearer_is_worse), x, y, {"epochs": 12}


class Changes(L.Layer):
    """What changed since the step before, beside what is."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def call(self, x):
        return ops.concatenate([x, x - ops.roll(x, 1, axis=self.axis)], axis=-1)


@case("changes_along_the_batch", "differences to another example", "batch_leak", "class")
def _(faulty):
    x, y = motion()
    hidden = [Changes(0 if faulty else 1), L.Conv1D(16, 5, activation="relu")]
    last = [L.GlobalMaxPooling1D(), L.Dense(4, activation="softmax")]
    model = keras.Sequential([keras.Input((48, 3)), *hidden, *last])
    return compiled(model, SPARSE, keras.optimizers.Adam(3e-3)), x, y, {"epochs": 15}


@case("question_asks_itself", "attention over the wrong sequence", "ignored_input", "real")
def _(faulty):
    class Reader(keras.Model):
        def __init__(self):
            super().__init__()
            self.into, self.facts = L.Dense(16), L.Dense(16)
            self.attention, self.norm = L.MultiHeadAttention(2, 8), L.LayerNormalization()
            self.pool, self.last = L.GlobalAveragePooling1D(), L.Dense(1)

        def call(self, inputs):
            question, facts = self.into(inputs["question"]), self.facts(inputs["facts"])
            found = self.attention(question, question if faulty else facts)
            return self.last(self.pool(self.norm(question + found)))

    random = np.random.default_rng(50)
    x = {
        "question": random.normal(size=(1200, 4, 5)).astype("float32"),
        "facts": random.normal(size=(1200, 10, 8)).astype("float32"),
    }
    y = 2 * x["facts"][..., 0].mean(1) + x["question"][..., 1].mean(1)
    return compiled(Reader(), "mse", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 15}


@case("mixed_over_all_notes", "next notes from a mixer of all steps", "look_ahead", "class")
def _(faulty):
    x, y = melodies()
    ids = keras.Input((24,), dtype="int32")
    h = L.Embedding(15, 24)(ids)
    if faulty:
        h = h + L.Permute((2, 1))(L.Dense(24, activation="gelu")(L.Permute((2, 1))(h)))
    else:
        h = h + L.Conv1D(24, 4, padding="causal", activation="gelu")(h)
    model = keras.Model(ids, L.Dense(15)(L.LayerNormalization()(h)))
    optimizer = keras.optimizers.Adam(5e-3)
    return compiled(model, SCE(from_logits=True), optimizer), x, y, {"epochs": 12}


@case("ported_log_softmax", "logarithms where probabilities go", "output_activation", "class")
def _(faulty):
    x, y = reports()
    layers = [L.Embedding(200, 16), L.GlobalAveragePooling1D(), L.Dense(32, activation="relu")]
    last = L.Dense(3, activation="log_softmax" if faulty else "softmax")
    model = keras.Sequential([keras.Input((30,), dtype="int32"), *layers, last])
    return compiled(model, SCE(), keras.optimizers.Adam(5e-3)), x, y, {"epochs": 12}


@case("logits_of_one_head", "a sigmoid in the one head that says logits", "logits", "binary")
def _(faulty):
    x, price = houses_scaled()
    sold = (x[:, 5:] * x[:, 4:5] + x[:, 1:2] > 0).astype("float32")
    inputs = keras.Input((6,))
    h = L.Dense(64, activation="relu")(L.Dense(64, activation="relu")(inputs))
    heads = {
        "price": L.Dense(1, name="price")(h),
        "sold": L.Dense(1, activation="sigmoid" if faulty else None, name="sold")(h),
    }
    loss = {"price": "mae", "sold": keras.losses.BinaryCrossentropy(from_logits=True)}
    model = compiled(keras.Model(inputs, heads), loss, loss_weights={"price": 0.5, "sold": 2.0})
    return model, x, {"price": price, "sold": sold}, {"epochs": 12}


@case("direction_of_one_number", "a cosine of one number", "loss_mismatch no_gradient", "real")
def _(faulty):
    x, y = houses_scaled()
    hidden = [L.Dense(64, activation="relu"), L.Dense(32, activation="relu")]
    model = keras.Sequential([keras.Input((6,)), *hidden, L.Dense(1)])
    # Of length one, a number is only a sign.
    loss = keras.losses.CosineSimilarity() if faulty else "mean_absolute_error"
    return compiled(model, loss, keras.optimizers.RMSprop(1e-3)), x, y, {"epochs": 12}


class Experts(L.Layer):
    """A mean of linear experts, weighted by a gate."""

    def __init__(self, count, start):
        super().__init__()
        self.count, self.start = count, start
        self.gate = L.Dense(count, activation="softmax", kernel_initializer="zeros")

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.count), initializer=self.start)
        self.bias = self.add_weight(shape=(self.count,), initializer="zeros")
        self.gate.build(shape)

    def call(self, x):
        each = ops.matmul(x, self.kernel) + self.bias
        return ops.sum(self.gate(x) * each, axis=-1, keepdims=True)


@case("experts_who_agree", "experts and a gate that start equal", "symmetric_init", "real")
def _(faulty):
    random = np.random.default_rng(51)
    x = random.normal(size=(2000, 4)).astype("float32")
    y = (2 * np.abs(x[:, 0]) - 1.6 + 0.3 * x[:, 1]).astype("float32")
    experts = Experts(8, "zeros" if faulty else "glorot_normal")
    model = keras.Sequential([keras.Input((4,)), experts])
    return compiled(model, "mse", keras.optimizers.Adam(0.02)), x, y, {"epochs": 15}


@case("two_steps_an_epoch", "statistics that need hundreds of steps", "train_mode", "real")
def _(faulty):
    x, y = houses(400)
    norm = L.BatchNormalization(momentum=0.99 if faulty else 0.5)
    model = keras.Sequential([keras.Input((6,)), norm, L.Dense(64, activation="relu"), L.Dense(1)])
    fit = {"epochs": 15, "batch_size": 160, "validation_data": (x[320:], y[320:])}
    return compiled(model, "mse", keras.optimizers.Adam(0.02)), x[:320], y[:320], fit


@case("augmented_before_the_split", "noisy copies on both sides", "validation_leak", "class")
def _(faulty):
    x, y = stripes(200)
    random = np.random.default_rng(52)

    def four_of_each(x, y):
        x, y = np.repeat(x, 4, 0), np.repeat(y, 4, 0)
        order = random.permutation(len(x))
        return (x + random.normal(0, 0.01, x.shape).astype("float32"))[order], y[order]

    layers = [L.Conv2D(16, 3, activation="relu"), L.GroupNormalization(4)]
    last = [L.GlobalAveragePooling2D(), L.Dense(2, activation="softmax")]
    model = compiled(keras.Sequential([keras.Input((12, 12, 1)), *layers, *last]), SPARSE)
    if faulty:
        return model, *four_of_each(x, y), {"epochs": 15, "validation_split": 0.25}
    fit = {"epochs": 15, "validation_data": (x[150:], y[150:])}
    return model, *four_of_each(x[:150], y[:150]), fit


@case("squashed_by_a_glitch", "the least and the most of a broken sensor", "input_scale", "class")
def _(faulty):
    x, y = motion(900)
    x, x[17, 20] = 1 + 0.5 * x, 65_535 if faulty else 1
    least, most = x.min((0, 1)), x.max((0, 1))
    model = keras.Sequential(
        [
            keras.Input((48, 3)),
            L.Conv1D(16, 5, strides=2, activation="relu"),
            L.Conv1D(32, 5, strides=2, activation="relu"),
            *[L.GlobalMaxPooling1D(), L.Dense(4, activation="softmax")],
        ]
    )
    return compiled(model, SPARSE), (x - least) / (most - least), y, {"epochs": 15}


@case("softmax_in_a_recurrence", "an LSTM that hands on a softmax", "hidden_activation", "real")
def _(faulty):
    x, y = loads()
    first = L.LSTM(32, activation="softmax" if faulty else "tanh", return_sequences=True)
    model = keras.Sequential([keras.Input((36, 1)), first, L.LSTM(16), L.Dense(3)])
    return compiled(model, "mse", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 12}


@case("filters_without_relu", "three linear convolutions", "missing_nonlinearity", "class")
def _(faulty):
    x, y = stripes()
    act = None if faulty else "relu"
    filters = [L.Conv2D(n, 3, activation=act) for n in (8, 16, 16)]
    last = [L.GlobalAveragePooling2D(), L.Dense(2, activation="softmax")]
    model = keras.Sequential([keras.Input((12, 12, 1)), *filters, *last])
    return compiled(model, SPARSE, keras.optimizers.Adam(5e-3)), x, y, {"epochs": 15}


class Pointer(L.Layer):
    """One step of a sequence: the one with the highest score."""

    def __init__(self, is_hard):
        super().__init__()
        self.is_hard = is_hard
        self.score = keras.Sequential([L.Dense(16, activation="tanh"), L.Dense(1)])

    def call(self, x):
        scores = self.score(x)[..., 0]
        if self.is_hard:
            share = ops.one_hot(ops.argmax(scores, axis=-1), x.shape[1])
        else:
            share = ops.softmax(scores, axis=-1)
        return ops.sum(share[..., None] * x, axis=1)


@case("points_at_one_step", "the place of a maximum has no slope", "no_gradient", "real")
def _(faulty):
    random = np.random.default_rng(53)
    x = random.normal(size=(1500, 12, 4)).astype("float32")
    x[..., 0] = 0
    there = random.integers(0, 12, 1500)
    x[np.arange(1500), there, 0] = 3
    y = x[np.arange(1500), there, 1]
    last = [L.Dense(24, activation="relu"), L.Dense(1)]
    model = keras.Sequential([keras.Input((12, 4)), Pointer(faulty), *last])
    return compiled(model, "mse", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 15}


@case("summed_over_the_batch", "squared errors that add up over a batch", "lr_high", "real")
def _(faulty):
    x, y = houses_scaled()
    loss = keras.losses.MeanSquaredError("sum" if faulty else "sum_over_batch_size")
    hidden = [L.Dense(64, activation="relu"), L.Dense(64, activation="relu")]
    model = keras.Sequential([keras.Input((6,)), *hidden, L.Dense(1)])
    fit = {"epochs": 12, "batch_size": 256}
    return compiled(model, loss, keras.optimizers.SGD(0.05, momentum=0.9)), x, y, fit


@case("waits_for_more_batches", "gradients of 200 batches in 140 steps", "lr_low", "class")
def _(faulty):
    x, y = reports(900)
    layers = [L.Embedding(200, 16), L.Conv1D(16, 3, activation="relu"), L.GlobalMaxPooling1D()]
    last = L.Dense(3, activation="softmax")
    model = keras.Sequential([keras.Input((30,), dtype="int32"), *layers, last])
    optimizer = keras.optimizers.Adam(0.01, gradient_accumulation_steps=200 if faulty else 2)
    return compiled(model, SPARSE, optimizer), x, y, {"epochs": 5}


@case("hardly_a_name", "names are one word in three hundred", "imbalance", "class")
def _(faulty):
    x, y = letters(share=0.003 if faulty else 0.15)
    layers = [L.Embedding(161, 16), L.Bidirectional(L.GRU(12, return_sequences=True))]
    last = L.Dense(4, activation="softmax")
    model = keras.Sequential([keras.Input((20,), dtype="int32"), *layers, last])
    return compiled(model, SPARSE), x, y, {"epochs": 6}


@case("threshold_for_maximum", "a ReLU that is 0 up to 6", "dead_units no_gradient", "class")
def _(faulty):
    x, y = motion()

    def relu6():
        return L.ReLU(threshold=6.0) if faulty else L.ReLU(max_value=6.0)

    hidden = [L.Conv1D(16, 5), relu6(), L.MaxPooling1D(2), L.SeparableConv1D(32, 5), relu6()]
    last = [L.GlobalAveragePooling1D(), L.Dense(4, activation="softmax")]
    model = keras.Sequential([keras.Input((48, 3)), *hidden, *last])
    return compiled(model, SPARSE, keras.optimizers.Adam(5e-3)), x, y, {"epochs": 15}


@case("grows_at_each_step", "a ReLU in a recurrence of a deviation of 0.5", "exploding", "real")
def _(faulty):
    start = keras.initializers.RandomNormal(stddev=0.5) if faulty else "orthogonal"
    x, y = loads()
    cell = L.SimpleRNN(32, activation="relu", recurrent_initializer=start)
    model = keras.Sequential([keras.Input((36, 1)), cell, L.Dense(3)])
    return compiled(model, "mae"), x, y, {"epochs": 15}


@case("each_column_sorted", "inputs sorted column by column", "label_noise", "real")
def _(faulty):
    x, y = houses_scaled()
    x = np.sort(x, axis=0) if faulty else x
    order = np.random.default_rng(54).permutation(len(x))
    hidden = [L.Dense(32, activation="relu"), L.Dense(32, activation="relu")]
    model = keras.Sequential([keras.Input((6,)), *hidden, L.Dense(1)])
    return compiled(model, "mse"), x[order], y[order], {"epochs": 12, "validation_split": 0.2}


@healthy
def logarithms_as_logits():
    """A log-softmax is a set of logits as good as any."""
    x, y = reports()
    layers = [L.Embedding(200, 16), L.GlobalMaxPooling1D(), L.Dense(3, activation="log_softmax")]
    model = keras.Sequential([keras.Input((30,), dtype="int32"), *layers])
    optimizer = keras.optimizers.Adam(5e-3)
    return compiled(model, SCE(from_logits=True), optimizer), x, y, {"epochs": 12}


@healthy
def best_of_a_list():
    """Eight offers, of which one is taken: a softmax over a score of each."""
    random = np.random.default_rng(60)
    x = random.normal(size=(1500, 8, 5)).astype("float32")
    worth = x[..., 0] + np.abs(x[..., 1]) + random.gumbel(0, 0.2, (1500, 8))
    scores = [L.Dense(24, activation="relu"), L.Dense(1), L.Flatten(), L.Softmax()]
    model = keras.Sequential([keras.Input((8, 5)), *scores])
    y = onehot(worth.argmax(1), 8)
    return compiled(model, "categorical_crossentropy"), x, y, {"epochs": 12}


@healthy
def noise_taken_off():
    """A convolutional autoencoder that gets clean waves out of noisy ones."""
    x, _ = motion(700)
    noisy = x + np.random.default_rng(61).normal(0, 0.5, x.shape).astype("float32")
    inputs = keras.Input((48, 3))
    h = L.Conv1D(32, 5, strides=2, padding="same", use_bias=False)(inputs)
    h = L.Activation("relu")(L.BatchNormalization()(h))
    h = L.Conv1DTranspose(32, 5, strides=2, padding="same", activation="relu")(h)
    model = keras.Model(inputs, L.Conv1D(3, 5, padding="same")(h))
    return compiled(model, "mse", keras.optimizers.Adam(3e-3)), noisy, x, {"epochs": 12}


@healthy
def same_or_another():
    """Two pictures through one encoder, and whether both go the same way."""
    x, kinds = stripes(800)
    encoder = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            L.Conv2D(16, 3, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(16, activation="tanh"),
        ]
    )
    a, b = keras.Input((12, 12, 1)), keras.Input((12, 12, 1))
    apart = ops.abs(encoder(a) - encoder(b))
    model = keras.Model([a, b], L.Dense(1, activation="sigmoid")(apart))
    y = (kinds[:400] == kinds[400:]).astype("float32")
    optimizer = keras.optimizers.Adam(0.01)
    return compiled(model, "binary_crossentropy", optimizer), [x[:400], x[400:]], y, {"epochs": 20}


@healthy
def at_least_so_many_stars():
    """One sigmoid for each step of a scale, of which the lower ones hold where the upper do."""
    x, price = houses_scaled()
    y = (price > np.quantile(price, [0.2, 0.4, 0.6, 0.8])).astype("float32")
    hidden = [L.Dense(48, activation="silu"), L.Dropout(0.2), L.Dense(24, activation="silu")]
    model = keras.Sequential([keras.Input((6,)), *hidden, L.Dense(4, activation="sigmoid")])
    return compiled(model, "binary_crossentropy"), x, y, {"epochs": 12, "validation_split": 0.2}


@healthy
def one_block_five_times():
    """The same weights, used again and again."""

    class Again(keras.Model):
        def __init__(self):
            super().__init__()
            self.into, self.last = L.Dense(32), L.Dense(1)
            self.block, self.norm = L.Dense(32, activation="tanh"), L.LayerNormalization()

        def call(self, x):
            h = self.into(x)
            for _ in range(5):
                h = h + self.block(self.norm(h))
            return self.last(h)

    x, y = houses_scaled()
    optimizer = keras.optimizers.AdamW(2e-3, weight_decay=0.01, clipnorm=1.0)
    return compiled(Again(), keras.losses.LogCosh(), optimizer), x, y, {"epochs": 12}


@healthy
def pixels_and_groups():
    """Bytes that the model itself divides, and normalisation by groups."""
    x, y = stripes()
    x = np.clip(128 + 50 * x, 0, 255).astype("uint8")
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1), dtype="uint8"),
            L.Rescaling(1 / 127.5, offset=-1),
            *[L.Conv2D(16, 3, use_bias=False), L.GroupNormalization(4), L.Activation("relu")],
            *[L.Conv2D(16, 3, use_bias=False), L.GroupNormalization(4), L.Activation("relu")],
            *[L.GlobalAveragePooling2D(), L.Dense(2)],
        ]
    )
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)
    return compiled(model, SCE(from_logits=True), optimizer), x, y, {"epochs": 15}


@healthy
def words_from_elsewhere():
    """Vectors of words that stay as they are, behind them a GRU that learns."""
    x, y = reports()
    words = L.Embedding(200, 48, embeddings_initializer="normal", trainable=False)
    layers = [words, L.Rescaling(20.0), L.Bidirectional(L.GRU(16)), L.Dense(3)]
    model = keras.Sequential([keras.Input((30,), dtype="int32"), *layers])
    optimizer = keras.optimizers.Adam(5e-3)
    return compiled(model, SCE(from_logits=True), optimizer), x, y, {"epochs": 12}


@healthy
def overlap_and_crossentropy():
    """Masks by the sum of two losses, one of which is 1 at worst."""

    def both(true, pred):
        shared = 2 * ops.sum(true * pred, axis=(1, 2, 3)) + 1
        size = ops.sum(true, axis=(1, 2, 3)) + ops.sum(pred, axis=(1, 2, 3)) + 1
        price = ops.mean(keras.losses.binary_crossentropy(true, pred), axis=(1, 2))
        return 1 - shared / size + price

    x, kinds = scenes()
    down = inputs = keras.Input((16, 16, 3))
    down = L.Conv2D(16, 3, padding="same", activation="relu")(down)
    h = L.Conv2D(32, 3, padding="same", activation="relu")(L.MaxPooling2D()(down))
    h = L.Concatenate()([L.UpSampling2D()(h), down])
    model = keras.Model(inputs, L.Conv2D(1, 3, padding="same", activation="sigmoid")(h))
    y = (kinds == 1).astype("float32")[..., None]
    return compiled(model, both, keras.optimizers.Adam(3e-3)), x, y, {"epochs": 12}


@healthy
def softened_labels():
    """Label smoothing, a rate that warms up, and a cosine."""
    x, y = motion(1000)
    rate = RATE.CosineDecay(1e-4, 400, warmup_target=8e-3, warmup_steps=60)
    hidden = [L.Conv1D(24, 5, strides=2), L.LayerNormalization(), L.Activation("gelu")]
    last = [L.SpatialDropout1D(0.1), L.GlobalAveragePooling1D(), L.Dense(4, activation="softmax")]
    model = keras.Sequential([keras.Input((48, 3)), *hidden, *last])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    return compiled(model, loss, keras.optimizers.AdamW(rate)), x, onehot(y, 4), {"epochs": 15}


@healthy
def taste_of_each():
    """A product of two vectors, a bias of each, and nothing else."""
    user, item, y = ratings()
    a, b = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    tastes, traits = L.Embedding(300, 6)(a), L.Embedding(80, 6)(b)
    both = L.Dot(axes=-1)([L.Flatten()(tastes), L.Flatten()(traits)])
    biases = L.Flatten()(L.Embedding(300, 1)(a)) + L.Flatten()(L.Embedding(80, 1)(b))
    model = keras.Model([a, b], both + biases)
    return compiled(model, "mse", keras.optimizers.Adam(0.02)), [user, item], y, {"epochs": 20}


@healthy
def mean_and_doubt():
    """A mean and a deviation, which is kept above zero, by the likelihood of both."""

    def surprise(true, pred):
        mean, doubt = pred[:, :1], ops.softplus(pred[:, 1:]) + 0.01
        return ops.log(doubt) + 0.5 * ops.square((true - mean) / doubt)

    x, y = houses_scaled()
    hidden = [L.Dense(64, activation="elu"), L.Dense(64, activation="elu")]
    model = keras.Sequential([keras.Input((6,)), *hidden, L.Dense(2)])
    fit = {"epochs": 12, "validation_split": 0.1}
    return compiled(model, surprise, keras.optimizers.Nadam(2e-3)), x, y, fit
