"""The outcome of a probe of the batch size: a table, a picture, a recommendation."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._util.plots import given_or_new_axes
from .._util.table import format_table, html_table
from .batch_size_memory import LargestSize
from .batch_size_noise import NoiseScale
from .batch_size_speed import Speed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADER = ["batch size", "examples/s", "half of the rounds", "relative time to a loss"]
# Without a noise scale: the share of the highest speed that is enough.
_ENOUGH = 0.9


@dataclass(frozen=True, repr=False)
class BatchSizeReport:
    """The speed, the noise and the memory of batches, and the size that follows.

    Attributes:
        speeds: Of each size that was timed, the smallest first.
        noise: The gradient noise scale; None if it was not asked for.
        largest: The largest size that fits; None if it was not asked for.
        examples: How many there are.
    """

    speeds: tuple[Speed, ...]
    noise: NoiseScale | None
    largest: LargestSize | None
    examples: int

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
        return f"{said} The learning rate goes with the size: find it anew after a change."

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the speeds over the size, with the noise scale and its interval.

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
        axes.legend(frameon=False, fontsize=9)
        return axes

    def __repr__(self) -> str:
        return "\n".join([format_table(_HEADER, self._rows), *self._lines])

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in self._lines)
        return html_table(_HEADER, self._rows) + lines

    @property
    def _lines(self) -> list[str]:
        parts = [repr(one) for one in (self.noise, self.largest) if one is not None]
        return [*parts, self.recommendation]

    @property
    def _rows(self) -> list[list[str]]:
        least = min(map(self._time, self.speeds)) if self.has_noise_scale else 1.0
        return [
            [
                f"{one.size:,}",
                f"{one.median:,.0f}",
                "{:,.0f} to {:,.0f}".format(*one.quartiles),
                f"{self._time(one) / least:.2f}" if self.has_noise_scale else "not known",
            ]
            for one in self.speeds
        ]

    def _time(self, speed: Speed) -> float:
        """The seconds to a given loss, in a unit that all sizes share: the examples that are needed
        grow as 1 + size / noise scale (McCandlish et al., section 2.3).
        """
        assert self.noise is not None
        return (1 + speed.size / self.noise.critical_batch_size) / speed.median

    def _draw_noise(self, axes: Axes, noise: NoiseScale) -> None:
        # An end that is infinite, or zero on an axis of logarithms, is not drawn.
        left, right = self.speeds[0].size / 2, self.speeds[-1].size * 4
        low, high = (min(max(end, left), right) for end in (noise.low, noise.high))
        axes.axvspan(low, high, color="#1b9e77", alpha=0.15, label="noise scale, 95 %")
        if left <= noise.critical_batch_size <= right:
            axes.axvline(noise.critical_batch_size, color="#1b9e77", label="noise scale")
