"""Curves of a metric, read from a History, with their noise and their progress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# In units of the noise: what chance does not explain.
SURE = 3.0


@dataclass(frozen=True)
class Curve:
    """A metric, less of which is better, with the steps at which it was read."""

    steps: np.ndarray
    values: np.ndarray

    @property
    def smooth(self) -> np.ndarray:
        """The running median of three; the ends as they are."""
        if len(self.values) < 3:
            return self.values
        inner = np.median(np.lib.stride_tricks.sliding_window_view(self.values, 3), axis=1)
        return np.concatenate([self.values[:1], inner, self.values[-1:]])

    @property
    def end(self) -> float:
        """The median of the last three values."""
        return float(np.median(self.values[-3:]))

    @property
    def best(self) -> int:
        """The place of the lowest value beside the lowest smoothed one."""
        first = max(0, int(np.argmin(self.smooth)) - 1)
        return first + int(np.argmin(self.values[first : first + 3]))

    @property
    def fall(self) -> float:
        """From the first value to the lowest smoothed one; at least 0."""
        return max(0.0, float(self.values[0] - self.smooth.min()))

    @property
    def noise(self) -> float:
        """A robust standard deviation around the trend, as in `kp.suggest_patience`."""
        residuals = self.values[1:-1] - (self.values[:-2] + self.values[2:]) / 2
        return float(np.median(np.abs(residuals)) / (0.6745 * math.sqrt(1.5)))

    def progress(self, start: int, stop: int) -> float:
        """By how much it falls from one place to another, by the median slope (Theil-Sen); 0 where
        chance explains it.
        """
        part = self.values[start:stop]
        length = len(part)
        i, j = np.triu_indices(length, k=1)
        gained = -float(np.median((part[j] - part[i]) / (j - i))) * (length - 1)
        chance = SURE * self.noise * math.sqrt(12 / (length**3 - length)) * (length - 1)
        return gained if abs(gained) > chance else 0.0


def read_curves(caller: str, history: Any, metric: str, sign: float) -> tuple[Curve, Curve | None]:
    """The curves of training and validation; None where there is no validation.

    Args:
        caller: The function that was called, for messages.
        history: A History, or its dict of lists.
        metric: Of the training.
        sign: 1 where less of it is better, -1 where more is.
    """
    lists = getattr(history, "history", history)
    if not isinstance(lists, Mapping):
        raise TypeError(
            f"{caller}: `history` must be a History, or its dict of lists. Received: "
            f"{type(history).__name__}."
        )
    if metric not in lists:
        raise ValueError(f"{caller}: the history has no metric {metric!r}. It has {sorted(lists)}.")
    values = np.asarray(lists[metric], "float64")
    if values.ndim != 1:
        raise ValueError(f"{caller}: {metric!r} must be one number for each epoch.")
    ends = list(getattr(history, "epoch_end_steps", ()))
    epochs = list(getattr(history, "epoch", ())) or list(range(len(values)))
    steps = ends if len(ends) == len(values) else [one + 1 for one in epochs]
    training = Curve(np.asarray(steps, "float64"), sign * values)
    validated = np.asarray(lists.get(f"val_{metric}", ()), "float64")
    if not len(validated):
        return training, None
    at = _validated_at(caller, history, metric, training.steps, len(validated))
    return training, Curve(at, sign * validated)


def _validated_at(
    caller: str, history: Any, metric: str, steps: np.ndarray, count: int
) -> np.ndarray:
    """The steps of the validations at the ends of epochs."""
    if count == len(steps):
        return steps
    known = {row["step"] for row in getattr(history, "validations", ())}
    found = [step for step in steps if step in known]
    every = len(steps) // count
    if len(found) != count:
        found = list(steps[every - 1 :: every])
    if len(found) != count:
        raise ValueError(
            f"{caller}: val_{metric!r} has {count} values in {len(steps)} epochs; at which ones "
            "does not show. Give a dict of lists of one length."
        )
    return np.asarray(found)
