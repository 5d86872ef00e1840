"""Whether less or more of a metric is better."""

from __future__ import annotations

from typing import Literal

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
    """What the name of a metric says; None if it says nothing.

    Example:

    >>> direction("val_loss"), direction("accuracy"), direction("score")
    ('min', 'max', None)
    """
    name = monitor.removeprefix("val_").lower()
    if any(part in name for part in _MINIMISED):
        return "min"
    return "max" if any(part in name for part in _MAXIMISED) else None


def resolve_mode(where: str, monitor: str, mode: str) -> Mode:
    """The direction of a metric, by its name where `mode` is `"auto"`.

    Args:
        where: Who asks, for the message.
        monitor: The metric's name.
        mode: `"min"`, `"max"` or `"auto"`.

    Raises:
        ValueError: If it is none of these, or the name does not say.
    """
    check_choice(where, "mode", mode, ("auto", "min", "max"))
    found = direction(monitor) if mode == "auto" else mode
    if found is None:
        raise ValueError(
            f"{where}(monitor={monitor!r}): whether less or more of it is better does not show; "
            'say mode="min" or "max".'
        )
    return found  # type: ignore[return-value]  # checked above
