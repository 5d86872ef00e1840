"""Cyclical learning rates (Smith 2017), and the momentum that goes against them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from keras import ops

from .._util.arguments import check_choice, check_order
from .._util.deprecated import renamed_keywords
from .._util.registered import registered
from .._util.steps import whole_steps
from .base import Schedule, take_rate, take_steps

Mode = Literal["triangular", "triangular2", "exp_range"]


@registered
@renamed_keywords(maximal_learning_rate="peak_learning_rate")
@dataclass(frozen=True)
class CyclicalLearningRate(Schedule):
    """A rate that rises and falls in straight lines, between two bounds, over and over.

    With s the step, k = `step_size`, c = floor(s / 2k) the cycle from 0, and
    `h = 1 - |s mod 2k - k| / k` the height within it,

        rate(s) = initial + (peak - initial) * h * scale,

    where scale is 1 for `"triangular"`, 1 / 2^c for `"triangular2"`, and gamma^s for `"exp_range"`.

    Args:
        initial_learning_rate: The lower bound, at the start and at the end of each cycle.
        peak_learning_rate: The upper bound, in the middle of the first cycle.
        step_size: Half a cycle, in steps. Smith recommends 2 to 10 times the steps of a pass over
            the data.
        mode: The height stays, is halved with each cycle, or decays with each step, in this order.
            Defaults to `"triangular"`.
        gamma: The decay per step in the mode `"exp_range"`, greater than 0 and at most 1. Defaults
            to 1.0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, or the bounds are in the wrong order.

    Example:

    >>> import keras_patterns as kp
    >>> rate = kp.schedules.CyclicalLearningRate(0.1, 0.5, step_size=4)
    >>> [round(float(rate(step)), 3) for step in range(9)]
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.1]

    References:
        L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017,
            arXiv:1506.01186.
    """

    initial_learning_rate: float
    peak_learning_rate: float
    step_size: int
    mode: Mode = "triangular"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        """Checks the arguments."""
        _check(self, "initial_learning_rate", "peak_learning_rate")

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        low, high = self.initial_learning_rate, self.peak_learning_rate
        return low + (high - low) * _height(self, step)


@registered
@dataclass(frozen=True)
class CyclicalMomentum(Schedule):
    """The momentum that falls while a `CyclicalLearningRate` of the same `step_size`, `mode` and
    `gamma` rises.

    Args:
        lowest: Where the rate is highest.
        highest: Where the rate is lowest.
        step_size: Half a cycle, in steps.
        mode: As in `CyclicalLearningRate`. Defaults to `"triangular"`.
        gamma: As in `CyclicalLearningRate`. Defaults to 1.0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, or the bounds are in the wrong order.

    Example:

    >>> import keras, keras_patterns as kp
    >>> momentum = kp.schedules.CyclicalMomentum(0.8, 0.9, step_size=2)
    >>> [round(float(momentum(step)), 3) for step in range(5)]
    [0.9, 0.85, 0.8, 0.85, 0.9]

    References:
        L. N. Smith, "A disciplined approach to neural network hyper-parameters: Part 1", 2018,
            arXiv:1803.09820.
    """

    lowest: float
    highest: float
    step_size: int
    mode: Mode = "triangular"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        """Checks the arguments."""
        _check(self, "lowest", "highest", below=1.0)

    def __call__(self, step: Any) -> Any:
        """The momentum at a step."""
        return self.highest - (self.highest - self.lowest) * _height(self, step)


Cyclical = CyclicalLearningRate | CyclicalMomentum


def _check(cycle: Cyclical, low: str, high: str, below: float = math.inf) -> None:
    where = type(cycle).__name__
    for name in (low, high):
        take_rate(cycle, name, below=below)
    check_order(where, low, getattr(cycle, low), high, getattr(cycle, high))
    take_steps(cycle, "step_size")
    check_choice(where, "mode", cycle.mode, get_args(Mode))
    take_rate(cycle, "gamma", above=0.0)
    if cycle.gamma > 1:
        raise ValueError(
            f"{where}: `gamma` must be greater than 0 and at most 1. Received: {cycle.gamma!r}."
        )
    if cycle.gamma != 1 and cycle.mode != "exp_range":
        raise ValueError(
            f'{where}: `gamma` goes with mode="exp_range" only. Received: gamma={cycle.gamma!r}, '
            f"mode={cycle.mode!r}."
        )


def _height(cycle: Cyclical, step: Any) -> Any:
    """From 0 at the ends of a cycle to 1, or less in later ones, in its middle."""
    step, half = whole_steps(step), cycle.step_size
    inside = ops.mod(step, 2 * half)
    height = ops.cast(ops.minimum(inside, 2 * half - inside), "float32") / half
    if cycle.mode == "triangular2":
        return height * ops.power(0.5, ops.cast(ops.floor_divide(step, 2 * half), "float32"))
    if cycle.mode == "exp_range":
        return height * ops.exp(ops.cast(step, "float32") * math.log(cycle.gamma))
    return height
