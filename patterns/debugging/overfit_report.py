"""The outcome of `kp.overfit_batch`: a verdict, a table of layers, a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .._util.plots import given_or_new_axes
from .._util.table import format_table, html_table
from .finding import Finding

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Attempt:
    """Some steps on one batch at one rate.

    Attributes:
        factor: Of the given rate.
        rate: The rate, of the first step if it is scheduled.
        losses: Of each step, before its update, of shape `(steps,)`.
        fall: The share of the loss that is gone at the end.
        verdict: In a word or two.
    """

    factor: float
    rate: float
    losses: np.ndarray
    fall: float
    verdict: str


@dataclass(frozen=True)
class LayerRow:
    """A layer with weights, in numbers.

    Attributes:
        layer: Its kind and its place in the model.
        gradient: The root mean square of the gradient at the start.
        update: The change of the weights in the first step over their size, in the root mean
            square.
        spread: The standard deviation of what it gives, over the examples.
        dead: The share of its units that are zero for all examples.
    """

    layer: str
    gradient: float
    update: float
    spread: float
    dead: float


@dataclass(frozen=True, repr=False)
class OverfitReport:
    """The outcome of `kp.overfit_batch`: the course of a model on one batch that it is to memorise.

    Attributes:
        verdict: `"memorised"`, `"learning"`, `"goes up"`, `"explodes"`, `"oscillates"`,
            `"plateaus"`, `"not finite"` or `"no gradient"`, at the given rate.
        attempts: One for each rate, that of the optimizer first.
        layers: A row for each layer with weights.
        evidence: The numbers behind the verdict, as a sentence, with what other rates do.
        try_next: The thing to do.
        without: The kinds of layers that were kept from drawing at random.
    """

    verdict: str
    attempts: tuple[Attempt, ...]
    layers: tuple[LayerRow, ...]
    evidence: str
    try_next: str
    without: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), compare=False)

    @property
    def losses(self) -> np.ndarray:
        """The losses at the given rate, of shape `(steps,)`."""
        return self.attempts[0].losses

    @property
    def rates(self) -> np.ndarray:
        """The rates that were tried, of shape `(attempts,)`."""
        return np.array([one.rate for one in self.attempts])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the losses at every rate that was tried, over the step.

        Args:
            ax: The matplotlib axes to draw in. Defaults to None: those of a new figure.

        Returns:
            The axes.

        Raises:
            ImportError: If matplotlib is missing.
        """
        axes = given_or_new_axes("OverfitReport.plot", ax, (7, 4))
        finite = np.concatenate([one.losses[np.isfinite(one.losses)] for one in self.attempts])
        if finite.size and finite.min() > 0 and finite.max() > 30 * finite.min():
            axes.set_yscale("log")
        for one in self.attempts:
            axes.plot(one.losses, label=f"rate {one.rate:.2g}: {one.verdict}")
        axes.set_xlabel("step on one batch")
        axes.set_ylabel("loss")
        axes.set_title(self.verdict, fontsize=10)
        axes.legend(frameon=False, fontsize=9)
        return axes

    def __repr__(self) -> str:
        parts = [f"OverfitReport: {self.verdict}. {self.evidence}"]
        if self.try_next:
            parts.append(f"Try next: {self.try_next}")
        if self.without:
            parts.append(f"Kept from drawing at random meanwhile: {', '.join(self.without)}.")
        return "\n".join([*parts, format_table(_HEADER, self._rows)])

    def _repr_html_(self) -> str:
        text = html_table(
            ["verdict", "evidence", "try next"], [[self.verdict, self.evidence, self.try_next]]
        )
        return text + html_table(_HEADER, self._rows)

    @property
    def _rows(self) -> list[list[str]]:
        return [
            [
                row.layer,
                *(f"{one:.2e}" for one in (row.gradient, row.update, row.spread)),
                f"{row.dead:.0%}",
            ]
            for row in self.layers
        ]


_HEADER = ["layer", "gradient", "update / weight", "spread", "dead"]
