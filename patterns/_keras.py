"""The only place that touches private parts of Keras, each with its reason. True for Keras 3.15 (tests/test_keras_private.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.models.functional import Functional
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.saving import saving_lib
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.utils.naming import to_snake_case


def trained_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The variables on which an optimizer was built, in its order. No public name says it, and slots are aligned with it."""
    return list(optimizer._trainable_variables)


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


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside a layer, in order."""
    return layer._flatten_layers(include_self=False, recursive=False)


class Call(NamedTuple):
    """One call in the graph of a model: what is called, and the symbolic tensors that go in and come out."""

    operation: Any
    inputs: list[Any]
    outputs: list[Any]


def graph_calls(model: keras.Model) -> list[Call]:
    """The calls that a built functional model or Sequential makes, each after those that it needs."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    depths = sorted(graph._nodes_by_depth, reverse=True)
    nodes = (node for depth in depths for node in graph._nodes_by_depth[depth])
    return [Call(node.operation, list(node.input_tensors), list(node.outputs)) for node in nodes]


def calls_in_order(model: keras.Model) -> Iterator[tuple[Any, list[int], list[int]]]:
    """The calls that a functional model or a Sequential makes, each after those that it needs.

    Yields:
        What is called, and the `id` of each tensor that goes in and that comes out.
    """
    if isinstance(model, keras.Sequential):
        for number, layer in enumerate(model.layers):
            yield layer, [number - 1] if number else [], [number]
        return
    for call in graph_calls(model):
        yield call.operation, [id(tensor) for tensor in call.inputs], [id(tensor) for tensor in call.outputs]


def replace_sublayer(parent: keras.Layer, name: str, layer: keras.Layer) -> None:
    """Puts another layer in the place of one that an attribute holds.

    Setting the attribute would leave the old one among the layers inside, and a built layer refuses new ones.
    """
    tracker = parent._tracker
    message = tracker._lock_violation_msg
    locked = tracker.locked
    tracker.unlock()
    try:
        tracker.untrack(getattr(parent, name))
        setattr(parent, name, layer)
    finally:
        if locked:
            tracker.lock(message)


def saved_groups(model: keras.Model) -> dict[int, str]:
    """The group of each part of a model in Keras's weights files, by its `id`: the walk by which they are written.

    No public name tells what such a file holds without writing or loading one.
    """
    groups: dict[int, str] = {}

    def visit(part: Any, group: str) -> None:
        if id(part) not in groups:
            groups[id(part)] = group
            for name, child in saving_lib._walk_saveable(part):
                enter(child, f"{group}/{name}" if group else name, set())

    def enter(child: Any, group: str, above: set[int]) -> None:
        if isinstance(child, KerasSaveable):
            visit(child, group)
        elif isinstance(child, list | tuple | dict) and id(child) not in above:
            used: dict[str, int] = {}
            for item in list(child.values() if isinstance(child, dict) else child):
                if isinstance(item, KerasSaveable | list | tuple | dict):
                    kind = to_snake_case(type(item).__name__) if isinstance(item, KerasSaveable) else "container"
                    used[kind] = used.get(kind, -1) + 1
                    enter(item, f"{group}/{kind}_{used[kind]}" if used[kind] else f"{group}/{kind}", above | {id(child)})

    visit(model, "")
    return groups


def snake_case(name: str) -> str:
    """How Keras makes the automatic name of a layer from that of its class."""
    return to_snake_case(name)
