"""A `train_step` that tells the loss of its own batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

# Variables, and the values that they are to have.
Values = Sequence[tuple[keras.Variable, np.ndarray]]


def loss_of(logs: Any) -> Any:
    """The loss among what a `train_step` returned.

    Raises:
        ValueError: If there is none.
    """
    if not isinstance(logs, Mapping) or "loss" not in logs:
        names = sorted(logs) if isinstance(logs, Mapping) else type(logs).__name__
        raise ValueError(
            'train_step must return a dictionary with "loss" among its keys; this one returned '
            f"{names}."
        )
    return logs["loss"]


def assigning_step(
    step: Callable[[Any], Any], fresh: Values, counter: keras.Variable
) -> Callable[[Any], dict[str, Any]]:
    """For frameworks whose `train_step` assigns to variables: see `Backend.measured_step`."""

    def train_step(data: Any) -> dict[str, Any]:
        for variable, value in fresh:
            variable.assign(value)
        before = keras.ops.copy(counter.value)
        return {"loss": loss_of(step(data)), "step": before}

    return train_step
