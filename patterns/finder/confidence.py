"""The confidence of a rule in its rate, given the noise of the batches.

Two things are asked of a rule. Its rate must lie where the loss falls: the slope of a line through
the losses of a tenth of the steps, those before it, fitted by least squares, is more than four
standard errors below zero. (A map of where the slope of a curve is significant is the SiZer of
Chaudhuri and Marron.) And noise must not move its rate by more than a factor of ten: the rule is
read off a hundred other curves, each of them the lines through the losses plus the residuals with
signs drawn anew, which is the wild bootstrap of Wu. For a rule of the steepest place, every place
counts whose line is as steep as the steepest but for two and a half standard errors.

`minimum` asks for no slope, and need not lie where the loss falls.

References:
    P. Chaudhuri, J. S. Marron, "SiZer for Exploration of Structures in Curves", Journal of the
        American Statistical Association 94 (1999), 807-823.
    C. F. J. Wu, "Jackknife, Bootstrap and Other Resampling Methods in Regression Analysis", Annals
        of Statistics 14 (1986), 1261-1295.
    A. C. Davison, D. V. Hinkley, "Bootstrap Methods and their Application", Cambridge 1997, 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .rules import RULES, SLOPES, smooth

# A window of fewer steps has too few degrees of freedom for its standard error to be of use.
_LEAST_WIDTH = 8
# In standard errors.
_FALLING, _AS_STEEP = 4.0, 2.5
_CURVES = 100
_INTERVAL = (0.1, 0.9)
_WIDEST = 10.0
# Of the other curves, so many must have a rate where the loss falls.
_LEAST_SHARE = 0.9


@dataclass(frozen=True)
class Reading:
    """The rate of a rule, and its confidence in it.

    Attributes:
        rate: Where it found one; NaN if nowhere.
        low, high: Four times in five, other noise leaves it between these.
        doubt: Why it cannot tell; empty if it can.
    """

    rate: float
    low: float
    high: float
    doubt: str = ""


class _Lines(NamedTuple):
    """Lines through the `width` losses up to each step, over the logarithm of the rate.

    Attributes:
        slopes, errors: Of the lines, and their standard errors, of shape `(steps,)`. The first
            line is that of all its steps.
        fits: The value, at each step, of the line whose middle is nearest to it.
    """

    slopes: np.ndarray
    errors: np.ndarray
    fits: np.ndarray


class _Fall(NamedTuple):
    """A curve, and the steps at which it falls by more than its noise.

    Attributes:
        rates, smoothed: Of the steps that count.
        places: The steps, up to the lowest loss, before which it falls.
        slopes, errors: Of the lines up to these.
    """

    rates: np.ndarray
    smoothed: np.ndarray
    places: np.ndarray
    slopes: np.ndarray
    errors: np.ndarray


def read(
    rates: np.ndarray, losses: np.ndarray, usable: slice, steps: int, smoothing: float
) -> dict[str, Reading]:
    """Reads every rule off a sweep, with its confidence.

    Args:
        rates: Of the steps that were made, rising.
        losses: Of their batches.
        usable: The steps that count.
        steps: How many were to be made.
        smoothing: The share of the past in the moving average.

    Returns:
        The readings by the names of the rules.
    """
    width = min(max(_LEAST_WIDTH, steps // 10), len(losses))
    places = np.log(rates)
    fits = _lines(places, losses, width).fits
    # Of the noise in the losses, a line takes up two in `width`.
    residuals = (losses - fits) * np.sqrt(width / (width - 2))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(_CURVES, len(losses)))
    # None falls below the lowest loss: where it diverges, noise goes up alone.
    others = np.maximum(fits + signs * residuals, losses.min())
    curves = np.concatenate([losses[np.newaxis], others])
    own, *falls = (
        _fall(rates, smoothed, _lines(places, curve, width), usable, width)
        for curve, smoothed in zip(curves, smooth(curves, smoothing), strict=True)
    )
    return {
        rule: _reading(
            rule, own, _answer(rule, own, width), [_answer(rule, one, width) for one in falls]
        )
        for rule in RULES
    }


def _lines(places: np.ndarray, losses: np.ndarray, width: int) -> _Lines:
    # Neighbours in long sweeps have nearly the same line.
    stride = max(1, width // 20)
    windows = np.lib.stride_tricks.sliding_window_view(places, width)[::stride]
    middles = windows.mean(1)
    x = windows - middles[:, np.newaxis]
    squares = (x**2).sum(1)
    windows = np.lib.stride_tricks.sliding_window_view(losses, width)[::stride]
    means = windows.mean(1)
    y = windows - means[:, np.newaxis]
    slopes = (y * x).sum(1) / squares
    errors = np.sqrt(((y - slopes[:, np.newaxis] * x) ** 2).sum(1) / (width - 2) / squares)
    steps = np.arange(len(places))
    nearest = np.clip((steps - width // 2) // stride, 0, len(middles) - 1)
    fits = means[nearest] + slopes[nearest] * (places - middles[nearest])
    last = np.maximum(steps - width + 1, 0) // stride
    return _Lines(slopes[last], errors[last], fits)


def _fall(
    rates: np.ndarray, smoothed: np.ndarray, lines: _Lines, usable: slice, width: int
) -> _Fall:
    rates, smoothed = rates[usable], smoothed[usable]
    slopes, errors = lines.slopes[usable], lines.errors[usable]
    falls = slopes < -_FALLING * errors
    # A sudden fall shows only when a fifth of the line lies behind it.
    for place in np.flatnonzero(falls[1:] & ~falls[:-1]) + 1:
        falls[max(0, place - width // 5) : place] = True
    (places,) = np.nonzero(falls[: int(np.argmin(smoothed)) + 1])
    return _Fall(rates, smoothed, places, slopes[places], errors[places])


def _answer(rule: str, fall: _Fall, width: int) -> float:
    """The rate of a rule where the loss falls; NaN where there is none."""
    rates, smoothed, places = fall.rates, fall.smoothed, fall.places
    if rule == "minimum":
        return RULES[rule](rates, smoothed)
    if rule in SLOPES:
        slopes = SLOPES[rule](rates, smoothed)
        places = places[places < len(slopes)]
        return float(rates[places[np.argmin(slopes[places])]]) if len(places) else np.nan
    rate = RULES[rule](rates, smoothed)
    if not len(places):
        return np.nan
    # A valley begins where its first line does, not where that ends.
    first = places[0] if rule == "slide" else max(0, places[0] - width // 2)
    return rate if rates[first] <= rate <= rates[places[-1]] else np.nan


def _as_steep(fall: _Fall) -> list[float]:
    """The first and the last rate at which the loss may well fall most steeply."""
    if not len(fall.places):
        return []
    best = np.argmin(fall.slopes)
    errors = np.hypot(fall.errors, fall.errors[best])
    places = fall.places[fall.slopes - fall.slopes[best] <= _AS_STEEP * errors]
    return [float(fall.rates[places[0]]), float(fall.rates[places[-1]])]


def _reading(rule: str, own: _Fall, rate: float, others: list[float]) -> Reading:
    """Judges the rate of a rule by those that it reads off the other curves."""
    if np.isnan(rate):
        doubt = (
            "no stretch of the curve falls by more than its noise"
            if not len(own.places)
            else f"{RULES[rule](own.rates, own.smoothed):.1e} lies where the loss does not fall"
        )
        return Reading(rate, rate, rate, doubt)
    found = [other for other in others if not np.isnan(other)]
    interval = [float(end) for end in np.quantile(found, _INTERVAL)] if found else []
    as_steep = _as_steep(own) if rule in SLOPES else []
    low, high = min([rate, *interval, *as_steep]), max([rate, *interval, *as_steep])
    if as_steep and as_steep[1] > _WIDEST * as_steep[0]:
        doubt = "the loss falls as steeply from {:.1e} to {:.1e}".format(*as_steep)
    elif high > _WIDEST * low:
        doubt = f"noise moves it from {low:.1e} to {high:.1e}"
    elif len(found) < _LEAST_SHARE * len(others):
        doubt = f"noise may move it from {rate:.1e} to where the loss does not fall"
    else:
        doubt = ""
    return Reading(rate, low, high, doubt)
