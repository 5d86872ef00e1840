"""Loading weights: from every kind of source into the same, a changed and a nested model; what is
never guessed; every refusal.
"""

import os
import zipfile
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import save_file

import keras_patterns as kp
from keras_patterns import _keras
from keras_patterns.checkpoint.contents import Record
from keras_patterns.checkpoint.cursor import Cursor
from keras_patterns.checkpoint.identity import Identity
from keras_patterns.state.snapshot import VariableRecord, copy_values
from keras_patterns.state.variables import find_variables
from keras_patterns.storage import CheckpointFolder, Position

KINDS = ("keras", "weights.h5", "checkpoint", "store", "export", "safetensors", "model")


def named(classes=10, head="predictions", name="net"):
    """A net with given names, and a layer in it that holds others."""
    inputs = keras.Input((4, 6))
    x = layers.Dense(6, name="embed")(inputs)
    x = layers.MultiHeadAttention(2, 3, name="attend")(x, x)
    x = layers.BatchNormalization(name="norm")(layers.Dropout(0.2, name="drop")(x))
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(classes, name=head)(x), name=name)


def unnamed(classes=10, **head):
    """A net without any given name but its head's."""
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5), layers.LayerNormalization()])
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(6), layers.Dense(6), inner, layers.Dense(classes, **head)]
    )


class Subclassed(keras.Model):
    """Its attributes are not in the order of the alphabet, nor in that in which they are called."""

    def __init__(self, classes=10):
        super().__init__()
        self.norm = layers.BatchNormalization()
        self.body = keras.Sequential([layers.Dense(6), layers.Dropout(0.1)])
        self.blocks = [layers.Dense(6), layers.Dense(6, name="last")]
        self.table = {"b": layers.Dense(6), "a": layers.Dense(6)}
        self.head = layers.Dense(classes)
        self.scale = self.add_weight(shape=(6,), name="scale")

    def call(self, x):
        x = self.norm(self.body(x)) * self.scale
        for layer in (*self.blocks, self.table["a"], self.table["b"]):
            x = layer(x)
        return self.head(x)


def subclassed(classes=10):
    model = Subclassed(classes)
    model(np.ones((1, 6), "float32"))
    return model


@pytest.fixture(autouse=True)
def counted_weights(monkeypatch):
    """Weights that all differ, without a program for each shape on JAX."""
    counter = iter(range(10**6))

    def draw(self, shape, dtype=None, **_):
        size = int(np.prod(shape))
        return np.reshape([next(counter) / 1024 for _ in range(size)], shape).astype(
            keras.backend.standardize_dtype(dtype)
        )

    for name in ("VarianceScaling", "Zeros", "Ones"):
        monkeypatch.setattr(getattr(keras.initializers, name), "__call__", draw)


def values_of(model):
    """By place, seeds left out."""
    found = copy_values(find_variables(model).of("weight"))
    return {key: value for key, value in found.items() if "seed_generator" not in key}


def assert_values(expected, model, prefix=""):
    found = values_of(model)
    assert expected
    for key, value in expected.items():
        np.testing.assert_array_equal(found[prefix + key], value, err_msg=key)


def checkpoint(model, folder="runs", step=3, change=lambda key, value: value):
    """A checkpoint of a model, written without training it."""
    places = find_variables(model)
    values = {key: change(key, value) for key, value in copy_values(places.of("weight")).items()}
    paths = {key: variable.path for key, variable in places.variables.items()}
    variables = {
        key: VariableRecord(value, places.roles[key], paths[key]) for key, value in values.items()
    }
    record = Record(Identity(9, 3, 0, {}), "auto", Cursor(step), variables)
    return CheckpointFolder(folder).write(
        Position(1, step, 1), *record.pack(), made_with={"backend": "another"}
    )


def source_of(model, kind):
    """The model's weights, as one of KINDS."""
    if kind in ("keras", "weights.h5"):
        (model.save if kind == "keras" else model.save_weights)(f"net.{kind}")
        return f"net.{kind}"
    if kind == "model":
        return model
    if kind == "safetensors":
        paths = {v.path.removeprefix(f"{model.name}/"): v.numpy() for v in model.weights}
        assert len(paths) == len(model.weights)
        save_file(paths, "net.safetensors")
        return "net.safetensors"
    checkpoint(model)
    if kind == "export":
        kp.CheckpointStore("runs").export("export.safetensors")
        return "export.safetensors"
    return kp.CheckpointStore("runs") if kind == "store" else "runs"


