"""Some steps of training, from the start, on the data of a call of `fit`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from .. import _keras
from ..data import data_parts, make_source, split_validation
from ..data.rows import is_rows
from ..state.preservation import preserved
from .collapse import NEARLY_ONE, check_collapse, spread_of_outputs, spread_without_added
from .examined import Examined
from .finding import Finding
from .references import Baselines
from .sample import Sample, take_sample

# Of examples that the short run trains on or is scored on.
_MOST_HELD = 8000
_AGAINST_OVERFITTING = (
    "Stop early (kp.EarlyStopping), use more data, dropout, a penalty or fewer units."
)
# How often the short run looks at the validation data.
_LOOKS = 10


@dataclass(frozen=True)
class ShortRun:
    """Some steps of training, from the start.

    Attributes:
        losses: Of each batch, before its update, of shape `(steps,)`.
        validation: Losses on the validation data by the step before which they were computed; empty
            without such data.
        score: That of the model after it, in the metric of the baselines; None if there is none.
        spread: By how much its outputs differ then, beside the targets; None where layers add no
            losses.
        freed: The same after half as many steps without what layers add; None unless the outputs
            were nearly one.
    """

    losses: np.ndarray
    validation: Mapping[int, float] = field(default_factory=dict)
    score: float | None = None
    spread: float | None = None
    freed: float | None = None


class FitData:
    """The data of a call of `fit`, cut into training and validation.

    Args:
        examined: The model and a sample.
        x, y: As given.
        arguments: Of the call of `fit`.

    Attributes:
        train: `(x, y, sample_weight)` as arrays: all, or those of the sample.
        validation: A sample of the validation data, or None.
    """

    def __init__(self, examined: Examined, x: Any, y: Any, arguments: Mapping[str, Any]) -> None:
        weight = arguments.get("sample_weight")
        sample = examined.sample
        self.is_arrays = is_rows((x, y)) and y is not None
        self.train = (x, y, weight) if is_rows(x) else (sample.x, sample.y, sample.weight)
        self.validation: Sample | None = examined.validation
        self.validation_data = arguments.get("validation_data")
        if examined.split:
            self.train, self.validation_data = split_validation(*self.train, examined.split)
            parts = (*data_parts("validation_data", self.validation_data), None, None)
            self.validation = take_sample(*parts[:3])
        self._arguments = arguments
        # A sample of other data than arrays has them as weights.
        self._class_weight = arguments.get("class_weight") if is_rows(x) else None

    @property
    def has_one_target(self) -> bool:
        """True if a simple model could be fitted on it."""
        return self.is_arrays and len(keras.tree.flatten(self.train[1])) == 1

    def hold_out(self) -> tuple[Any, Any]:
        """Takes some examples out of the training data, to score on."""
        sample = take_sample(*self.train, most=_MOST_HELD)
        cut = sample.rows // 5
        test_x, test_y, _ = sample.cut(0, cut)
        self.train = sample.cut(cut, sample.rows)
        return test_x, test_y

    def batches(self, steps: int, size: int) -> Iterator[tuple[Any, ...]]:
        """Batches of the training data, of one size: that, or all examples if there are fewer."""
        size = min(size, len(keras.tree.flatten(self.train[0])[0]))
        source = make_source(
            *self.train,
            batch_size=size,
            shuffle=self._arguments.get("shuffle", True),
            class_weight=self._class_weight,
        )
        whole = (
            batch
            for batch in map(source.batch, itertools.count())
            if len(keras.tree.flatten(batch[0])[0]) == size
        )
        # Another size would be another program.
        return itertools.islice(whole, steps)


@_keras.quiet_arrays()
def run_shortly(
    examined: Examined,
    data: FitData,
    steps: int,
    size: int,
    loss_key: str,
    baselines: Baselines | None,
) -> ShortRun:
    """Trains for some steps, and puts the model back.

    Args:
        examined: The model.
        data: That of the call of `fit`.
        steps: At most; fewer where the loss is not finite.
        size: Of a batch.
        loss_key: The name of the loss among what a step returns.
        baselines: Score the model after it. None if there are none.
    """
    model, losses, validation = examined.model, [], {}
    score = None
    with preserved(model), _keras.quiet_faults(), _keras.batches_as_in_fit(model):
        model.steps_per_execution = 1
        model.train_function = examined.step_function
        for step, batch in enumerate(data.batches(steps, size)):
            if data.validation is not None and step % max(1, steps // _LOOKS) == 0:
                validation[step] = _validated(model, data.validation, examined.rows, loss_key)
            batch = (*batch, None, None)[:3]
            logs = model.train_on_batch(*batch, return_dict=True)
            losses.append(float(np.asarray(logs[loss_key])))
            if not math.isfinite(losses[-1]):
                break
        if baselines is not None and math.isfinite(losses[-1]):
            try:
                score = baselines.score(model, examined.rows)
            except Exception:
                # Its outputs are no answers.
                score = None
        spread = spread_of_outputs(examined) if examined.adds_losses else None
    freed = None
    if spread is not None and spread < NEARLY_ONE:
        freed = spread_without_added(examined, data.batches(steps // 2, size))
    return ShortRun(np.array(losses), validation, score, spread, freed)


def _validated(model: keras.Model, sample: Sample, rows: int, loss_key: str) -> float:
    logs = model.test_on_batch(*sample.cut(0, rows), return_dict=True)
    return float(np.asarray(logs.get(loss_key, math.nan)))


def findings_of(run: ShortRun, baselines: Baselines | None) -> Iterator[Finding]:
    """All that a short run shows."""
    if not math.isfinite(run.losses[-1]):
        yield Finding(
            "non_finite",
            "error",
            f"The loss is not finite after {len(run.losses)} steps.",
            {"steps": len(run.losses)},
            "kp.NonFiniteGuard names the batch and the layer.",
        )
    yield from check_collapse(run.spread, run.freed)
    yield from _overfits(run)
    if baselines is None or run.score is None:
        return
    best = max(baselines.best.score, run.score)
    if best < baselines.chance_level + baselines.noise and baselines.chance < 0.98:
        yield Finding(
            "label_noise",
            "note",
            f"Neither the simplest models ({baselines.best.name}: {baselines.best.score:.3f}) nor "
            f"a short run ({run.score:.3f}) is better than chance ({baselines.chance:.3f}).",
            {"best": best, "chance": baselines.chance},
            "Look at some examples with their labels: do they belong to each other?",
        )


def _overfits(run: ShortRun) -> Iterator[Finding]:
    values = np.array(list(run.validation.values()))
    if len(values) < 4 or not np.isfinite(values).all() or run.losses[0] <= 0:
        return
    best, last = float(values.min()), float(values[-3:].mean())
    trained = float(run.losses[-20:].mean() / run.losses[0])
    if last > 1.2 * best and trained < 0.4 and int(values.argmin()) < 0.7 * len(values):
        step = list(run.validation)[int(values.argmin())]
        yield Finding(
            "overfit",
            "warning" if last > 1.5 * best else "note",
            f"The loss on the validation data was lowest ({best:.3g}) at step {step}, and is "
            f"{last:.3g} at the end; that of training has fallen to {trained:.0%}.",
            {"best": best, "last": last, "step": step},
            _AGAINST_OVERFITTING,
        )
    elif trained < 0.05 and last > 0.5 * values[0] and 0.1 * last > run.losses[-20:].mean():
        yield Finding(
            "overfit",
            "warning",
            f"The loss on the training data has fallen to {trained:.1%} of its start, that on the "
            f"validation data from {values[0]:.3g} to {last:.3g} only.",
            {"training": trained, "validation": last / float(values[0])},
            _AGAINST_OVERFITTING,
        )


def course_of(run: ShortRun) -> str:
    """The course of a short run, in words."""
    text = f"loss {run.losses[0]:.3g} to {run.losses[-10:].mean():.3g} in {len(run.losses)} steps"
    if run.validation:
        values = list(run.validation.values())
        text += f", on validation {values[0]:.3g} to {values[-1]:.3g}"
    return text if run.score is None else f"{text}; score {run.score:.3f}"
