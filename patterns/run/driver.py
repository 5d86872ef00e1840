"""The driver: what happens at the boundaries of a run, whatever runs the steps between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras

from ..checkpoint.contents import Record
from ..checkpoint.cursor import Cursor, Duty
from ..data import DataExhaustedError, warn_of_end
from ..storage import Position
from .engine import CONTINUE, DONE, INTERRUPTED, Engine, Interrupted, Verdict
from .history import add_event
from .hooks import Hook
from .open_plan import OpenPlan, is_open, known_steps
from .parts import Parts
from .requests import (
    Boundary,
    Pause,
    Request,
    Requests,
    Rewind,
    Save,
    SetTrainable,
    Stop,
    as_requests,
)
from .start_point import StartPoint
from .validation import PreservedState


class Driver:
    """A run at its boundaries. An engine runs the steps, and calls `at_step` where `is_due` says.

    Args:
        parts: Of the run.

    Attributes:
        cursor: Where the run stands, and what is left to do there.
        origin: The checkpoint at which this process took the run up; None if it began here.
        last_logs: Of the newest epoch that has ended.
        next_boundary: The step at which something is due.
        next_time: The time, on the monotonic clock, at which the run is to be saved.
        engine: Runs the steps. Set before the run begins.
    """

    engine: Engine

    def __init__(self, parts: Parts) -> None:
        self.model = parts.model
        self.plan = parts.plan
        self.data = parts.data
        self.callbacks = parts.callbacks
        self.validation = parts.validation
        self.checkpoints = parts.checkpoints
        self.timeline = parts.timeline
        self.signals = parts.signals
        self.carried = parts.carried
        self._restorer = parts.restorer
        self._trained = parts.restorer.trained
        self._tracked = parts.tracked
        self.foreign = parts.foreign
        self.cursor = Cursor()
        self.origin: Position | None = None
        self.last_logs: Mapping[str, Any] | None = None
        self.next_boundary: float = 0
        self.next_time: float = 0
        self._data_must_last = parts.data_must_last
        self._data_ended = False
        self._validated: Mapping[str, Any] | None = None
        self._requests: list[Request] = []

    # For engines.

    def is_due(self, step: int) -> bool:
        """True if something is to be done after `step` steps. Costs next to nothing."""
        return (
            step >= self.next_boundary
            or self.signals.received is not None
            or self.checkpoints.has_failed
            or time.monotonic() >= self.next_time
        )

    def at_step(
        self, step: int, logs: dict[str, Any] | None = None, data_ended: bool = False
    ) -> Verdict:
        """Does what is due after `step` steps.

        Args:
            step: Steps done.
            logs: The metrics of the epoch that ends there; None inside one.
            data_ended: Whether the epoch ends there because there are no more batches. Defaults to
                False.
        """
        if data_ended and self._learns_length(step):
            data_ended = False
        # At an epoch's first step, on_epoch_begin has been told already: a resume would tell it
        # twice. One step later will do.
        if logs is None and not self._is_inside_epoch(step):
            return CONTINUE
        self._validated = None
        ended = data_ended or (logs is not None and self.model.stop_training)
        if data_ended:
            self._note_data_end(step)
        elif ended:
            self._note_stop(step, self.callbacks.who_may_have_stopped())
        self.cursor = Cursor(step, logs=logs, ended=ended)
        self.checkpoints.raise_failure()
        rewind = self._check()
        if rewind is None:
            epoch = None if logs is None else self.timeline.epoch_that_ends(step)
            self.cursor = self.cursor.also(*self.timeline.duties(step, epoch))
        verdict = rewind or self.finish_boundary()
        if verdict is not CONTINUE or logs is not None:
            self.carry()
        return verdict

    @property
    def plan_is_open(self) -> bool:
        """True while the length of the data is not known."""
        return is_open(self.plan)

    def end_between_epochs(self) -> Verdict:
        """Ends the run where the next epoch would begin, as there is no batch for it."""
        self._note_data_end(self.cursor.step)
        self.cursor = replace(self.cursor, ended=True)
        return DONE

    def _learns_length(self, step: int) -> bool:
        """True if the end of the data is that of their first pass, whose length is learnt here."""
        plan = self.plan
        if not (isinstance(plan, OpenPlan) and self.plan_is_open):
            return False
        plan.learn(step)
        self.checkpoints.learn_plan(plan.total_steps, plan.steps_per_epoch)
        self.data.learn_pass(step, plan.total_steps - step)
        return True

    def _note_data_end(self, step: int) -> None:
        if self._data_must_last:
            raise DataExhaustedError(
                f"the data ended after step {step:,}, and {self.plan.total_steps:,} are needed. "
                "Give data that can be begun again or that have no end, or ask for fewer steps."
            )
        self.model.stop_training = True
        add_event(self.callbacks.history, "stopped", step, "the data ended")
        self._data_ended = True

    def carry(self) -> None:
        """Takes the state with which the next step is to begin."""
        if self._is_inside_epoch(self.cursor.step):
            self.carried.take()
        else:
            self.carried.take_random()

    # For whoever calls the engine.

    def carry_out(self, verdict: Verdict) -> bool:
        """Carries out a verdict outside the engine.

        Returns:
            Whether there are steps left to run.

        Raises:
            RunInterrupted: If a signal asked for it.
        """
        while verdict is not CONTINUE:
            if verdict is DONE:
                last = self._save(is_planned=False)
                if last is None:
                    self.checkpoints.wait()
                    return False
                verdict = last
            elif isinstance(verdict, Interrupted):
                self.interrupt()
            elif isinstance(verdict, SetTrainable):
                self._set_trainable(verdict)
                verdict = self.finish_outside()
            elif isinstance(verdict, Rewind):
                verdict = self._rewind(verdict.position)
        return True

    def interrupt(self) -> None:
        """Ends the run as a signal asked."""
        self.checkpoints.wait()
        raise self.signals.interruption(
            self.cursor.step, known_steps(self.plan), self.checkpoints.folder
        ) from None

    def end(self) -> None:
        """Ends a run that has come to its end."""
        self.callbacks.on_train_end(dict(self.last_logs or {}))
        if self.signals.received is not None:
            self.interrupt()
        if self._data_ended:
            warn_of_end(self.cursor.step, self.plan.total_steps)
        self.checkpoints.remember_finished(self.model, self.plan.total_steps)

    def begin(self, start: StartPoint) -> Verdict:
        """Brings the run to where it begins."""
        if start.record is not None and not start.weights_only:
            self.origin = start.position
        self._restorer.begin(start, self._stand_at)
        return self._enter()

    def rewind_blocker(self) -> str | None:
        """Why the data cannot be taken up at an earlier step again; None if they can."""
        if not self.validation.random_access:
            return self.data.rewind_blocker() or "validation_data is a generator"
        return self.data.rewind_blocker()

    def _rewind(self, position: Position) -> Verdict:
        # Before anything is deleted.
        blocker = self.rewind_blocker()
        if blocker:
            raise ValueError(f"A hook asked for kp.Rewind, and the run cannot: {blocker}.")
        self._restorer.rewind(position, self._stand_at)
        return self._enter()

    def _stand_at(self, cursor: Cursor) -> None:
        self.cursor = cursor

    def _set_trainable(self, request: SetTrainable) -> None:
        self._trained.change(request.change)
        self._forget_compiled()
        for hook in self.callbacks.hooks:
            hook.on_trainable_changed()

    def _forget_compiled(self) -> None:
        self.engine.forget_compiled()
        self.checkpoints.forget_variables()
        self.foreign.forget_variables()

    def _enter(self) -> Verdict:
        """Begins where the cursor stands, once everything is in place: finishes a boundary that was
        left in its middle.
        """
        self.last_logs = self.callbacks.history.last_logs()
        if self._trained.is_set_by_hooks:
            self._forget_compiled()
        self.carried.put_back_random()
        self._start_hooks()
        cursor = self.cursor
        if cursor.todo or (self._is_inside_epoch(cursor.step) and not self._is_over):
            self.engine.open_epoch(self.timeline.epoch_that_ends(cursor.step))
        if cursor.todo:
            self.model.stop_training = cursor.ended
            return self.finish_outside()
        if self._is_over:
            self.carried.put_back()
        elif not self._is_inside_epoch(cursor.step):
            self.carried.metrics = {}
        verdict = self._plan_next()
        return INTERRUPTED if self.signals.is_pause else verdict

    def _start_hooks(self) -> None:
        for hook in self.callbacks.hooks:
            assert hook.run
            wanted = hook.on_run_start(hook.run)
            for request in self._asked(hook, wanted, Save, SetTrainable, Pause):
                if isinstance(request, SetTrainable):
                    self._set_trainable(request)
                elif isinstance(request, Pause):
                    self.signals.pause()
                else:
                    self._save(is_planned=True)

    def finish_outside(self) -> Verdict:
        """Does what is left of a boundary, outside of the engine."""
        self.carried.put_back()
        verdict = self.finish_boundary()
        self.carry()
        return verdict

    def finish_boundary(self) -> Verdict:
        """Does what is left to do where the cursor stands."""
        duties: dict[Duty, Callable[[], Verdict | None]] = {
            Duty.LOG: self._log,
            Duty.VALIDATE: self._validate,
            Duty.HOOKS: self._ask_hooks,
            Duty.CLOSE_EPOCH: self._close_epoch,
            Duty.SAVE: self._save_as_planned,
        }
        while self.cursor.todo:
            verdict = duties[self.cursor.todo[0]]()
            if verdict is not None:
                return verdict
        # Not in every run of the script: the clock and signals.
        if self.signals.received is not None or time.monotonic() >= self.checkpoints.next_time:
            rewind = self._save(is_planned=False)
            if rewind is not None:
                return rewind
            if self.signals.received is not None:
                return INTERRUPTED
        return self._plan_next()

    # The duties. Each takes itself off the cursor.

    def _check(self) -> Rewind | None:
        for hook in self.callbacks.hooks:
            for request in self._asked(hook, hook.on_check(self.cursor.step), Rewind):
                if isinstance(request, Rewind):
                    return request
        return None

    def _log(self) -> None:
        self.cursor = self.cursor.done()
        self.callbacks.log(self.cursor.step, self.engine.metrics())

    def _validate(self) -> Rewind | Interrupted | None:
        before = self.checkpoints.capture(self.callbacks, self.cursor, self._more)
        if before and self._is_interrupted:
            return self._leave_before(before)
        inside = self.cursor.logs is None
        preserved = PreservedState(self.model) if inside else None
        found = self.validation.run(
            self.model, self.callbacks, lambda: before is not None and self._is_interrupted
        )
        if found is None:
            assert before
            return self._leave_before(before)
        if preserved:
            preserved.put_back()
        self.callbacks.keep_validation(self.cursor.step, found)
        self._validated = found
        if inside and self.checkpoints.is_of_the_best(found, is_validated=True, ends_epoch=False):
            self.cursor = self.cursor.also(Duty.SAVE)
        logs = None if inside else {**(self.cursor.logs or {}), **found}
        self.cursor = replace(self.cursor.done(), logs=logs)
        return None

    def _leave_before(self, before: Record) -> Rewind | Interrupted:
        """Saves the state before a validation that a signal cuts short; the model has it, too."""
        self._restorer.put_back_values(before)
        rewind = self.checkpoints.save_captured(self.callbacks, before)
        return INTERRUPTED if rewind is None else rewind

    def take_requests(self, hook: Hook, requests: Requests) -> None:
        """Keeps the requests that a hook makes while an epoch is closed."""
        self._requests += self._asked(hook, requests)

    def _asked(self, hook: Hook, requests: Requests, *allowed: type) -> list[Request]:
        return as_requests(requests, hook, *allowed, has_checkpoints=self.checkpoints.exist)

    def _ask_hooks(self) -> Verdict | None:
        """Asks the hooks inside an epoch. At its end they are asked in `on_epoch_end`, in their
        place among the callbacks, some of which add to the logs.
        """
        self.cursor = self.cursor.done()
        boundary = self.boundary(None, self.engine.metrics)
        self._requests = []
        for hook in self.callbacks.hooks:
            self.take_requests(hook, hook.on_boundary(boundary))
        return self._answer(boundary)

    def boundary(self, epoch: int | None, read_logs: Callable[[], Mapping[str, Any]]) -> Boundary:
        """The place where the run stands, as hooks see it."""
        return Boundary(self.model, self.cursor.step, epoch, self._validated, read_logs)

    def _close_epoch(self) -> Verdict | None:
        step, logs = self.cursor.step, dict(self.cursor.logs or {})
        epoch = self.timeline.epoch_that_ends(step)
        self._requests = []
        stopper = self.callbacks.close_epoch(epoch, step, logs)
        if self.model.stop_training and not self.cursor.ended:
            self._note_stop(step, stopper or self.callbacks.who_may_have_stopped())
        self.last_logs = logs
        self.cursor = replace(
            self.cursor.done(), ended=self.cursor.ended or bool(self.model.stop_training)
        )
        is_validated = self._validated is not None
        is_best = self.checkpoints.is_of_the_best(logs, is_validated, ends_epoch=True)
        if is_best or self.timeline.plans_save(step, ends_epoch=True):
            self.cursor = self.cursor.also(Duty.SAVE)
        return self._answer(self.boundary(epoch, lambda: logs))

    def _note_stop(self, step: int, by: str) -> None:
        """Notes a stop that no request asked for."""
        add_event(self.callbacks.history, "stopped", step, f"by {by}")

    def _answer(self, boundary: Boundary) -> Verdict | None:
        """Carries out what hooks have asked for, or hands it on as a verdict."""
        requests, self._requests = self._requests, []
        for request in requests:
            if isinstance(request, Rewind):
                return request
        stops = [request for request in requests if isinstance(request, Stop)]
        for stop in stops:
            # One that has stopped the run inside the epoch may say so again at its end.
            said = [(one["step"], one["text"]) for one in self.callbacks.history.events]
            if (boundary.step, stop.reason) not in said:
                add_event(self.callbacks.history, "stopped", boundary.step, stop.reason)
        if stops:
            self.model.stop_training = True
            self.cursor = replace(self.cursor, ended=True)
        if stops and boundary.epoch is None:
            self.cursor = replace(self.cursor.also(Duty.CLOSE_EPOCH), logs=boundary.logs)
        if any(isinstance(request, Save) for request in requests):
            self.cursor = self.cursor.also(Duty.SAVE)
        if any(isinstance(request, Pause) for request in requests):
            self.signals.pause()
        changes = [one.change for one in requests if isinstance(one, SetTrainable)]

        def change_all(model: keras.Model) -> None:
            for change in changes:
                change(model)

        return SetTrainable(change_all) if changes else None

    def _save_as_planned(self) -> Rewind | Interrupted | None:
        self.cursor = self.cursor.done()
        rewind = self._save(is_planned=True)
        if rewind is None and self.signals.received is not None:
            return INTERRUPTED
        return rewind

    def _save(self, is_planned: bool) -> Rewind | None:
        """Saves the state at the cursor, if it is not saved yet."""
        cursor = replace(self.cursor, logs=None)
        return self.checkpoints.save(
            self.callbacks, cursor, self._more(), is_planned, self._score_logs()
        )

    # Small parts.

    @property
    def _is_over(self) -> bool:
        return self.cursor.ended or self.cursor.step == self.plan.total_steps

    @property
    def _is_interrupted(self) -> bool:
        return self.signals.received is not None

    def _is_inside_epoch(self, step: int) -> bool:
        return step < self.plan.total_steps and self.plan.locate(step)[1] > 0

    def _plan_next(self) -> Verdict:
        self._validated = None
        self.timeline.begin(self.cursor.step)
        self.next_boundary = self.timeline.next_boundary(self.cursor.step)
        self.next_time = self.checkpoints.next_time
        return DONE if self._is_over else CONTINUE

    def _score_logs(self) -> Mapping[str, Any] | None:
        """The metrics by which a checkpoint here is scored: those of the epoch that has ended here,
        or of the validation inside it.
        """
        inside = self._is_inside_epoch(self.cursor.step) and not self.cursor.ended
        return self._validated if inside else self.last_logs

    def _more(self) -> dict[str, Any]:
        """The fields of a record that the driver knows."""
        data = {**self.data.state(self.cursor.step), "validated": self.validation.taken}
        history = self.callbacks.history
        return {
            "data": data,
            "resumed_at": history.resumes,
            "tracked": self._tracked(self.cursor.step),
            "held": self.foreign.states(),
        }