def rename():
    """Has the automatic names of what is made from here on be others."""
    (
        layers.Dense(1),
        layers.BatchNormalization(),
        layers.LayerNormalization(),
        layers.Dropout(0.1),
        keras.Sequential(),
    )


# The same model.


# A file of paths alone cannot tell layers without given names apart.
ALL = [
    (make, kind)
    for make in (named, unnamed, subclassed)
    for kind in KINDS
    if make is named or kind != "safetensors"
]


@pytest.mark.parametrize(("make", "kind"), ALL)
def test_the_same_model_gets_everything(make, kind):
    source = make()
    given = source_of(source, kind)
    rename()
    model = make()
    report = kp.load_pretrained(model, given)
    assert_values(values_of(source), model)
    assert len(report.matched) == len(model.weights)
    assert (report.missing, report.mismatched, report.unused) == ((), (), ())
    assert report.loaded == model.count_params()


@pytest.mark.parametrize("kind", ["keras", "checkpoint"])
def test_a_compiled_source_gives_its_weights_alone_and_a_compiled_model_keeps_its_optimizer(kind):
    source = unnamed()
    source.compile("adam", "mse", metrics=["mae"])
    source.fit(np.ones((4, 6)), np.ones((4, 10)), verbose=0)
    given = source_of(source, kind)
    model = unnamed()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((4, 6)), np.ones((4, 10)), verbose=0)
    before = copy_values(find_variables(model).of("optimizer"))
    assert kp.load_pretrained(model, given).unused == ()
    assert_values(values_of(source), model)
    after = copy_values(find_variables(model).of("optimizer"))
    assert all(np.array_equal(after[key], value) for key, value in before.items())


def test_seeds_are_left_alone():
    model = named()
    seed = {
        key: variable
        for key, variable in find_variables(model).of("weight").items()
        if "seed_generator" in key
    }
    before = copy_values(seed)
    assert before
    source = named()
    checkpoint(source, change=lambda key, value: value + 1 if "seed_generator" in key else value)
    kp.load_pretrained(model, "runs")
    assert all(np.array_equal(copy_values(seed)[key], value) for key, value in before.items())


def test_a_normalization_computes_from_what_was_loaded():
    def make():
        return keras.Sequential([keras.Input((2,)), layers.Normalization(name="scaled")])

    source, model = make(), make()
    x = np.array([[1.0, 2.0], [3.0, 8.0]], "float32")
    source.layers[0].adapt(x)
    kp.load_pretrained(model, source)
    np.testing.assert_array_equal(model.predict(x, verbose=0), source.predict(x, verbose=0))


# Another head.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["partial", "where"])
def test_a_new_head_stays_and_the_rest_is_loaded(kind, way):
    source = named()
    given = source_of(source, kind)
    model = kp.replace_head(named(), layers.Dense(3, name="classes"))
    before = values_of(model)
    arguments = (
        {"partial": True} if way == "partial" else {"where": lambda layer: layer.name != "classes"}
    )
    report = kp.load_pretrained(model, given, **arguments)
    body = {
        key: value for key, value in values_of(source).items() if not key.startswith("layers/6")
    }
    assert_values(body, model)
    assert_values(
        {key: value for key, value in before.items() if key.startswith("layers/6")}, model
    )
    assert len(report.matched) == len(body)
    assert [row.variable for row in report.missing] == (
        ["classes/kernel", "classes/bias"] if way == "partial" else []
    )
    assert len(report.unused) == 2


@pytest.mark.parametrize("kind", ["keras", "checkpoint", "model"])
def test_a_head_with_a_name_is_not_one_without(kind):
    source = unnamed()
    given = source_of(source, kind)
    model = unnamed(name="classes")
    before = values_of(model)
    report = kp.load_pretrained(model, given, partial=True)
    assert [row.variable for row in report.missing] == ["classes/kernel", "classes/bias"]
    assert {row.why for row in report.missing} == {"no variable of that name"}
    assert_values(
        {key: value for key, value in before.items() if key.startswith("layers/3")}, model
    )
    assert_values(
        {key: value for key, value in values_of(source).items() if not key.startswith("layers/3")},
        model,
    )


