"""A new head: where it begins in every kind of model, what the new model shares with the old, and
every refusal.
"""

import keras
import numpy as np
import pytest
from keras import layers

import keras_patterns as kp

# The smallest member of each family, and the smallest images that it takes.
FAMILIES = {
    "VGG16": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "ConvNeXtTiny": 32,
    "DenseNet121": 32,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "NASNetMobile": 32,
    "Xception": 71,
}
pytestmark = pytest.mark.usefixtures("numpy_weights")
# Without a top, these three end in what has weights, in an activation, and in a pooling.
TOPLESS = {"ConvNeXtTiny": None, "VGG16": "avg", "MobileNetV2": "avg"}


def application(name, **arguments):
    size = FAMILIES[name]
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), **arguments)


def classes(units=5, **arguments):
    return layers.Dense(units, activation="softmax", name="classes", **arguments)


def small(name="small", pooled=True):
    """A convolutional net with names, as those of keras.applications are made."""
    inputs = keras.Input((8, 8, 3), name="images")
    x = layers.Conv2D(4, 3, activation="relu", name="conv1")(inputs)
    x = layers.Conv2D(6, 3, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    if pooled:
        x = layers.GlobalAveragePooling2D(name="features")(x)
        x = layers.Dense(10, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name=name)


def stack(*more):
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, name="body"), layers.Dropout(0.2, name="drop"), *more],
        name="stack",
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.body = layers.Dense(8, activation="relu")
        self.classifier = layers.Dense(10)

    def call(self, x):
        return self.classifier(self.body(x))


def subclassed():
    model = Subclassed()
    model(np.ones((2, 6), "float32"))
    return model


def names(model):
    return [layer.name for layer in model.layers]


# Where the head begins.


@pytest.mark.once
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_applications_takes_a_new_head_and_freezes_by_one_call(name):
    model = application(name, classes=7)
    new = kp.replace_head(model, classes())
    assert new.output_shape == (None, 5)
    assert "predictions" not in names(new)
    assert {id(v) for v in new.weights} >= {id(v) for v in model.weights[:-2]}
    assert len(new.weights) == len(model.weights)
    kp.freeze(new, slice(-1))
    assert [id(v) for v in new.trainable_variables] == [
        id(v) for v in new.get_layer("classes").weights
    ]
    normalizations = [layer for layer in new.layers if isinstance(layer, layers.BatchNormalization)]
    # Keras runs one that is not trainable in inference mode.
    assert not any(layer.trainable for layer in normalizations)


@pytest.mark.parametrize("name", TOPLESS)
def test_a_family_without_a_top_has_the_head_put_on_its_output(name):
    model = application(name, include_top=False, pooling=TOPLESS[name])
    head = [classes()] if TOPLESS[name] else [layers.GlobalAveragePooling2D(), classes()]
    new = kp.replace_head(model, head)
    assert new.output_shape == (None, 5)
    assert len(new.weights) == len(model.weights) + 2
    assert len(new.layers) == len(model.layers) + len(head)


def test_vgg_19_cut_to_five_classes_is_one_line():
    vgg = keras.applications.VGG19(weights=None, input_shape=(32, 32, 3))
    model = kp.replace_head(vgg, keras.layers.Dense(5, activation="softmax", name="classes"))
    assert names(model) == [*names(vgg)[:-1], "classes"]
    assert model.output_shape == (None, 5)


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (small, ["images", "conv1", "conv2", "pool", "features"]),
        (lambda: stack(layers.Dense(10, name="old")), ["body", "drop"]),
        (
            lambda: stack(layers.Dense(10, name="old"), layers.Dropout(0.1), layers.Softmax()),
            ["body", "drop"],
        ),
        (
            lambda: stack(layers.BatchNormalization(name="norm"), layers.ReLU(name="relu")),
            ["body", "drop", "norm", "relu"],
        ),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 3)), small("inner"), layers.Dense(3)]),
            ["inner"],
        ),
        (
            lambda: keras.Sequential([keras.Input((6,)), layers.Rescaling(0.5, name="scale")]),
            ["scale"],
        ),
    ],
    ids=["functional", "Sequential", "with what follows", "no head", "nested", "no weights"],
)
def test_the_last_dense_and_what_follows_is_the_head(make, kept):
    model = make()
    new = kp.replace_head(model, classes())
    assert names(new) == [*kept, "classes"]
    assert type(new) is (keras.Sequential if isinstance(model, keras.Sequential) else type(small()))
    assert new.name == model.name
    assert new.output_shape == (None, 5)


def test_a_dense_on_one_of_two_ways_is_no_head():
    """Such as one that weighs channels: what is multiplied by it would be lost."""
    inputs = keras.Input((6,))
    outputs = layers.Multiply(name="weighed")(
        [inputs, layers.Dense(6, activation="sigmoid", name="weights")(inputs)]
    )
    assert "weighed" in names(kp.replace_head(keras.Model(inputs, outputs), classes()))


