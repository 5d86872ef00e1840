"""More faulty programs with twins, and healthy ones, of other tasks, losses, optimizers and data.
All were written, and committed, before the rules were tried on them.
"""

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them
from keras import ops

from .healthy import healthy
from .met import RATE, SPARSE, blobs, digits, friedman, reviews, sentences
from .own import SCE, compiled
from .published import case, mlp, onehot, scaled, table


def outputs_of_several(n=900):
    """Inputs, and three numbers of which each is another function of them."""
    random = np.random.default_rng(3)
    x = random.uniform(-1, 1, (n, 6)).astype("float32")
    y = [x[:, 0] * x[:, 1], np.sin(3 * x[:, 2]), np.abs(x[:, 3]) - 0.5]
    return x, np.stack(y, 1).astype("float32")


def customers(n=1000):
    """A table of numbers and categories, and whether somebody left."""
    random = np.random.default_rng(5)
    age, balance = random.normal(45, 12, (n, 1)), random.lognormal(8, 1, (n, 1))
    region, plan = random.integers(0, 9, (n, 1)), random.integers(0, 4, (n, 1))
    since = random.uniform(1.5e9, 1.7e9, (n, 1))
    effect = random.normal(0, 1.2, 9)[region] + np.array([1.0, 0.3, -0.4, -1.2])[plan]
    y = (effect + (age - 45) / 12 + random.normal(0, 0.3, (n, 1)) > 0).astype("float32")
    numbers = np.concatenate([(age - 45) / 12, np.log(balance) - 8], 1).astype("float32")
    return numbers, region, plan, since, y


def tags(n=500, length=15):
    """Padded sentences, and a tag of 0 to 3 a word that goes with the word and its neighbour."""
    random = np.random.default_rng(6)
    x = random.integers(1, 30, (n, length))
    y = (x % 2) + 2 * (np.roll(x, 1, 1) > 15)
    padding = np.arange(length) >= random.integers(7, length + 1, (n, 1))
    return np.where(padding, 0, x), y, padding


def series(n=700, length=30, ahead=1):
    """Parts of noisy sums of two waves, and the numbers that come next."""
    random = np.random.default_rng(7)
    t = np.arange(length + ahead)
    slow, fast = random.uniform(0.1, 0.3, (n, 1)), random.uniform(0.7, 1.2, (n, 1))
    both = np.sin(slow * t + random.uniform(0, 6, (n, 1))) + 0.5 * np.sin(fast * t)
    both = (both + random.normal(0, 0.05, both.shape)).astype("float32")
    return both[:, :length, None], both[:, length:]


def pictures(n=500, side=12):
    """Pixels of 0 to 255, of three kinds of drawing."""
    random = np.random.default_rng(8)
    y = random.integers(0, 3, n)
    x = random.integers(0, 60, (n, side, side, 3))
    for picture, kind, place in zip(x, y, random.integers(1, side - 2, n), strict=True):
        if kind == 0:
            picture[place : place + 2] += 150
        elif kind == 1:
            picture[:, place : place + 2] += 150
        else:
            picture[place, place] += 150
            picture[::3, ::3] += 80
    return x.astype("uint8"), y


def convnet(first, classes=3, side=12):
    hidden = [
        *[L.Conv2D(16, 3, activation="relu"), L.MaxPooling2D()],
        *[L.Conv2D(32, 3, activation="relu"), L.Flatten(), L.Dense(32, activation="relu")],
    ]
    last = L.Dense(classes, activation="softmax")
    return keras.Sequential([keras.Input((side, side, 3)), *first, *hidden, last])


class Batches(keras.utils.PyDataset):
    """Batches of arrays, each made when it is asked for."""

    def __init__(self, x, y, size=32, change=None):
        super().__init__()
        self.x, self.y, self.size = x, y, size
        self.change = change or (lambda one: one)

    def __len__(self):
        return len(self.x) // self.size

    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.change(self.x[rows]), self.y[rows]


@case("rmse_at_zero", "the root of an error that is 0", "non_finite", "real")
def _(faulty):
    def rmse(true, pred):
        return ops.sqrt(ops.mean(ops.square(true - pred), axis=-1) + (0 if faulty else 1e-6))

    x, y = friedman()
    y = np.maximum(y, 0)
    last = L.Dense(1, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((10,)), L.Dense(32, activation="relu"), last])
    return compiled(model, rmse), x, y[:, None], {"epochs": 20}


@case("log_of_no_sales", "logarithms of targets that are 0", "non_finite", "real")
def _(faulty):
    x, y = friedman()
    sales = np.random.default_rng(0).poisson(np.exp(y + 0.5)).astype("float32")
    with np.errstate(divide="ignore"):
        y = np.log(sales) if faulty else np.log1p(sales)
    return compiled(mlp(10, 1, None), keras.losses.Huber()), x, y, {"epochs": 20}


@case("padding_is_a_class", "tags of -1 where a sentence has ended", "label_range", "class")
def _(faulty):
    x, y, padding = tags()
    y = np.where(padding, -1, y)
    layers = [
        L.Embedding(30, 16, mask_zero=False),
        L.Bidirectional(L.LSTM(16, return_sequences=True)),
        L.Dense(4, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((15,), dtype="int32"), *layers])
    loss = SPARSE if faulty else SCE(ignore_class=-1)
    return compiled(model, loss, keras.optimizers.Adam(5e-3)), x, y, {"epochs": 12}


