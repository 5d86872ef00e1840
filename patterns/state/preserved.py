"""Leaving a model as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_patterns.backends import current

from .randomness import get_random_state, set_random_state
from .snapshot import copy_values, put_back
from .variables import find_variables

# What `fit` sets on a model, beside its variables.
_SET_BY_FIT = ("train_function", "history", "stop_training", "steps_per_execution")
_MISSING = object()


@contextmanager
def preserved(model: keras.Model) -> Iterator[None]:
    """Whatever is trained or loaded within, and however it ends: afterwards everything is as
    before, bit for bit.

    Weights, statistics, seeds, slots, counters, metrics, the global random states, and what `fit`
    sets on a model.

    Args:
        model: Built, and its optimizers too.
    """
    values = copy_values(find_variables(model).variables)
    random = get_random_state()
    put_back_rest = current().hold(model)
    attributes = {name: getattr(model, name, _MISSING) for name in _SET_BY_FIT}
    try:
        yield
    finally:
        current().sync(model)
        put_back(find_variables(model).variables, values, values)
        set_random_state(random)
        put_back_rest()
        for name, value in attributes.items():
            if value is not _MISSING:
                setattr(model, name, value)
            elif hasattr(model, name):
                delattr(model, name)
