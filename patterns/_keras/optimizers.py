"""Optimizers: what they train, their slots, counter and rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from .attributes import replaced

# In place of a rate that cannot be saved.
_SCHEDULE = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 1.0)


def trained_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The variables on which an optimizer was built, in its order. No public name says it, and
    slots are aligned with it.
    """
    return list(optimizer._trainable_variables)


def build_anew(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> None:
    """Builds an optimizer that is built already on other variables: its slots are new, its counter
    and its rate are not.

    Keras builds an optimizer once, and says to make another one, which schedules, callbacks and the
    person would know nothing of.
    """
    made = {one: list(one._variables) for one in [optimizer, *inner_optimizers(optimizer)]}
    for one, variables_of_one in made.items():
        for variable in variables_of_one:
            if variable is not one._iterations and variable is not one._learning_rate:
                one._untrack_variable(variable)
        one._trainable_variables_indices, one._trainable_variables = {}, []
        one.built = False
    optimizer.build(list(variables))
    for one, variables_of_one in made.items():
        one.built = True
        # What its constructor has made, `build` makes no other of.
        held = {id(value) for value in vars(one).values()} - {
            id(variable) for variable in one._variables
        }
        for variable in variables_of_one:
            if id(variable) in held:
                one._track_variable(variable)


def inner_optimizers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """The optimizers inside one that wraps others, which compute the updates."""
    inner = getattr(optimizer, "_inner_optimizers", None) or [
        getattr(optimizer, "inner_optimizer", None)
    ]
    return [one for one in inner if one is not None]


def steps_of(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """The counter that Keras gives to a schedule of the rate. The public `iterations` counts
    accumulated steps once.
    """
    return optimizer._iterations


def copy_weight_decay_exclusions(
    source: keras.optimizers.Optimizer, target: keras.optimizers.Optimizer
) -> None:
    """Copies the notes of `exclude_from_weight_decay`, which the configuration leaves out."""
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def config_without_rate(optimizer: keras.optimizers.Optimizer, cls: Any = None) -> dict[str, Any]:
    """The configuration but for the rate, whose schedule or function may have none.

    Args:
        optimizer: An optimizer.
        cls: One of its classes, whose configuration it is. Defaults to None: the whole.
    """
    with replaced(optimizer, "_learning_rate", _SCHEDULE):
        config = cls.get_config(optimizer) if cls else optimizer.get_config()
        return {name: value for name, value in config.items() if name != "learning_rate"}


def made_anew(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A new optimizer of the same settings. In place of a schedule or a function for the rate it
    has another schedule.
    """
    if isinstance(optimizer._learning_rate, keras.Variable):
        return type(optimizer).from_config(optimizer.get_config())
    config = {**config_without_rate(optimizer), "learning_rate": _SCHEDULE}
    return type(optimizer).from_config(config)


def get_rate(optimizer: keras.optimizers.Optimizer) -> Any:
    """The variable, schedule or function behind the public name, which gives a value."""
    return optimizer._learning_rate


def put_rate(optimizer: keras.optimizers.Optimizer, rate: Any) -> None:
    """Puts a schedule in place of what `get_rate` gives, or that back, and leaves the optimizer's
    variables as they are.

    The public setter forgets the variable of the rate, and refuses to set a number over a schedule.
    """
    optimizer._learning_rate = rate


@contextmanager
def rate_in_variable(optimizer: keras.optimizers.Optimizer) -> Iterator[keras.Variable]:
    """Within it, the rate stands in a variable of the optimizer, which a compiled step reads; after
    it, a schedule is in its place again. Gives the variable.
    """
    before = optimizer._learning_rate
    if isinstance(before, keras.Variable):
        yield before
        return
    variable = _tracked_rate(optimizer, 0.0)
    try:
        # On TensorFlow, what is set through the class stays among the parts of the optimizer.
        with replaced(optimizer, "_learning_rate", variable):
            yield variable
    finally:
        optimizer._untrack_variable(variable)


def set_constant_rate(optimizer: keras.optimizers.Optimizer, rate: float) -> None:
    """Sets a rate, also over a schedule: the optimizer is then as if it had been made with a
    number.
    """
    if isinstance(optimizer._learning_rate, keras.Variable):
        optimizer._learning_rate.assign(rate)
        return
    optimizer._learning_rate = _tracked_rate(optimizer, rate)


def _tracked_rate(optimizer: keras.optimizers.Optimizer, rate: float) -> keras.Variable:
    """A new variable for the rate, among those of the optimizer."""
    variable = keras.Variable(
        rate, name="learning_rate", trainable=False, aggregation="only_first_replica"
    )
    optimizer._track_variable(variable)
    # It stands after the counter, as in an optimizer that is made with a number: `.keras` files go
    # by this order.
    optimizer._variables.insert(1, optimizer._variables.pop())
    return variable