def test_a_layer_between_moves_no_name():
    """By place, the second would get the first one's weights, which have the same shape."""

    def make(*more):
        names = ["first", *more, "second"]
        return keras.Sequential(
            [keras.Input((6,)), *(layers.Dense(6, name=name) for name in names)]
        )

    source, model = make(), make("between")
    checkpoint(source)
    kp.load_pretrained(model, "runs", partial=True)
    for name in ("first", "second"):
        np.testing.assert_array_equal(
            model.get_layer(name).kernel.numpy(), source.get_layer(name).kernel.numpy()
        )


# Nested models.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "outwards", [False, True], ids=["into a nested model", "out of a nested model"]
)
def test_a_model_is_found_in_another_by_its_names(kind, outwards):
    inner = named()
    outer = keras.Sequential([keras.Input((4, 6)), inner, layers.Dense(2, name="classes")])
    other = named(name="other")
    source, model = (outer, other) if outwards else (other, outer)
    report = kp.load_pretrained(model, source_of(source, kind), partial=True)
    assert_values(values_of(other), inner)
    assert len(report.matched) == len(inner.weights)


@pytest.mark.parametrize("kind", ["keras", "weights.h5", "checkpoint", "export", "model"])
def test_a_model_without_names_is_found_as_a_whole(kind):
    source = unnamed()
    given = source_of(source, kind)
    rename()
    inner = unnamed()
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="before"), inner])
    report = kp.load_pretrained(model, given, partial=True)
    assert_values(values_of(source), inner)
    assert [row.variable for row in report.missing] == ["before/kernel", "before/bias"]


def test_a_model_that_is_nested_twice_is_not_found():
    model = keras.Sequential([keras.Input((6,)), unnamed(6), unnamed(6)])
    with pytest.raises(kp.StateMismatchError, match="Nothing fits"):
        kp.load_pretrained(model, unnamed(6), partial=True)
    kp.load_pretrained(model.layers[1], unnamed(6))


@pytest.mark.parametrize("kind", ["keras", "weights.h5", "checkpoint", "model"])
def test_two_models_with_the_same_names_are_told_apart(kind):
    def make():
        inputs = keras.Input((4, 6))
        left, right = named(name="left"), named(name="right")
        return keras.Model(inputs, layers.Add(name="sum")([left(inputs), right(inputs)]))

    source, model = make(), make()
    kp.load_pretrained(model, source_of(source, kind))
    assert_values(values_of(source), model)


def test_a_name_that_stands_twice_is_not_guessed():
    model = keras.Sequential(
        [keras.Input((6,)), *(keras.Sequential([layers.Dense(6, name="same")]) for _ in range(2))]
    )
    source = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="same")])
    with pytest.raises(kp.StateMismatchError) as raised:
        kp.load_pretrained(model, source, partial=True)
    assert "same/kernel: variables of that name: 1 in the source, 2 in the model" in str(
        raised.value
    )


# Dtypes.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_precision_is_read_and_floats_are_converted_when_asked(kind, dtype):
    def make(dtype):
        return keras.Sequential([keras.Input((3,)), layers.Dense(2, name="only", dtype=dtype)])

    source, same, other = make(dtype), make(dtype), make("float32")
    if kind == "safetensors" and dtype == "bfloat16":
        arrays = {"only/kernel": np.arange(6).reshape(3, 2), "only/bias": np.arange(2)}
        for variable, value in zip(source.weights, arrays.values(), strict=True):
            variable.assign(value)
        save_file(
            {key: value.astype(ml_dtypes.bfloat16) for key, value in arrays.items()},
            "net.safetensors",
        )
        given = "net.safetensors"
    else:
        given = source_of(source, kind)
    kp.load_pretrained(same, given)
    assert_values(values_of(source), same)
    before = values_of(other)
    with pytest.raises(kp.StateMismatchError) as raised:
        kp.load_pretrained(other, given, partial=True)
    assert (
        f"only/kernel: dtype {dtype} in the source, float32 in the model; floats are converted "
        "with cast=True only" in str(raised.value)
    )
    assert_values(before, other)
    kp.load_pretrained(other, given, cast=True)
    assert_values({key: value.astype("float32") for key, value in values_of(source).items()}, other)


