"""The gradient noise scale, from the gradients of small batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_patterns.backends import current

from ..state import find_variables
from .batch_size_rows import Rows

Gradient: TypeAlias = Callable[[tuple[Any, ...]], list[np.ndarray]]

REPEATS = 10
MICRO_BATCHES = 4
# Of Student's distribution with REPEATS - 1 degrees of freedom: 95 % lie within.
_STUDENT = 2.262


@dataclass(frozen=True)
class NoiseScale:
    """The noise of the gradient against its size, at the weights of now. It grows during training,
    often by a factor of ten and more.

    Attributes:
        trace: S, the trace of the covariance of the gradients of single examples.
        square: |G|², the squared norm of the mean gradient.
        low, high: With 95 % confidence, S / |G|² lies between these; `high` is infinite where |G|²
            may be zero.
        micro_batch_size: Examples in each gradient.
        gradients: How many gradients were taken.
    """

    trace: float
    square: float
    low: float
    high: float
    micro_batch_size: int
    gradients: int

    @property
    def problem(self) -> str:
        """Why there is no noise scale; empty if there is one."""
        if self.square > 0:
            return ""
        return (
            f"the estimate of |G|² is {self.square:.2g}, not above 0: {self.gradients} gradients "
            f"of {self.micro_batch_size} examples cannot tell the mean gradient from noise. Give "
            "a larger `micro_batch_size`, or train for a while first if the loss is flat here"
        )

    @property
    def critical_batch_size(self) -> float:
        """S / |G|², in examples; a batch far below it wastes steps, one far above it wastes
        examples.

        Raises:
            ValueError: If the estimate of |G|² is not above 0.
        """
        if self.problem:
            raise ValueError(f"NoiseScale: there is no critical batch size: {self.problem}.")
        return self.trace / self.square

    def __repr__(self) -> str:
        if self.problem:
            return f"NoiseScale: none: {self.problem}."
        return (
            f"NoiseScale: {self.critical_batch_size:.3g} examples, 95 % interval {self.low:.3g} to "
            f"{self.high:.3g}; S {self.trace:.3g}, |G|² {self.square:.3g}, from {self.gradients} "
            f"gradients of {self.micro_batch_size} examples. It grows during training."
        )


def measure_noise(model: keras.Model, rows: Rows, size: int, seed: int) -> NoiseScale:
    """Estimates S and |G|² in several repeats, each from a few batches drawn with replacement.

    Args:
        model: Built, inside `preserved`.
        rows: From which the batches come.
        size: Of each batch.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    gradient = _gradient_function(model)
    found = np.array([_repeat(gradient, rows, size, rng) for _ in range(REPEATS)])
    trace, square = found.mean(axis=0)
    low, high = _interval(found[:, 0], found[:, 1])
    return NoiseScale(float(trace), float(square), low, high, size, REPEATS * MICRO_BATCHES)


def _repeat(
    gradient: Gradient, rows: Rows, size: int, rng: np.random.Generator
) -> tuple[float, float]:
    """S and |G|² from the gradients of some batches and of all their examples together."""
    mean: list[np.ndarray] = []
    squares = 0.0
    for _ in range(MICRO_BATCHES):
        batch = rows.batch(rng.integers(0, rows.examples, size))
        found = gradient(batch)
        squares += _square(found) / MICRO_BATCHES
        parts = [one / MICRO_BATCHES for one in found]
        mean = [one + part for one, part in zip(mean, parts, strict=True)] if mean else parts
    together = MICRO_BATCHES * size
    large = _square(mean)
    square = (together * large - size * squares) / (together - size)
    return (squares - large) / (1 / size - 1 / together), square


def _gradient_function(model: keras.Model) -> Gradient:
    compute = current().gradient_function(model)
    seeds = [
        variable
        for variable in find_variables(model).variables.values()
        if variable.name == "seed_generator_state"
    ]

    def gradient(batch: tuple[Any, ...]) -> list[np.ndarray]:
        _, found = compute(batch)
        # Where a step is a pure function, the next one would draw the same masks of dropout.
        for seed in seeds:
            seed.assign(seed.value + 1)
        return [np.asarray(one, "float64") for one in found if one is not None]

    return gradient


def _square(arrays: list[np.ndarray]) -> float:
    return float(sum(np.vdot(one, one) for one in arrays))


def _interval(traces: np.ndarray, squares: np.ndarray) -> tuple[float, float]:
    """The interval of a ratio of two means after Fieller (1954): the ratios r for which the mean of
    S - r |G|² may be zero.
    """
    count = len(traces)
    (s, g), spread = (traces.mean(), squares.mean()), np.cov(traces, squares) / count
    t = _STUDENT**2
    # a r² - 2 b r + c <= 0
    a, b = g * g - t * spread[1, 1], s * g - t * spread[0, 1]
    c = s * s - t * spread[0, 0]
    root = math.sqrt(max(b * b - a * c, 0.0))
    if a <= 0 or g <= 0:
        return max(0.0, c / (b + root)) if b + root > 0 else 0.0, math.inf
    return max(0.0, (b - root) / a), (b + root) / a
