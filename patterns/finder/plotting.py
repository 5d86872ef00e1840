"""The curves of a sweep, and the marks on them."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from .rules import RULES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The later ones are smaller: where two rules agree, both are seen.
_MARKS = (("#d95f02", 12), ("#1b9e77", 10.5), ("#7570b3", 9), ("#e7298a", 7.5), ("#ffd92f", 6))
_MARK_OF = dict(zip(RULES, _MARKS, strict=True))
_LEGEND_COLUMNS = 34


def draw_losses(axes: Axes, rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray) -> None:
    """Draws the losses and the smoothed losses over the logarithm of the rate."""
    axes.plot(rates, losses, color="0.75", linewidth=1, label="loss of each batch")
    axes.plot(rates, smoothed, color="#08306b", linewidth=2, label="smoothed")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    # What diverges would press the rest together.
    low = smoothed.min()
    high = smoothed[: max(2, len(smoothed) // 2)].max()
    span = high - low or 1.0
    raw = losses[losses <= high + span]
    axes.set_ylim(min(low, raw.min()) - 0.05 * span, high + 0.6 * span)
    axes.grid(alpha=0.25, which="major", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def mark_range(axes: Axes, low: float, high: float) -> None:
    """Shades the range for a cycle."""
    label = f"for a cycle {low:.1e} to {high:.1e}"
    axes.axvspan(low, high, color="#9ecae1", alpha=0.25, linewidth=0, label=label)


def mark_suggestions(
    axes: Axes,
    rates: np.ndarray,
    smoothed: np.ndarray,
    suggestions: Mapping[str, float],
    unsure: Mapping[str, str],
) -> None:
    """Marks on the smoothed curve the rate of each rule that is sure, and says in the legend why
    the others are not.
    """
    for rule, rate in suggestions.items():
        color, size = _MARK_OF[rule]
        axes.plot(
            [rate],
            [np.interp(np.log(rate), np.log(rates), smoothed)],
            "o",
            color=color,
            markersize=size,
            markeredgecolor="white",
            label=f"{rule} {rate:.2e}",
            zorder=3,
        )
    for rule, reason in unsure.items():
        axes.plot([], [], " ", label=fill(f"{rule} not sure: {reason}", _LEGEND_COLUMNS))