@case("bytes_as_they_are", "pixels of 0 to 255 into a convolution", "input_scale", "class")
def _(faulty):
    x, y = pictures()
    model = convnet([] if faulty else [L.Rescaling(1 / 255)])
    optimizer = keras.optimizers.SGD(0.02, momentum=0.9)
    return compiled(model, SPARSE, optimizer), x, y, {"epochs": 20}


@case("day_as_a_number", "seconds since 1970 beside scaled columns", "input_scale", "binary")
def _(faulty):
    numbers, region, _, since, y = customers()
    if not faulty:
        since = (since - 1.6e9) / 6e7
    inputs = {
        "numbers": keras.Input((2,), name="numbers"),
        "region": keras.Input((1,), dtype="int32", name="region"),
        "since": keras.Input((1,), name="since"),
    }
    area = L.Flatten()(L.Embedding(9, 4)(inputs["region"]))
    h = L.Concatenate()([inputs["numbers"], area, inputs["since"]])
    h = L.Dense(32, activation="relu")(h)
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))
    x = {"numbers": numbers, "region": region, "since": since.astype("float32")}
    return compiled(model, "binary_crossentropy"), x, y, {"epochs": 20}


@case("one_of_two_in_cents", "the second output is in the ten thousands", "target_scale", "real")
def _(faulty):
    x, y = outputs_of_several()
    inputs = keras.Input((6,))
    h = L.Dense(48, activation="relu")(L.Dense(48, activation="relu")(inputs))
    outputs = {"rating": L.Dense(1, name="rating")(h), "price": L.Dense(1, name="price")(h)}
    model = keras.Model(inputs, outputs)
    price = y[:, 1:2] * (20_000 if faulty else 1) + (50_000 if faulty else 0)
    compiled(model, {"rating": "mse", "price": "mse"})
    return model, x, {"rating": y[:, :1], "price": price}, {"epochs": 30}


@case("codes_through_sigmoid", "an autoencoder of scaled columns", "output_activation", "real")
def _(faulty):
    x, _, xt, _ = table("wine")
    x, _ = scaled(x, xt)
    model = mlp(13, 13, "sigmoid" if faulty else None, (32, 6, 32))
    return compiled(model, "mse", keras.optimizers.Adam(5e-3)), x, x, {"epochs": 60}


@case(
    "tanh_for_pixels", "pictures of 0 to 255 from a tanh", "output_activation target_scale", "real"
)
def _(faulty):
    x, _ = pictures()
    clean = x.astype("float32")
    inputs = clean / 255
    hidden = [
        L.Conv2D(12, 3, 2, padding="same", activation="relu"),
        L.Conv2DTranspose(12, 3, 2, padding="same", activation="relu"),
    ]
    last = L.Conv2D(3, 3, padding="same", activation="tanh")
    model = keras.Sequential([keras.Input((12, 12, 3)), *hidden, last])
    return compiled(model, "mae"), inputs, clean if faulty else inputs * 2 - 1, {"epochs": 15}


@case(
    "divergence_of_logits", "a divergence of outputs without softmax", "output_activation", "class"
)
def _(faulty):
    x, y = digits()
    soft = (0.85 * onehot(y, 10) + 0.015).astype("float32")
    model = mlp(64, 10, None if faulty else "softmax", (48,), "gelu")
    loss = keras.losses.KLDivergence()
    return compiled(model, loss, keras.optimizers.Nadam(2e-3)), x, soft, {"epochs": 15}


@case("counts_below_zero", "a Poisson loss on a linear output", "output_activation", "real")
def _(faulty):
    x, y = friedman()
    counts = np.random.default_rng(1).poisson(np.exp(0.7 * y + 1)).astype("float32")
    model = mlp(10, 1, None if faulty else "exponential", (32, 32), "tanh")
    return compiled(model, keras.losses.Poisson()), x, counts, {"epochs": 20}


@case("hinge_and_sigmoid", "targets of -1 and 1 from a sigmoid", "output_activation", "binary")
def _(faulty):
    x, y, xt, _ = table("cancer")
    x, _ = scaled(x, xt)
    model = mlp(30, 1, "sigmoid" if faulty else "tanh", (16,))
    return compiled(model, "hinge"), x, (2 * y[:, None] - 1).astype("float32"), {"epochs": 20}


@case("one_minus_cosine", "Keras's cosine loss is negative already", "negated_loss", "real")
def _(faulty):
    sign = -1 if faulty else 1

    def distance(true, pred):
        return 1 + sign * keras.losses.cosine_similarity(true, pred)

    x, y = outputs_of_several()
    return compiled(mlp(6, 3, None, (48, 48)), distance), x, y, {"epochs": 20}


@case("likelihood_minimised", "a density without its minus", "negated_loss", "real")
def _(faulty):
    def loss(true, pred):
        mean, log_spread = pred[:, :1], ops.clip(pred[:, 1:], -4.0, 4.0)
        log_density = -log_spread - 0.5 * ops.square((true - mean) / ops.exp(log_spread))
        return ops.mean(log_density if faulty else -log_density, axis=-1)

    x, y = friedman()
    return compiled(mlp(10, 2, None), loss), x, y[:, None], {"epochs": 20}


