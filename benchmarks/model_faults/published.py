"""Small Keras 3 programs with the faults of real, published ones, each beside a healthy twin.

Written anew from the published descriptions of the faults: what was wrong, and what the fix was.
The data are synthetic or scikit-learn's. `REGISTRY[name].build()` gives `(compiled model, x, y, fit
arguments)`, `.healthy()` those of the twin.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
from keras import layers as L  # noqa: N812 - programs as people write them
from sklearn import datasets, preprocessing
from sklearn.model_selection import train_test_split

REGISTRY = {}


@dataclasses.dataclass
class Case:
    """A faulty program and its twin.

    Attributes:
        name: Its own.
        source: Where the fault was published.
        kinds: Of findings, each of which names it.
        task: class, binary, multi or real.
        make: Gives model, x, y, fit arguments, and x and y to test on, faulty or not.
    """

    name: str
    source: str
    kinds: tuple
    task: str
    make: Callable

    def build(self, seed=0):
        """The faulty program."""
        return self._made(True, seed)

    def healthy(self, seed=0):
        """Its twin."""
        return self._made(False, seed)

    def _made(self, is_faulty, seed):
        keras.utils.set_random_seed(seed)
        return self.make(is_faulty)[:4]


def case(name, source, kinds, task):
    """Registers the function that makes a program."""

    def add(make):
        REGISTRY[name] = Case(name, source, tuple(kinds.split()), task, make)
        return make

    return add


@functools.cache
def table(kind):
    load = {
        "digits": datasets.load_digits,
        "cancer": datasets.load_breast_cancer,
        "iris": datasets.load_iris,
        "wine": datasets.load_wine,
        "diabetes": datasets.load_diabetes,
    }
    if kind in load:
        x, y = load[kind](return_X_y=True)
    elif kind == "moons":
        x, y = datasets.make_moons(800, noise=0.15, random_state=0)
    elif kind == "classes":
        x, y = datasets.make_classification(
            1500, 20, n_informative=12, n_redundant=4, n_classes=4, class_sep=1.6, random_state=0
        )
    elif kind == "labels":
        x, y = datasets.make_multilabel_classification(
            1500, 30, n_classes=6, n_labels=2, random_state=0
        )
    elif kind == "circles":
        x, y = datasets.make_circles(1000, noise=0.08, factor=0.5, random_state=0)
    elif kind == "friedman":
        x, y = datasets.make_friedman1(1200, 10, noise=0.3, random_state=0)
    elif kind == "prices":
        x, y = datasets.make_friedman1(1200, 10, noise=0.3, random_state=1)
        x = x * np.array([1, 10, 100, 1e3, 1, 5, 50, 2e3, 1, 1])
        y = 2e5 + 4e4 * (y - y.mean())
    x_train, x_test, y_train, y_test = train_test_split(
        x.astype("float32"), y, test_size=0.3, random_state=0
    )
    return x_train, y_train, x_test, y_test


def scaled(x, x_test):
    scaler = preprocessing.StandardScaler().fit(x)
    return scaler.transform(x).astype("float32"), scaler.transform(x_test).astype("float32")


def mlp(inputs, outputs, last, hidden=(32, 32), act="relu", **more):
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            *[L.Dense(n, activation=act, **more) for n in hidden],
            L.Dense(outputs, activation=last),
        ]
    )


def onehot(y, n=None):
    return keras.utils.to_categorical(y, n)


@case(
    "so48385830",
    "SO 48385830 (DeepFD 1, DeepLocalize 1): image MLP without activations, mse, rate too high",
    "missing_nonlinearity loss_mismatch lr_high",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    act, last, loss = (
        (None, None, "mse") if faulty else ("sigmoid", "softmax", "categorical_crossentropy")
    )
    model = mlp(64, 10, last, (30,), act)
    model.compile(keras.optimizers.SGD(0.5), loss)
    return (
        model,
        x / (1 if faulty else 16),
        onehot(y),
        {"epochs": 30},
        xt / (1 if faulty else 16),
        yt,
    )


@case(
    "so31556268",
    "SO 31556268 (DeepFD 3): XOR, mean absolute error, too small a rate for the epochs given",
    "lr_low loss_mismatch",
    "binary",
)
def _(faulty):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1000, 2)).astype("float32")
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype("float32")
    model = mlp(2, 1, "sigmoid", (16,), "tanh")
    model.compile(
        keras.optimizers.SGD(0.005 if faulty else 0.5, momentum=0.1 if faulty else 0.9),
        "mae" if faulty else "binary_crossentropy",
    )
    return model, x[:700], y[:700, None], {"epochs": 30}, x[700:], y[700:]


@case(
    "so50306988",
    "SO 50306988 (DeepFD 4): rate a tenth of what the five epochs need",
    "lr_low",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("moons")
    model = mlp(2, 2, "softmax", (16,))
    model.compile(keras.optimizers.Adam(1e-5 if faulty else 1e-2), "categorical_crossentropy")
    return model, x, onehot(y), {"epochs": 10}, xt, yt


@case(
    "so38648195",
    "SO 38648195 (DeepFD 6): two classes, softmax over a single unit, mse",
    "output_activation loss_mismatch",
    "binary",
)
def _(faulty):
    x, y, xt, yt = table("cancer")
    x, xt = scaled(x, xt)
    model = mlp(30, 1, "softmax" if faulty else "sigmoid", (16,))
    model.compile("adam", "mse" if faulty else "binary_crossentropy")
    return model, x, y[:, None].astype("float32"), {"epochs": 20}, xt, yt


@case(
    "so55328966",
    "SO 55328966 (DeepFD 8): pixels of 0..255 as they are, ten sigmoids, SGD",
    "input_scale output_activation",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    x, xt = (x * 255 / 16, xt * 255 / 16) if faulty else (x / 16, xt / 16)
    model = mlp(64, 10, "sigmoid" if faulty else "softmax", (64,))
    model.compile(
        keras.optimizers.SGD(0.1) if faulty else "adam", "sparse_categorical_crossentropy"
    )
    return model, x, y, {"epochs": 15}, xt, yt


@case(
    "so39525358",
    "SO 39525358 (DeepFD 11): raw features, no output activation under binary crossentropy",
    "output_activation input_scale",
    "binary",
)
def _(faulty):
    x, y, xt, yt = table("cancer")
    if not faulty:
        x, xt = scaled(x, xt)
    model = mlp(30, 1, None if faulty else "sigmoid", (16,))
    model.compile("adam", "binary_crossentropy")
    return model, x, y[:, None].astype("float32"), {"epochs": 20}, xt, yt


@case(
    "so59278771",
    "SO 59278771 (DeepFD 16): raw iris, tiny relu net, three sigmoids under crossentropy",
    "output_activation input_scale",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("iris")
    if not faulty:
        x, xt = scaled(x, xt)
    model = mlp(
        4,
        3,
        "sigmoid" if faulty else "softmax",
        (4,),
        "relu" if faulty else "selu",
        kernel_initializer="random_normal",
    )
    model.compile(keras.optimizers.Adam(1e-3 if faulty else 0.02), "categorical_crossentropy")
    return model, x, onehot(y), {"epochs": 40, "batch_size": 16}, xt, yt


@case(
    "so52800582",
    "SO 52800582 (DeepFD 17): a curve over 0..1000 with targets up to 1e6, neither scaled",
    "input_scale target_scale",
    "real",
)
def _(faulty):
    x = np.linspace(0, 1000, 1000, dtype="float32")[
        np.random.default_rng(0).permutation(1000), None
    ]
    y = x**2
    if not faulty:
        x, y = preprocessing.scale(x), preprocessing.scale(y)
    model = mlp(1, 1, None, (32, 32))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model, x[:700], y[:700], {"epochs": 40}, x[700:], y[700:]


@case(
    "so45337371",
    "SO 45337371 (DeepFD 22): independent labels through a softmax, binary crossentropy",
    "output_activation",
    "multi",
)
def _(faulty):
    x, y, xt, yt = table("labels")
    x, xt = scaled(x, xt)
    model = mlp(30, 6, "softmax" if faulty else "sigmoid", (64,))
    model.compile("adam", "binary_crossentropy")
    return model, x, y.astype("float32"), {"epochs": 40}, xt, yt


@case(
    "so44066044",
    "SO 44066044 (DeepFD 23): raw features into a deep relu net with a relu output",
    "input_scale output_activation",
    "binary",
)
def _(faulty):
    x, y, xt, yt = table("cancer")
    x, xt = (x * 50, xt * 50) if faulty else scaled(x, xt)
    model = mlp(30, 1, "relu" if faulty else "sigmoid", (12, 8))
    model.compile(
        keras.optimizers.SGD(0.01) if faulty else "adam", "mse" if faulty else "binary_crossentropy"
    )
    return model, x, y[:, None].astype("float32"), {"epochs": 30}, xt, yt


@case(
    "so47352366",
    "SO 47352366 (DeepFD 25): conv net whose class scores go through relu into crossentropy",
    "output_activation",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(16, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(10, activation="relu" if faulty else "softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy")
    return (
        model,
        x.reshape(-1, 8, 8, 1) / 16,
        onehot(y),
        {"epochs": 20},
        xt.reshape(-1, 8, 8, 1) / 16,
        yt,
    )


@case(
    "so45442843",
    "SO 45442843 (DeepFD 26): two classes, softmax over one unit, mean absolute error",
    "output_activation loss_mismatch",
    "binary",
)
def _(faulty):
    x, y, xt, yt = table("circles")
    model = mlp(2, 1, "softmax" if faulty else "sigmoid", (16,))
    model.compile(keras.optimizers.RMSprop(0.01), "mae" if faulty else "binary_crossentropy")
    return model, x, y[:, None].astype("float32"), {"epochs": 30}, xt, yt


@case(
    "so56380303",
    "SO 56380303 (DeepFD 31): plain SGD on raw features; Adam at 1e-4 was the cure",
    "lr_high input_scale",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    x, xt = x * 16, xt * 16
    model = mlp(64, 10, "softmax", (128, 128))
    model.compile(
        keras.optimizers.SGD(0.05) if faulty else keras.optimizers.Adam(1e-4),
        "sparse_categorical_crossentropy",
    )
    if not faulty:
        x, xt = x / 256, xt / 256
    return model, x, y, {"epochs": 20}, xt, yt


@case(
    "so59282996",
    "SO 59282996 (DeepFD 32): labels that begin at 1, not at 0",
    "label_range",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("classes")
    model = mlp(20, 4, "softmax")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x, y + 1 if faulty else y, {"epochs": 40}, xt, yt


@case(
    "so58237726",
    "SO 58237726 (DeepFD 33): a reshape that mixes the examples of a batch",
    "batch_leak",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("classes")
    n = len(x) // 20 * 20
    inputs = keras.Input(batch_shape=(20, 20) if faulty else (None, 20))
    mixed = keras.ops.reshape(keras.ops.transpose(inputs), (20, 20)) if faulty else inputs
    model = keras.Model(
        inputs, L.Dense(4, activation="softmax")(L.Dense(32, activation="relu")(mixed))
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    m = len(xt) // 20 * 20
    return (
        model,
        x[:n],
        y[:n],
        {"epochs": 40, "batch_size": 20},
        xt[:m],
        yt[:m],
    )


@case(
    "so37624102",
    "SO 37624102 (DeepFD 34): conv net, SGD at 0.1 with momentum 0.9",
    "lr_high",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    conv = [
        layer
        for n in (16, 32)
        for layer in (
            L.Conv2D(n, 3, padding="same", activation="relu"),
            L.Conv2D(n, 3, padding="same", activation="relu"),
            L.MaxPooling2D(),
        )
    ]
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *conv,
            L.Flatten(),
            L.Dense(128, activation="relu"),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.5 if faulty else 0.01, momentum=0.9, nesterov=True),
        "sparse_categorical_crossentropy",
    )
    return model, x.reshape(-1, 8, 8, 1) / 16, y, {"epochs": 10}, xt.reshape(-1, 8, 8, 1) / 16, yt


@case(
    "so42514960",
    "SO 42514960 (DeepFD 40): autoencoder of relu layers with relu output on data below zero too",
    "output_activation dead_units",
    "real",
)
def _(faulty):
    x, _y, xt, _yt = table("digits")
    x, xt = (x - 8) / 8, (xt - 8) / 8
    act = "relu" if faulty else "tanh"
    model = keras.Sequential(
        [
            keras.Input((64,)),
            *[L.Dense(n, activation=act) for n in (128, 32, 128)],
            L.Dense(64, activation=act),
        ]
    )
    model.compile("adam", "mse")
    return model, x, x, {"epochs": 30}, xt, xt


@case(
    "so46995209", "SO 46995209 (DeepFD 44): raw inputs into tanh", "input_scale saturated", "class"
)
def _(faulty):
    x, y, xt, yt = table("cancer")
    if not faulty:
        x, xt = scaled(x, xt)
    model = mlp(30, 2, "softmax", (10,), "tanh")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x, y, {"epochs": 20}, xt, yt


@case("gh_keypoints", "GitHub FacialKeypointsDetection (DeepFD 49): Adam at 0.1", "lr_high", "real")
def _(faulty):
    x, _y, xt, _yt = table("digits")
    grid = np.arange(8) - 3.5
    images, tests = x.reshape(-1, 8, 8, 1) / 16, xt.reshape(-1, 8, 8, 1) / 16

    def centre(a):
        return (
            np.stack([(a[..., 0].sum(1) * grid).sum(1), (a[..., 0].sum(2) * grid).sum(1)], 1)
            / a.sum((1, 2, 3))[:, None]
        )

    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(16, 3, activation="relu"),
            L.Flatten(),
            L.Dense(64, activation="relu"),
            L.Dense(2),
        ]
    )
    model.compile(keras.optimizers.Adam(0.3 if faulty else 1e-3), "mse")
    return model, images, centre(images), {"epochs": 20}, tests, centre(tests)


@case(
    "gh_movie_reviews",
    "GitHub MovieReviews_Keras (DeepFD 50): no regularisation, few examples: overfits",
    "overfit",
    "class",
)
def _(faulty):
    x, y = datasets.make_classification(
        600, 200, n_informative=8, n_redundant=0, class_sep=0.9, flip_y=0.05, random_state=3
    )
    x = x.astype("float32")
    reg = None if faulty else keras.regularizers.L1(0.01)
    model = keras.Sequential(
        [
            keras.Input((200,)),
            L.Dense(256 if faulty else 32, activation="relu", kernel_regularizer=reg),
            L.Dropout(0 if faulty else 0.3),
            L.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return (
        model,
        x[:300],
        y[:300],
        {"epochs": 120 if faulty else 60, "validation_data": (x[300:], y[300:])},
        x[300:],
        y[300:],
    )


@case(
    "tdc_flipped_sign",
    "TheDeepChecker flipped_sign: the loss is the negative of crossentropy",
    "negated_loss",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    sign = -1.0 if faulty else 1.0
    model = mlp(64, 10, "softmax")
    model.compile(
        "adam",
        lambda t, p: sign * keras.ops.mean(keras.losses.sparse_categorical_crossentropy(t, p)),
    )
    return model, x / 16, y, {"epochs": 15}, xt / 16, yt


@case(
    "umlaut_dropout", "UMLAUT eval_a: dropout of 0.8 after each layer", "over_regularised", "class"
)
def _(faulty):
    x, y, xt, yt = table("digits")
    rate = 0.8 if faulty else 0.1
    model = keras.Sequential(
        [
            keras.Input((64,)),
            *[
                layer
                for _ in range(3)
                for layer in (L.Dense(48, activation="relu"), L.Dropout(rate))
            ],
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x / 16, y, {"epochs": 10}, xt / 16, yt


@case(
    "umlaut_negative_rate",
    "UMLAUT eval_b: a learning rate of -1e3 (here -0.01)",
    "negated_loss lr_high",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    model = mlp(64, 10, None, (64,))
    model.compile(
        keras.optimizers.Adam(-0.01 if faulty else 0.001),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model, x / 16, y, {"epochs": 10}, xt / 16, yt


@case(
    "tdc_constant_init",
    "TheDeepChecker wrong_init, NeuraLint constant init: every kernel starts constant",
    "symmetric_init",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    init = keras.initializers.Constant(0.05) if faulty else "glorot_uniform"
    model = mlp(64, 10, "softmax", (32, 32), "relu", kernel_initializer=init)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x / 16, y, {"epochs": 15}, xt / 16, yt


@case(
    "tdc_wrong_labels",
    "TheDeepChecker wrong_labels, Humbatova: labels shuffled against the examples",
    "label_noise",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    order = np.random.default_rng(0).permutation(len(y)) if faulty else np.arange(len(y))
    model = mlp(64, 10, "softmax")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x / 16, y[order], {"epochs": 15}, xt / 16, yt


@case(
    "tdc_over_scaled_outputs",
    "TheDeepChecker over_scaled_outputs: regression targets in the hundred thousands",
    "target_scale",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("prices")
    x, xt = scaled(x, xt)
    if not faulty:
        y, yt = (y - y.mean()) / y.std(), (yt - y.mean()) / y.std()
    model = mlp(10, 1, None)
    model.compile("adam", "mse")
    return model, x, y[:, None], {"epochs": 40}, xt, yt


@case(
    "tdc_batchnorm_inference",
    "TheDeepChecker missing_batchnorm inference: statistics never follow (momentum 1)",
    "train_mode",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    model = keras.Sequential(
        [
            keras.Input((64,)),
            L.Dense(32),
            L.BatchNormalization(momentum=1.0 if faulty else 0.9),
            L.Activation("relu"),
            L.Dense(32),
            L.BatchNormalization(momentum=1.0 if faulty else 0.9),
            L.Activation("relu"),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x, y, {"epochs": 15}, xt, yt


@case(
    "tdc_unbalanced",
    "TheDeepChecker unbalanced_data (Humbatova interviews: 11 mentions): one class in a hundred",
    "imbalance",
    "class",
)
def _(faulty):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 5)).astype("float32")
    y = (x[:, 0] + 0.7 * rng.normal(size=4000) > 0).astype(int)
    keep = np.flatnonzero(y[:3000] == 0) if faulty else np.arange(3000)
    if faulty:
        keep = rng.permutation(np.concatenate([keep, np.flatnonzero(y[:3000] == 1)[:15]]))
    model = mlp(5, 2, "softmax", (16,))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x[keep], y[keep], {"epochs": 10}, x[3000:], y[3000:]


@case(
    "at_exploding",
    "AUTOTRAINER exploding gradient: a deep relu net started from N(0, 1)",
    "exploding",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    init = keras.initializers.RandomNormal(0, 1.0) if faulty else "he_normal"
    model = mlp(64, 10, "softmax", (64,) * 8, "relu", kernel_initializer=init)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    return model, x / 16, y, {"epochs": 20}, xt / 16, yt


@case(
    "at_vanishing",
    "AUTOTRAINER vanishing gradient: twelve tanh layers started from N(0, 0.05)",
    "vanishing",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    init = "random_normal" if faulty else "glorot_uniform"
    model = mlp(64, 10, "softmax", (32,) * 12, "tanh", kernel_initializer=init)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model, x / 16, y, {"epochs": 15}, xt / 16, yt


@case(
    "at_oscillating",
    "AUTOTRAINER oscillating loss: too high a rate with small batches",
    "lr_high",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("classes")
    model = mlp(20, 4, "softmax", (64, 64))
    model.compile(
        keras.optimizers.Adam(0.5 if faulty else 0.003), "sparse_categorical_crossentropy"
    )
    return model, x, y, {"epochs": 15}, xt, yt


@case(
    "hu_frozen",
    "Humbatova taxonomy (model properties): everything that should learn is frozen",
    "frozen",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    model = mlp(64, 10, "softmax", (32,))
    for layer in model.layers if faulty else []:
        layer.trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x / 16, y, {"epochs": 10}, xt / 16, yt


@case(
    "hu_broadcast",
    "Humbatova 'wrong tensor shape': targets (n,), predictions (n, 1), a loss of one's own",
    "broadcast",
    "real",
)
def _(faulty):
    x, y, xt, yt = table("friedman")
    model = mlp(10, 1, None, (64,))
    model.compile(keras.optimizers.Adam(0.01), loss=Squared())
    return (
        model,
        x,
        y.astype("float32") if faulty else y[:, None].astype("float32"),
        {"epochs": 30},
        xt,
        yt,
    )


class Squared(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return keras.ops.mean(
            keras.ops.square(keras.ops.convert_to_tensor(y_true, "float32") - y_pred)
        )


@case(
    "hu_ordered_split",
    "Humbatova 'incorrect train/test split': validation_split of data sorted by class",
    "ordered_split",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    order = np.argsort(y, kind="stable") if faulty else np.arange(len(y))
    model = mlp(64, 10, "softmax")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x[order] / 16, y[order], {"epochs": 15, "validation_split": 0.3}, xt / 16, yt


@case(
    "hu_embedding_range",
    "Humbatova 'wrong input': token ids beyond the embedding's input_dim",
    "index_range",
    "class",
)
def _(faulty):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1400)
    tokens = rng.integers(0, 50, (1400, 12)) + 50 * (
        rng.random((1400, 12)) < 0.15 + 0.35 * y[:, None]
    )
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            L.Embedding(50 if faulty else 100, 8),
            L.GlobalAveragePooling1D(),
            L.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model, tokens[:1000], y[:1000], {"epochs": 15}, tokens[1000:], y[1000:]


@case(
    "hu_capacity",
    "Humbatova 'suboptimal network structure': a layer of one unit in the middle",
    "capacity",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("digits")
    model = mlp(64, 10, "softmax", (32, 1 if faulty else 32, 32))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, x / 16, y, {"epochs": 25}, xt / 16, yt


@case(
    "so_stop_gradient",
    "Humbatova 'wrong network connectivity': a non-differentiable step cuts the gradient",
    "no_gradient",
    "class",
)
def _(faulty):
    x, y, xt, yt = table("circles")
    inputs = keras.Input((2,))
    hidden = L.Dense(3, activation="tanh")(inputs)
    hidden = keras.ops.round(hidden) if faulty else hidden
    model = keras.Model(
        inputs,
        L.Dense(2, activation="softmax")(
            L.Dense(4, activation="tanh")(hidden) if not faulty else hidden
        ),
    )
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    return model, x, y, {"epochs": 40}, xt, yt