@pytest.mark.parametrize("at", ["pool", "small*pool", 1], ids=str)
def test_at_names_the_features(at):
    model = small()
    if at == "small*pool":
        at = model.get_layer("pool")
    pooled = [
        layers.GlobalAveragePooling2D(name="mean"),
        layers.Dropout(0.2, name="drop"),
        classes(),
    ]
    new = kp.replace_head(model, pooled, at=at)
    assert names(new) == [
        "images",
        "conv1",
        "conv2",
        *(["pool"] if at != 1 else []),
        "mean",
        "drop",
        "classes",
    ]


def test_at_cuts_a_sequential():
    assert names(kp.replace_head(stack(layers.Dense(3)), classes(), at="body")) == [
        "body",
        "classes",
    ]


def test_at_may_be_a_nested_model_and_leaves_it_whole():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(
        inputs, layers.Dense(3)(layers.Flatten()(small("inner", pooled=False)(inputs)))
    )
    new = kp.replace_head(model, [layers.Flatten(), classes()], at="inner")
    assert names(new)[1] == "inner"
    assert new.output_shape == (None, 5)


# What is kept.


def test_the_layers_are_shared_and_the_features_are_those_of_the_old_model():
    model = small()
    new = kp.replace_head(model, classes())
    assert new.get_layer("conv1") is model.get_layer("conv1")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    old = keras.Model(model.input, model.get_layer("features").output)
    found = keras.Model(new.input, new.get_layer("features").output)
    np.testing.assert_array_equal(old.predict(x, verbose=0), found.predict(x, verbose=0))
    assert model.output_shape == (None, 10)


def test_the_new_model_trains_and_is_not_compiled():
    model = stack(layers.Dense(10))
    model.compile("sgd", "mse")
    new = kp.replace_head(model, layers.Dense(2, name="classes"))
    assert not new.compiled
    new.compile("sgd", "mse")
    before = keras.ops.convert_to_numpy(model.layers[0].kernel).copy()
    new.fit(np.ones((4, 6)), np.ones((4, 2)), verbose=0)
    assert np.any(before != keras.ops.convert_to_numpy(model.layers[0].kernel))


def test_all_inputs_stay_in_their_structure():
    inputs = {"left": keras.Input((4,), name="left"), "right": keras.Input((4,), name="right")}
    hidden = layers.Concatenate(name="both")(
        [layers.Dense(3, name="hidden")(inputs["left"]), inputs["right"]]
    )
    model = keras.Model(
        inputs, {"a": layers.Dense(1, name="a")(hidden), "b": layers.Dense(1, name="b")(hidden)}
    )
    new = kp.replace_head(model, classes(), at="both")
    assert new.input.keys() == {"left", "right"}
    # Also where the features do not need one of them.
    assert kp.replace_head(model, classes(), at="hidden").input.keys() == {"left", "right"}


class Doubling(keras.Model):
    def train_step(self, data):
        return super().train_step(data)


class Made(keras.Model):
    def __init__(self, width):
        inputs = keras.Input((width,))
        super().__init__(inputs, layers.Dense(3)(inputs))


def test_a_class_of_ones_own_is_kept_if_it_is_made_as_keras_s_are():
    inputs = keras.Input((6,))
    assert type(kp.replace_head(Doubling(inputs, layers.Dense(3)(inputs)), classes())) is Doubling
    assert type(kp.replace_head(Made(6), classes())) is type(small())


def test_a_subclassed_model_gets_the_head_in_place():
    model = subclassed()
    model.compile("sgd", "mse")
    old = model.classifier
    new = kp.replace_head(model, layers.Dense(2, name="classes"), at="classifier")
    assert new is model
    assert not model.compiled
    assert all(layer is not old for layer in model.layers)
    assert [tuple(v.shape) for v in model.trainable_variables] == [(6, 8), (8,), (8, 2), (2,)]
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 6)), np.ones((4, 2)), verbose=0)
    assert model.predict(np.ones((3, 6)), verbose=0).shape == (3, 2)


def test_a_subclassed_model_gets_several_layers_as_one():
    model = kp.replace_head(subclassed(), [layers.Dropout(0.5), classes()], at="classifier")
    assert names(model.classifier) == [model.classifier.layers[0].name, "classes"]
    assert model(np.ones((3, 6))).shape == (3, 5)


# Refusals.


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(
        inputs, [layers.Dense(1, name="a")(inputs), layers.Dense(2, name="b")(inputs)], name="two"
    )


def twice():
    inputs, shared = keras.Input((4,)), layers.Dense(4, name="shared")
    return keras.Model(inputs, layers.Dense(2)(shared(shared(inputs))), name="twice")


def headed():
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(6), stack(layers.Dense(3))], name="outer"
    )


def built_on(size):
    layer = layers.Dense(5, name="classes")
    layer.build((None, size))
    return layer


