"""The hook by which the run of a trial reports, and is left where the search says."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ..run.hooks import Hook
from ..run.requests import Boundary, Pause, RunView
from .errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Callable


class Reporting(Protocol):
    """A trial, as its runs report to it."""

    number: int
    total_steps: int | None
    monitor: str
    maximizes: bool

    def plan(self, run: int, steps: int) -> None:
        """Notes how many steps there are up to the end of a run."""

    def take(self, run: int, step: int, value: float) -> bool:
        """Takes a value of the monitored metric; True if the trial is pruned here."""


class Reporter(Hook):
    """Reports the monitored metric at each boundary that has it, and leaves the run where the trial
    is pruned, or has had its steps.

    Args:
        trial: That is told.
        run: The number of this run in the trial.
        pruned_at: The step after which a process before this one has pruned it, if so.
        until: The step after which it is to be left, if before its end.

    Attributes:
        best: The best value so far; None if there is none that is finite.
        is_pruned: Whether it was pruned.
        step: Steps done at the newest boundary.
        planned: Steps that its plan has; 0 where nobody knows.
        history: Of the run, once it has begun.
    """

    needs_checkpoint = True
    only_one = True

    def __init__(
        self,
        trial: Reporting,
        run: int,
        pruned_at: int | None = None,
        until: int | None = None,
    ) -> None:
        super().__init__()
        self.best: float | None = None
        self.history: Any = None
        self.is_pruned, self.step, self.planned = False, 0, 0
        # What a callback holds is looked through for state that the run must carry.
        self._told, self._number = weakref.ref(trial), run
        self._pruned_at, self._until = pruned_at, until

    def next_boundary(self, step: int) -> int | None:
        """The step after which the run is to be left."""
        return self._until if self._until is not None and step < self._until else None

    def on_run_start(self, run: RunView) -> Pause | None:
        """Leaves at once what another process has brought to the place where it is left."""
        self.history, self.step, self.planned = run.history, run.step, run.total_steps or 0
        self._check_until(run)
        planned = self._until or run.total_steps
        if planned is not None:
            self._trial.plan(self._number, planned)
        if self._pruned_at is not None and run.step >= self._pruned_at:
            self.is_pruned = True
            return Pause()
        return self._pause_at(run.step, run.total_steps)

    def on_boundary(self, boundary: Boundary) -> Pause | None:
        """Reports."""
        assert self.run
        self.step = boundary.step
        logs = boundary.validation if boundary.epoch is None else boundary.logs
        value = None if logs is None else self._value(logs, boundary.validation is not None)
        if value is not None:
            self._keep_best(value)
            if self._trial.take(self._number, boundary.step, value):
                self.is_pruned = True
        if self._pruned_at is not None and boundary.step >= self._pruned_at:
            self.is_pruned = True
        if self.is_pruned and boundary.step != self.run.total_steps:
            return Pause()
        return self._pause_at(boundary.step, self.run.total_steps)

    def get_config(self) -> dict[str, Any]:
        """Nothing: what is reported is no part of what the run is."""
        return {}

    def get_state(self) -> dict[str, Any]:
        """The best value."""
        return {"best": self.best}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Puts it back."""
        self.best = state["best"]

    @property
    def _trial(self) -> Reporting:
        trial = self._told()
        assert trial is not None
        return trial

    def _pause_at(self, step: int, total: int | None) -> Pause | None:
        ends = total is not None and step >= total
        return Pause() if self._until is not None and step >= self._until and not ends else None

    def _check_until(self, run: RunView) -> None:
        total, least = run.total_steps, self._trial.total_steps or self._until
        if total is not None and least is not None and total < least:
            raise TuningError(
                f"kp.Trial.fit: trial {self._trial.number} may be trained for {least:,} steps, "
                f"and the objective plans {total:,}. Plan for as many steps as the search goes up "
                "to, in one call: total_steps=trial.total_steps. The trial is kept."
            )

    def _value(self, logs: Mapping[str, Any], is_validated: bool) -> float | None:
        monitor = self._trial.monitor
        if monitor in logs:
            return float(logs[monitor])
        if monitor.startswith("val_") and not is_validated:
            return None
        raise TuningError(
            f"kp.Trial.fit: there is no metric monitor={monitor!r}. Those of the run are "
            f"{', '.join(sorted(logs))}. The trial is kept: start the script with one of them."
        )

    def _keep_best(self, value: float) -> None:
        if math.isnan(value):
            return
        better: Callable[..., float] = max if self._trial.maximizes else min
        self.best = value if self.best is None else better(self.best, value)
