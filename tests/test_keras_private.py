"""The private parts of Keras that are used. True for Keras 3.15; where one of these fails, see the module that it names."""

import keras
import numpy as np
import pytest
from keras.src.trainers.data_adapters import get_data_adapter

from keras_patterns import _keras
from keras_patterns.backends import current
from keras_patterns.backends._feed import Batches
from keras_patterns.state.snapshot import copy_values
from keras_patterns.state.tree import find_variables


def small_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def test_an_optimizer_keeps_what_it_trains_in_order():
    model = small_model()
    assert _keras.trained_variables(model.optimizer) == []
    model.optimizer.build(model.trainable_variables)
    assert [id(v) for v in _keras.trained_variables(model.optimizer)] == [id(v) for v in model.trainable_variables]


def test_a_functional_model_and_a_sequential_are_graphs():
    inputs = keras.Input((2,))
    assert _keras.is_graph(keras.Model(inputs, keras.layers.Dense(1)(inputs)))
    assert _keras.is_graph(small_model())
    assert not _keras.is_graph(keras.Model())


def test_the_seed_behind_unseeded_draws_goes_back():
    keras.random.normal((1,))
    seed = _keras.get_global_seed()
    first = keras.random.normal((3,))
    _keras.set_global_seed(seed)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.random.normal((3,))), keras.ops.convert_to_numpy(first))
    keras.utils.clear_session()
    assert _keras.get_global_seed() is None
    _keras.set_global_seed(seed)
    np.testing.assert_array_equal(_keras.get_global_seed(), seed)
    _keras.set_global_seed(None)
    assert _keras.get_global_seed() is None


def test_fit_begins_at_the_epoch_that_is_set_and_forgets_it():
    model = small_model()
    x, y = np.ones((2, 2)), np.ones((2, 1))
    _keras.begin_at_epoch(model, 2)
    assert model.fit(x, y, epochs=3, verbose=0).epoch == [2]
    _keras.forget_initial_epoch(model)
    assert model.fit(x, y, epochs=3, verbose=0).epoch == [0, 1, 2]


def test_threads_of_a_callback_list_are_ended():
    callbacks = keras.callbacks.CallbackList([], model=small_model(), add_history=True, epochs=1, steps=1, verbose=0)
    callbacks.on_train_begin()
    _keras.finish_batch_ends(callbacks)
    _keras.shut_down(callbacks)
    _keras.shut_down(callbacks)
    assert callbacks._executor is None


def test_fit_takes_a_data_adapter_of_ones_own():
    adapter = Batches([1], lambda batch: batch)
    assert get_data_adapter(adapter) is adapter


def test_a_model_is_built_from_one_batch_without_training():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    current().build(model, (np.ones((2, 3), "float32"), np.ones((2, 1), "float32")))
    assert [tuple(v.shape) for v in model.trainable_variables] == [(3, 1), (1,)]
    assert model.optimizer.built
    assert int(model.optimizer.iterations.numpy()) == 0


def test_inside_fit_the_variables_are_given_their_newest_values():
    """What JAX's trainer keeps beside the variables, and how its adapter carries it over."""
    taken = {}

    class Reads(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                current().sync(self._model)
                taken.update(copy_values(find_variables(self._model).variables))

    x = np.random.default_rng(0).normal(size=(32, 2)).astype("float32")
    models = []
    for rows, callbacks in ((32, [Reads()]), (16, [])):
        keras.utils.set_random_seed(0)
        models.append(small_model())
        models[-1].fit(x[:rows], x[:rows, 0], batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
    expected = copy_values(find_variables(models[1]).variables)
    assert taken.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(taken[key], value, err_msg=key)


def test_a_schedule_counts_accumulated_steps_one_by_one():
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    weight = keras.Variable(np.zeros(1, "float32"))
    optimizer.build([weight])
    for _ in range(3):
        optimizer.apply([keras.ops.ones(1)], [weight])
    assert int(_keras.steps_of(optimizer).numpy()) == 3
    assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == 1


def test_a_schedule_stands_in_for_a_rate_and_goes_again():
    optimizer = keras.optimizers.SGD(0.5)
    variables, rate = optimizer.variables, _keras.get_rate(optimizer)
    _keras.put_rate(optimizer, keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5))
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == np.float32(0.1)
    _keras.put_rate(optimizer, rate)
    assert optimizer.learning_rate is rate
    assert [id(variable) for variable in optimizer.variables] == [id(variable) for variable in variables]


def test_a_rate_over_a_schedule_is_as_one_from_the_start():
    scheduled = keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), name="same")
    scheduled.build([keras.Variable(np.zeros(2), name="weight")])
    _keras.set_constant_rate(scheduled, 0.25)
    plain = keras.optimizers.Adam(0.25, name="same")
    plain.build([keras.Variable(np.zeros(2), name="weight")])
    assert scheduled.get_config() == plain.get_config()
    assert [(v.name, v.shape, v.dtype) for v in scheduled.variables] == [(v.name, v.shape, v.dtype) for v in plain.variables]
    _keras.set_constant_rate(scheduled, 0.5)
    scheduled.learning_rate = 0.75
    assert float(scheduled.learning_rate.numpy()) == 0.75


def test_exclusions_from_weight_decay_are_noted_under_these_names():
    source, target = keras.optimizers.AdamW(), keras.optimizers.AdamW()
    kernel, bias = (keras.Variable(np.zeros(1), name=name) for name in ("kernel", "bias"))
    source.exclude_from_weight_decay(var_list=[kernel], var_names=["bias"])
    _keras.copy_weight_decay_exclusions(source, target)
    assert [target._use_weight_decay(variable) for variable in (kernel, bias)] == [False, False]
    assert keras.optimizers.AdamW()._use_weight_decay(kernel)


def test_the_calls_of_a_graph_are_in_order():
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(3)(inputs)
    model = keras.Model(inputs, keras.layers.Add()([hidden, keras.layers.Dense(3)(hidden)]))
    for graph in (model, small_model()):
        made = set()
        for call in _keras.graph_calls(graph):
            assert {id(tensor) for tensor in call.inputs} <= made
            made |= {id(tensor) for tensor in call.outputs}
        assert {id(tensor) for tensor in graph.outputs} <= made
        assert [call.operation for call in _keras.graph_calls(graph)][-len(graph.layers) :] == graph.layers


def test_a_layer_inside_a_built_one_is_replaced():
    class Holder(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(2)

        def call(self, x):
            return self.inner(x)

    model, new = Holder(), keras.layers.Dense(3)
    model(np.ones((1, 2)))
    _keras.replace_sublayer(model, "inner", new)
    assert model.layers == [new]
    with pytest.raises(ValueError, match="already built"):
        model.another = keras.layers.Dense(3)


def test_automatic_names_are_made_of_the_class():
    keras.utils.clear_session(free_memory=False)
    for kind in (keras.layers.GlobalAveragePooling2D, keras.layers.LSTM, keras.layers.UpSampling2D):
        name = kind(3).name if kind is keras.layers.LSTM else kind().name
        assert name == _keras.snake_case(kind.__name__)
