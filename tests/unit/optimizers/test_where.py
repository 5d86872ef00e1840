"""Depths of layers, and what a path selects."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_patterns.optimizers.depth import depths
from keras_patterns.optimizers.where import nodes_of, select, variable_paths

pytestmark = pytest.mark.once


def by_name(model):
    found = depths(model)
    return {node.path: found[id(node.layer)] for node in nodes_of(model) if id(node.layer) in found}


def residual():
    inputs = keras.Input((8, 8, 3))
    stem = layers.BatchNormalization(name="stem_norm")(
        layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    )
    long = layers.Conv2D(4, 3, padding="same", name="long_2")(
        layers.Conv2D(4, 3, padding="same", name="long_1")(stem)
    )
    short = layers.Conv2D(4, 1, name="short")(stem)
    hidden = layers.GlobalAveragePooling2D()(
        layers.BatchNormalization(name="norm")(layers.Add()([long, short]))
    )
    return keras.Model(inputs, layers.Dense(2, name="head")(hidden))


def test_the_depth_is_that_of_the_longest_way_and_a_normalization_belongs_to_what_is_before_it():
    assert by_name(residual()) == {
        "stem": 0,
        "stem_norm": 0,
        "long_1": 1,
        "short": 1,
        "long_2": 2,
        "norm": 2,
        "head": 3,
    }


def test_nested_and_shared_layers():
    backbone = residual()
    backbone.name = "backbone"
    shared = layers.Dense(2, name="shared")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, shared(shared(backbone(inputs))))
    assert by_name(model) == {
        **{f"backbone/{name}": depth for name, depth in by_name(backbone).items()},
        "shared": 4,
    }


def test_a_subclassed_model_goes_by_the_order_of_its_layers():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.one = layers.Dense(2)
            self.two = keras.Sequential([layers.LayerNormalization(), layers.Dense(1)])

        def call(self, x):
            return self.two(self.one(x))

    model = Two()
    model(np.ones((1, 2), "float32"))
    assert sorted(depths(model).values()) == [0, 0, 1]
    assert [variable.name for variable in select("", model, "two/*/kernel").variables] == ["kernel"]
    assert select("", model, "two").variables == model.two.weights


def test_paths_name_each_variable_once_even_where_those_of_keras_do_not():
    left, right = residual(), residual()
    left.name, right.name = "left", "right"
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Add()([left(inputs), right(inputs)]))
    assert len({weight.path for weight in model.weights}) == len(model.weights) / 2
    paths = variable_paths(model)
    assert len(set(paths.values())) == len(paths) == len(model.weights)
    assert select("", model, "right/stem/kernel").variables == [right.get_layer("stem").kernel]
    assert len(select("", model, "stem/kernel").variables) == 2


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("stem", ["stem/kernel", "stem/bias"]),
        ("s*t", ["short/kernel", "short/bias"]),
        ("long_?/bias", ["long_1/bias", "long_2/bias"]),
        (slice(1, 2), ["long_1/kernel", "long_1/bias", "short/kernel", "short/bias"]),
        ((-1, "short/bias"), ["short/bias", "head/kernel", "head/bias"]),
        (
            lambda layer: layer.name.endswith("norm") and layer.name != "norm",
            [f"stem_norm/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")],
        ),
    ],
)
def test_what_is_selected(where, found):
    model = residual()
    paths = variable_paths(model)
    assert sorted(paths[id(variable)] for variable in select("", model, where).variables) == sorted(
        found
    )


def test_a_model_selects_all_of_itself():
    model = residual()
    assert select("", model, model).variables == select("", model, "*").variables


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("stm", r"asked: 'stm' selects nothing in 'functional'\. Near names are 'stem'"),
        (
            ["stem", "block5_*"],
            r"'block5_\*' selects nothing in 'functional'\. Its layers are 'input_layer', 'stem', "
            r"'stem/kernel'",
        ),
        (99, r"99 selects nothing in 'functional'\. Its layers are 'input_layer'"),
        (lambda layer: False, r"selects nothing in 'functional'"),
        (layers.Dense(1, name="other"), r"name=other.* selects nothing in 'functional'"),
    ],
)
def test_what_selects_nothing_is_an_error_with_near_names(where, message):
    model = residual()
    with pytest.raises(ValueError, match=message):
        select("asked", model, where)