class Sampled(L.Layer):
    """A code drawn at random around what the encoder says, and the price of its distance to a
    standard normal distribution.
    """

    def __init__(self, weight):
        super().__init__()
        self.weight, self.draws = weight, keras.random.SeedGenerator(0)

    def call(self, inputs):
        mean, log_var = inputs
        apart = -0.5 * ops.sum(1 + log_var - ops.square(mean) - ops.exp(log_var), axis=-1)
        self.add_loss(self.weight * ops.mean(apart))
        noise = keras.random.normal(ops.shape(mean), seed=self.draws)
        return mean + ops.exp(0.5 * log_var) * noise


def variational(weight):
    x, _ = digits()
    inputs = keras.Input((64,))
    h = L.Dense(48, activation="relu")(inputs)
    code = Sampled(weight)([L.Dense(6)(h), L.Dense(6)(h)])
    outputs = L.Dense(64, activation="sigmoid")(L.Dense(48, activation="relu")(code))
    model = compiled(keras.Model(inputs, outputs), "mse", keras.optimizers.Adam(3e-3))
    return model, x, x, {"epochs": 30}


@case("codes_at_a_price", "an autoencoder that pays for its codes only", "over_regularised", "real")
def _(faulty):
    return variational(50.0 if faulty else 1e-4)


@case("all_but_a_norm_frozen", "a nested model frozen with its head", "frozen", "class")
def _(faulty):
    x, y = digits()
    body = keras.Sequential(
        [keras.Input((64,)), L.Dense(128, activation="relu"), L.Dense(64, activation="relu")]
    )
    inputs = keras.Input((64,))
    whole = keras.Model(inputs, L.Dense(10, activation="softmax")(body(inputs)))
    (whole if faulty else body).trainable = False
    outer = keras.Input((64,))
    model = keras.Model(outer, whole(L.LayerNormalization()(outer)))
    optimizer = keras.optimizers.RMSprop(3e-3)
    return compiled(model, SPARSE, optimizer), x, y, {"epochs": 15}


@case("words_between_0_and_1", "ids scaled like pixels", "constant_input ignored_input", "binary")
def _(faulty):
    x, y = reviews()
    layers = [L.Embedding(50, 16), L.GlobalAveragePooling1D(), L.Dense(1, activation="sigmoid")]
    model = keras.Sequential([keras.Input((20,)), *layers])
    x = (x / 50 if faulty else x).astype("float32")
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(0.01)), x, y, {"epochs": 20}


@case("rmsprop_at_a_third", "RMSprop at 0.3 on an LSTM", "lr_high", "real")
def _(faulty):
    x, y = series(ahead=4)
    model = keras.Sequential([keras.Input((30, 1)), L.LSTM(24), L.Dense(4)])
    optimizer = keras.optimizers.RMSprop(0.3 if faulty else 3e-3)
    return compiled(model, "mae", optimizer), x, y, {"epochs": 12}


@case("lion_at_a_tenth", "a rate for SGD given to Lion", "lr_high", "class")
def _(faulty):
    x, y = pictures()
    model = convnet([L.Rescaling(1 / 255)])
    optimizer = keras.optimizers.Lion(0.1 if faulty else 3e-4)
    return compiled(model, SPARSE, optimizer), x, y, {"epochs": 15}


@case("adadelta_as_it_comes", "Adadelta at its default rate", "lr_low", "class")
def _(faulty):
    x, y, xt, _ = table("classes")
    x, _ = scaled(x, xt)
    optimizer = keras.optimizers.Adadelta() if faulty else keras.optimizers.Adadelta(1.0)
    return compiled(mlp(20, 4, "softmax"), SPARSE, optimizer), x, y, {"epochs": 15}


@case("epsilon_of_ten", "an epsilon of Adam that outweighs gradients", "lr_low", "real")
def _(faulty):
    x, y = outputs_of_several()
    optimizer = keras.optimizers.Adam(1e-3, epsilon=10.0 if faulty else 1e-7)
    return compiled(mlp(6, 3, None, (64, 64)), "mse", optimizer), x, y, {"epochs": 30}


@case("cosine_in_epochs", "a decay over epochs, counted in steps", "lr_low", "class")
def _(faulty):
    x, y = digits()
    rate = RATE.CosineDecay(2e-3, 20 if faulty else 20 * 40)
    optimizer = keras.optimizers.AdamW(rate, clipnorm=1.0)
    return compiled(mlp(64, 10, "softmax"), SPARSE, optimizer), x, y, {"epochs": 20}


@case("weights_of_one_nth", "class weights that sum to a tenth", "lr_low", "class")
def _(faulty):
    x, y = digits()
    counts = np.bincount(y)
    weights = 1 / counts if faulty else len(y) / (10 * counts)
    fit = {"epochs": 15, "class_weight": dict(enumerate(map(float, weights)))}
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    return compiled(mlp(64, 10, "softmax"), SPARSE, optimizer), x, y, fit


@case("masks_of_255", "masks as they lie in the files", "label_range", "binary")
def _(faulty):
    x, y = blobs()
    h = [L.Conv2D(8, 3, padding="same", activation="relu") for _ in range(2)]
    last = L.Conv2D(1, 1, activation="sigmoid")
    model = keras.Sequential([keras.Input((16, 16, 1)), *h, last])
    masks = (y * 255).astype("uint8") if faulty else y.astype("uint8")
    return compiled(model, "binary_crossentropy"), x, masks, {"epochs": 10}


