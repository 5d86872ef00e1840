"""The outcome of a probe of the batch size: a table, a picture, a recommendation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._util.plots import given_or_new_axes
from .._util.table import format_table, html_lines, html_table
from .batch_size_loss import SizeLoss
from .batch_size_memory import LargestSize
from .batch_size_noise import NoiseScale
from .batch_size_speed import Speed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEBIBYTE = 2**20
_MEMORY = "memory"
_HEADER = ["batch size", "examples/s", "half of the rounds", "relative time to a loss"]
# Without a noise scale: the share of the highest speed that is enough.
_ENOUGH = 0.9


@dataclass(frozen=True, repr=False)
class BatchSizeReport:
    """The outcome of `kp.probe_batch_size`: the speed, the noise and the memory of batches, and the
    size that follows.

    Attributes:
        speeds: Of each size that was timed, the smallest first.
        noise: The gradient noise scale; None if it was not asked for.
        largest: The largest size that fits; None if it was not asked for.
        examples: How many there are.
        losses: The validation loss of each size after the same number of examples; empty if it was
            not asked for.
    """

    speeds: tuple[Speed, ...]
    noise: NoiseScale | None
    largest: LargestSize | None
    examples: int
    losses: tuple[SizeLoss, ...] = ()

    @property
    def has_noise_scale(self) -> bool:
        """True if the noise was measured and is a number."""
        return self.noise is not None and not self.noise.problem

    @property
    def recommended(self) -> int:
        """The size, among those that were timed and fit, with the shortest time to a given loss;
        without a noise scale the smallest with nine tenths of the highest speed.
        """
        limit = self.largest.size if self.largest else self.examples
        fitting = [one for one in self.speeds if one.size <= limit] or [self.speeds[0]]
        if self.has_noise_scale:
            return min(fitting, key=self._time).size
        best = max(one.median for one in fitting)
        return next(one.size for one in fitting if one.median >= _ENOUGH * best)

    @property
    def recommendation(self) -> str:
        """The same in words, with the reason."""
        (speed,) = (one for one in self.speeds if one.size == self.recommended)
        said = f"Train with batches of {speed.size}: {speed.median:,.0f} examples per second"
        if self.noise is None or self.noise.problem:
            said += f", at least {_ENOUGH:.0%} of the highest speed. Noise was not judged"
            said += f": {self.noise.problem}." if self.noise else "."
        else:
            said += (
                ", and of the sizes that were timed the shortest time to a given loss at a noise "
                f"scale of {self.noise.critical_batch_size:.3g} (95 % interval "
                f"{self.noise.low:.3g} to {self.noise.high:.3g}). That scale grows during "
                "training: probe again later, and larger batches may pay."
            )
        if self.largest and self.largest.size < self.speeds[-1].size:
            said += f" Larger ones than {self.largest.size:,} may not fit into memory."
        said += self._loss_in_words
        return f"{said} The learning rate goes with the size: find it anew after a change."

    @property
    def _loss_in_words(self) -> str:
        """The loss of the recommended size beside the lowest one; empty where none was measured."""
        if not self.losses:
            return ""
        best = min(self.losses, key=lambda one: one.mean)
        if not best.is_finite:
            return " After the same number of examples no size has a finite validation loss."
        (chosen,) = (one for one in self.losses if one.size == self.recommended)
        runs = len(best.losses)
        said = (
            f" After the same number of examples the validation loss is lowest at {best.size}: "
            f"{_loss(best)} over {runs} seeds"
        )
        if chosen is best:
            return f"{said}."
        error = math.sqrt((best.spread**2 + chosen.spread**2) / runs)
        is_clear = not chosen.is_finite or (runs > 1 and chosen.mean - best.mean > 2 * error)
        return (
            f"{said}; at {chosen.size} it is {_loss(chosen)}, which "
            f"{'is clearly worse' if is_clear else 'may be chance'}."
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the speeds over the size, with the noise scale and its interval, and if they were
        measured the validation losses, on an axis of their own.

        Args:
            ax: The matplotlib axes to draw in. Defaults to None: those of a new figure, which a
                notebook shows.

        Returns:
            The axes.

        Raises:
            ImportError: If matplotlib is missing.
        """
        axes = given_or_new_axes("BatchSizeReport.plot", ax, (8, 4.6))
        sizes, rates = [one.size for one in self.speeds], [one.median for one in self.speeds]
        quartiles = [one.quartiles for one in self.speeds]
        spread = [
            [rate - low for rate, (low, _) in zip(rates, quartiles, strict=True)],
            [high - rate for rate, (_, high) in zip(rates, quartiles, strict=True)],
        ]
        axes.errorbar(sizes, rates, yerr=spread, color="#08306b", marker="o", label="speed")
        axes.axvline(self.recommended, color="0.4", linestyle="--", label="recommended")
        if self.noise is not None and self.has_noise_scale:
            self._draw_noise(axes, self.noise)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="batch size", ylabel="examples per second")
        axes.set_ylim(bottom=0)
        axes.set_title(f"Batch size: {self.recommended} is recommended", fontsize=10)
        lines, labels = axes.get_legend_handles_labels()
        if self.losses:
            more = self._draw_losses(axes)
            lines, labels = lines + more[0], labels + more[1]
        axes.legend(lines, labels, frameon=False, fontsize=9)
        return axes

    def __repr__(self) -> str:
        return "\n".join([format_table(self._header, self._rows), *self._lines])

    def _repr_html_(self) -> str:
        return html_table(self._header, self._rows) + html_lines(*self._lines)

    @property
    def _lines(self) -> list[str]:
        parts = [repr(one) for one in (self.noise, self.largest) if one is not None]
        return [*parts, self.recommendation]

    @property
    def _header(self) -> list[str]:
        loss = ["validation loss", "rate times"] if self.losses else []
        return [*_HEADER, *([_MEMORY] if any(map(self._memory, self.speeds)) else []), *loss]

    @property
    def _rows(self) -> list[list[str]]:
        least = min(map(self._time, self.speeds)) if self.has_noise_scale else 1.0
        losses = {one.size: [_loss(one), f"{one.rate_factor:.3g}"] for one in self.losses}
        has_memory = _MEMORY in self._header
        return [
            [
                f"{one.size:,}",
                f"{one.median:,.0f}",
                "{:,.0f} to {:,.0f}".format(*one.quartiles),
                f"{self._time(one) / least:.2f}" if self.has_noise_scale else "not known",
                *([self._memory(one)] if has_memory else []),
                *losses.get(one.size, []),
            ]
            for one in self.speeds
        ]

    def _memory(self, speed: Speed) -> str:
        """The memory of a size, with the way in which it is known."""
        if speed.peak_bytes is not None:
            return f"{speed.peak_bytes / _MEBIBYTE:,.0f} MiB on the device"
        found = self.largest.memory.get(speed.size) if self.largest else None
        if found is None or self.largest is None:
            return ""
        how = "in a child" if self.largest.source == "child" else "estimated"
        return f"{found / _MEBIBYTE:,.0f} MiB {how}"

    def _time(self, speed: Speed) -> float:
        """The seconds to a given loss, in a unit that all sizes share: the examples that are needed
        grow as 1 + size / noise scale (McCandlish et al., section 2.3).
        """
        assert self.noise is not None
        return (1 + speed.size / self.noise.critical_batch_size) / speed.median

    def _draw_losses(self, axes: Axes) -> tuple[list[Any], list[str]]:
        right = axes.twinx()
        finite = [one for one in self.losses if one.is_finite]
        right.errorbar(
            [one.size for one in finite],
            [one.mean for one in finite],
            yerr=[one.spread for one in finite],
            color="#d95f02",
            marker="s",
            label="validation loss",
        )
        right.set_ylabel("validation loss after the same number of examples")
        return right.get_legend_handles_labels()

    def _draw_noise(self, axes: Axes, noise: NoiseScale) -> None:
        # An end that is infinite, or zero on an axis of logarithms, is not drawn.
        left, right = self.speeds[0].size / 2, self.speeds[-1].size * 4
        low, high = (min(max(end, left), right) for end in (noise.low, noise.high))
        axes.axvspan(low, high, color="#1b9e77", alpha=0.15, label="noise scale, 95 %")
        if left <= noise.critical_batch_size <= right:
            axes.axvline(noise.critical_batch_size, color="#1b9e77", label="noise scale")


def _loss(one: SizeLoss) -> str:
    return f"{one.mean:.4g} ± {one.spread:.2g}" if one.is_finite else "not finite"
