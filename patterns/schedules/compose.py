"""Schedules made of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from .._util.arguments import check_number, whole_number
from .._util.registered import registered
from .._util.steps import whole_steps
from .base import Rate, Schedule, share, take_rate, take_steps, value_of


@registered
@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line up to where another schedule begins, then that schedule from its own step 0
    on.

        rate(s) = initial + (then(0) - initial) * s / steps   for s < steps,
        rate(s) = then(s - steps)                             from there on.

    Args:
        steps: How many steps the line takes.
        then: A schedule of ours or of Keras's, or a constant rate.
        initial_learning_rate: The rate of the first step. Defaults to 0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range.

    Example:

    >>> import keras, keras_patterns as kp
    >>> rate = kp.schedules.Warmup(4, keras.optimizers.schedules.ExponentialDecay(0.8, 1, 0.5))
    >>> [round(float(rate(step)), 2) for step in range(7)]
    [0.0, 0.2, 0.4, 0.6, 0.8, 0.4, 0.2]

    References:
        P. Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017,
            arXiv:1706.02677.
    """

    steps: int
    then: Rate
    initial_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        """Checks the arguments."""
        take_steps(self, "steps")
        object.__setattr__(self, "then", _part("Warmup", "then", self.then))
        take_rate(self, "initial_learning_rate")

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        step = whole_steps(step)
        behind, _ = share(step, 0, self.steps)
        goal = value_of(self.then, ops.zeros_like(step))
        line = self.initial_learning_rate + (goal - self.initial_learning_rate) * behind
        return ops.where(
            step < self.steps, line, value_of(self.then, ops.maximum(step - self.steps, 0))
        )


@registered
@dataclass(frozen=True)
class Join(Schedule):
    """One schedule after the other, each from its own step 0 on.

    Args:
        schedules: Schedules of ours or of Keras's, or constant rates.
        boundaries: The step at which each but the first begins: one fewer than schedules, rising.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there are not as many boundaries as joints, or they do not rise.

    Example:

    >>> import keras_patterns as kp
    >>> rate = kp.schedules.Join([0.1, kp.schedules.CyclicalLearningRate(0.2, 0.4, 2)],
    ...     boundaries=[3])
    >>> [round(float(rate(step)), 2) for step in range(8)]
    [0.1, 0.1, 0.1, 0.2, 0.3, 0.4, 0.3, 0.2]
    """

    schedules: Sequence[Rate]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        """Checks the arguments."""
        for name in ("schedules", "boundaries"):
            if not isinstance(getattr(self, name), list | tuple):
                raise TypeError(
                    f"Join: `{name}` must be a list. Received: {getattr(self, name)!r}."
                )
        boundaries = [
            whole_number("Join", f"boundaries[{i}]", boundary)
            for i, boundary in enumerate(self.boundaries)
        ]
        parts = tuple(
            _part("Join", f"schedules[{index}]", part) for index, part in enumerate(self.schedules)
        )
        object.__setattr__(self, "schedules", parts)
        object.__setattr__(self, "boundaries", tuple(boundaries))
        if len(boundaries) != len(self.schedules) - 1:
            raise ValueError(
                f"Join: {len(self.schedules)} schedules have {max(0, len(self.schedules) - 1)} "
                "boundaries between them. "
                f"Received: {len(boundaries)}, {boundaries}."
            )
        if sorted(set(boundaries)) != boundaries:
            raise ValueError(f"Join: `boundaries` must rise. Received: {boundaries}.")

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        step = whole_steps(step)
        rate = value_of(self.schedules[0], step)
        for boundary, part in zip(self.boundaries, self.schedules[1:], strict=True):
            rate = ops.where(step < boundary, rate, value_of(part, ops.maximum(step - boundary, 0)))
        return rate


@registered
@dataclass(frozen=True)
class Scaled(Schedule):
    """Another schedule, times a factor.

    Args:
        schedule: A schedule of ours or of Keras's, or a constant rate.
        factor: Not negative.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range.

    Example:

    >>> import keras_patterns as kp
    >>> rate = kp.schedules.Scaled(kp.schedules.Warmup(4, 0.8), 0.5)
    >>> [round(float(rate(step)), 2) for step in range(6)]
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.4]
    """

    schedule: Rate
    factor: float

    def __post_init__(self) -> None:
        """Checks the arguments."""
        object.__setattr__(self, "schedule", _part("Scaled", "schedule", self.schedule))
        take_rate(self, "factor")

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        return value_of(self.schedule, whole_steps(step)) * self.factor


def _part(where: str, name: str, value: Any) -> Rate:
    """A schedule as it is, a number as a `float`."""
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    if callable(value):
        raise TypeError(
            f"{where}: `{name}` must be a LearningRateSchedule or a number. Received: {value!r}."
        )
    return check_number(where, name, value)
