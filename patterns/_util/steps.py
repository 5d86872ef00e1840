"""Arithmetic of steps."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


def whole_steps(step: Any) -> Any:
    """The step as a tensor of whole numbers."""
    step = ops.convert_to_tensor(step)
    return (
        step
        if keras.backend.standardize_dtype(step.dtype) in ("int32", "int64")
        else ops.cast(step, "int32")
    )


def next_multiple(step: int, every: int | None) -> float:
    """The first multiple of `every` after `step`; infinity if there is none."""
    return (step // every + 1) * every if every else math.inf
