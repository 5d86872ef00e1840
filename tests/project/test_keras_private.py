"""The private parts of Keras that are used. True for Keras 3.15; where one of these fails, see the
module that it names.
"""

import random

import keras
import numpy as np
import pytest
from keras.src.trainers.data_adapters import get_data_adapter

from keras_patterns import _keras
from keras_patterns.backends import current
from keras_patterns.backends._feed import Batches
from keras_patterns.state.snapshot import copy_values
from keras_patterns.state.variables import find_variables


def small_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def test_an_optimizer_keeps_what_it_trains_in_order():
    model = small_model()
    assert _keras.trained_variables(model.optimizer) == []
    model.optimizer.build(model.trainable_variables)
    assert [id(v) for v in _keras.trained_variables(model.optimizer)] == [
        id(v) for v in model.trainable_variables
    ]


def test_an_optimizer_is_built_anew_on_other_variables():
    optimizer = keras.optimizers.Adam(0.25)
    first, second = (
        keras.Variable(np.full(2, 1.0, "float32"), name=name) for name in ("first", "second")
    )
    optimizer.build([first])
    optimizer.apply([keras.ops.ones(2)], [first])
    own = optimizer.variables[:2]
    _keras.build_anew(optimizer, [second])
    assert [id(variable) for variable in optimizer.variables[:2]] == [
        id(variable) for variable in own
    ]
    assert len(optimizer.variables) == 4
    assert _keras.trained_variables(optimizer) == [second]
    optimizer.apply([keras.ops.ones(2)], [second])
    assert int(optimizer.iterations.numpy()) == 2
    assert not np.array_equal(second.numpy(), [1, 1])


def test_a_variable_of_an_optimizer_s_constructor_stays():
    class Counting(keras.optimizers.SGD):
        def __init__(self):
            super().__init__()
            self.count = keras.Variable(0.0, name="count", trainable=False)

    optimizer = Counting()
    first, second = (
        keras.Variable(np.ones(2, "float32"), name=name) for name in ("first", "second")
    )
    optimizer.build([first])
    before = {id(variable) for variable in optimizer.variables}
    _keras.build_anew(optimizer, [second])
    assert id(optimizer.count) in before
    assert {id(variable) for variable in optimizer.variables} == before


def test_a_layer_s_own_variables_and_the_layers_in_it():
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((2,)), norm])
    assert [variable.name for variable in _keras.own_variables(norm)] == [
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
    ]
    assert [variable.name for variable in _keras.weights_made_trainable(norm)] == ["gamma", "beta"]
    norm.trainable = False
    assert [variable.name for variable in _keras.weights_made_trainable(norm)] == ["gamma", "beta"]
    assert norm in _keras.sublayers(model)
    assert _keras.own_variables(model) == []


def test_the_calls_of_a_graph_come_in_order():
    inputs = keras.Input((2,))
    shared = keras.layers.Dense(2)
    first = shared(inputs)
    model = keras.Model(inputs, keras.layers.Add()([shared(first), first]))
    calls = list(_keras.calls_in_order(model))
    assert [operation for operation, _, _ in calls].count(shared) == 2
    seen = set()
    for _, before, after in calls:
        assert set(before) <= seen
        seen |= set(after)
    assert len(list(_keras.calls_in_order(small_model()))) == 1


def test_the_weights_to_train_are_those_of_a_model_that_is_not_frozen():
    layers = [
        keras.layers.Dense(2),
        keras.layers.BatchNormalization(),
        keras.Sequential([keras.layers.Dense(1)]),
    ]
    model = keras.Sequential([keras.Input((2,)), *layers])
    expected = [id(variable) for variable in model.trainable_variables]
    layers[0].trainable = layers[2].trainable = False
    assert len(model.trainable_variables) < len(expected)
    assert [id(variable) for variable in _keras.weights_to_train(model)] == expected


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
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(keras.random.normal((3,))), keras.ops.convert_to_numpy(first)
    )
    keras.utils.clear_session()
    assert _keras.get_global_seed() is None
    _keras.set_global_seed(seed)
    np.testing.assert_array_equal(_keras.get_global_seed(), seed)
    _keras.set_global_seed(None)
    assert _keras.get_global_seed() is None