NEAR = "Near names are 'pool'"
MAP = (
    "replace_head: 'classes' is a Dense on a feature map, of shape (None, 2, 2, 6), and would be "
    "applied to each of its points. "
    "Put a pooling or a Flatten before it: layer=[GlobalAveragePooling2D(), Dense(...)]. "
    "For an output at each point, give a convolution with a kernel of size 1."
)
REFUSALS = {
    "no model": (
        lambda: layers.Dense(1),
        classes,
        None,
        TypeError,
        "`model` must be a Keras model. Received: Dense.",
    ),
    "not built": (
        lambda: keras.Sequential([layers.Dense(1)], name="new"),
        classes,
        None,
        ValueError,
        "'new' is not built, so it has no features yet. Call it on a batch first.",
    ),
    "no layer": (
        small,
        lambda: 5,
        None,
        TypeError,
        "`layer` must be a Keras layer, or a list of them. Received: 5 (int).",
    ),
    "no layer in a list": (
        small,
        lambda: [classes(), "relu"],
        None,
        TypeError,
        "Received: 'relu' (str).",
    ),
    "empty": (small, list, None, ValueError, "`layer` must hold at least one layer. Received: []."),
    "Dense on a map": (lambda: small(pooled=False), classes, None, ValueError, MAP),
    "Dense on a map, later": (
        small,
        lambda: [layers.Dropout(0.1), classes()],
        "pool",
        ValueError,
        MAP.partition(": ")[2],
    ),
    "unknown at": (
        small,
        classes,
        "pol",
        ValueError,
        "replace_head: 'pol' selects nothing in 'small'. " + NEAR,
    ),
    "several at": (
        small,
        classes,
        "conv*",
        ValueError,
        "`at` must select one layer in 'small'. 'conv*' selects 2 layers: 'conv1', 'conv2'.",
    ),
    "a variable at": (small, classes, "conv1/bias", ValueError, "'conv1/bias' selects no layer."),
    "inside a nested model": (
        headed,
        classes,
        "stack/body",
        ValueError,
        "'stack/body' lies inside 'stack', and a model can be cut between its own layers only. Cut "
        "that one: "
        "replace_head(model.get_layer('stack'), layer, at='body').",
    ),
    "several outputs": (
        two_outputs,
        classes,
        None,
        ValueError,
        "'two' has 2 outputs ('a', 'b'), so which head is to be replaced is not known. Give `at`, "
        "the layer whose output is the "
        "features.",
    ),
    "used twice": (
        twice,
        classes,
        "shared",
        ValueError,
        "'shared' gives 2 tensors in 'twice', so which are the features is not known. Give another "
        "layer as `at`.",
    ),
    "ends in a model with a head": (
        headed,
        classes,
        None,
        ValueError,
        "'stack', the last with weights in 'outer', is a model with a head of its own. Give `at`, "
        "the layer whose output is the "
        "features, or replace the head of 'stack' first.",
    ),
    "name taken": (
        small,
        lambda: layers.Dense(5, name="conv1"),
        None,
        ValueError,
        "'conv1' is the name of another layer of the new model, too. Give it a name of its own: "
        'Dense(..., name="classes").',
    ),
    "name twice": (
        small,
        lambda: [layers.Dropout(0.1, name="classes"), classes()],
        None,
        ValueError,
        "'classes' is the name of",
    ),
    "layer twice": (
        small,
        lambda: [classes()] * 2,
        None,
        ValueError,
        "'classes' is in the new model already. Give a new layer.",
    ),
    "built for another shape": (
        small,
        lambda: built_on(3),
        None,
        ValueError,
        "'classes' does not fit on what comes before it, of shape (None, 6): ",
    ),
    "built for another shape, Sequential": (
        stack,
        lambda: built_on(3),
        "body",
        ValueError,
        "'classes' does not fit on what comes before it, of shape (None, 8): ",
    ),
    "built for another shape, subclassed": (
        subclassed,
        lambda: built_on(3),
        "classifier",
        ValueError,
        "'classes' does not fit on what comes before it, of shape (None, 8): ",
    ),
    "subclassed, no at": (
        subclassed,
        classes,
        None,
        ValueError,
        "'subclassed' is a Subclassed, whose graph is not known, so `at` must be the name of the "
        "attribute that holds its head. "
        "Received: None. Attributes that hold a layer: body, classifier.",
    ),
    "subclassed, unknown at": (
        subclassed,
        classes,
        "clasifier",
        ValueError,
        "Received: 'clasifier'. Attributes that hold a layer: classifier.",
    ),
}


@pytest.mark.parametrize(("make", "head", "at", "kind", "text"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_is_refused_and_the_model_stays(make, head, at, kind, text):
    model = make()
    before = names(model) if isinstance(model, keras.Model) else None
    with pytest.raises(kind) as raised:
        kp.replace_head(model, head(), at=at)
    assert text in str(raised.value)
    assert str(raised.value).startswith("replace_head: ")
    assert before is None or names(model) == before
