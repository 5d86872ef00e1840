"""The picture of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .sweep import LearningRateSweep

# The later ones are smaller: where two rules agree, both are seen.
_MARKS = (("#d95f02", 12), ("#1b9e77", 10.5), ("#7570b3", 9), ("#e7298a", 7.5), ("#ffd92f", 6))


def draw(sweep: LearningRateSweep) -> Figure:
    """The curve, its suggestions, and the range for a cycle; only the curve where there are
    none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), layout="constrained", dpi=100)
    axes = figure.subplots()
    axes.plot(sweep.rates, sweep.losses, color="0.75", linewidth=1, label="loss of each batch")
    axes.plot(sweep.rates, sweep.smoothed, color="#08306b", linewidth=2, label="smoothed")
    try:
        _mark(axes, sweep)
    except ValueError as error:
        axes.set_title(f"No suggestion. {str(error).split('.')[0]}.", fontsize=10)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    # What diverges would press the rest together.
    low, high = sweep.smoothed.min(), sweep.smoothed[: max(2, len(sweep.smoothed) // 2)].max()
    span = high - low or 1.0
    raw = sweep.losses[sweep.losses <= high + span]
    axes.set_ylim(min(low, raw.min()) - 0.05 * span, high + 0.6 * span)
    axes.grid(alpha=0.25, which="major", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _mark(axes: Any, sweep: LearningRateSweep) -> None:
    suggestions, (low, high) = sweep.suggestions(), sweep.range()
    axes.axvspan(
        low,
        high,
        color="#9ecae1",
        alpha=0.25,
        linewidth=0,
        label=f"for a cycle {low:.1e} to {high:.1e}",
    )
    for (color, size), (rule, rate) in zip(_MARKS, suggestions.items(), strict=True):
        height = np.interp(np.log(rate), np.log(sweep.rates), sweep.smoothed)
        axes.plot(
            [rate],
            [height],
            "o",
            color=color,
            markersize=size,
            markeredgecolor="white",
            label=f"{rule} {rate:.2e}",
            zorder=3,
        )
    axes.set_title(
        f"Learning rates; the rules lie within a factor of {suggestions.shown_spread}", fontsize=10
    )