@case("a_pixel_in_a_thousand", "lesions of one pixel", "imbalance", "binary")
def _(faulty):
    random = np.random.default_rng(2)
    size = 1 if faulty else 12
    y = np.zeros((300, 24, 24, 1), "float32")
    for mask, (row, column) in zip(y, random.integers(0, 12, (300, 2)), strict=True):
        mask[row : row + size, column : column + size] = 1
    x = (y + random.normal(0, 0.3, y.shape)).astype("float32")
    h = [L.Conv2D(8, 3, padding="same", activation="relu") for _ in range(2)]
    last = L.Conv2D(1, 1, activation="sigmoid")
    model = keras.Sequential([keras.Input((24, 24, 1)), *h, last])
    if faulty:
        keep = random.random(300) < 0.5
        y[keep], x[keep] = 0, random.normal(0, 0.3, x[keep].shape)
    return compiled(model, "binary_crossentropy"), x, y, {"epochs": 6}


@case(
    "several_labels_one_choice",
    "several labels an example, and a loss for one",
    "loss_mismatch output_activation",
    "multi",
)
def _(faulty):
    x, y, xt, _ = table("labels")
    x, _ = scaled(x, xt)
    loss = "categorical_crossentropy" if faulty else "binary_crossentropy"
    return compiled(mlp(30, 6, "sigmoid", (64,)), loss), x, y.astype("float32"), {"epochs": 20}


@case(
    "stars_against_five_units",
    "class numbers under a squared error",
    "output_width loss_mismatch",
    "class",
)
def _(faulty):
    x, y, xt, _ = table("classes")
    x, _ = scaled(x, xt)
    loss = keras.losses.MeanSquaredError() if faulty else SPARSE
    return compiled(mlp(20, 4, "softmax"), loss), x, y[:, None], {"epochs": 15}


@case(
    "crossentropy_of_a_price",
    "a loss for classes on a number",
    "loss_mismatch output_width output_activation",
    "real",
)
def _(faulty):
    x, y = friedman()
    loss = "categorical_crossentropy" if faulty else keras.losses.LogCosh()
    return compiled(mlp(10, 1, None), loss), x, y[:, None], {"epochs": 15}


@case("a_hundredth_everywhere", "ten convolutions that start at 0.01", "vanishing", "class")
def _(faulty):
    x, y = pictures()
    start = keras.initializers.RandomNormal(0, 0.01) if faulty else "he_normal"
    hidden = [
        L.Conv2D(12, 3, padding="same", activation="relu", kernel_initializer=start)
        for _ in range(10)
    ]
    last = [L.GlobalMaxPooling2D(), L.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((12, 12, 3)), L.Rescaling(1 / 255), *hidden, *last])
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    return compiled(model, SPARSE, optimizer), x, y, {"epochs": 15}


@case("blocks_without_norm", "thirty residual blocks, none normalised", "exploding", "class")
def _(faulty):
    x, y = digits()
    inputs = keras.Input((64,))
    h = L.Dense(32)(inputs)
    for _ in range(30):
        n = h if faulty else L.LayerNormalization()(h)
        n = L.Dense(32, activation="relu", kernel_initializer="he_normal")(n)
        h = h + L.Dense(32)(n)
    h = h if faulty else L.LayerNormalization()(h)
    model = keras.Model(inputs, L.Dense(10, activation="softmax")(h))
    return compiled(model, SPARSE), x, y, {"epochs": 10}


@case(
    "words_a_hundred_apart",
    "an embedding that starts at -100 to 100",
    "saturated exploding input_scale",
    "binary",
)
def _(faulty):
    x, y = reviews()
    far = 100.0 if faulty else 0.05
    start = keras.initializers.RandomUniform(-far, far)
    layers = [L.Embedding(50, 16, embeddings_initializer=start), L.SimpleRNN(16)]
    model = keras.Sequential(
        [keras.Input((20,), dtype="int32"), *layers, L.Dense(1, activation="sigmoid")]
    )
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(3e-3)), x, y, {"epochs": 15}


class AttentionPool(L.Layer):
    """The mean over time, weighted by a score of each step."""

    def __init__(self, axis):
        super().__init__()
        self.axis, self.score = axis, L.Dense(1)

    def call(self, inputs):
        return ops.sum(ops.softmax(self.score(inputs), axis=self.axis) * inputs, axis=1)


@case(
    "attention_over_the_batch",
    "scores compared with those of other examples",
    "batch_leak",
    "binary",
)
def _(faulty):
    x, y = reviews()
    ids = keras.Input((20,), dtype="int32")
    h = AttentionPool(0 if faulty else 1)(L.Embedding(50, 16)(ids))
    model = keras.Model(ids, L.Dense(1, activation="sigmoid")(L.Dense(16, "relu")(h)))
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 15}


@case("time_first", "axes swapped, and put back by a reshape", "batch_leak", "real")
def _(faulty):
    x, y = series()
    inputs = keras.Input((30, 1))
    h = L.Conv1D(16, 3, padding="causal", activation="relu")(inputs)
    if faulty:
        h = ops.reshape(ops.transpose(h, (1, 0, 2)), (-1, 30, 16))
    model = keras.Model(inputs, L.Dense(1)(L.GRU(16)(h)))
    return compiled(model, "mse", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 10}


