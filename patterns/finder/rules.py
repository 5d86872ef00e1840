"""Rules that read a learning rate off a curve of losses: pure functions of the rates and the
smoothed losses.

`valley`, `steep`, `minimum` and `slide` are those of fastai (`fastai.callback.schedule`), tested
against it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np

Rule = Callable[[np.ndarray, np.ndarray], float]


def valley(rates: np.ndarray, losses: np.ndarray) -> float:
    """The middle of the second third of the longest valley: the longest falling subsequence of the
    losses.
    """
    # The least steep fall of each length so far: patience sorting.
    ends: list[float] = []
    lengths = np.ones(len(losses), int)
    for i, rise in enumerate((-losses).tolist()):
        place = bisect_left(ends, rise)
        ends[place : place + 1] = [rise]
        lengths[i] = place + 1
    end = int(lengths.argmax())
    # As if the subsequence had no gaps: what it has of them lies before this start.
    start = end - int(lengths[end]) if end else 0
    third = (end - start) / 3
    return float(rates[start + int(third) + int(third / 2)])


def steep(rates: np.ndarray, losses: np.ndarray) -> float:
    """The rate where the loss falls most in one step, over the logarithm of the rate."""
    return float(rates[np.argmin(_forward(rates, losses))])


def minimum(rates: np.ndarray, losses: np.ndarray) -> float:
    """A tenth of the rate at which the loss is lowest."""
    return float(rates[np.argmin(losses)]) / 10


def slide(
    rates: np.ndarray, losses: np.ndarray, width: int = 15, threshold: float = 0.005
) -> float:
    """The rate where an interval that slides down from the highest rate first has nearly the same
    slope at both of its ends.

    Args:
        rates: Rising.
        losses: At these rates.
        width: Of the interval, in steps. Defaults to 15; fewer where the curve is shorter.
        threshold: How much the slopes may differ, in loss per step. Defaults to 0.005.
    """
    slopes = np.gradient(losses)
    right = len(losses) - 1
    left = right - min(width, right)
    found = rates[left]
    while left >= 0 and abs(slopes[right] - slopes[left]) > threshold:
        found = rates[left]
        right, left = right - 1, left - 1
    return float(found)


def gradient(rates: np.ndarray, losses: np.ndarray) -> float:
    """The rate where the loss falls most steeply over the logarithm of the rate, by central
    differences.
    """
    return float(rates[np.argmin(_central(rates, losses))])


def _forward(rates: np.ndarray, losses: np.ndarray) -> np.ndarray:
    return np.diff(losses) / np.diff(np.log(rates))


def _central(rates: np.ndarray, losses: np.ndarray) -> np.ndarray:
    return np.gradient(losses, np.log(rates))


RULES: dict[str, Rule] = {
    "valley": valley,
    "steep": steep,
    "minimum": minimum,
    "slide": slide,
    "gradient": gradient,
}
# The slopes of which these rules take the lowest.
SLOPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "steep": _forward,
    "gradient": _central,
}


def smooth(losses: np.ndarray, smoothing: float) -> np.ndarray:
    """The exponential moving average along the last axis, corrected for its start at zero."""
    mean = 0.0
    found = []
    for count, loss in enumerate(losses.T, start=1):
        mean = smoothing * mean + (1 - smoothing) * loss
        found.append(mean / (1 - smoothing**count))
    return np.array(found).T


def centred(losses: np.ndarray, width: int) -> np.ndarray:
    """The mean of the `width` values around each, fewer at the ends: a smoothing that does not lag
    behind.
    """
    kernel = np.ones(width)
    return np.convolve(losses, kernel, "same") / np.convolve(np.ones(len(losses)), kernel, "same")


def fall(losses: np.ndarray) -> tuple[float, float]:
    """The fall of a curve from its start, and the fall that chance alone might make of a curve
    without a slope.

    Medians of a tenth of the curve are compared: a few wild batches do not move them. Chance is
    four standard errors of their difference, with the deviation of one loss taken from the median
    difference of neighbours, which a trend hardly moves.
    """
    width = min(max(5, len(losses) // 10), len(losses))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(losses, width), axis=1)
    deviation = np.median(np.abs(np.diff(losses))) / (0.6745 * np.sqrt(2))
    return float(medians[0] - medians.min()), float(4 * 1.25 * deviation * np.sqrt(2 / width))
