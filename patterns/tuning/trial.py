"""`kp.Trial`: an Optuna trial that trains with `kp.fit`, in a folder of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import keras

from .._util.messages import first_line
from ..run.checkpoint import Checkpoint
from ..run.checks import flat_callbacks
from ..run.fitting import fit
from ..run.history import RunHistory
from ..run.plan import StepPlan
from ..run.signals import RunPaused
from ..state.compiled import check_compiled
from ..state.leftovers import Leftovers
from .directions import check_direction, direction, warn_of_direction
from .errors import TuningError, storage_errors
from .reports import Reporter

_CALLER = "kp.Trial.fit"
_LEFT = Leftovers()
# What a trial keeps of itself in the storage: its part in the search, where it was pruned, the
# error that it failed with, how many steps it is to have, and how often it was taken over.
PART, PRUNED, ERROR, PLANNED, TAKEN_OVER = (
    f"keras_patterns:{name}" for name in ("part", "pruned_at", "error", "steps", "taken_over")
)


@dataclass(frozen=True)
class Part:
    """The part of a trial in its search, beside its parameters.

    Attributes:
        seed: Of the trial.
        parent: The trial from whose checkpoints it goes on; None if it begins.
        until: The step after which its runs are left; None for their ends.
        extends: Whether a plan of fewer steps is made longer.
        total_steps: The most steps that any trial of the search has; None if that is for the
            objective to say.
        group: Its place in the search, by what the search calls them (`"rung"`, `"member"`, ...).
    """

    seed: int
    parent: int | None = None
    until: int | None = None
    extends: bool = False
    total_steps: int | None = None
    group: Mapping[str, int] = field(default_factory=dict)


class Trial:
    """A trial of `kp.tune`, as its objective sees it: one of Optuna's that trains with `kp.fit`.

    All that an `optuna.Trial` has is there too (`user_attrs`, `relative_params`, ...). While the
    objective runs, the global random states are those of
    `keras.utils.set_random_seed(trial.seed)`, so that the same parameters and the same seed give
    the same model.

    Attributes:
        optuna: The `optuna.Trial`.
        number: Of the trial, from 0.
        seed: Of its initial weights and of the order of its data.
        directory: Its folder, in which runs of one's own may be saved as well.
        total_steps: The most steps that a trial of this search is trained; None in `kp.tune`, where
            the objective says how many there are.
        monitor: The metric that is reported.
        maximizes: Whether more of it is better.
    """

    def __init__(
        self,
        trial: Any,
        directory: Path,
        part: Part,
        monitor: str,
        maximizes: bool,
        prunes: bool,
        check: Callable[[dict[str, Any]], None],
    ) -> None:
        self.optuna = trial
        self.number: int = trial.number
        self.directory = directory
        self.seed = part.seed
        self.total_steps = part.total_steps
        self.monitor, self.maximizes = monitor, maximizes
        self._part, self._prunes, self._check = part, prunes, check
        self._runs: list[Reporter] = []
        with storage_errors("read a trial"):
            frozen = trial.study.trials[trial.number]
        self._reported = dict(frozen.intermediate_values)
        self._last_reported = max(self._reported, default=-1)
        self._pruned_at: Sequence[int] | None = frozen.user_attrs.get(PRUNED)

    def __getattr__(self, name: str) -> Any:
        # Before __init__ has run, as in a copy, there is nothing to ask.
        if name.startswith("__") or "optuna" not in vars(self):
            raise AttributeError(name)
        return getattr(self.optuna, name)

    def __repr__(self) -> str:
        return f"<kp.Trial {self.number}: {self.params}>"

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters so far, by name."""
        return dict(self.optuna.params)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """As in `optuna.Trial`: a number from `low` to `high`."""
        with self._asking(name, "FloatDistribution", log=log):
            return float(self.optuna.suggest_float(name, low, high, step=step, log=log))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """As in `optuna.Trial`: a whole number from `low` to `high`, both included."""
        with self._asking(name, "IntDistribution", log=log):
            return int(self.optuna.suggest_int(name, low, high, step=step, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As in `optuna.Trial`: one of some choices."""
        _check_choices(name, choices)
        with self._asking(name, "CategoricalDistribution", choices=tuple(choices)):
            return self.optuna.suggest_categorical(name, choices)

    def set_user_attr(self, key: str, value: Any) -> None:
        """As in `optuna.Trial`: keeps something beside the value, as JSON."""
        with storage_errors("keep an attribute"):
            self.optuna.set_user_attr(key, value)

    def should_prune(self) -> bool:
        """As in `optuna.Trial`, for a loop of one's own."""
        with storage_errors("give the reports of other trials"):
            return bool(self.optuna.should_prune())

    def report(self, value: float, step: int) -> None:
        """As in `optuna.Trial`, for a loop of one's own. What was reported before a kill is passed
        over.
        """
        with storage_errors("take a report"):
            if step not in self._reported:
                self.optuna.report(value, step)
                self._reported[step] = value

    def fit(
        self,
        model: keras.Model,
        x: Any = None,
        y: Any = None,
        *,
        checkpoint: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> RunHistory:
        """Trains a model by `kp.fit`, in the folder of the trial.

        The run goes on where it was killed. Each validation, or each end of an epoch where a metric
        of the training is monitored, is reported with its step. A pruned trial is left at the
        boundary, with its state saved. An objective may call this several times; each call is a run
        of its own, and the steps of reports count on.

        Args:
            model: A compiled Keras model.
            x: As in `kp.fit`.
            y: As in `kp.fit`.
            checkpoint: Arguments of `kp.Checkpoint` other than the folder, such as
                `{"every_steps": 100}`. Defaults to None: a checkpoint at the end of each epoch, of
                which the newest two and the best are kept.
            **arguments: Others of `kp.fit`. `seed` defaults to that of the trial, and `verbose` to
                0: the search shows its trials.

        Returns:
            The `kp.RunHistory`, across kills.

        Raises:
            optuna.TrialPruned: If the pruner has ended the trial. The state is saved by then.
            kp.TuningError: If there is no metric that can be reported, the model is as another
                trial has left it, or the storage of the study fails. The trial is kept.
            ValueError: If a `kp.Checkpoint` is among the callbacks.
        """
        number = len(self._runs)
        done = sum(run.step for run in self._runs)
        self._check_arguments(arguments, checkpoint)
        self.check()
        callbacks = flat_callbacks(_CALLER, arguments.pop("callbacks", None))
        if any(isinstance(one, Checkpoint) for one in callbacks):
            raise ValueError(
                f"{_CALLER}: a trial is saved in its own folder, so there must be no kp.Checkpoint "
                "in `callbacks`. Say how it is saved by checkpoint={...}."
            )
        until = None if self._part.until is None else self._part.until - done
        if self._part.extends and until is not None:
            arguments, until = longer(arguments, until)
        pruned_at = self._pruned_at[1] if self._pruned_at and self._pruned_at[0] == number else None
        reporter = Reporter(self, number, pruned_at, until)
        self._runs.append(reporter)
        arguments = {"seed": self.seed, "verbose": 0, **arguments}
        saving = self._checkpoint(number, bool(_validates(arguments)), checkpoint)
        with self._training(model):
            try:
                history = fit(model, x, y, callbacks=[*callbacks, reporter, saving], **arguments)
            except RunPaused:
                history = reporter.history
        if reporter.is_pruned:
            from optuna import TrialPruned

            raise TrialPruned(f"pruned after step {reporter.step:,}")
        return history

    def check(self) -> None:
        """Raises if its folder is that of another trial.

        Raises:
            TuningError: If it is.
        """
        self._check(self.params)

    def plan(self, run: int, steps: int) -> None:
        """Notes how many steps it is to have, up to the end of a run, for people who look at the
        search.
        """
        planned = sum(one.step for one in self._runs[:run]) + steps
        if self.optuna.user_attrs.get(PLANNED) != planned:
            self.set_user_attr(PLANNED, planned)

    def take(self, run: int, step: int, value: float) -> bool:
        """Takes a value of the monitored metric in a run; True if the trial is pruned there."""
        at = sum(one.step for one in self._runs[:run]) + step
        self.report(value, at)
        # What came before was decided by the process that reported it.
        if not self._prunes or at < self._last_reported or not self.should_prune():
            return False
        self.set_user_attr(PRUNED, [run, step])
        return True

    def result(self, value: Any) -> float:
        """The value of the trial; NaN where all that was monitored is.

        Args:
            value: What the objective has returned. None stands for the best monitored value.
        """
        if self._part.until is not None and not self._runs:
            raise TuningError(
                f"kp.tune: trial {self.number} is to be trained for {self._part.until:,} steps, "
                "and the objective has trained nothing by trial.fit, which sees to that. Train by "
                "it. The trial is kept."
            )
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(
                    "kp.tune: the objective must return a number, or None for the best monitored "
                    f"value. Received: {value!r}."
                )
            histories = [run.history for run in self._runs if run.history]
            warn_of_direction(histories, float(value), self.maximizes)
            return float(value)
        best = [run.best for run in self._runs if run.best is not None]
        if not best and self._reported and all(map(math.isnan, self._reported.values())):
            return math.nan
        if not best:
            raise TuningError(
                "kp.tune: the objective has returned None, which stands for the best "
                f"monitor={self.monitor!r}, and no kp.Trial.fit has had one. Return a "
                "number, monitor another metric, or give validation_data=. The trial is kept."
            )
        check_direction(
            "the objective has returned None, which stands for the best of",
            self.monitor,
            self.maximizes,
        )
        return max(best) if self.maximizes else min(best)

    @contextmanager
    def _asking(self, name: str, kind: str, **fixed: Any) -> Iterator[None]:
        """Within it, a parameter is asked for, whose distribution is of a kind that stays, with
        some settings that stay, too.
        """
        with storage_errors("keep a parameter"):
            try:
                yield
            except ValueError as error:
                trials = self.optuna.study.get_trials(deepcopy=False)
                known = (one.distributions[name] for one in trials if name in one.distributions)
                before = next(known, None)
                was = [type(before).__name__, *(getattr(before, one, None) for one in fixed)]
                if before is None or was == [kind, *fixed.values()]:
                    raise
                raise TuningError(
                    f"kp.tune: the objective asks for {name!r} otherwise than it did in this study "
                    f"({first_line(error)}): it was {before}. Put that back, or give the search a "
                    f"new folder. Trial {self.number} is kept."
                ) from error

    @contextmanager
    def _training(self, model: keras.Model) -> Iterator[None]:
        """Within it, a model is trained, which must not be that of another trial."""
        check_compiled(_CALLER, model)
        found = _LEFT.find(model, str(self.directory))
        if found:
            raise TuningError(
                f"{_CALLER}: {found[0]!r} of {model.name!r} is as the trial in {found[1]} has left "
                f"it, so trial {self.number} would go on with that one's training. Make and "
                "compile the model inside of the objective, or put its initial weights back there "
                "and compile it anew. The trial is kept."
            )
        with _LEFT.training(model, str(self.directory)):
            yield

    def _check_arguments(self, arguments: Mapping[str, Any], checkpoint: Any) -> None:
        if not (checkpoint is None or isinstance(checkpoint, Mapping)):
            raise TypeError(
                f"{_CALLER}: `checkpoint` must be a dict of arguments of kp.Checkpoint, such as "
                f'{{"every_steps": 100}}. Received: {checkpoint!r}.'
            )
        most = self.total_steps
        if most is not None and self._runs and sum(run.planned for run in self._runs) >= most:
            raise TuningError(
                f"{_CALLER}: the search trains a trial for at most {most:,} steps, and the "
                "objective has planned all of them in a call before this one. Train by one call. "
                "The trial is kept."
            )
        if not self._prunes:
            return
        check_direction("the pruner would go by", self.monitor, self.maximizes)
        if self.monitor.startswith("val_") and not _validates(arguments):
            raise TuningError(
                f"{_CALLER}: the pruner is to go by monitor={self.monitor!r}, and there is nothing "
                "to validate on. Give validation_data=, or monitor a metric of the training. The "
                "trial is kept."
            )

    def _checkpoint(
        self, number: int, validates: bool, given: Mapping[str, Any] | None
    ) -> Checkpoint:
        known = direction(self.monitor)
        best = {"monitor": self.monitor, "keep_best": 1, "mode": known or "auto"}
        if not validates and self.monitor.startswith("val_"):
            best = {}
        elif known is None:
            best["mode"] = "max" if self.maximizes else "min"
        arguments = {"keep_last": 2, **best, **(given or {})}
        if "directory" in arguments:
            raise ValueError(
                f"{_CALLER}: checkpoint= says how a trial is saved; the folder is the trial's own."
            )
        return Checkpoint(self.directory / f"fit-{number}", **arguments)


def longer(arguments: dict[str, Any], steps: int) -> tuple[dict[str, Any], int | None]:
    """The arguments of `kp.fit` for a run of more steps than they say, in epochs as long; and None,
    or the step after which a run that is planned for more is to be left.
    """
    plan = arguments.get("plan")
    total, length, epochs = (
        arguments.get(name) for name in ("total_steps", "steps_per_epoch", "epochs")
    )
    if plan is None and total and (length or epochs):
        plan = StepPlan.resolve(total, length, epochs, None)
    if plan is None and length and epochs:
        plan = StepPlan(length * epochs, length)
    if plan is not None and plan.total_steps >= steps:
        return arguments, steps
    kept = {
        name: value
        for name, value in arguments.items()
        if name not in ("plan", "total_steps", "steps_per_epoch", "epochs")
    }
    if plan is not None:
        return {**kept, "plan": StepPlan(steps, plan.steps_per_epoch)}, None
    # Epochs that are passes stay passes.
    return {**kept, "total_steps": steps, **({"steps_per_epoch": length} if length else {})}, None


def _check_choices(name: str, choices: Any) -> None:
    """Raises for choices that a storage cannot keep, of which Optuna only warns."""
    try:
        json.dumps(list(choices))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"kp.tune: the choices of {name!r} are kept as JSON, so they must be str, numbers, "
            f"True, False or None. Received: {choices!r} ({error}). Name them by strings, and look "
            "them up in a dict."
        ) from error


def _validates(arguments: Mapping[str, Any]) -> bool:
    return arguments.get("validation_data") is not None or bool(arguments.get("validation_split"))
