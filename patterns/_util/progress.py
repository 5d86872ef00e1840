"""Progress in words and numbers: steps done, times and metrics, as Keras writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .text import visible


@dataclass(frozen=True)
class Progress:
    """The part of a task that is done, and the time it takes.

    Attributes:
        title: Such as `"Epoch 3/5"`.
        done: Steps done.
        total: Of how many; None if nobody knows.
        times: Texts, such as `"12s"`.
        metrics: By name.
        is_last: Whether nothing comes after it.
    """

    title: str
    done: int
    total: int | None
    times: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_last: bool = False

    @property
    def count(self) -> str:
        """Steps done, of how many, as wide at the start as at the end."""
        if self.total is None:
            return f"{self.done}/?"
        return f"{self.done:{len(str(self.total))}}/{self.total}"

    def line(self, head: str = "") -> str:
        """All of it in one line, after a head; without one, as Keras writes it."""
        metrics = (f"{visible(name)}: {number(value)}" for name, value in self.metrics.items())
        return " - ".join([f"{head} {self.count}" if head else self.count, *self.times, *metrics])

    def titled_line(self) -> str:
        """All of it in one line, after the title."""
        return self.line(self.title and f"{self.title}:")


def number(value: float) -> str:
    """A metric as Keras writes it; a whole number as it is."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if abs(value) > 1e-3 else f"{value:.4e}"


def duration(seconds: float) -> str:
    """A time as Keras writes it.

    Example:

    >>> duration(7.3), duration(75), duration(3700)
    ('7s', '1:15', '1:01:40')
    """
    whole = round(seconds)
    if whole > 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
    return f"{whole // 60}:{whole % 60:02}" if whole > 60 else f"{whole}s"


def time_per_step(seconds: float, digits: int = 0) -> str:
    """The time of a step, as Keras writes it.

    Args:
        seconds: For one step.
        digits: After the point where there is one digit before it. Defaults to 0, as in Keras.

    Example:

    >>> time_per_step(1.2), time_per_step(0.0124), time_per_step(0.0024, 1), time_per_step(3e-4)
    ('1s/step', '12ms/step', '2.4ms/step', '300us/step')
    """
    if seconds >= 1 or seconds == 0:
        value, unit = seconds, "s"
    elif seconds >= 1e-3:
        value, unit = seconds * 1e3, "ms"
    else:
        value, unit = seconds * 1e6, "us"
    return f"{value:.{digits if value < 10 else 0}f}{unit}/step"
