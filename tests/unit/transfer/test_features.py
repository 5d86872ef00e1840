"""Features of a frozen part: what is trained on them, what is refused, and what is on the disk
after whatever happens.
"""

import contextlib
import json
import re
import resource
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from store_support import python

import keras_patterns as kp
from keras_patterns.state.randomness import get_random_state
from keras_patterns.state.snapshot import copy_values
from keras_patterns.state.variables import find_variables
from keras_patterns.storage.files import dtype_named
from keras_patterns.testing import assert_resumes_exactly

_rng = np.random.default_rng(3)
X = _rng.normal(size=(20, 6, 6, 2)).astype("float32")
Y = _rng.integers(0, 3, 20)
ROWS = _rng.normal(size=(20, 4)).astype("float32")


def frozen(layer):
    layer.trainable = False
    return layer


def backbone():
    inputs = keras.Input((6, 6, 2))
    hidden = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(inputs))
    hidden = layers.ReLU(name="relu")(hidden)
    hidden = layers.Add(name="add")([hidden, layers.Conv2D(4, 1, name="side")(hidden)])
    return keras.Model(inputs, layers.ReLU(name="last")(hidden), name="backbone")


def head_layers():
    hidden = (
        layers.Dense(5, activation="relu", name="dense"),
        layers.Dropout(0.3, seed=1, name="drop"),
    )
    return [
        layers.GlobalAveragePooling2D(name="pool"),
        *hidden,
        layers.Dense(3, activation="softmax", name="out"),
    ]


