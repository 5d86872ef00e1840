"""`kp.debug`: from "does it run" to "is it better than the simplest models", in one call."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from .. import _keras
from .._util.arguments import whole_number
from .._util.table import format_table
from ..data import data_parts, make_source, split_validation
from ..data.rows import is_rows
from ..state.preservation import preserved
from .examined import Examined
from .finding import Finding, Findings, html_table, ranked
from .inspection import examine, look
from .one_batch import OverfitReport, memorise
from .references import Baselines, baseline
from .sample import Sample, take_sample

_CALLER = "kp.debug"
_SHORT_STEPS = 200
# Of examples that the short run trains on or is scored on.
_MOST_HELD = 8000
# How often the short run looks at the validation data.
_LOOKS = 10
# Of `kp.fit`, beside those of `model.fit`.
_FIT_ARGUMENTS = {
    *("total_steps", "plan", "log_every_steps", "validate_every_steps", "seed", "fuse"),
}
_REFUSED = {"x", "y", "self"}


@dataclass(frozen=True)
class ShortRun:
    """Some steps of training, from the start.

    Attributes:
        losses: Of each batch, before its update, of shape `(steps,)`.
        validation: Losses on the validation data by the step before which they were computed; empty
            without such data.
        score: That of the model after it, in the metric of the baselines; None if there is none.
    """

    losses: np.ndarray
    validation: Mapping[int, float] = field(default_factory=dict)
    score: float | None = None


@dataclass(frozen=True, repr=False)
class DebugReport:
    """All that was found on the way up, and how far it got.

    Attributes:
        findings: Ranked, causes before symptoms.
        one_batch: The report of `kp.overfit_batch`; None if it did not come to that.
        baselines: Of `kp.baseline`; None if there are none for these data.
        short_run: The last rung; None if it did not come to that.
        left_out: The rungs that were left out, each with the reason.
    """

    findings: Findings
    one_batch: OverfitReport | None = None
    baselines: Baselines | None = None
    short_run: ShortRun | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows = [[rung, *said] for rung, said in self._rungs.items()]
        return f"{format_table(['rung', 'what came of it'], rows)}\n{self.findings!r}"

    def _repr_html_(self) -> str:
        rows = [[rung, *said] for rung, said in self._rungs.items()]
        return html_table(["rung", "what came of it"], rows) + self.findings._repr_html_()

    @property
    def _rungs(self) -> dict[str, list[str]]:
        found = {"preflight": f"worst: {self.findings.worst or 'nothing found'}"}
        if self.one_batch:
            found["one batch"] = f"{self.one_batch.verdict}. {self.one_batch.evidence}"
        if self.baselines:
            best = self.baselines.best
            found["baseline"] = (
                f"{self.baselines.metric}: chance {self.baselines.chance:.3f}, {best.name} "
                f"{best.score:.3f}"
            )
        if self.short_run:
            found["short run"] = _course(self.short_run)
        found |= {rung: f"left out: {why}" for rung, why in self.left_out.items()}
        return {rung: [said] for rung, said in found.items()}


@_keras.quiet_arrays()
def debug(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    short_steps: int = _SHORT_STEPS,
    known: Mapping[str, float] | None = None,
    loss_key: str = "loss",
    **fit_arguments: Any,
) -> DebugReport:
    """Says why a model does not learn, in the order in which a person would look.

    A preflight, one batch to be memorised, the simplest models to compare with, a short run; each
    only if the one before lets it. Afterwards model, optimizer, metrics and random states are as
    before, bit for bit, also if it is interrupted. A model that was not built is built. A generator
    has given its first batches.

    Args:
        model: A compiled model.
        x, y: As in `kp.fit`.
        short_steps: The steps of the short run, at least 20. Defaults to 200.
        known: Results of others to compare with, by name, in the metric of the baselines.
        loss_key: The name of the loss among what the model's `train_step` returns. Defaults to
            `"loss"`.
        **fit_arguments: Those of the call of `kp.fit` or `model.fit` that does not learn. Used are
            `batch_size`, `validation_data`, `validation_split`, `sample_weight`, `class_weight`
            and `shuffle`.

    Returns:
        The report: `.findings`, a list with `.worst` and `.raise_if("error")`, and what each rung
        gave.

    Raises:
        TypeError: If an argument is of the wrong type, or none of `kp.fit`.
        ValueError: If one is out of range, or the model is not compiled.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(256, 4))
    >>> layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> model.compile(keras.optimizers.Adam(100.0), "mse")
    >>> kp.debug(model, x, x.sum(1)).findings[0].kind
    'lr_high'

    References:
        I. Goodfellow, Y. Bengio, A. Courville, "Deep Learning", MIT Press 2016, section 11.5.
    """
    steps = whole_number(_CALLER, "short_steps", short_steps, least=20)
    _check_fit_arguments(fit_arguments)
    given = {name: fit_arguments.get(name) for name in ("validation_data", "sample_weight")}
    split = fit_arguments.get("validation_split") or 0.0
    examined = examine(
        _CALLER, model, x, y, given["sample_weight"], given["validation_data"], split
    )
    found = list(look(examined, class_weight=fit_arguments.get("class_weight")))
    stopped = _stopped(examined)
    if stopped:
        rungs = ("one batch", "baseline", "short run")
        return DebugReport(ranked(found), left_out=dict.fromkeys(rungs, stopped))
    size = examined.batch_size(fit_arguments.get("batch_size") or 32)
    one_batch = memorise(examined, size, loss_key=loss_key)
    found += one_batch.findings
    left_out: dict[str, str] = {}
    data = _Data(examined, x, y, fit_arguments)
    baselines = _baselines(examined, data, known, left_out)
    short_run = None
    if examined.has_gradient:
        short_run = _short_run(examined, data, steps, size, loss_key, baselines)
        found += _of_run(short_run, baselines)
    else:
        left_out["short run"] = "no weight has a gradient"
    return DebugReport(ranked(found), one_batch, baselines, short_run, left_out)


class _Data:
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
        """Batches of the training data."""
        source = make_source(
            *self.train,
            batch_size=size,
            shuffle=self._arguments.get("shuffle", True),
            class_weight=self._arguments.get("class_weight"),
        )
        whole = (
            batch
            for batch in map(source.batch, itertools.count())
            if len(keras.tree.flatten(batch[0])[0]) == size
        )
        # Another size would be another program.
        return itertools.islice(whole, steps)


def _check_fit_arguments(arguments: Mapping[str, Any]) -> None:
    allowed = {*inspect.signature(keras.Model.fit).parameters, *_FIT_ARGUMENTS} - _REFUSED
    for name in arguments:
        if name not in allowed:
            raise TypeError(f"{_CALLER}: {name!r} is no argument of kp.fit.")


def _stopped(examined: Examined) -> str:
    """Why the model cannot be trained at all; empty if it can."""
    if examined.problem:
        return examined.problem
    if not examined.can_be_trained:
        return "labels or ids are out of range"
    if not examined.model.trainable_variables:
        return "nothing is trained"
    return ""


def _baselines(
    examined: Examined, data: _Data, known: Any, left_out: dict[str, str]
) -> Baselines | None:
    outputs = examined.outputs
    if not data.has_one_target or len(outputs) != 1:
        left_out["baseline"] = "it takes arrays with one target"
        return None
    (one,) = outputs
    tasks = {"sparse": "classes", "categorical": "classes"}
    task = tasks.get(one.family, "numbers" if one.classes is None else "classes")
    if one.family == "binary" and one.width > 1 and not one.is_one_hot:
        task = "labels"
    if len(one.all_y) < 50 or (task == "numbers" and one.y.ndim > 2):
        left_out["baseline"] = "too few examples, or too large targets"
        return None
    validation = data.validation
    try:
        if validation is None or validation.y is None:
            test = data.hold_out()
        else:
            test = (validation.x, validation.y)
        x, y, _ = data.train
        return baseline(x, y, validation_data=test, task=task, known=known)
    except (ImportError, ValueError, TypeError) as error:
        left_out["baseline"] = str(error)
        return None


@_keras.quiet_arrays()
def _short_run(
    examined: Examined,
    data: _Data,
    steps: int,
    size: int,
    loss_key: str,
    baselines: Baselines | None,
) -> ShortRun:
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
    return ShortRun(np.array(losses), validation, score)


def _validated(model: keras.Model, sample: Sample, rows: int, loss_key: str) -> float:
    logs = model.test_on_batch(*sample.cut(0, rows), return_dict=True)
    return float(np.asarray(logs.get(loss_key, math.nan)))


def _of_run(run: ShortRun, baselines: Baselines | None) -> Iterator[Finding]:
    if not math.isfinite(run.losses[-1]):
        yield Finding(
            "non_finite",
            "error",
            f"The loss is not finite after {len(run.losses)} steps.",
            {"steps": len(run.losses)},
            "kp.NonFiniteGuard names the batch and the layer.",
        )
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
            "Stop early (kp.EarlyStopping), use more data, dropout, a penalty or fewer units.",
        )


def _course(run: ShortRun) -> str:
    text = f"loss {run.losses[0]:.3g} to {run.losses[-10:].mean():.3g} in {len(run.losses)} steps"
    if run.validation:
        values = list(run.validation.values())
        text += f", on validation {values[0]:.3g} to {values[-1]:.3g}"
    return text if run.score is None else f"{text}; score {run.score:.3f}"
