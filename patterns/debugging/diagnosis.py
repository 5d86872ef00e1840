"""`kp.diagnose`: the learning curves of a run, in words and numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from .._util.metrics import resolve_mode
from .._util.table import html_lines, html_table
from ..storage.results import DiagnosisFile, ObservationRow, numbers, write_result
from .curves import SURE, Curve, read_curves

_CALLER = "kp.diagnose"
# With fewer values neither noise nor progress can be told.
_FEWEST = 6
# As fractions of the whole fall of a curve: a rise that matters, a fall that still matters, a noise
# that hides the curve.
_RISE, _PROGRESS, _UNREST = 0.05, 0.02, 0.1
# A training loss that has fallen by less than this fraction of itself has learnt next to nothing.
_LEARNT = 0.2
# Of the first value: a training loss below it has nothing left to learn.
_INTERPOLATED = 0.01

KINDS = (
    *("diverged", "oscillates", "overfits", "underfits", "plateaus"),
    *("still improving", "converged"),
)
_REMEDIES = {
    "diverged": "Lower the learning rate (kp.find_learning_rate), clip the gradients, look for "
    "values that are not finite (kp.NonFiniteGuard).",
    "oscillates": "Lower the learning rate, let it fall (kp.schedules), or take larger batches.",
    "overfits": "Stop there (kp.EarlyStopping) or go back to it (kp.select_checkpoint); then more "
    "data, augmentation, or a penalty (kp.regularize).",
    "underfits": "A higher learning rate (kp.find_learning_rate), a larger net, less "
    "regularisation; look whether inputs and loss are right.",
    "plateaus": "Another learning rate (kp.find_learning_rate), or one that falls (kp.schedules); "
    "patience longer than the plateau.",
    "still improving": "Train on: more steps, or a higher learning rate.",
    "converged": "More steps gain nothing. A lower rate at the end, more data or a larger net may.",
}
_DOUBLE_DESCENT = (
    "A validation loss that rises can fall again much later, in large nets and with wrong labels "
    "(double descent): {why}. To know, train on from here beside the best checkpoint."
)


@dataclass(frozen=True)
class Observation:
    """A thing that the curves of a run show, as `kp.diagnose` sees it.

    Attributes:
        kind: `"diverged"`, `"oscillates"`, `"overfits"`, `"underfits"`, `"plateaus"`, `"still
            improving"` or `"converged"`.
        message: In words, with the numbers.
        evidence: The numbers by name.
        remedy: Ways out, the likeliest first.
        caution: A reason to doubt it; empty if there is none.
    """

    kind: str
    message: str
    evidence: dict[str, float]
    remedy: str
    caution: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The outcome of `kp.diagnose`; to be printed, or read.

    Attributes:
        metric: The metric that was looked at.
        observations: The gravest first.
        doubt: Why nothing can be said; empty if something can.
    """

    metric: str
    observations: list[Observation] = field(default_factory=list)
    doubt: str = ""

    @property
    def kinds(self) -> list[str]:
        """The kinds of the observations."""
        return [one.kind for one in self.observations]

    @property
    def verdict(self) -> str:
        """The gravest kind; empty if nothing can be said."""
        return self.kinds[0] if self.observations else ""

    def __getitem__(self, kind: str) -> Observation:
        """The observation of a kind; KeyError if there is none."""
        return {one.kind: one for one in self.observations}[kind]

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Writes the diagnosis into a folder as `diagnosis.json`, in the place of an older one.
        `keras-patterns report` shows it beside the run in that folder.

        Args:
            directory: Such as that of `kp.Checkpoint`; made if it does not exist.

        Returns:
            The file.

        Raises:
            StoreError: If another file of that name is there, or the system refuses.
        """
        rows = [
            ObservationRow(
                kind=one.kind,
                message=one.message,
                evidence=dict(zip(one.evidence, numbers(one.evidence.values()), strict=True)),
                remedy=one.remedy,
                caution=one.caution,
            )
            for one in self.observations
        ]
        result = DiagnosisFile(metric=self.metric, observations=rows, doubt=self.doubt)
        return write_result(directory, result)

    def _repr_html_(self) -> str:
        if not self.observations:
            return html_lines(repr(self))
        header = ["kind", "what the curves show", "what to do", "caution"]
        rows = [[one.kind, one.message, one.remedy, one.caution] for one in self.observations]
        return html_table(header, rows)

    def __repr__(self) -> str:
        lines = [f"{one.kind}: {one.message} {one.remedy}" for one in self.observations]
        for number, one in enumerate(self.observations):
            lines[number] += f" {one.caution}" if one.caution else ""
        return "\n".join(lines or [f"Nothing can be said: {self.doubt}."])


def diagnose(
    history: keras.callbacks.History | Mapping[str, Sequence[float]],
    metric: str = "loss",
    *,
    mode: str = "auto",
    target: float | None = None,
) -> Diagnosis:
    """Says what the learning curves of a run show: underfits, overfits, diverged, oscillates,
    plateaus, still improving, converged; with the numbers, and what to try.

    It judges by the ratios of rises and falls to the whole fall of a curve and to its noise, so
    that the unit of the loss and the numbers of the steps do not matter:

    - diverged: a value is not finite, or the training ends above where it began.
    - oscillates: the noise of the training is above a tenth of its fall.
    - overfits: the validation ends above its lowest value, by more than three deviations of its
      noise and a twentieth of its fall, while the training has fallen on.
    - underfits: the training has fallen by less than a fifth of its first value, and falls no
      further; or it stays above `target`.
    - plateaus: a quarter of the run or more without progress, and progress after it.
    - still improving: the last third falls, by more than chance and 2 % of the whole fall; of the
      validation where there is one.
    - converged: none of these; it has fallen, and does so no more.

    Args:
        history: What `kp.fit` or `model.fit` returned; or the dict of lists in it.
        metric: The name of a metric of one number, without `val_`. Defaults to `"loss"`.
        mode: `"min"`, `"max"`, or `"auto"`, which goes by the metric's name. Defaults to `"auto"`.
        target: A value that the training should reach, such as that of a known result. Defaults to
            None: none is known.

    Returns:
        The observations, the gravest first; `print` shows them as lines.

    Raises:
        TypeError: If `history` is something else.
        ValueError: If there is no such metric, or its validation cannot be placed.

    Example:

    >>> import keras_patterns as kp
    >>> loss = [1.0, 0.6, 0.4, 0.3, 0.22, 0.17, 0.13, 0.1, 0.08, 0.06]
    >>> val_loss = [1.0, 0.7, 0.55, 0.5, 0.51, 0.54, 0.58, 0.63, 0.68, 0.74]
    >>> diagnosis = kp.diagnose({"loss": loss, "val_loss": val_loss})
    >>> diagnosis.kinds
    ['overfits']
    >>> print(diagnosis["overfits"].message)
    since step 4 val_loss rose from 0.51 to 0.68, while loss fell from 0.3 to 0.08; the gap is 0.6.

    References:
        P. Nakkiran and others, "Deep Double Descent", ICLR 2020, arXiv:1912.02292.
        P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968.
    """
    sign = 1.0 if resolve_mode(_CALLER, metric, mode) == "min" else -1.0
    training, validation = read_curves(_CALLER, history, metric, sign)
    curves = [one for one in (training, validation) if one is not None]
    lost = [
        one.steps[np.argmin(np.isfinite(one.values))]
        for one in curves
        if not np.isfinite(one.values).all()
    ]
    if lost:
        step = float(min(lost))
        return Diagnosis(
            metric,
            [_observed("diverged", f"{metric} is not finite at step {step:,.0f}.", {"step": step})],
        )
    if len(training.values) < _FEWEST:
        doubt = f"there are {len(training.values)} epochs, and {_FEWEST} are needed"
        return Diagnosis(metric, [], doubt)
    if validation is not None and len(validation.values) < _FEWEST:
        validation = None
    found = _look(_Looking(metric, sign, training, validation, target))
    return Diagnosis(metric, sorted(found, key=lambda one: KINDS.index(one.kind)))


@dataclass(frozen=True)
class _Looking:
    metric: str
    sign: float
    training: Curve
    validation: Curve | None
    target: float | None

    def shown(self, value: float) -> str:
        return f"{self.sign * value:.3g}"


def _look(looking: _Looking) -> list[Observation]:
    """All that is to be said of curves that are long enough and finite."""
    diverged = _diverged(looking)
    if diverged:
        return diverged
    found = [*_oscillates(looking), *_overfits(looking)]
    improving = _still_improving(looking)
    if not improving and (underfits := _underfits(looking)):
        found = [*(one for one in found if one.kind != "oscillates"), *underfits]
    found += _plateaus(looking)
    if improving and "overfits" not in [one.kind for one in found]:
        found += improving
    if not found:
        found = _converged(looking)
    return found


def _diverged(looking: _Looking) -> list[Observation]:
    training = looking.training
    rise = training.end - float(training.values[0])
    if rise <= SURE * training.noise:
        return []
    words = (
        f"{looking.metric} {'rose' if looking.sign > 0 else 'fell'} from "
        f"{looking.shown(float(training.values[0]))} to {looking.shown(training.end)}."
    )
    return [_observed("diverged", words, {"rise": rise, "step": float(training.steps[-1])})]


def _oscillates(looking: _Looking) -> list[Observation]:
    training = looking.training
    if not training.fall or training.noise <= _UNREST * training.fall:
        return []
    share = training.noise / training.fall
    words = (
        f"{looking.metric} goes up and down by {training.noise:.3g}, {share:.0%} of its whole way."
    )
    return [_observed("oscillates", words, {"noise": training.noise, "share": share})]


def _overfits(looking: _Looking) -> list[Observation]:
    training, validation = looking.training, looking.validation
    if validation is None:
        return []
    best = validation.best
    rise = validation.end - float(validation.smooth[best])
    since = float(validation.steps[best])
    place = int(np.searchsorted(training.steps, since))
    if rise <= max(SURE * validation.noise, _RISE * validation.fall):
        return []
    if training.end >= training.smooth[place]:
        return []
    gap = validation.end - training.end
    verbs = ("rose", "fell") if looking.sign > 0 else ("fell", "rose")
    words = (
        f"since step {since:,.0f} val_{looking.metric} {verbs[0]} from "
        f"{looking.shown(float(validation.smooth[best]))} to {looking.shown(validation.end)}, "
        f"while {looking.metric} {verbs[1]} from {looking.shown(float(training.smooth[place]))} "
        f"to {looking.shown(training.end)}; the gap is {gap:.3g}."
    )
    evidence = {"since": since, "rise": rise, "gap": gap}
    return [_observed("overfits", words, evidence, _caution(training, validation, best))]


def _caution(training: Curve, validation: Curve, best: int) -> str:
    """Where double descent is possible, a word of it."""
    # The last three are the end.
    peak = float(validation.smooth[best:-3].max(initial=-math.inf))
    if peak - validation.end > max(SURE * validation.noise, _RISE * validation.fall):
        why = f"here it falls again, from {peak:.3g}"
    elif training.end > _INTERPOLATED * abs(float(training.values[0])):
        why = "here the training loss has not come to its end yet"
    else:
        return ""
    return _DOUBLE_DESCENT.format(why=why)


def _underfits(looking: _Looking) -> list[Observation]:
    training, target = looking.training, looking.target
    # Nothing is left to learn where it begins at 0.
    share = training.fall / abs(float(training.values[0])) if training.values[0] else 1.0
    evidence = {"fall": training.fall, "share": share, "end": looking.sign * training.end}
    if target is not None:
        missing = training.end - looking.sign * target
        if missing <= SURE * training.noise:
            return []
        words = f"{looking.metric} stays at {looking.shown(training.end)}; {target:.3g} is known."
        return [_observed("underfits", words, {**evidence, "missing": missing})]
    if looking.sign < 0 or share >= _LEARNT:
        return []
    words = (
        f"{looking.metric} went from {looking.shown(training.values[0])} to "
        f"{looking.shown(training.end)}, by {share:.0%}, and goes no further."
    )
    return [_observed("underfits", words, evidence)]


def _still_improving(looking: _Looking) -> list[Observation]:
    curve, name = looking.training, looking.metric
    if looking.validation is not None:
        curve, name = looking.validation, f"val_{looking.metric}"
    length = max(4, len(curve.values) // 3)
    gained = curve.progress(len(curve.values) - length, len(curve.values))
    if gained <= _PROGRESS * curve.fall or not gained:
        return []
    since = float(curve.steps[-length])
    words = f"{name} improved by {gained:.3g} since step {since:,.0f}, and does so still."
    caution = _earlier_rise(looking.validation) if looking.validation else ""
    return [_observed("still improving", words, {"since": since, "gained": gained}, caution)]


def _earlier_rise(validation: Curve) -> str:
    """A word on a rise that it has left behind."""
    above = validation.smooth - np.minimum.accumulate(validation.smooth)
    top = int(np.argmax(above))
    if above[top] <= max(SURE * validation.noise, _RISE * validation.fall):
        return ""
    return (
        f"Its rise until step {validation.steps[top]:,.0f} looked like overfitting, and this may "
        "be a second descent (double descent): who stops at the first rise does not see it."
    )


def _plateaus(looking: _Looking) -> list[Observation]:
    """The longest stretch without progress, with progress before and after it."""
    curve = looking.training
    count = len(curve.values)
    least, level = max(5, count // 4), curve.smooth
    found = (0, 0)
    for start in range(1, count - least):
        stop = start + least
        # Flat from the first value on, within the noise and a hundredth of the fall.
        band = max(SURE * curve.noise, _PROGRESS / 2 * curve.fall)
        if np.ptp(level[start:stop]) > band:
            continue
        while stop < count and np.ptp(level[start : stop + 1]) <= band:
            stop += 1
        if stop - start > found[1] - found[0]:
            found = (start, stop)
    start, stop = found
    after = float(level[stop - 1]) - curve.end if stop else 0.0
    if after <= max(SURE * curve.noise, 2 * _RISE * curve.fall):
        return []
    first, last = float(curve.steps[start]), float(curve.steps[stop - 1])
    words = (
        f"from step {first:,.0f} to {last:,.0f} {looking.metric} stood at "
        f"{looking.shown(float(level[start]))}, and improved by {after:.3g} after that."
    )
    return [_observed("plateaus", words, {"from": first, "to": last, "after": after})]


def _converged(looking: _Looking) -> list[Observation]:
    curve, name = looking.training, looking.metric
    if looking.validation is not None:
        curve, name = looking.validation, f"val_{looking.metric}"
    near = curve.smooth <= curve.smooth.min() + max(SURE * curve.noise, _PROGRESS * curve.fall)
    since = float(curve.steps[np.argmax(near)])
    words = f"{name} has been at {looking.shown(curve.end)} since step {since:,.0f}."
    evidence = {"since": since, "end": looking.sign * curve.end}
    if looking.validation is not None:
        evidence["gap"] = looking.validation.end - looking.training.end
    return [_observed("converged", words, evidence)]


def _observed(
    kind: str, message: str, evidence: dict[str, float], caution: str = ""
) -> Observation:
    return Observation(kind, message, evidence, _REMEDIES[kind], caution)