def nested(early=None, **call):
    """A frozen backbone as one layer, and a head, from the same seed each time."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    part = backbone()
    # Statistics that are not those of a fresh layer.
    part.get_layer("norm").moving_mean.assign([0.1, -0.2, 0.3, 0.0])
    hidden = frozen(part)(early(inputs) if early else inputs, **call)
    for layer in head_layers():
        hidden = layer(hidden)
    return compiled(keras.Model(inputs, hidden))


def sequential():
    keras.utils.set_random_seed(1)
    part = [
        layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
    ]
    return compiled(keras.Sequential([keras.Input((6, 6, 2)), *map(frozen, part), *head_layers()]))


def dense(*hidden, inputs=(4,), **how):
    """Layers as they are, and one more."""
    return keras.Sequential([keras.Input(inputs, **how), *hidden, layers.Dense(1, name="out")])


def compiled(model):
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def cached(model, at, x=X, **arguments):
    return kp.cache_features(model, at, x, **{"verbose": 0, "batch_size": 8, **arguments})


def values(model):
    return copy_values(find_variables(model).of("weight"))


TRAIN = {"batch_size": 8, "epochs": 3, "seed": 0, "verbose": 0}


# What is trained.


@pytest.mark.parametrize(
    ("make", "at"),
    [
        (nested, "backbone"),
        (nested, "backbone/add"),
        (sequential, "relu"),
        (lambda: nested(training=False), "pool"),
    ],
    ids=["nested", "inside a nested one", "sequential", "called for inference"],
)
def test_a_head_on_features_ends_as_the_whole_model_does(make, at):
    whole, model = make(), make()
    kp.fit(whole, X, Y, **TRAIN)
    begun = values(model)
    made = cached(model, at)
    kp.fit(compiled(made.head), made.features, Y, **TRAIN)
    expected, found = values(whole), values(model)
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], atol=1e-5, err_msg=key)
    assert any(not np.array_equal(begun[key], found[key]) for key in begun)
    np.testing.assert_allclose(model.predict(X, verbose=0), whole.predict(X, verbose=0), atol=1e-5)
    np.testing.assert_allclose(
        made.head.predict(made.features, verbose=0), model.predict(X, verbose=0), atol=1e-6
    )


def test_what_is_refused_would_have_ended_with_other_weights():
    whole, model = (nested(early=layers.Dropout(0.5, seed=2, name="early")) for _ in range(2))
    with pytest.raises(ValueError, match=r"'early' \(Dropout\) comes before"):
        cached(model, "backbone")
    model.get_layer("early").rate = 0.0
    made = cached(model, "backbone")
    kp.fit(whole, X, Y, **TRAIN)
    kp.fit(compiled(made.head), made.features, Y, **TRAIN)
    assert (
        np.abs(whole.get_layer("out").kernel.numpy() - model.get_layer("out").kernel.numpy()).max()
        > 1e-3
    )


def test_a_killed_training_of_a_head_goes_on():
    made = cached(nested(), "backbone")
    assert_resumes_exactly(
        lambda: compiled(cached(nested(), "backbone").head),
        made.features,
        Y,
        batch_size=8,
        epochs=3,
        kill_at=[2, 5],
    )


def test_features_are_what_the_layer_gives_for_each_example():
    model = sequential()
    made = cached(model, "norm")
    part = keras.Model(model.inputs, model.get_layer("norm").output)
    np.testing.assert_allclose(made.features, part.predict(X, verbose=0), atol=1e-6)
    # 20 is no multiple of 8: the last batch is filled up.
    assert made.features.shape == (20, 4, 4, 4)
    np.testing.assert_allclose(made.of(X[3:5], verbose=0), made.features[3:5], atol=1e-6)
    assert repr(made) == "CachedFeatures(at='norm', features of shape (20, 4, 4, 4), float32)"


def test_the_model_is_left_as_it_was():
    model = nested()
    kp.fit(model, X, Y, **TRAIN)
    before, config, random = (
        copy_values(find_variables(model).variables),
        model.to_json(),
        get_random_state(),
    )
    cached(model, "backbone/relu")
    after = copy_values(find_variables(model).variables)
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    assert model.to_json() == config
    keras.tree.map_structure(np.testing.assert_array_equal, get_random_state(), random)


def test_structures_of_inputs_and_outputs():
    inputs = {"left": keras.Input((4,), name="left"), "right": keras.Input((4,), name="right")}
    joined = layers.Concatenate(name="join")([inputs["left"], inputs["right"]])
    hidden = frozen(layers.Dense(3, name="hidden"))(joined)
    model = keras.Model(
        inputs,
        {"one": layers.Dense(1, name="one")(hidden), "two": layers.Dense(2, name="two")(hidden)},
    )
    np.save("left.npy", ROWS)
    x = {"left": np.load("left.npy", mmap_mode="r"), "right": ROWS[::-1]}
    made = cached(model, "hidden", x)
    found, expected = made.head.predict(made.features, verbose=0), model.predict(x, verbose=0)
    assert found.keys() == expected.keys() == {"one", "two"}
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    made.head.compile("sgd", {"one": "mse", "two": "mse"})
    kp.fit(
        made.head,
        made.features,
        {"one": ROWS[:, :1], "two": ROWS[:, :2]},
        epochs=1,
        seed=0,
        verbose=0,
    )
    with pytest.raises(ValueError, match="same number of examples"):
        cached(model, "hidden", {"left": ROWS, "right": ROWS[:3]})


@pytest.mark.parametrize("more", [False, True])
def test_a_nested_model_with_several_outputs_is_cut_inside(more):
    inputs, outer = keras.Input((4,)), keras.Input((4,))
    hidden = frozen(layers.Dense(3, name="hidden"))(inputs)
    inner = keras.Model(inputs, [layers.Dense(2)(hidden), layers.Dense(1)(hidden)], name="inner")
    two, one = inner(outer)
    model = keras.Model(outer, {"two": layers.Dense(2)(two) if more else two, "one": one})
    made = cached(model, "inner/hidden", ROWS)
    found, expected = made.head.predict(made.features, verbose=0), model.predict(ROWS, verbose=0)
    assert found.keys() == expected.keys() == {"one", "two"}
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


def test_features_may_be_an_output_too():
    inputs = keras.Input((4,))
    hidden = frozen(layers.Dense(3, name="hidden"))(inputs)
    model = keras.Model(inputs, [hidden, layers.Dense(1)(hidden)])
    made = cached(model, "hidden", ROWS)
    for found, expected in zip(
        made.head.predict(made.features, verbose=0), model.predict(ROWS, verbose=0), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_frozen_layer_may_be_on_both_sides():
    shared = frozen(layers.Dense(4, activation="tanh", name="shared"))
    inputs = keras.Input((4,))
    middle = frozen(layers.Dense(4, name="middle"))(shared(inputs))
    model = keras.Model(inputs, layers.Dense(1)(shared(middle)))
    made = cached(model, "middle", ROWS)
    np.testing.assert_allclose(
        made.head.predict(made.features, verbose=0), model.predict(ROWS, verbose=0), atol=1e-6
    )


def test_what_draws_nothing_is_not_refused():
    recurrent = frozen(layers.LSTM(3, name="lstm"))
    model = dense(
        recurrent, layers.Dropout(0.0), layers.GaussianNoise(0.0, name="noise"), inputs=(5, 4)
    )
    assert cached(model, "noise", _rng.normal(size=(9, 5, 4))).features.shape == (9, 3)
    off = layers.Dropout(0.5, name="off")
    model = dense(off)
    off.rate = 0.0
    np.testing.assert_array_equal(cached(model, "off", ROWS).features, ROWS)


def test_a_progress_bar_is_shown(capsys):
    cached(sequential(), "relu", verbose="auto")
    assert "3/3" in capsys.readouterr().out
    cached(sequential(), "relu", verbose=2)
    assert "3/3 - " in capsys.readouterr().out
    cached(sequential(), "relu", verbose=0)
    assert capsys.readouterr().out == ""


# What is refused in the model.


class Draws(layers.Layer):
    """Holds no generator that Keras knows."""

    def call(self, x, training=False):
        return x + keras.random.normal(keras.ops.shape(x)) if training else x


class Generates(layers.Layer):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


class Counts(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x, training=False):
        if training:
            self.count.assign(self.count + 1)
        return x


class Doubles(layers.Layer):
    def call(self, x, training=False):
        return 2 * x if training else x


class Block(layers.Layer):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.inner = layers.Dense(4, name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


class Net(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.hidden, self.out = layers.Dense(4, name="hidden"), layers.Dense(1)

    def call(self, x):
        return self.out(self.hidden(x))


class Twice(keras.Sequential):
    def call(self, x, **how):
        return super().call(super().call(x, **how), **how)


def subclassed(model):
    model(ROWS)
    return model


def called_twice():
    inputs, layer = keras.Input((4,)), layers.Dense(4, name="shared")
    return keras.Model(inputs, layers.Dense(1)(layer(layer(inputs))))


def two_outputs():
    inputs = keras.Input((5, 4))
    return keras.Model(
        inputs, layers.Dense(1)(frozen(layers.LSTM(3, return_state=True, name="lstm"))(inputs)[0])
    )


def words():
    layer = layers.Embedding(9, 2, mask_zero=True, name="embedding")
    return frozen(keras.Sequential([keras.Input((5,)), layer], name="words"))


def late_input():
    inputs, late = keras.Input((4,), name="early"), keras.Input((1,), name="late")
    hidden = layers.Concatenate(name="join")([frozen(layers.Dense(4, name="hidden"))(inputs), late])
    return keras.Model([inputs, late], layers.Dense(1)(hidden))


IMAGE = {"inputs": (6, 6, 2)}
DRAWS = "draws at random in training, which features would be without"
MODELS = {
    "trainable": (
        sequential,
        "dense",
        "'dense' must be frozen, or the features would not be constant: 'dense/kernel', "
        "'dense/bias'. ",
    ),
    "dropout": (
        lambda: dense(layers.Dropout(0.1, name="gone"), frozen(layers.Dense(2, name="at"))),
        "at",
        f"'gone' (Dropout) comes .* {DRAWS}",
    ),
    "noise": (
        lambda: dense(layers.GaussianNoise(0.1, name="at")),
        "at",
        f"'at' (GaussianNoise) comes .* {DRAWS}",
    ),
    "augmentation": (
        lambda: dense(layers.RandomFlip(name="flip"), layers.Flatten(name="at"), **IMAGE),
        "at",
        f"'flip' (RandomFlip) .* {DRAWS}",
    ),
    "recurrent dropout": (
        lambda: dense(frozen(layers.GRU(2, recurrent_dropout=0.1, name="at")), inputs=(5, 4)),
        "at",
        f"'at/gru_cell' (GRUCell) .* {DRAWS}",
    ),
    "generator": (lambda: dense(Generates(name="own")), "own", f"'own' (Generates) .* {DRAWS}"),
    "statistics": (
        lambda: dense(layers.BatchNormalization(center=False, scale=False, name="norm")),
        "norm",
        "'norm' (BatchNormalization) .* is trainable, so its statistics move, even with frozen "
        "weights. Set its",
    ),
    "state": (
        lambda: dense(
            frozen(layers.SimpleRNN(2, stateful=True, name="rnn")), inputs=(5, 4), batch_size=4
        ),
        "rnn",
        "'rnn' (SimpleRNN) .* keeps a state from batch to batch",
    ),
    "draws unseen": (
        lambda: dense(Draws(name="own")),
        "own",
        "the output of 'own' is another one in training mode than in inference.",
    ),
    "counts": (
        lambda: dense(Counts(name="own")),
        "own",
        "would not be constant: each call changes 'own/count'. Cut further up.",
    ),
    "another mode": (
        lambda: dense(Doubles(name="own")),
        "own",
        "is another one in training mode than in inference.",
    ),
    "mask": (
        lambda: dense(words(), layers.LSTM(2), inputs=(5,)),
        "words",
        "the output of 'words' carries a mask, which features would lose. Cut behind the layers "
        "that use it",
    ),
    "mask in the graph": (
        lambda: dense(*words().layers, layers.LSTM(2, name="lstm"), inputs=(5,)),
        "embedding",
        "which is not all that the head needs: the output of 'not_equal .* goes past it. The graph "
        "can be cut behind 'lstm'.",
    ),
    "skip": (
        nested,
        "backbone/side",
        "cannot be cut at 'backbone/side', which is not all that the head needs: the output of "
        "'backbone/relu' goes past it. "
        "The graph can be cut behind 'backbone/conv', 'backbone/norm', 'backbone/relu', "
        "'backbone/add'.",
    ),
    "late input": (
        late_input,
        "hidden",
        "the output of 'late' goes past it. The graph can be cut behind 'join'.",
    ),
    "last": (
        sequential,
        "out",
        "cannot be cut at 'out', which is the last layer of 'sequential': there is no head behind "
        "it.",
    ),
    "called twice": (
        called_twice,
        "shared",
        "which is called 2 times in 'functional' by 'shared'. Cut behind a layer called once.",
    ),
    "two outputs": (
        two_outputs,
        "lstm",
        "which gives 3 outputs. Cut behind a layer that gives one.",
    ),
    "inside a block": (
        lambda: dense(Block(name="block")),
        "block/inner",
        "cannot be cut at 'block/inner', which is inside 'block', whose graph Keras does not know. "
        "Cut behind 'block', or",
    ),
    "subclassed": (
        lambda: subclassed(Net()),
        "hidden",
        "'net' (Net) cannot be cut, since Keras does not know its graph. Write it as "
        "keras.Model(inputs, outputs), or write "
        "its head as a model of its own",
    ),
    "own call": (
        lambda: subclassed(
            Twice([keras.Input((4,)), layers.Dense(4, name="first"), layers.Dense(4)])
        ),
        "first",
        "(Twice) cannot be cut, since Keras does not know its graph.",
    ),
    "two layers": (
        sequential,
        ["conv", "relu"],
        "`at` must select one layer, .* selects 'conv', 'relu'.",
    ),
    "layer and variable": (sequential, ["conv", "dense/kernel"], "`at` must select one layer"),
    "none": (sequential, "convv", "'convv' selects nothing in 'sequential'. Near names are 'conv'"),
}


@pytest.mark.parametrize(("make", "at", "text"), MODELS.values(), ids=MODELS)
def test_a_model_is_refused_with_the_reason(make, at, text):
    model = make()
    before, random = copy_values(find_variables(model).variables), get_random_state()
    shape = [
        tuple(size or 4 for size in tensor.shape[1:]) for tensor in getattr(model, "inputs", [ROWS])
    ]
    x = [np.ones((8, *sizes), "float32") for sizes in shape]
    with pytest.raises(
        ValueError, match="^cache_features: .*" + ".*".join(map(re.escape, text.split(" .* ")))
    ):
        cached(model, at, x[0] if len(x) == 1 else x, batch_size=4)
    after = copy_values(find_variables(model).variables)
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    keras.tree.map_structure(np.testing.assert_array_equal, get_random_state(), random)


def test_other_examples_are_refused_once_the_part_has_changed():
    model = sequential()
    made = cached(model, "relu")
    kernel = model.get_layer("conv").kernel
    kernel.assign(kernel + 1)
    with pytest.raises(ValueError, match="'conv/kernel' changed since the features were computed"):
        made.of(X, verbose=0)
    model.get_layer("conv").trainable = True
    with pytest.raises(ValueError, match="must be frozen"):
        made.of(X, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"x": iter([X]), "path": "a.npy"}, ValueError, "path= goes with arrays only"),
        ({"x": X, "y": "label"}, ValueError, "`y` names columns of a Hugging Face dataset only"),
        ({"x": None}, ValueError, "the data holds no array"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1. Received: 0."),
        ({"verbose": 3}, ValueError, "`verbose` must be 'auto', 0, 1 or 2. Received: 3."),
        ({"path": 3}, TypeError, "`path` must be the name of a .npy file. Received: 3."),
        (
            {"path": "features.npz"},
            ValueError,
            "`path` must end in .npy, as what is stored there is. Received: 'features.npz'.",
        ),
    ],
)
def test_arguments_are_checked(arguments, error, text):
    with pytest.raises(error, match=text):
        cached(**{"model": sequential(), "at": "relu", **arguments})


# On disk.


def test_a_file_holds_what_memory_would_and_is_used_again(tmp_path, capsys, monkeypatch):
    path = tmp_path / "new" / "features.npy"
    made = cached(sequential(), "relu", path=path)
    assert isinstance(made.features, np.memmap)
    np.testing.assert_array_equal(made.features, cached(sequential(), "relu").features)
    np.testing.assert_array_equal(np.load(path), made.features)
    assert sorted(item.name for item in path.parent.iterdir()) == [
        ".features.npy.lock",
        "features.npy",
        "features.npy.json",
    ]
    kp.fit(compiled(made.head), made.features, Y, **TRAIN)
    monkeypatch.setattr(keras.Model, "predict_on_batch", None)
    # Layers of other names, on another batch size: the same features.
    model = sequential()
    model.get_layer("relu").name = "activation"
    again = cached(model, "activation", path=path, batch_size=5, verbose=1)
    np.testing.assert_array_equal(again.features, made.features)
    assert (
        capsys.readouterr().out
        == f"keras-patterns: cache_features uses the features that are in {path}.\n"
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_features_have_the_dtype_of_the_computation(policy):
    model = dense(layers.Dense(3, name="at", dtype=policy, trainable=False))
    memory = cached(model, "at", ROWS).features
    for _ in range(2):
        found = cached(model, "at", ROWS, path="features.npy").features
        assert (
            found.dtype
            == memory.dtype
            == dtype_named(json.loads(Path("features.npy.json").read_text())["dtype"])
        )
        assert found.tobytes() == memory.tobytes()
    made = cached(model, "at", ROWS)
    made.head.compile("sgd", "mse")
    kp.fit(made.head, made.features, ROWS[:, :1], epochs=1, seed=0, verbose=0)


def other_weights(model):
    model.get_layer("norm").gamma.assign([1, 1, 1, 2])


def other_activation(model):
    model.get_layer("relu").negative_slope = 0.5


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-4])


def undescribed(path):
    path.with_name("features.npy.json").unlink()


def misdescribed(path):
    path.with_name("features.npy.json").write_text("{")


SOMETHING_ELSE = "holds features of something else:\n  "
FILES = {
    "weights": (
        {"change": other_weights},
        SOMETHING_ELSE + "weights have changed: 'norm/gamma'\n. ",
    ),
    "activation": (
        {"change": other_activation},
        SOMETHING_ELSE + "the model, as it is now, gives other features for the first examples",
    ),
    "data": ({"x": X + 1}, SOMETHING_ELSE + "x is float32 of shape (20, 6, 6, 2), digest"),
    "fewer examples": ({"x": X[:9]}, SOMETHING_ELSE + "x is float32 of shape (9, 6, 6, 2), digest"),
    "cut": ({"at": "norm"}, "for the first examples\nat is 'norm', it was 'relu'\n"),
    "flipped": (
        {"damage": flipped},
        "cannot be read as features (its bytes are not those that were written)",
    ),
    "truncated": (
        {"damage": truncated},
        "cannot be read as features (it has 5,244 bytes instead of 5,248)",
    ),
    "undescribed": (
        {"damage": undescribed},
        "there is no features.npy.json beside it that says what they were computed from",
    ),
    "misdescribed": ({"damage": misdescribed}, "cannot be read as features ("),
}


@pytest.mark.parametrize(("how", "text"), FILES.values(), ids=FILES)
def test_a_file_of_something_else_is_refused_and_stays(tmp_path, how, text):
    path = tmp_path / "features.npy"
    cached(sequential(), "relu", path=path)
    how.get("damage", lambda path: None)(path)
    before = path.read_bytes()
    model = sequential()
    how.get("change", lambda model: None)(model)
    with pytest.raises(kp.StoreError) as error:
        cached(model, how.get("at", "relu"), how.get("x", X), path=path)
    assert str(error.value).startswith(f"{path}: ")
    assert text in str(error.value)
    assert str(error.value).endswith(
        "Give another `path`, or delete the file, and the features are computed anew."
    )
    assert path.read_bytes() == before


def test_a_description_of_somebody_else_s_is_not_written_over(tmp_path):
    path = tmp_path / "features.npy"
    foreign = tmp_path / "features.npy.json"
    foreign.write_text('{"mine": 1}')
    with pytest.raises(
        kp.StoreError, match="there is a file already that does not describe features"
    ):
        cached(sequential(), "relu", path=path)
    assert foreign.read_text() == '{"mine": 1}'
    assert not path.exists()


@contextlib.contextmanager
def limited_files():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path):
    model = dense(layers.Dense(512, name="wide", trainable=False))
    path = tmp_path / "features.npy"
    x = np.ones((1000, 4), "float32")
    with limited_files(), pytest.raises(kp.StoreError) as error:
        cached(model, "wide", x, batch_size=100, path=path)
    assert str(error.value).startswith(f"{path}: cannot write the features (")
    assert "Free some space there" in str(error.value)
    assert [item.name for item in tmp_path.iterdir()] == [".features.npy.lock"]
    assert cached(model, "wide", x, batch_size=100, path=path).features.shape == (1000, 512)


def test_an_interrupted_computation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(self, x):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "predict_on_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(sequential(), "relu", path=tmp_path / "features.npy")
    assert [item.name for item in tmp_path.iterdir()] == [".features.npy.lock"]


# For each line on the standard input, a child is forked that writes, and kills itself when it is
# about to do something for the n-th time. Forked, since importing takes longer than what is tested.
WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from keras_patterns.transfer.features import stored

def killing(module, name, count):
    original, left = getattr(module, name), [count]
    def replacement(*arguments, **how):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **how)
    setattr(module, name, replacement)

def batches():
    for number in range(4):
        yield np.asarray(np.full((100, 1000), number, "float32"))

for line in sys.stdin:
    path, name, count = line.split()
    child = os.fork()
    if not child:
        killing(os if name != "asarray" else np, name, int(count))
        described = {"at": "", "weights": {}, "x": {}}
        stored.write(Path(path), described, (400, 1000), np.dtype("float32"), batches)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_killed_writer_leaves_no_half_file(tmp_path):
    path, writer = tmp_path / "features.npy", python(WRITER)
    partial = tmp_path / ".features.npy.partial"
    # Within the batches; before the bytes of the first file and of the second are on disk; before
    # each of the names.
    for name, count in [("asarray", 5), ("fsync", 1), ("fsync", 2), ("replace", 1), ("replace", 2)]:
        writer.stdin.write(f"{path} {name} {count}\n")
        writer.stdin.flush()
        assert int(writer.stdout.readline()) == -9
        assert partial.exists()
        assert not path.exists()
    output, _ = writer.communicate(f"{path} replace 3\n", timeout=60)
    assert int(output) == 0
    np.testing.assert_array_equal(
        np.load(path)[:, 0], np.repeat(np.arange(4, dtype="float32"), 100)
    )
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        ".features.npy.lock",
        "features.npy",
        "features.npy.json",
    ]
