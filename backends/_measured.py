"""A `train_step` that tells the loss of its own batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

# Variables, and the values that they are to have.
Values = Sequence[tuple[keras.Variable, np.ndarray]]


def loss_of(logs: Any, key: str) -> Any:
    """The loss among what a `train_step` returned.

    Args:
        logs: What it returned.
        key: The name of the loss.

    Raises:
        ValueError: If there is none, or it is not one number.
    """
    if not isinstance(logs, Mapping) or key not in logs:
        names = sorted(logs) if isinstance(logs, Mapping) else type(logs).__name__
        raise ValueError(
            f'find_learning_rate: train_step must return a dictionary with "{key}" among its '
            f"keys; this one returned {names}. "
            + (
                f"If one of these is the loss of a batch, say so: loss_key={names[0]!r}."
                if names and isinstance(names, list)
                else "Have it return the loss; where the model has a `metrics` of its own, that "
                "must hold what super().metrics holds."
            )
        )
    shape = tuple(getattr(logs[key], "shape", ()))
    if math.prod(shape) != 1:
        raise ValueError(
            f'find_learning_rate: the "{key}" that train_step returned must be one number. '
            f"Received: an array of shape {shape}."
        )
    return logs[key]


def assigning_step(
    step: Callable[[Any], Any], fresh: Values, counter: keras.Variable, loss_key: str
) -> Callable[[Any], dict[str, Any]]:
    """For frameworks whose `train_step` assigns to variables: see `Backend.measured_step`."""

    def train_step(data: Any) -> dict[str, Any]:
        for variable, value in fresh:
            variable.assign(value)
        before = keras.ops.copy(counter.value)
        return {"loss": loss_of(step(data), loss_key), "step": before}

    return train_step
