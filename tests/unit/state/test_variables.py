"""Keys: complete, the same in every process and on every backend, and independent of names."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

import keras_patterns as kp
from keras_patterns.state.snapshot import np_dtype, put_back
from keras_patterns.state.variables import StateKeyError, find_variables


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(3)
        self.blocks = [layers.Dense(3), {"last": layers.Dense(2)}]
        self.attention = layers.MultiHeadAttention(2, 2)
        self.seen = keras.metrics.Mean(name="seen")
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.add_weight(shape=(1,), initializer="ones", trainable=False)

    def call(self, x):
        h = self.blocks[0](self.first(x))[:, None]
        return self.blocks[1]["last"](self.attention(h, h)[:, 0]) * self.scale


def backbone(name):
    inputs = keras.Input((6,))
    return keras.Model(
        inputs,
        layers.BatchNormalization(name="norm")(layers.Dense(4, name="dense")(inputs)),
        name=name,
    )


def two_backbones():
    inputs = keras.Input((6,))
    both = layers.concatenate([backbone("left")(inputs), backbone("right")(inputs)])
    return keras.Model(inputs, layers.Dense(2)(layers.Dropout(0.5, seed=1)(both)))


def recurrent():
    return keras.Sequential(
        [keras.Input((6, 1)), layers.Bidirectional(layers.GRU(3, dropout=0.1)), layers.Dense(2)]
    )


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(use_ema=True),
    "sgd": lambda: keras.optimizers.SGD(momentum=0.9, gradient_accumulation_steps=2),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop()),
    "muon": keras.optimizers.Muon,
    "adafactor": keras.optimizers.Adafactor,
    "multi": lambda: keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.Adam(), {".*kernel": keras.optimizers.SGD(momentum=0.9)}
        )
    ),
}


def trained(make, optimizer="adam"):
    model = make()
    model.compile(OPTIMIZERS[optimizer](), "mse", metrics=["mae"])
    x, y = np.ones((4, 6), "float32"), np.ones((4, 2), "float32")
    model.fit(x, y, verbose=0)
    return model


# For tests that only look.
seen = functools.cache(trained)


@pytest.mark.sampled(3, "every_step", "tensorflow")
@pytest.mark.parametrize(
    ("make", "optimizer"),
    [
        (two_backbones, "adam"),
        (recurrent, "adam"),
        *((Subclassed, optimizer) for optimizer in OPTIMIZERS),
    ],
)
def test_every_variable_has_exactly_one_key(make, optimizer):
    model = seen(make, optimizer)
    found = find_variables(model)
    wanted = {
        id(v) for v in (*model.variables, *model.metrics_variables, *model.optimizer.variables)
    }
    assert {id(v) for v in found.variables.values()} >= wanted
    assert len({id(v) for v in found.variables.values()}) == len(found.variables)
    assert {id(v) for v in found.of("metric").values()} == {id(v) for v in model.metrics_variables}
    assert {id(v) for v in found.of("optimizer").values()} >= {
        id(v) for v in model.optimizer.variables
    }


@pytest.mark.parametrize(
    "make", [Subclassed, two_backbones, recurrent], ids=lambda make: make.__name__
)
def test_keys_do_not_depend_on_automatic_names(make):
    first, second = find_variables(trained(make)), find_variables(trained(make))
    assert list(first.variables) == list(second.variables)
    assert first.roles == second.roles
    paths = [[v.path for v in places.variables.values()] for places in (first, second)]
    assert paths[0] != paths[1], "the second model was to get other names"


def test_two_backbones_with_equal_layer_names_have_keys_of_their_own():
    model = seen(two_backbones)
    kernels = {
        key: v for key, v in find_variables(model).variables.items() if key.endswith("/kernel")
    }
    assert set(kernels) == {
        "layers/1/layers/1/kernel",
        "layers/2/layers/1/kernel",
        "layers/5/kernel",
    }
    assert len({v.path for v in kernels.values()}) < len(kernels), "their paths were to be equal"


def test_the_keys_of_a_small_model_are_these():
    """The format on disk: a change here breaks every checkpoint there is."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1), layers.Dropout(0.5, seed=1)])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    found = find_variables(model)
    assert found.roles == {
        "layers/0/bias": "weight",
        "layers/0/kernel": "weight",
        "layers/1/seed_generator/state": "weight",
        "loss_tracker/count": "metric",
        "loss_tracker/total": "metric",
        "optimizer/iterations": "optimizer",
        "optimizer/learning_rate": "optimizer",
        "optimizer/momentums[layers/0/kernel]": "optimizer",
        "optimizer/momentums[layers/0/bias]": "optimizer",
        "optimizer/velocities[layers/0/kernel]": "optimizer",
        "optimizer/velocities[layers/0/bias]": "optimizer",
    }
    assert found.built_on() == {"optimizer": ["layers/0/kernel", "layers/0/bias"]}