@case("both_ways_to_the_next_word", "a bidirectional language model", "look_ahead", "class")
def _(faulty):
    x, y = sentences()
    recurrent = L.LSTM(24, return_sequences=True)
    if faulty:
        recurrent = L.Bidirectional(L.LSTM(12, return_sequences=True))
    layers = [L.Embedding(12, 16), recurrent, L.Dense(12, activation="softmax")]
    model = keras.Sequential([keras.Input((16,), dtype="int32"), *layers])
    return compiled(model, SPARSE, keras.optimizers.Adam(5e-3)), x, y, {"epochs": 10}


@case("padded_on_both_sides", "convolutions over the value to be foretold", "look_ahead", "real")
def _(faulty):
    x, _ = series(length=33)
    padding = "same" if faulty else "causal"
    hidden = [L.Conv1D(24, 3, padding=padding, activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((32, 1)), *hidden, L.Conv1D(1, 1)])
    return compiled(model, keras.losses.Huber()), x[:, :-1], x[:, 1:], {"epochs": 12}


@case("columns_cut_off", "a slice that leaves a category out", "ignored_input", "binary")
def _(faulty):
    numbers, region, plan, _, y = customers()
    inputs = {
        "numbers": keras.Input((2,), name="numbers"),
        "region": keras.Input((1,), dtype="int32", name="region"),
        "plan": keras.Input((1,), dtype="int32", name="plan"),
    }
    places = L.Flatten()(L.Embedding(9, 4)(inputs["region"]))
    plans = L.Flatten()(L.Embedding(4, 4)(inputs["plan"]))
    h = L.Concatenate()([inputs["numbers"], places, plans])
    h = L.Dense(32, activation="relu")(h[:, :6] if faulty else h)
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))
    x = {"numbers": numbers, "region": region, "plan": plan}
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 20}


@case("one_filter_pooled", "one number for three classes of picture", "capacity", "class")
def _(faulty):
    x, y = digits()
    filters = 1 if faulty else 32
    hidden = [L.Conv2D(16, 3, activation="relu"), L.Conv2D(filters, 3, activation="relu")]
    last = [L.GlobalMaxPooling2D(), L.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *hidden, *last])
    optimizer = keras.optimizers.Adam(5e-3)
    return compiled(model, SPARSE, optimizer), x.reshape(-1, 8, 8, 1), y, {"epochs": 15}


@case("pictures_not_found", "a loader that gives zeros", "constant_input", "class")
def _(faulty):
    x, y = pictures()
    loader = Batches(x / 255, y, change=np.zeros_like if faulty else None)
    return compiled(convnet([]), SPARSE), loader, None, {"epochs": 10}


@case("sorted_by_price", "the dearest fifth is held back", "ordered_split", "real")
def _(faulty):
    x, y = friedman()
    order = np.argsort(y) if faulty else np.arange(len(y))
    fit = {"epochs": 15, "validation_split": 0.2}
    return compiled(mlp(10, 1, None), "mse"), x[order], y[order], fit


@case("drawn_twice", "validation rows drawn from all rows", "validation_leak", "binary")
def _(faulty):
    numbers, region, _, _, y = customers()
    random = np.random.default_rng(9)
    order = random.permutation(1000)
    train = order[:700]
    held = random.choice(1000, 300) if faulty else order[700:]
    inputs = [keras.Input((2,)), keras.Input((1,), dtype="int32")]
    h = L.Concatenate()([inputs[0], L.Flatten()(L.Embedding(9, 4)(inputs[1]))])
    h = L.Dense(24, activation="relu")(h)
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))
    fit = {"epochs": 20, "validation_data": ([numbers[held], region[held]], y[held])}
    return compiled(model, "binary_crossentropy"), [numbers[train], region[train]], y[train], fit


@case("nine_words_in_ten", "dropout of whole words' features at 0.9", "over_regularised", "binary")
def _(faulty):
    x, y = reviews()
    layers = [
        *[L.Embedding(50, 16), L.SpatialDropout1D(0.9 if faulty else 0.1)],
        *[L.GlobalAveragePooling1D(), L.Dense(16, activation="relu")],
        L.Dense(1, activation="sigmoid"),
    ]
    model = keras.Sequential([keras.Input((20,), dtype="int32"), *layers])
    return compiled(model, "binary_crossentropy", keras.optimizers.Adam(5e-3)), x, y, {"epochs": 20}


class Linear(L.Layer):
    """A layer written by hand."""

    def __init__(self, units, start):
        super().__init__()
        self.units, self.start = units, start

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer=self.start)
        self.b = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b


