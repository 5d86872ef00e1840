"""The only place that touches private parts of Keras, each with its reason. True for Keras 3.15 (tests/test_keras_private.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.backend.common.masking import get_keras_mask
from keras.src.models.functional import Functional
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR


def trained_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The variables on which an optimizer was built, in its order. No public name says it, and slots are aligned with it."""
    return list(optimizer._trainable_variables)


def build_anew(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> None:
    """Builds an optimizer that is built already on other variables: its slots are new, its counter and its rate are not.

    Keras builds an optimizer once, and says to make another one, which schedules, callbacks and the person would know nothing of.
    """
    for one in [optimizer, *_inner(optimizer)]:
        made = list(one._variables)
        for variable in made:
            if variable is not one._iterations and variable is not one._learning_rate:
                one._untrack_variable(variable)
        one._trainable_variables_indices, one._trainable_variables = {}, []
        one.built = False
    optimizer.build(list(variables))
    for one in [optimizer, *_inner(optimizer)]:
        one.built = True


def _inner(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """The optimizers inside one that wraps others."""
    inner = getattr(optimizer, "_inner_optimizers", None) or [getattr(optimizer, "inner_optimizer", None)]
    return [one for one in inner if one is not None]


def weights_made_trainable(layer: keras.Layer) -> list[keras.Variable]:
    """The variables of a layer, those of layers inside it left out, that it trains unless they are frozen."""
    return list(layer._trainable_variables)


def steps_of(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """The counter that Keras gives to a schedule of the rate. The public `iterations` counts accumulated steps once."""
    return optimizer._iterations


def copy_weight_decay_exclusions(source: keras.optimizers.Optimizer, target: keras.optimizers.Optimizer) -> None:
    """What `exclude_from_weight_decay` has noted: the configuration of an optimizer leaves it out."""
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def config_without_rate(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """The configuration but for the rate, whose schedule or function may have none."""
    rate = optimizer._learning_rate
    optimizer._learning_rate = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 1.0)
    try:
        return {name: value for name, value in optimizer.get_config().items() if name != "learning_rate"}
    finally:
        optimizer._learning_rate = rate


def made_anew(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A new optimizer of the same settings. In place of a schedule or a function for the rate it has another schedule."""
    if isinstance(optimizer._learning_rate, keras.Variable):
        return type(optimizer).from_config(optimizer.get_config())
    rate = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 1.0)
    return type(optimizer).from_config({**config_without_rate(optimizer), "learning_rate": rate})


def get_rate(optimizer: keras.optimizers.Optimizer) -> Any:
    """What stands behind `learning_rate`: a variable, a schedule or a function. The public name gives its value."""
    return optimizer._learning_rate


def put_rate(optimizer: keras.optimizers.Optimizer, rate: Any) -> None:
    """Puts a schedule in place of what `get_rate` gives, or that back, and leaves the optimizer's variables as they are.

    The public setter forgets the variable of the rate, and refuses to set a number over a schedule.
    """
    optimizer._learning_rate = rate


def set_constant_rate(optimizer: keras.optimizers.Optimizer, rate: float) -> None:
    """Sets a rate, also over a schedule: the optimizer is then as if it had been made with a number."""
    if isinstance(optimizer._learning_rate, keras.Variable):
        optimizer._learning_rate.assign(rate)
        return
    variable = keras.Variable(rate, name="learning_rate", trainable=False, aggregation="only_first_replica")
    optimizer._track_variable(variable)
    # It stands after the counter, as in an optimizer that is made with a number: `.keras` files go by this order.
    optimizer._variables.insert(1, optimizer._variables.pop())
    optimizer._learning_rate = variable


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model, those inside others included, which no public name gives."""
    return model._flatten_layers(include_self=False)


def is_graph(model: keras.Model) -> bool:
    """Whether `model.layers` is the model: a functional model or a Sequential. Keras does not export the class `Functional`."""
    return isinstance(model, Functional | keras.Sequential)


def get_global_seed() -> np.ndarray | None:
    """The state of the generator behind unseeded `keras.random` calls; None if none was made. It has no public name."""
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    return None if generator is None else np.asarray(keras.ops.convert_to_numpy(generator.state))


def set_global_seed(state: np.ndarray | None) -> None:
    """Puts back what `get_global_seed` gave; None forgets the generator, so that the next use makes a new one."""
    if state is None:
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)
        return
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    if generator is None:
        generator = keras.random.SeedGenerator(0)
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)
    generator.state.assign(state)


def finish_batch_ends(callbacks: keras.callbacks.CallbackList) -> None:
    """Waits for every `on_train_batch_end` that Keras has handed to its threads."""
    callbacks._flush_futures()


def shut_down(callbacks: keras.callbacks.CallbackList) -> None:
    """Ends the threads that a list of callbacks keeps until `on_train_end`, for a run that does not get there."""
    executor = getattr(callbacks, "_executor", None)
    if executor is not None:
        executor.shutdown()
        callbacks._executor = None


def begin_at_epoch(model: keras.Model, epoch: int) -> None:
    """Makes the `fit` that is beginning start at an epoch, as `BackupAndRestore` does; `fit` reads it after `on_train_begin`."""
    model._initial_epoch = epoch


def forget_initial_epoch(model: keras.Model) -> None:
    """Clears the epoch that stays on a model, from which every later `fit` would start."""
    model._initial_epoch = None


def leaf_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model, at any depth, that hold no others. No public name goes down into layers that are no models."""
    layers = model._flatten_layers(include_self=False)
    return [layer for layer in layers if not list(layer._flatten_layers(include_self=False))]


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The variables that a layer holds itself. The public names add those of the layers inside it, seeds and metrics."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def weights_to_train(model: keras.Model) -> list[keras.Variable]:
    """The weights that are trained when nothing in a model is frozen. The public names leave out what is frozen now."""
    own = {id(variable) for layer in [model, *all_layers(model)] for variable in weights_made_trainable(layer)}
    return [variable for variable in model.weights if id(variable) in own]


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside a layer, in order."""
    return layer._flatten_layers(include_self=False, recursive=False)


def calls_in_order(model: keras.Model) -> Iterator[tuple[Any, list[int], list[int]]]:
    """The calls that a functional model or a Sequential makes, each after those that it needs.

    Yields:
        What is called, and the `id` of each tensor that goes in and that comes out.
    """
    if isinstance(model, keras.Sequential):
        for number, layer in enumerate(model.layers):
            yield layer, [number - 1] if number else [], [number]
        return
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            yield node.operation, [id(tensor) for tensor in node.input_tensors], [id(tensor) for tensor in node.outputs]


def graph_of(layer: Any) -> Any:
    """The functional model that a layer is, or that a Sequential keeps inside; None where there is none, or `call` is its own."""
    if isinstance(layer, keras.Sequential):
        return layer._functional if type(layer).call is keras.Sequential.call else None
    return layer if isinstance(layer, Functional) and type(layer).call is Functional.call else None


def graph_nodes(graph: Any) -> list[Any]:
    """The calls in a functional model, each after those that it needs: Keras's nodes, which no public name of a model gives."""
    return [node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]]


def mask_of(tensor: Any) -> Any:
    """The mask that a tensor carries from layer to layer; None if it has none. No public name says it for every backend."""
    return get_keras_mask(tensor)


def draws(layer: keras.Layer) -> bool:
    """Whether a layer holds a `SeedGenerator` itself. The public names give the states of those of the layers inside it, too."""
    return bool(layer._seed_generators)
