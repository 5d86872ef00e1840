"""Metrics by their names: the direction in which one is better, and its value in logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from .arguments import check_choice

Mode = Literal["min", "max"]

_MAXIMISED = (
    "acc",
    "auc",
    "precision",
    "recall",
    "f1",
    "f_beta",
    "fbeta",
    "iou",
    "r2",
    "sensitivity",
    "specificity",
    "similarity",
)
_MINIMISED = (
    "loss",
    "error",
    "mae",
    "mse",
    "rmse",
    "mape",
    "msle",
    "entropy",
    "divergence",
    "perplexity",
    "poisson",
    "hinge",
)


def direction(monitor: str) -> Mode | None:
    """The direction in which a metric is better, by its name; None if that does not say.

    Example:

    >>> direction("val_loss"), direction("accuracy"), direction("score")
    ('min', 'max', None)
    """
    name = monitor.removeprefix("val_").lower()
    if any(part in name for part in _MINIMISED):
        return "min"
    return "max" if any(part in name for part in _MAXIMISED) else None


def resolve_mode(caller: str, monitor: str, mode: str) -> Mode:
    """The direction in which a metric is better, by its name where `mode` is `"auto"`.

    Args:
        caller: The function that was called, for the message.
        monitor: The metric's name.
        mode: `"min"`, `"max"` or `"auto"`.

    Raises:
        ValueError: If it is none of these, or the name does not say.
    """
    check_choice(caller, "mode", mode, ("auto", "min", "max"))
    better = direction(monitor) if mode == "auto" else mode
    if better is None:
        raise ValueError(
            f"{caller}: whether less or more of {monitor!r} is better does not show; say "
            'mode="min" or "max".'
        )
    return better  # type: ignore[return-value]  # checked above


def number_in(logs: Mapping[str, Any], name: str, caller: str) -> float:
    """A metric as a number, be it Python's, NumPy's or the backend's.

    Args:
        logs: With the metric.
        name: Of the metric.
        caller: For the message.

    Raises:
        ValueError: If it is more than one number.
    """
    # Imported here: what reads folders for people knows metrics by their names alone.
    import keras

    array = np.asarray(keras.ops.convert_to_numpy(logs[name]))
    if array.size != 1:
        raise ValueError(
            f"{caller}: {name!r} must be one number. Received an array of shape {array.shape}; "
            "monitor its mean or one part of it, as a metric of its own."
        )
    return float(array.reshape(()))