def test_an_optimizer_is_put_in_place_of_another(tmp_path):
    model, optimizer = small_model(), keras.optimizers.SGD(0.25)
    x, y = np.ones((2, 2)), np.ones((2, 1))
    model.fit(x, y, verbose=0)
    before = model.evaluate(x, y, verbose=0)
    _keras.put_optimizer(model, optimizer)
    assert model.evaluate(x, y, verbose=0) == before
    model.fit(x, y, verbose=0)
    assert int(optimizer.iterations.numpy()) == 1
    model.save(tmp_path / "model.keras")
    assert (
        keras.saving.load_model(tmp_path / "model.keras").optimizer.get_config()
        == optimizer.get_config()
    )


def test_fit_begins_at_the_epoch_that_is_set_and_forgets_it():
    model = small_model()
    x, y = np.ones((2, 2)), np.ones((2, 1))
    _keras.begin_at_epoch(model, 2)
    assert model.fit(x, y, epochs=3, verbose=0).epoch == [2]
    _keras.forget_initial_epoch(model)
    assert model.fit(x, y, epochs=3, verbose=0).epoch == [0, 1, 2]


def test_threads_of_a_callback_list_are_ended():
    callbacks = keras.callbacks.CallbackList(
        [], model=small_model(), add_history=True, epochs=1, steps=1, verbose=0
    )
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
        models[-1].fit(
            x[:rows], x[:rows, 0], batch_size=8, shuffle=False, verbose=0, callbacks=callbacks
        )
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
    assert [id(variable) for variable in optimizer.variables] == [
        id(variable) for variable in variables
    ]


def test_a_rate_over_a_schedule_is_as_one_from_the_start():
    scheduled = keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), name="same"
    )
    scheduled.build([keras.Variable(np.zeros(2), name="weight")])
    _keras.set_constant_rate(scheduled, 0.25)
    plain = keras.optimizers.Adam(0.25, name="same")
    plain.build([keras.Variable(np.zeros(2), name="weight")])
    assert scheduled.get_config() == plain.get_config()
    assert [(v.name, v.shape, v.dtype) for v in scheduled.variables] == [
        (v.name, v.shape, v.dtype) for v in plain.variables
    ]
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


def test_the_graph_of_a_model_is_had_unless_its_call_is_its_own():
    class Twice(keras.Sequential):
        def call(self, x, **how):
            return super().call(super().call(x, **how), **how)

    class Named(keras.Model):
        pass

    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(2)(inputs)
    for model in (keras.Model(inputs, outputs), Named(inputs=inputs, outputs=outputs)):
        assert _keras.graph_of(model) is model
    sequential = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    assert isinstance(_keras.graph_of(sequential), keras.Model)
    assert _keras.graph_of(sequential).output is sequential.outputs[0]
    for other in (
        Twice([keras.Input((2,)), keras.layers.Dense(2)]),
        keras.Model(),
        keras.layers.Dense(2),
    ):
        assert _keras.graph_of(other) is None


def test_the_nodes_of_a_graph_stand_after_those_that_they_need():
    inputs, layer = keras.Input((2,)), keras.layers.Dense(2)
    first = layer(inputs)
    model = keras.Model(inputs, keras.layers.Add()([layer(first), first]))
    made = set()
    for node in _keras.graph_nodes(model):
        assert {id(tensor) for tensor in node.input_tensors} <= made
        made |= {id(tensor) for tensor in node.outputs}
    assert [node.operation is layer for node in _keras.graph_nodes(model)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_mask_is_had_from_a_tensor():
    numbers = np.array([[1, 2, 0]])
    masked = keras.layers.Embedding(3, 2, mask_zero=True)(numbers)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(_keras.mask_of(masked)), numbers != 0)
    assert _keras.mask_of(keras.layers.Embedding(3, 2)(numbers)) is None


