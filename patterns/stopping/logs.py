"""Reading the monitored metric out of Keras's logs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def number_in(logs: Mapping[str, Any], name: str, monitor: str) -> float:
    """A metric as a number, be it Python's, NumPy's or the backend's.

    Args:
        logs: With the metric.
        name: Of the metric.
        monitor: Of the callback, for the message.

    Raises:
        ValueError: If it is not there, or more than one number.
    """
    if name not in logs:
        raise ValueError(
            f"EarlyStopping(monitor={monitor!r}): the rule needs {name!r} as well; the logs have "
            f"only {sorted(logs)}."
        )
    array = np.asarray(keras.ops.convert_to_numpy(logs[name]))
    if array.size != 1:
        raise ValueError(
            f"EarlyStopping(monitor={monitor!r}): {name!r} must be one number. Received an array "
            f"of shape {array.shape}; "
            "monitor its mean or one part of it, as a metric of its own."
        )
    return float(array.reshape(()))


def warn_of_missing(monitor: str, epoch: int, logs: Mapping[str, Any]) -> None:
    """Warns that the metric is not in the logs of an epoch, counted from 0."""
    how = (
        " Its name says that it is of a validation: give validation_data= or validation_split=."
        if monitor.startswith("val_")
        else ""
    )
    warnings.warn(
        f"EarlyStopping(monitor={monitor!r}): the logs of epoch {epoch + 1} have only "
        f"{sorted(logs)}. Where it is missing, nothing "
        f"is looked at.{how}",
        stacklevel=2,
    )