class Counting(keras.layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(
            shape=(), dtype="int32", trainable=False, initializer="zeros", name="count"
        )

    def call(self, x):
        return x


def test_integers_are_converted_and_one_that_does_not_fit_changes_nothing():
    """As another backend writes them."""

    def make():
        return keras.Sequential([keras.Input((3,)), layers.Dense(2), Counting()])

    source, model = make(), make()
    for step, count in ((1, 7), (2, 2**40)):
        checkpoint(
            source,
            step=step,
            change=lambda key, value, count=count: np.int64(count) if "count" in key else value,
        )
    kp.load_pretrained(model, "runs", step=1)
    assert int(model.layers[1].count.numpy()) == 7
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    with pytest.raises(OverflowError, match="1099511627776"):
        kp.load_pretrained(model, "runs", step=2)
    assert not any(np.any(value) for value in values_of(model).values())


# What is in a file.


def test_the_groups_of_a_weights_file_are_those_that_keras_writes():
    for make in (named, unnamed, subclassed):
        model = make()
        model.save_weights("net.weights.h5")
        groups = _keras.saved_groups(model)
        found = {}
        with h5py.File("net.weights.h5") as file:
            file.visititems(
                lambda name, item, found=found: found.update(
                    {name: item[()]} if hasattr(item, "dtype") else {}
                )
            )
        parts = [model, *_keras.all_layers(model)]
        expected = {
            f"{groups[id(part)]}/vars/{number}".lstrip("/"): variable.numpy()
            for part in parts
            for number, variable in enumerate(_keras.own_variables(part))
        }
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], value) for key, value in expected.items())


def test_files_without_names_go_by_place():
    """As early Keras 3 and Keras 2.13 wrote them."""
    source, model = named(), named()
    source.save_weights("net.weights.h5")
    with h5py.File("net.weights.h5", "a") as file:
        named_groups = []
        file.visititems(
            lambda place, item: named_groups.append(place) if "name" in item.attrs else None
        )
        for place in named_groups:
            del file[place].attrs["name"]
        file.move("layers", "_layer_checkpoint_dependencies")
    kp.load_pretrained(model, "net.weights.h5")
    assert_values(values_of(source), model)


def test_no_code_of_a_keras_file_is_run():
    """Nor is its configuration read at all."""
    source, model = named(), named()
    source.save("net.keras")
    with zipfile.ZipFile("net.keras") as old, zipfile.ZipFile("other.keras", "w") as new:
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
        new.writestr("config.json", "{broken")
    kp.load_pretrained(model, "other.keras")
    assert_values(values_of(source), model)


