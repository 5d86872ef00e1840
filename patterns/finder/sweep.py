"""The outcome of a sweep of the learning rate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .._util.plots import given_or_new_axes
from .._util.table import format_table, html_lines, html_table
from ..optimizers.rates import set_rate
from ..run.checks import check_model
from ..storage.results import Suggestion, SweepFile, numbers, write_result
from .confidence import Reading, read
from .plotting import draw_losses, mark_range, mark_suggestions
from .rules import RULES, centred, fall, smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What fastai leaves out at the ends: a tenth of the steps, in which the average settles, and the
# last few, which diverge.
WARMUP_SHARE = 0.1
_DIVERGING_STEPS = 5
_HEADER = ["rule", "rate", "noise: from", "to"]


class Suggestions(Mapping[str, float]):
    """The rate of each rule that is sure of one, by its name.

    Args:
        readings: The answers of all rules, by their names.

    Attributes:
        intervals: Of each rule that is sure, the rates between which other noise of the batches
            leaves its own, four times in five.
        unsure: Of each rule that is not, the reason.
    """

    def __init__(self, readings: Mapping[str, Reading]) -> None:
        self.unsure = {rule: one.doubt for rule, one in readings.items() if one.doubt}
        sure = {rule: one for rule, one in readings.items() if not one.doubt}
        self.intervals = {rule: (one.low, one.high) for rule, one in sure.items()}
        self._rates = {rule: one.rate for rule, one in sure.items()}

    @property
    def spread(self) -> float:
        """The highest over the lowest; 1 if there is no other."""
        rates = self._rates.values()
        return max(rates) / min(rates) if rates else 1.0

    @property
    def shown_spread(self) -> str:
        """The spread, with as many digits as say something."""
        return f"{self.spread:.1f}" if self.spread < 100 else f"{self.spread:,.0f}"

    def __getitem__(self, rule: str) -> float:
        return self._rates[rule]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rates)

    def __len__(self) -> int:
        return len(self._rates)

    def __repr__(self) -> str:
        table = [format_table(_HEADER, self._rows)] if self else []
        return "\n".join([*table, *self._lines])

    def _repr_html_(self) -> str:
        table = html_table(_HEADER, self._rows) if self else ""
        return table + html_lines(*self._lines)

    @property
    def _rows(self) -> list[list[str]]:
        return [
            [rule, *(f"{one:.2e}" for one in (rate, *self.intervals[rule]))]
            for rule, rate in self.items()
        ]

    @property
    def _lines(self) -> list[str]:
        lines = [f"Not sure: {rule}: {reason}." for rule, reason in self.unsure.items()]
        advice = (
            "they agree, as rules do"
            if self.spread < 30
            else "they disagree: look at the curve (.plot()), or sweep in more steps"
        )
        if len(self) > 1:
            lines.append(f"The highest is {self.shown_spread} times the lowest; {advice}.")
        return lines


@dataclass(frozen=True, repr=False)
class LearningRateSweep:
    """The outcome of `kp.find_learning_rate`: the losses of a sweep, and the rates that can be read
    off them.

    Attributes:
        rates: The rate of each step, of shape `(steps,)`; where several optimizers share a model,
            that of the fastest.
        losses: The loss of each step's batch, before that step's update, of shape `(steps,)`.
        steps: How many steps were to be made.
        ended: Why the sweep ended: `"all steps were made"`, `"the loss diverged"` or `"the loss was
            not finite"`.
        smoothing: The share of the past in the moving average.
        optimizers: The places in the model of the optimizers that were swept; none means all.
        ways: With `fuse`, the ways in which the steps were run, as dicts: `"step"` of the first
            one, `"way"`, and `"why"`.
    """

    rates: np.ndarray
    losses: np.ndarray
    steps: int
    ended: str
    smoothing: float
    optimizers: tuple[str, ...] = ()
    ways: tuple[dict[str, Any], ...] = ()

    @cached_property
    def smoothed(self) -> np.ndarray:
        """The exponential moving average of the losses, corrected for its start, of shape
        `(steps,)`.
        """
        return smooth(self.losses, self.smoothing)

    def suggest(self, rule: str = "minimum") -> float:
        """The rate that a rule reads off the smoothed curve, less a tenth of the steps at its start
        and five at its end.

        A rule must be sure of it. Its rate lies where the loss falls by more than the noise of the
        batches explains (`"minimum"` needs no such place), and other noise of the same size moves
        it by less than a factor of ten.

        Args:
            rule: `"valley"`, `"steep"`, `"minimum"`, `"slide"` (these are fastai's) or
                `"gradient"`. Defaults to `"minimum"`, a tenth of the rate with the lowest loss,
                which did best on the nets of `benchmarks/bench_finder.py`.

        Raises:
            ValueError: If there is no such rule, if the sweep was too short, if the loss never
                falls, or if the rule is not sure; the error then names those that are.
        """
        if rule not in RULES:
            raise ValueError(f"suggest: there is no rule {rule!r}; there are {', '.join(RULES)}.")
        found = self.suggestions()
        if rule in found:
            return found[rule]
        sure = ", ".join(f"{other} ({rate:.1e})" for other, rate in found.items())
        raise ValueError(
            f"suggest: the rule {rule!r} is not sure of a rate: {found.unsure[rule]}. "
            f"{f'Sure are: {sure}' if sure else 'No rule is sure'}. Look at the curve (.plot()), "
            "or sweep in more steps or in larger batches."
        )

    def suggestions(self) -> Suggestions:
        """The suggestions of all rules that are sure of one, the reasons of the others, and how far
        they disagree.

        Raises:
            ValueError: If the sweep was too short, or if the loss never falls.
        """
        self._check_falls()
        return self._suggestions

    def range(self) -> tuple[float, float]:
        """The lowest and the highest rate for a cycle: where the loss begins to fall, and where it
        ceases to.

        Smith reads them off by eye. Here they are where a mean of the losses around each step has
        done a tenth of its fall for the last time, and nine tenths for the first time.

        Raises:
            ValueError: As `suggestions`.

        References:
            L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017,
                arXiv:1506.01186, section 3.3.
        """
        self._check_falls()
        losses = self._centred_losses
        done = (losses[0] - losses) / (losses[0] - losses.min())
        last = int(np.argmax(done >= 0.9))
        # The last time: at a flat start, noise alone can do a tenth.
        first = int(np.flatnonzero(done[:last] < 0.1)[-1]) + 1
        rates = self.rates[self._usable_part]
        return float(rates[min(first, last - 1)]), float(rates[last])

    def apply(self, model: keras.Model, rule: str = "minimum") -> float:
        """Sets the suggested rate, also over a schedule. Several optimizers keep the ratios of
        their rates.

        Args:
            model: A compiled model.
            rule: As for `suggest`. Defaults to `"minimum"`.

        Returns:
            The rate.

        Raises:
            TypeError: If `model` is no model.
            ValueError: As `suggest`, or if the model is not compiled.
        """
        check_model("apply", model)
        rate = self.suggest(rule)
        set_rate(model, rate, self.optimizers)
        return rate

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws losses and smoothed losses over the logarithm of the rate, with every suggestion
        marked. The legend says why a rule has none.

        Args:
            ax: The matplotlib axes to draw in. Defaults to None: those of a new figure, which a
                notebook shows.

        Returns:
            The axes; `.figure.savefig(path)` writes the picture to a file.

        Raises:
            ImportError: If matplotlib is missing.
        """
        axes = given_or_new_axes("LearningRateSweep.plot", ax, (8, 4.6))
        draw_losses(axes, self.rates, self.losses, self.smoothed)
        try:
            suggestions = self.suggestions()
            mark_range(axes, *self.range())
            mark_suggestions(axes, self.rates, self.smoothed, suggestions, suggestions.unsure)
            spread = suggestions.shown_spread
            title = (
                f"Learning rates; the rules lie within a factor of {spread}"
                if suggestions
                else "No rule is sure of a rate"
            )
        except ValueError as error:
            title = f"No suggestion. {str(error).split('.')[0]}."
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return axes

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Writes the sweep into a folder as `sweep.json`, in the place of an older one.
        `keras-patterns report` shows it beside the run in that folder.

        Args:
            directory: Such as that of `kp.Checkpoint`; made if it does not exist.

        Returns:
            The file.

        Raises:
            StoreError: If another file of that name is there, or the system refuses.
        """
        suggestions, doubt, cycle = Suggestions({}), "", None
        try:
            suggestions, cycle = self.suggestions(), self.range()
        except ValueError as error:
            doubt = str(error)
        result = SweepFile(
            rates=[float(rate) for rate in self.rates],
            losses=numbers(self.losses),
            smoothed=numbers(self.smoothed),
            steps=self.steps,
            ended=self.ended,
            smoothing=self.smoothing,
            optimizers=list(self.optimizers),
            suggestions=[
                Suggestion(rule=rule, rate=rate, low=low, high=high)
                for rule, rate in suggestions.items()
                for low, high in [suggestions.intervals[rule]]
            ],
            unsure=suggestions.unsure,
            cycle=cycle,
            doubt=doubt,
        )
        return write_result(directory, result)

    def _repr_html_(self) -> str:
        try:
            low, high = self.range()
            cycle = html_lines(f"For a cycle: from {low:.2e} to {high:.2e}.")
            return html_lines(self._head) + self.suggestions()._repr_html_() + cycle
        except ValueError as error:
            return html_lines(self._head, f"No suggestion. {error}")

    def __repr__(self) -> str:
        try:
            low, high = self.range()
            cycle = f"For a cycle: from {low:.2e} to {high:.2e}."
            return f"{self._head}\n{self.suggestions()!r}\n{cycle}"
        except ValueError as error:
            return f"{self._head}\nNo suggestion. {error}"

    @property
    def _head(self) -> str:
        return (
            f"LearningRateSweep: {len(self.rates)} of {self.steps} steps, from {self.rates[0]:.1e} "
            f"to {self.rates[-1]:.1e}; {self.ended}."
        )

    @cached_property
    def _suggestions(self) -> Suggestions:
        part = self._usable_part
        return Suggestions(read(self.rates, self.losses, part, self.steps, self.smoothing))

    @property
    def _usable_part(self) -> slice:
        return slice(int(WARMUP_SHARE * self.steps), len(self.losses) - _DIVERGING_STEPS)

    @property
    def _centred_losses(self) -> np.ndarray:
        return centred(self.losses, max(3, self.steps // 10))[self._usable_part]

    def _check_falls(self) -> None:
        """Raises if nothing can be read off the curve."""
        left = len(self.losses) - _DIVERGING_STEPS - int(WARMUP_SHARE * self.steps)
        if left < 4:
            raise ValueError(
                f"Only {len(self.losses)} of {self.steps} steps were made ({self.ended}), of which "
                f"{max(0, left)} are neither at "
                "the start nor at the end. Sweep from a lower start_rate, or in more steps."
            )
        fallen, chance = fall(self.losses[self._usable_part])
        if not fallen > chance or np.argmin(self._centred_losses) < 1:
            raise ValueError(
                "The loss never falls after the first tenth of the steps: the median of a tenth "
                f"falls by {fallen:.2g}, and chance alone explains {chance:.2g}. Look at the curve "
                "(.plot()). If it falls at the very start, sweep from a lower start_rate. Else, "
                "does the model learn at all? If so, sweep in more steps, in larger batches, or up "
                "to a higher stop_rate."
            )
