"""Warm-up, a constant rate, and a decay at the very end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from keras import ops

from .._util.arguments import check_choice
from .._util.deprecated import renamed_keywords
from .._util.registered import registered
from .._util.steps import whole_steps
from .base import Schedule, move, share, take_rate, take_steps

Decay = Literal["linear", "cosine", "sqrt"]


@registered
@renamed_keywords(maximal_learning_rate="peak_learning_rate")
@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """A line up, a constant rate, and a decay: a run can be made longer without having decided its
    length before.

    With w, c, d = `warmup_steps`, `stable_steps`, `decay_steps`, the rate is the peak one from
    step w to step w + c and the final one from step w + c + d on. In the decay, with x from 0 to 1,
    the rate is

        final + (peak - final) * (1 - x)                   for "linear",
        final + (peak - final) * (1 + cos(pi x)) / 2       for "cosine",
        final + (peak - final) * (1 - sqrt(x))             for "sqrt".

    Args:
        peak_learning_rate: The constant rate.
        warmup_steps: Steps of the line; may be 0.
        stable_steps: Steps of the constant rate; may be 0.
        decay_steps: Steps of the decay; 10 to 20 % of all are usual.
        initial_learning_rate: The rate of the first step, if there is a line. Defaults to 0.
        final_learning_rate: The rate after the decay. Defaults to 0.
        decay: `"linear"`, `"cosine"` or `"sqrt"`. Defaults to `"linear"`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range.

    Example:

    >>> import keras_patterns as kp
    >>> rate = kp.schedules.WarmupStableDecay(0.8, warmup_steps=2, stable_steps=3, decay_steps=4)
    >>> [round(float(rate(step)), 2) for step in range(10)]
    [0.0, 0.4, 0.8, 0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0.0]

    References:
        S. Hu et al., "MiniCPM", 2024, arXiv:2404.06395.
        A. Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
            Durations", 2024, arXiv:2405.18392 (`"sqrt"`).
    """

    peak_learning_rate: float
    warmup_steps: int
    stable_steps: int
    decay_steps: int
    initial_learning_rate: float = 0.0
    final_learning_rate: float = 0.0
    decay: Decay = "linear"

    def __post_init__(self) -> None:
        """Checks the arguments."""
        where = "WarmupStableDecay"
        for name, least in (("warmup_steps", 0), ("stable_steps", 0), ("decay_steps", 1)):
            take_steps(self, name, least)
        check_choice(where, "decay", self.decay, get_args(Decay))
        take_rate(self, "peak_learning_rate")
        for name in ("initial_learning_rate", "final_learning_rate"):
            take_rate(self, name)
            if getattr(self, name) > self.peak_learning_rate:
                raise ValueError(
                    f"{where}: `{name}` must not exceed `peak_learning_rate`. "
                    f"Received: {getattr(self, name)!r} and {self.peak_learning_rate!r}."
                )

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        step, high = whole_steps(step), self.peak_learning_rate
        start = self.warmup_steps + self.stable_steps
        rate = self._decayed(step, start, start + self.decay_steps)
        if self.warmup_steps:
            line = move(step, 0, self.warmup_steps, self.initial_learning_rate, high, "linear")
            rate = ops.where(step < self.warmup_steps, line, rate)
        return rate

    def _decayed(self, step: Any, start: int, stop: int) -> Any:
        high, low = self.peak_learning_rate, self.final_learning_rate
        if self.decay != "sqrt":
            return move(step, start, stop, high, low, self.decay)
        behind, ahead = share(step, start, stop)
        # 1 - sqrt(x), without its cancellation.
        return low + (high - low) * ahead / (1 + ops.sqrt(behind))