def test_a_layer_that_holds_a_generator_is_told_from_one_around_it():
    drops = keras.layers.Dropout(0.5)
    assert _keras.draws(drops)
    assert not _keras.draws(keras.Sequential([keras.Input((2,)), drops]))
    assert not _keras.draws(keras.layers.Dense(1))


def test_training_false_in_a_graph_is_overridden_by_fit():
    """What `kp.cache_features` says in its message; see keras#20285."""
    inputs, norm = keras.Input((2,)), keras.layers.BatchNormalization(center=False, scale=False)
    model = keras.Model(inputs, keras.layers.Dense(1)(norm(inputs, training=False)))
    model.compile("sgd", "mse")
    model.fit(np.full((4, 2), 5.0), np.ones((4, 1)), verbose=0)
    assert float(norm.moving_mean.numpy()[0]) > 0


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
        assert [call.operation for call in _keras.graph_calls(graph)][
            -len(graph.layers) :
        ] == graph.layers


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

    class HTTPBlock2(keras.layers.Layer):
        pass

    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.LSTM(3), HTTPBlock2()]
    assert {layer.name for layer in layers} <= _keras.automatic_names(layers[2:])


def test_an_optimizer_computes_updates_in_methods_that_are_found_on_the_instance():
    """And corrects moments by the counter that it holds: own_steps."""
    optimizer, weight = (
        keras.optimizers.Adam(0.5),
        keras.Variable(np.ones(2, "float32"), name="weight"),
    )
    optimizer.build([weight])
    counter = optimizer._iterations
    assert _keras.put_first_steps(optimizer, {id(weight): 7})
    assert not _keras.put_first_steps(optimizer, {id(weight): 7})
    assert _keras.first_steps(optimizer) == {id(weight): 7}
    counter.assign(7)
    optimizer.apply([keras.ops.ones(2)], [weight])
    # The first step of Adam is as long as its rate.
    np.testing.assert_allclose(weight, [0.5, 0.5], rtol=1e-5)
    assert optimizer._iterations is counter
    assert int(counter.numpy()) == 8
    assert _keras.put_first_steps(optimizer, {})
    assert not {"update_step", "_parallel_update_step", "_own_steps"} & set(vars(optimizer))


def test_a_seed_is_set_as_keras_does_and_taken_back():
    keras.utils.set_random_seed(5)
    expected = float(keras.random.uniform(())), random.random(), np.random.random()
    keras.utils.set_random_seed(6)
    with _keras.random_seed_set(5):
        found = float(keras.random.uniform(())), random.random(), np.random.random()
        assert _keras.random_seed() == 5
    assert found == expected
    assert _keras.random_seed() == 6


def test_the_seed_of_set_random_seed_is_known():
    keras.utils.set_random_seed(5)
    assert _keras.random_seed() == 5
    keras.utils.clear_session(free_memory=False)
    assert _keras.random_seed() is None


@pytest.mark.skipif(
    not hasattr(keras.optimizers.Nadam(), "_parallel_update_step"),
    reason="no fused updates on this backend",
)
def test_nadam_moves_its_product_without_a_fused_update_too():
    moved = []
    for step in (
        keras.optimizers.Nadam._backend_update_step,
        type(keras.optimizers.Nadam())._backend_update_step,
    ):
        optimizer, weight = (
            keras.optimizers.Nadam(0.5),
            keras.Variable(np.ones(2, "float32"), name="weight"),
        )
        optimizer.build([weight])
        step(optimizer, [keras.ops.ones(2)], [weight], 0.5)
        moved.append((float(optimizer._u_product.numpy()), weight.numpy()))
    np.testing.assert_allclose(moved[0][0], moved[1][0], rtol=1e-6)
    np.testing.assert_allclose(moved[0][1], moved[1][1], rtol=1e-5)


def test_a_loss_of_its_own_without_a_mode_is_computed():
    class Old(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return keras.ops.mean(y - y_pred)

    model = Old()
    model.compile("sgd")
    given = (None, keras.ops.ones(3), keras.ops.zeros(3), None)
    assert float(_keras.computed_loss(model, *given, training=True)) == 1.0
