"""A monitored metric that Keras's logs do not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._util.warn import warn


def is_missing(monitor: str, name: str, logs: Mapping[str, Any]) -> ValueError:
    """The error for a metric that the logs should have.

    Args:
        monitor: Of the callback.
        name: Of the metric.
        logs: Without it.
    """
    return ValueError(
        f"EarlyStopping(monitor={monitor!r}) needs {name!r}, and the logs have only "
        f"{sorted(logs)}. Name one of these. If a callback adds it, list that one before, and have "
        "it add the metric from the first time on."
    )


def warn_of_missing(monitor: str, epoch: int, logs: Mapping[str, Any]) -> None:
    """Warns that the metric is not in the logs of an epoch, counted from 0."""
    how = (
        " Its name says that it is of a validation: give validation_data= or validation_split=."
        if monitor.startswith("val_")
        else ""
    )
    warn(
        f"EarlyStopping(monitor={monitor!r}): the logs of epoch {epoch + 1} have only "
        f"{sorted(logs)}. Where it is missing, nothing "
        f"is looked at.{how}",
    )