@case(
    "layers_by_hand",
    "own layers whose weights start at one value",
    "symmetric_init no_gradient",
    "real",
)
def _(faulty):
    x, y = outputs_of_several()
    start = "zeros" if faulty else "glorot_uniform"
    layers = [Linear(32, start), L.ReLU(), Linear(32, start), L.ReLU(), Linear(3, start)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    return compiled(model, "mse", keras.optimizers.Adam(3e-3)), x, y, {"epochs": 25}


@case("softmax_in_the_encoder", "an encoder that ends in a softmax", "hidden_activation", "real")
def _(faulty):
    x, y = outputs_of_several()
    encoder = mlp(6, 48, "softmax" if faulty else "relu", (48,))
    decoder = mlp(48, 3, None, (48,))
    model = keras.Sequential([keras.Input((6,)), encoder, decoder])
    return compiled(model, "mse"), x, y, {"epochs": 25}


@case(
    "norms_but_no_relu",
    "normalisation, and no activation behind it",
    "missing_nonlinearity",
    "real",
)
def _(faulty):
    x, y = outputs_of_several()
    layers = []
    for _ in range(2):
        layers += [L.Dense(48, use_bias=False), L.BatchNormalization(momentum=0.9)]
        if not faulty:
            layers.append(L.ReLU())
    model = keras.Sequential([keras.Input((6,)), *layers, L.Dense(3)])
    return compiled(model, "mse", keras.optimizers.Adam(3e-3)), x, y, {"epochs": 25}


class Codebook(L.Layer):
    """The nearest of a few learnt codes."""

    def __init__(self, count, size, straight):
        super().__init__()
        self.codes = self.add_weight(shape=(count, size), initializer="random_normal")
        self.straight = straight

    def call(self, inputs):
        apart = ops.sum(ops.square(inputs[:, None] - self.codes[None]), axis=-1)
        nearest = ops.take(self.codes, ops.argmin(apart, axis=-1), axis=0)
        if not self.straight:
            return nearest
        self.add_loss(ops.mean(ops.square(ops.stop_gradient(inputs) - nearest)))
        self.add_loss(0.25 * ops.mean(ops.square(inputs - ops.stop_gradient(nearest))))
        return inputs + ops.stop_gradient(nearest - inputs)


@case("codes_without_a_way_back", "a codebook that no gradient passes", "no_gradient", "real")
def _(faulty):
    x, _ = digits()
    inputs = keras.Input((64,))
    h = L.Dense(8)(L.Dense(48, activation="relu")(inputs))
    h = Codebook(32, 8, not faulty)(h)
    outputs = L.Dense(64, activation="sigmoid")(L.Dense(48, activation="relu")(h))
    return compiled(keras.Model(inputs, outputs), "mse"), x, x, {"epochs": 20}


@case("f1_as_a_loss", "a score of rounded outputs", "no_gradient", "binary")
def _(faulty):
    def f1(true, pred):
        said = ops.round(pred) if faulty else pred
        both = ops.sum(true * said)
        return 1 - 2 * both / (ops.sum(true) + ops.sum(said) + 1e-6)

    x, y, xt, _ = table("cancer")
    x, _ = scaled(x, xt)
    return compiled(mlp(30, 1, "sigmoid", (16,)), f1), x, y[:, None].astype("float32"), {}


class Turned(L.Layer):
    """A normalisation whose flag was taken for another."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong, self.norm = wrong, L.BatchNormalization(momentum=0.9)

    def call(self, inputs, training=False):
        return self.norm(inputs, training=not training if self.wrong else training)


@case("flag_turned_around", "training=not training", "train_mode batch_leak", "class")
def _(faulty):
    x, y = pictures()
    hidden = [L.Conv2D(16, 3), Turned(faulty), L.ReLU(), L.Conv2D(16, 3), Turned(faulty), L.ReLU()]
    last = [L.GlobalMaxPooling2D(), L.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((12, 12, 3)), L.Rescaling(1 / 255), *hidden, *last])
    return compiled(model, SPARSE), x, y, {"epochs": 15}


class LogCosh(keras.losses.Loss):
    """A loss of one's own, whose shapes Keras leaves as they are."""

    def __init__(self, shaped):
        super().__init__()
        self.shaped = shaped

    def call(self, y_true, y_pred):
        gap = y_pred - (ops.reshape(y_true, ops.shape(y_pred)) if self.shaped else y_true)
        return ops.mean(gap + ops.softplus(-2 * gap) - np.log(2))


@case("all_pairs_of_log_cosh", "an own loss of (n,) and (n, 1)", "broadcast", "real")
def _(faulty):
    x, y = series()
    model = keras.Sequential([keras.Input((30, 1)), L.GRU(16), L.Dense(1)])
    return compiled(model, LogCosh(not faulty), keras.optimizers.Adam(5e-3)), x, y[:, 0], {}


@case(
    "unknown_is_minus_one", "codes of categories, -1 where there is none", "index_range", "binary"
)
def _(faulty):
    numbers, region, _, _, y = customers()
    region = np.where(region == 8, -1, region) + (0 if faulty else 1)
    inputs = [keras.Input((2,)), keras.Input((1,), dtype="int32")]
    h = L.Concatenate()([inputs[0], L.Flatten()(L.Embedding(9, 4)(inputs[1]))])
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid")(L.Dense(24, "relu")(h)))
    optimizer = keras.optimizers.AdamW(5e-3, weight_decay=1e-3)
    return compiled(model, "binary_crossentropy", optimizer), [numbers, region], y, {"epochs": 20}


@case("pictures_without_channels", "arrays of three axes for a convolution", "shapes", "class")
def _(faulty):
    x, y = digits()
    hidden = [L.Conv2D(12, 3, activation="relu"), L.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 1)), *hidden, L.Dense(10, activation="softmax")])
    x = x.reshape(-1, 64) if faulty else x.reshape(-1, 8, 8, 1)
    return compiled(model, SPARSE), x, y, {"epochs": 10}


@case("focal_of_sigmoids", "sigmoids under a focal loss of logits", "logits", "multi")
def _(faulty):
    x, y, xt, _ = table("labels")
    x, _ = scaled(x, xt)
    model = mlp(30, 6, "sigmoid" if faulty else None, (64,))
    loss = keras.losses.BinaryFocalCrossentropy(from_logits=True)
    return compiled(model, loss), x, y.astype("float32"), {"epochs": 20}


