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
    """A block after which a model is as before it, bit for bit, however the block ends.

    Weights, statistics, seeds, slots, counters, metrics, the global random states, and what `fit`
    sets on a model: all that Keras tracks. Train in it, or load a checkpoint, to look at something.

    Args:
        model: Built, and its optimizers too.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> before = model.get_weights()
    >>> with kp.preserved(model):
    ...     history = model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    >>> all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    True
    """
    values = copy_values(find_variables(model).variables)
    random = get_random_state()
    put_back_rest = current().hold(model)
    with preserved_attributes(model):
        try:
            yield
        finally:
            current().sync(model)
            put_back(find_variables(model).variables, values, values)
            set_random_state(random)
            put_back_rest()


@contextmanager
def preserved_attributes(model: keras.Model) -> Iterator[None]:
    """The same for the attributes alone that `fit` sets on a model."""
    attributes = {name: getattr(model, name, _MISSING) for name in _SET_BY_FIT}
    try:
        yield
    finally:
        for name, value in attributes.items():
            if value is not _MISSING:
                setattr(model, name, value)
            elif hasattr(model, name):
                delattr(model, name)
