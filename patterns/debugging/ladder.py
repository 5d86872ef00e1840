"""`kp.debug`: from "does it run" to "is it better than the simplest models", in one call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from .. import _keras
from .._util.arguments import whole_number
from .._util.table import format_table, html_table
from .alignment import check_alignment
from .checks import look
from .examined import Examined, examine
from .finding import Findings, ranked
from .length import steps_asked
from .one_batch import memorise
from .overfit_report import OverfitReport
from .references import Baselines, baseline
from .short_run import FitData, ShortRun, course_of, findings_of, run_shortly

_CALLER = "kp.debug"
_SHORT_STEPS = 200
# Of `kp.fit`, beside those of `model.fit`.
_FIT_ARGUMENTS = {
    *("total_steps", "plan", "log_every_steps", "validate_every_steps", "seed", "fuse"),
}
_REFUSED = {"x", "y", "self"}


@dataclass(frozen=True, repr=False)
class DebugReport:
    """The outcome of `kp.debug`: all that was found on the way up, and how far it got.

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
            found["short run"] = course_of(self.short_run)
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
            `batch_size`, `validation_data`, `validation_split`, `sample_weight`, `class_weight`,
            `shuffle`, and the number of steps and epochs, by which a schedule is judged. Of
            `callbacks`, the function of a `LearningRateScheduler` is asked for its rates.

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
    total_steps = steps_asked(x, fit_arguments)
    examined = examine(
        _CALLER, model, x, y, given["sample_weight"], given["validation_data"], split, total_steps
    )
    examined.weight_classes(fit_arguments.get("class_weight"))
    size = examined.batch_size(fit_arguments.get("batch_size") or 32)
    examined.callbacks = keras.tree.flatten(fit_arguments.get("callbacks") or [])
    examined.epochs = fit_arguments.get("epochs") or 1
    found = list(look(examined, batch_size=size))
    stopped = _stopped(examined)
    if stopped:
        rungs = ("one batch", "baseline", "short run")
        return DebugReport(ranked(found), left_out=dict.fromkeys(rungs, stopped))
    one_batch = memorise(examined, size, loss_key=loss_key)
    found += one_batch.findings
    left_out: dict[str, str] = {}
    data = FitData(examined, x, y, fit_arguments)
    baselines = _baselines(examined, data, known, left_out)
    short_run = None
    if examined.has_gradient:
        short_run = run_shortly(examined, data, steps, size, loss_key, baselines)
        # Of two findings of one kind the first stays: the one that says more.
        found += check_alignment(examined, baselines, short_run)
        found += findings_of(short_run, baselines)
    else:
        left_out["short run"] = "no weight has a gradient"
    return DebugReport(ranked(found), one_batch, baselines, short_run, left_out)


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
    examined: Examined, data: FitData, known: Any, left_out: dict[str, str]
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