def test_a_link_to_another_file_is_refused_or_not_followed():
    source, model = named(), named()
    source.save_weights("secret.weights.h5")
    with h5py.File("linked.weights.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("secret.weights.h5", "layers")
    with pytest.raises(
        ValueError, match=r"'linked.weights.h5' holds no weights as Keras 3 writes them."
    ):
        kp.load_pretrained(model, "linked.weights.h5")
    np.zeros(36, "float32").tofile("raw")
    with h5py.File("external.weights.h5", "w") as file:
        file.create_dataset(
            "layers/dense/vars/0", (6, 6), "float32", external=[("raw", 0, h5py.h5f.UNLIMITED)]
        )
    with pytest.raises(ValueError, match="'layers/dense/vars/0' lies in another file"):
        kp.load_pretrained(model, "external.weights.h5")


def test_a_file_that_claims_to_be_huge_is_not_unpacked():
    with zipfile.ZipFile("bomb.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.weights.h5", bytes(10**6))
    with pytest.raises(ValueError, match="claims to be 1,000,000 bytes"):
        kp.load_pretrained(named(), "bomb.keras")


# Checkpoints.


def test_the_step_is_chosen_and_damage_is_named(capsys):
    models = {step: named() for step in (1, 2)}
    entries = [checkpoint(model, step=step) for step, model in models.items()]
    model = named()
    assert kp.load_pretrained(model, "runs", step=1).source == "step 1 of runs"
    assert_values(values_of(models[1]), model)
    flip(next(entries[1].folder.glob("*.safetensors")))
    with pytest.raises(kp.DamagedCheckpointError, match="the bytes of tensor 'variables/"):
        kp.load_pretrained(model, "runs", step=2)
    assert capsys.readouterr().out == ""
    assert kp.load_pretrained(model, "runs").source == "step 1 of runs"
    said = capsys.readouterr().out
    assert "damaged checkpoint: the bytes of tensor 'variables/" in said
    assert said.endswith("Step 1 is loaded instead.\n")
    flip(next(entries[0].folder.glob("*.safetensors")))
    with pytest.raises(kp.DamagedCheckpointError):
        kp.load_pretrained(model, "runs")
    assert_values(values_of(models[1]), model)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_folders_without_a_checkpoint_of_a_model_are_refused():
    os.mkdir("empty")
    with pytest.raises(
        kp.StoreError,
        match=r"empty: there is no checkpoint. Name the folder that kp.Checkpoint was given.",
    ):
        kp.load_pretrained(named(), "empty")
    checkpoint(named())
    with pytest.raises(kp.StoreError, match="there is no checkpoint of step 7"):
        kp.load_pretrained(named(), "runs", step=7)
    CheckpointFolder("others").write(Position(1, 1, 1), {}, [])
    with pytest.raises(
        kp.StoreError,
        match=r"damaged checkpoint: its document is not as it must be .*there is no section",
    ):
        kp.load_pretrained(named(), "others")


# The report.


def test_the_report_is_a_table_with_what_was_not_loaded_first():
    def make(**heads):
        return keras.Sequential(
            [keras.Input((4,)), *(layers.Dense(size, name=name) for name, size in heads.items())],
            name="net",
        )

    model = make(body=3, width=5, fresh=1)
    report = kp.load_pretrained(model, make(body=3, width=6, old=1), partial=True)
    assert str(report) == "\n".join(
        [
            "15 parameters in 2 variables from the model 'net'; 2 mismatched, 2 missing, 2 unused.",
            "variable      source        why",
            "------------  ------------  -----------------------------------------------",
            "width/kernel  width/kernel  shape (3, 6) in the source, (3, 5) in the model",
            "width/bias    width/bias    shape (6,) in the source, (5,) in the model",
            "fresh/kernel                no variable of that name",
            "fresh/bias                  no variable of that name",
            "              old/kernel    nothing in the model fits",
            "              old/bias      nothing in the model fits",
            "body/kernel   body/kernel",
            "body/bias     body/bias",
        ]
    )
    assert report.loaded == 15
    selected = kp.load_pretrained(model, make(body=3, width=5), where="body")
    assert selected.unused[0] == kp.LoadRow("", "width/kernel", "width/kernel is not selected")


# Refusals.


def test_nothing_is_changed_unless_all_of_the_part_fits():
    source, model = named(3), named(10)
    before = values_of(model)
    with pytest.raises(kp.StateMismatchError) as raised:
        kp.load_pretrained(model, source)
    assert str(raised.value) == (
        "load_pretrained: 2 of 16 variables of 'net' cannot be loaded from the model 'net'; "
        "nothing was changed.\n"
        "  predictions/kernel: shape (6, 3) in the source, (6, 10) in the model\n"
        "  predictions/bias: shape (3,) in the source, (10,) in the model\n"
        "Select the part that is to be loaded with `where`, or say partial=True to leave these as "
        "they are."
    )
    assert_values(before, model)
    # What the same call does change when a part is enough.
    kp.load_pretrained(model, source, partial=True)
    with pytest.raises(AssertionError):
        assert_values(before, model)


def test_automatic_names_alone_are_told_so():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4), layers.Dense(5), layers.Dense(6)], name="net"
    )
    source = keras.Sequential([keras.Input((3,)), layers.Dense(4)], name="source")
    with pytest.raises(kp.StateMismatchError) as raised:
        kp.load_pretrained(model, source)
    assert "its name is automatic, and nothing fits at its place, layers/1/kernel" in str(
        raised.value
    )
    with pytest.raises(kp.StateMismatchError) as raised:
        kp.load_pretrained(model, named(), partial=True)
    assert str(raised.value).endswith(
        "\nNothing fits. Give the same names to the layers of both, or the part of the model that "
        "the source is of as the model."
    )


