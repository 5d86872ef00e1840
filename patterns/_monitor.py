"""What the name of a metric says."""

from __future__ import annotations

from typing import Literal

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


def direction(monitor: str) -> Literal["min", "max"] | None:
    """Whether less or more of a metric is better, by its name; None if that does not show.

    Example:

    >>> direction("val_loss"), direction("accuracy"), direction("lift")
    ('min', 'max', None)
    """
    name = monitor.removeprefix("val_").lower()
    if any(part in name for part in _MINIMISED):
        return "min"
    if any(part in name for part in _MAXIMISED):
        return "max"
    return None