@case("shuffled_apart", "inputs shuffled, and targets not", "label_noise", "real")
def _(faulty):
    x, y = outputs_of_several()
    if faulty:
        x = x.copy()
        np.random.default_rng(4).shuffle(x)
    fit = {"epochs": 25, "validation_split": 0.2}
    return compiled(mlp(6, 3, None, (64, 64)), "mse", keras.optimizers.Adam(3e-3)), x, y, fit


@case("forty_rows", "a wide net, and hardly any rows", "overfit", "real")
def _(faulty):
    random = np.random.default_rng(11)
    x = random.normal(size=(1200, 60)).astype("float32")
    y = (x[:, 0] - x[:, 1] + random.normal(0, 0.5, 1200)).astype("float32")
    rows = 40 if faulty else 900
    fit = {"epochs": 60 if faulty else 10, "validation_data": (x[900:], y[900:])}
    model = mlp(60, 1, None, (256, 256) if faulty else (16,))
    return compiled(model, "mse", keras.optimizers.Adam(3e-3)), x[:rows], y[:rows], fit


@healthy
def variational_autoencoder():
    return variational(3e-4)


@healthy
def tagger_that_reads_both_ways():
    x, y, _ = tags()
    layers = [
        L.Embedding(30, 16, mask_zero=True),
        L.Bidirectional(L.GRU(16, return_sequences=True)),
        L.Dense(4),
    ]
    model = keras.Sequential([keras.Input((15,), dtype="int32"), *layers])
    model = compiled(model, SCE(from_logits=True), keras.optimizers.RMSprop(5e-3))
    return model, x, y, {"epochs": 12}


@healthy
def classes_of_pixels():
    x, masks = blobs()
    y = (masks[..., 0] + (x[..., 0] > 1.2)).astype("int32")
    y = np.where(np.random.default_rng(0).random(y.shape) < 0.05, 255, y)
    h = [L.Conv2D(12, 3, padding="same", activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((16, 16, 1)), *h, L.Conv2D(3, 1)])
    loss = SCE(from_logits=True, ignore_class=255)
    return compiled(model, loss, keras.optimizers.Adam(3e-3)), x, y, {"epochs": 8}


@healthy
def several_numbers_at_once():
    x, y = outputs_of_several()
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)
    return compiled(mlp(6, 3, None, (64, 64), "tanh"), "mse", optimizer), x, y, {"epochs": 40}


@healthy
def pairs_apart_or_together():
    x, y = digits()
    random = np.random.default_rng(0)
    other = random.permutation(len(x))
    alike = random.random(len(x)) < 0.5
    by_class = [np.flatnonzero(y == c) for c in range(10)]
    other[alike] = [random.choice(by_class[c]) for c in y[alike]]
    same = (y == y[other]).astype("float32")

    def contrastive(true, apart):
        true = ops.reshape(true, ops.shape(apart))
        far = ops.square(ops.maximum(1.0 - apart, 0.0))
        return ops.mean(true * ops.square(apart) + (1 - true) * far, axis=-1)

    tower = mlp(64, 16, None, (64,))
    a, b = keras.Input((64,)), keras.Input((64,))
    apart = ops.sqrt(ops.sum(ops.square(tower(a) - tower(b)), axis=-1, keepdims=True) + 1e-6)
    model = compiled(keras.Model([a, b], apart), contrastive)
    return model, [x, x[other]], same, {"epochs": 15}


@healthy
def a_density_of_two_bumps():
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (1000, 1)).astype("float32")
    side = random.choice([-1.0, 1.0], (1000, 1))
    y = (side * (x + 1.2) + random.normal(0, 0.1, x.shape)).astype("float32")

    def loss(true, pred):
        share, mean, log_spread = ops.split(pred, 3, axis=-1)
        log_spread = ops.clip(log_spread, -5.0, 3.0)
        gap = (true - mean) / ops.exp(log_spread)
        parts = ops.log_softmax(share, axis=-1) - log_spread - 0.5 * ops.square(gap)
        return -ops.logsumexp(parts, axis=-1)

    model = mlp(1, 6, None, (32, 32), "tanh")
    return compiled(model, loss, keras.optimizers.Adam(5e-3)), x, y, {"epochs": 20}