def test_a_weight_without_an_attribute_is_found_where_keras_keeps_it():
    keys = find_variables(seen(Subclassed)).variables
    assert "non_trainable_variables/0" in keys
    assert "blocks/1/last/kernel" in keys
    assert "attention/query_dense/kernel" in keys


def test_every_layer_has_its_number_at_any_depth():
    """`layers` is a new list each time: the walk must not take one for another that was freed."""

    def nested(depth):
        inner = [nested(depth - 1) for _ in range(2)] if depth else []
        return keras.Sequential([keras.Input((6,)), layers.Dense(6), *inner, layers.Dense(6)])

    keys = find_variables(nested(4)).variables
    assert len(keys) == 4 * (2**5 - 1)
    # The first of each, and the last of the innermost and of the others.
    assert {key.split("layers/")[-1].split("/")[0] for key in keys} == {"0", "1", "3"}


def test_optimizers_stand_outside_in():
    model = seen(Subclassed, "scaled")
    assert list(find_variables(model).optimizers) == ["optimizer", "optimizer/inner_optimizer"]


class Underscores(keras.Model):
    """Keras keeps a `_loss_tracker` of its own beside this `loss_tracker`."""

    def __init__(self):
        super().__init__()
        self.head, self._head, self.__head = (layers.Dense(2) for _ in range(3))
        self.loss_tracker = keras.metrics.Mean()
        self.parts = {"_a": layers.Dense(2), "a": layers.Dense(2)}
        self.by_number = {1: layers.Dense(2), "1": layers.Dense(2)}

    def call(self, x):
        all_layers = [self.head, self._head, self.__head, *self.parts.values()]
        return sum(layer(x) for layer in [*all_layers, *self.by_number.values()])


def test_names_that_differ_by_an_underscore_or_a_type_are_two():
    model = trained(Underscores)
    found = find_variables(model)
    wanted = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    assert {id(v) for v in wanted} <= {id(v) for v in found.variables.values()}
    assert {key.split("/kernel")[0] for key in found.variables if key.endswith("/kernel")} == {
        *("head", "_head", "Underscores__head"),
        *("parts/_a", "parts/a", "by_number/int 1", "by_number/1"),
    }
    assert {key for key in found.of("metric") if "loss_tracker" in key} == {
        *("loss_tracker/count", "loss_tracker/total"),
        *("_loss_tracker/count", "_loss_tracker/total"),
    }
    slot = found.variables["optimizer/momentums[_head/kernel]"]
    assert slot is not found.variables["optimizer/momentums[head/kernel]"]


def test_a_key_does_not_depend_on_the_order_of_a_dict():
    model = Underscores()
    model.parts = dict(reversed(model.parts.items()))
    assert {key for key in find_variables(trained(lambda: model)).variables if "/_a/" in key}


def test_two_variables_with_one_key_are_refused():
    class Slashes(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = {"a/b": layers.Dense(2), "a": {"b": layers.Dense(2)}}

        def call(self, x):
            return self.parts["a/b"](x) + self.parts["a"]["b"](x)

    model = trained(Slashes)
    with pytest.raises(
        StateKeyError,
        match=r"Two variables of the model stand at 'parts/a/b/(bias|kernel)': '.*' and '.*'\.",
    ):
        find_variables(model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
def test_arrays_of_any_layout_are_assigned_to_the_bit(dtype):
    whole = (np.arange(24).reshape(4, 6) % 2).astype(
        np_dtype(keras.Variable(0, dtype=dtype, trainable=False))
    )
    arrays = [whole, whole.T, whole[::-1, ::2], np.broadcast_to(whole[0], (3, 6)), whole[0, 0]]
    variables = [
        keras.Variable(np.zeros(one.shape), dtype=dtype, trainable=False) for one in arrays
    ]
    keys = [str(index) for index in range(len(arrays))]
    put_back(dict(zip(keys, variables, strict=True)), dict(zip(keys, arrays, strict=True)))
    for variable, array in zip(variables, arrays, strict=True):
        found = keras.ops.convert_to_numpy(variable.value).astype("float32")
        np.testing.assert_array_equal(found, array.astype("float32"))


class Counts(layers.Layer):
    """Counts its calls in training."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            self.count.assign(self.count + keras.ops.ones((), self.count.dtype))
        return x


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")  # by JAX, at each look
@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_what_keras_calls_64_bits_is_saved_as_the_framework_holds_it(tmp_path, dtype):
    x = np.ones((8, 2), "float32")
    for total_steps in (3, 5):
        model = keras.Sequential([keras.Input((2,)), Counts(dtype=dtype), layers.Dense(1)])
        model.compile("sgd", "mse")
        checkpoint = kp.Checkpoint(tmp_path, every_steps=2)
        how = {"total_steps": total_steps, "steps_per_epoch": 1, "batch_size": 4, "verbose": 0}
        kp.fit(model, x, x[:, :1], seed=0, fuse=False, callbacks=[checkpoint], **how)
        assert float(model.layers[0].count.value) == total_steps