def test_only_the_first_are_shown_of_many():
    with pytest.raises(kp.StateMismatchError, match=r"\n  \.\.\. and 8 more\nNothing fits"):
        kp.load_pretrained(
            named(), keras.Sequential([keras.Input((3,)), layers.Dense(4, name="other")])
        )


@pytest.mark.parametrize("kind", ["keras", "weights.h5", "safetensors"])
@pytest.mark.parametrize("damage", ["cut off", "another kind", "empty"])
def test_a_file_that_is_not_what_it_says_is_named(kind, damage):
    path = Path(source_of(named(), kind))
    content = path.read_bytes()
    path.write_bytes(
        {"cut off": content[: len(content) // 2], "another kind": b"text " * 100, "empty": b""}[
            damage
        ]
    )
    model = named()
    before = values_of(model)
    with pytest.raises(
        ValueError, match=f"load_pretrained: 'net.{kind}' cannot be read: .* nothing was loaded."
    ):
        kp.load_pretrained(model, path)
    assert_values(before, model)


def test_a_flipped_byte_in_a_keras_file_is_found():
    path = Path(source_of(named(), "keras"))
    content = bytearray(path.read_bytes())
    content[content.index(b"model.weights.h5") + 5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'net.keras' cannot be read: Bad CRC-32"):
        kp.load_pretrained(named(), path)


REFUSALS = {
    "no model": (
        layers.Dense(1),
        named,
        {},
        TypeError,
        "`model` must be a Keras model. Received: Dense.",
    ),
    "not built": (
        keras.Sequential(name="new"),
        named,
        {},
        ValueError,
        "'new' is not built, so it has no weights yet.",
    ),
    "where": (
        None,
        named,
        {"where": "embd"},
        ValueError,
        "'embd' selects nothing in 'net'. Near names are 'embed'",
    ),
    "source": (None, lambda: 5, {}, TypeError, "Received: 5 (int)."),
    "unbuilt source": (
        None,
        lambda: keras.Sequential(name="new"),
        {},
        ValueError,
        "the source 'new' is not built, so it has no weights yet. Call it on a batch first.",
    ),
    "no file": (
        None,
        lambda: "gone.keras",
        {},
        FileNotFoundError,
        "there is no file or folder 'gone.keras'.",
    ),
    "imagenet": (
        None,
        lambda: "imagenet",
        {},
        FileNotFoundError,
        "there is no file or folder 'imagenet'. For the weights of keras.applications, give the "
        "model: "
        'VGG19(weights="imagenet").',
    ),
    "ending": (
        None,
        lambda: written("net.pt"),
        {},
        ValueError,
        "'net.pt' is none of the files that can be read: .keras, .weights.h5 or .safetensors. If "
        "Keras can load it "
        "(model.load_weights), load it into a model, and give that as the source.",
    ),
    "step of a file": (
        None,
        lambda: "net.keras",
        {"step": 3},
        ValueError,
        "`step` names a checkpoint in a folder, and 'net.keras' is none. Received: step=3.",
    ),
    "step of a model": (
        None,
        named,
        {"step": 3},
        ValueError,
        "`step` names a checkpoint in a folder, and 'net' is none.",
    ),
}


def written(path):
    Path(path).touch()
    return path


@pytest.mark.parametrize(
    ("model", "source", "arguments", "kind", "text"), REFUSALS.values(), ids=REFUSALS
)
def test_what_cannot_be_asked_is_refused(model, source, arguments, kind, text):
    with pytest.raises(kind) as raised:
        kp.load_pretrained(named() if model is None else model, source(), **arguments)
    assert str(raised.value).startswith("load_pretrained: ")
    assert text in str(raised.value)