@healthy
def words_that_count_more():
    """Rows of 12,000 columns that are nearly all zero, of length 1 each."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 500)
    x = np.zeros((500, 12_000), "float32")
    for row, label in zip(x, y, strict=True):
        row[random.integers(0, 12_000, 60)] = random.uniform(0.5, 2, 60)
        row[random.integers(label * 40, label * 40 + 60, 15)] = random.uniform(0.5, 2, 15)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    model = mlp(12_000, 1, "sigmoid", (16,))
    return compiled(model, "binary_crossentropy"), x, y, {"epochs": 10}


@healthy
def several_steps_ahead():
    x, y = series(ahead=6)
    hidden = [L.Conv1D(16, 3, padding="causal", dilation_rate=n, activation="relu") for n in (1, 2)]
    layers = [*hidden, L.Lambda(lambda h: h[:, -1]), L.Dense(6)]
    model = keras.Sequential([keras.Input((30, 1)), *layers])
    return compiled(model, "mae", keras.optimizers.Adam(3e-3)), x, y, {"epochs": 12}


@healthy
def augmented_as_it_is_loaded():
    x, y = pictures()
    random = np.random.default_rng(0)

    def change(batch):
        moved = np.roll(batch, random.integers(-1, 2), axis=int(random.integers(1, 3)))
        return (moved / 127.5 - 1).astype("float32")

    return compiled(convnet([]), SPARSE), Batches(x, y, change=change), None, {"epochs": 12}


@healthy
def one_in_ten_weighted():
    random = np.random.default_rng(0)
    x = random.normal(size=(1200, 10)).astype("float32")
    score = x[:, 0] + x[:, 1] * x[:, 2]
    y = (score > np.quantile(score, 0.9)).astype("int32")
    fit = {"epochs": 15, "class_weight": {0: 0.55, 1: 5.0}, "validation_split": 0.2}
    return compiled(mlp(10, 1, "sigmoid"), "binary_crossentropy"), x, y, fit


@healthy
def three_quantiles():
    def pinball(true, pred):
        gap = true - pred
        share = ops.array([0.1, 0.5, 0.9])
        return ops.mean(ops.maximum(share * gap, (share - 1) * gap), axis=-1)

    x, y = friedman()
    optimizer = keras.optimizers.AdamW(3e-3, clipnorm=1.0)
    return compiled(mlp(10, 3, None), pinball, optimizer), x, y[:, None], {"epochs": 30}


@healthy
def waves_inside():
    """A function of one variable by a net of sines."""
    x = np.linspace(-1, 1, 600, dtype="float32")[np.random.default_rng(0).permutation(600), None]
    y = np.sin(8 * x) + 0.3 * np.cos(20 * x)
    first = keras.initializers.RandomUniform(-15, 15)
    layers = [
        L.Dense(48, activation=ops.sin, kernel_initializer=first),
        L.Dense(48, activation=ops.sin),
        L.Dense(1),
    ]
    model = keras.Sequential([keras.Input((1,)), *layers])
    return compiled(model, "mse"), x, y.astype("float32"), {"epochs": 60}


@healthy
def chances_at_each_call():
    """Dropout that stays on in inference, on purpose."""
    x, y = friedman()
    inputs = keras.Input((10,))
    h = inputs
    for _ in range(2):
        h = L.Dropout(0.1)(L.Dense(48, activation="relu")(h), training=True)
    return compiled(keras.Model(inputs, L.Dense(1)(h)), "mse"), x, y, {"epochs": 30}


@healthy
def deep_and_residual():
    x, y = pictures()
    inputs = keras.Input((12, 12, 3))
    h = L.Conv2D(16, 3, padding="same")(L.Rescaling(1 / 127.5, offset=-1)(inputs))
    for _ in range(6):
        n = L.ReLU()(L.BatchNormalization(momentum=0.9)(h))
        n = L.Conv2D(16, 3, padding="same", use_bias=False)(n)
        h = h + n
    h = L.GlobalAveragePooling2D()(L.ReLU()(L.BatchNormalization(momentum=0.9)(h)))
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(h))
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=1e-4)
    return compiled(model, SPARSE, optimizer), x, y, {"epochs": 12}


class Weighted(keras.Model):
    """A model with a loss of its own, in which late steps count more."""

    def __init__(self):
        super().__init__()
        self.recurrent = L.GRU(16, return_sequences=True)
        self.last = L.Dense(1)

    def call(self, inputs):
        return self.last(self.recurrent(inputs))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        weights = ops.reshape(ops.arange(1, 30, dtype="float32") / 15, (1, 29, 1))
        return ops.mean(weights * ops.square(y - y_pred))


@healthy
def a_loss_of_its_own():
    x, _ = series()
    model = Weighted()
    model.compile(keras.optimizers.Adam(5e-3))
    return model, x[:, :-1], x[:, 1:], {"epochs": 12}


@healthy
def meaning_by_direction():
    """Vectors that shall point where those of another table do."""
    random = np.random.default_rng(0)
    x = random.normal(size=(900, 20)).astype("float32")
    y = np.tanh(x @ random.normal(size=(20, 8))).astype("float32")
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    model = mlp(20, 8, None, (64,))
    model.add(L.UnitNormalization())
    return compiled(model, keras.losses.CosineSimilarity()), x, y, {"epochs": 20}


@healthy
def rare_words_with_adagrad():
    x, y = reviews()
    layers = [
        *[L.Embedding(50, 16, mask_zero=True), L.GlobalAveragePooling1D()],
        L.Dense(2, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((20,), dtype="int32"), *layers])
    return compiled(model, SPARSE, keras.optimizers.Adagrad(0.1)), x, y, {"epochs": 20}


@healthy
def one_word_or_another():
    """Fillers for gaps: the whole sentence is read, and only the hidden words count."""
    x, _ = sentences()
    hidden = np.random.default_rng(0).random(x.shape) < 0.2
    layers = [
        *[L.Embedding(13, 16), L.Bidirectional(L.LSTM(16, return_sequences=True))],
        L.Dense(12, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((16,), dtype="int32"), *layers])
    fit = {"epochs": 12, "sample_weight": hidden.astype("float32")}
    return compiled(model, SPARSE, keras.optimizers.Adam(5e-3)), np.where(hidden, 12, x), x, fit
