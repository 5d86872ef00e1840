"""What happens at the boundaries between the steps of a run."""

from __future__ import annotations

import math
import time
from typing import Any, NoReturn

import keras

from keras_patterns.backends import current

from .._util.steps import next_multiple
from ..checkpoint.contents import callback_state
from ..data import BatchSource, Skipped
from ..state.randomness import get_random_state, set_random_state
from ..storage import Position
from .callback_list import RunCallbacks
from .plan import StepPlan
from .saving import Saver
from .signals import StopRequests
from .validation import HeldState, Validation


class Stopped(Exception):
    """Leaves `model.fit` between two steps; the state has been saved."""


class RolledBack(Exception):
    """Leaves `model.fit`; its argument is the position of the checkpoint from which the run goes
    on.
    """


class EndsHere(Exception):
    """Leaves `model.fit` between two steps of an epoch; its argument is the logs of the epoch."""


class AtBoundaries:
    """Where a run is, and what it does there.

    Args:
        model: The model.
        plan: How many steps, in epochs of how many.
        source: The training data.
        validation: How to validate, if at all.
        saver: Makes checkpoints; None if the run is not saved.
        callbacks: Of the run.
        log_every: At multiples of how many steps the running metrics are kept, if at all.
    """

    def __init__(
        self,
        model: keras.Model,
        plan: StepPlan,
        source: BatchSource,
        validation: Validation | None,
        saver: Saver | None,
        callbacks: RunCallbacks,
        log_every: int | None,
    ) -> None:
        self.model, self.plan, self.source = model, plan, source
        self.validation, self.saver, self.callbacks, self._log_every = (
            validation,
            saver,
            callbacks,
            log_every,
        )
        self.step, self.stopped = 0, False
        self.last_logs: dict[str, Any] = {}
        self.random: dict[str, Any] = {}
        self.next_boundary = self.next_time = self._next_log = self._next_validation = math.inf
        self.skipped = Skipped(source)
        self.origin: Position | None = None
        self._save_asked = False
        self._requests = StopRequests(saver is not None and saver.checkpoint.on_signal)
        self._held: HeldState | None = None

    def is_called(self) -> bool:
        return self.stop_is_requested() or (self.saver is not None and self.saver.checkpoint.failed)

    def stop_is_requested(self) -> bool:
        return self._requests.received is not None

    def boundary(self, step: int) -> None:
        self.step = step
        if self.saver:
            self.saver.raise_failure()
        _, offset = self.plan.locate(step)
        # At an epoch's first step, on_epoch_begin has been told already: a resume would tell it
        # twice. One step later will do.
        if offset:
            self._tell_boundary()
            if step >= self._next_log:
                current().sync(self.model)
                self.callbacks.log(step, self.model.get_metrics_result())
            if step >= self._next_validation:
                self._validate_inside_epoch()
            self._save_if_due()
        self._plan_boundaries()

    def _validate_inside_epoch(self) -> None:
        assert self.validation
        if self.saver and self.stop_is_requested():
            self.saver.save(self, validates=True)
            self._leave_if_requested()
        logs = self._validate(self.validation, None)
        self.callbacks.tell_validated(logs)
        if self.model.stop_training:
            current().sync(self.model)
            raise EndsHere({**self.model.get_metrics_result(), **logs})

    def epoch_ends(self, epoch: int, step: int, logs: dict[str, Any]) -> None:
        self.step, self.stopped = step, self.model.stop_training
        self._tell_boundary()
        if self.saver and self.stop_is_requested():
            self.saver.save(self, pending=logs)
            self._leave_if_requested()
        if self.validation and self.validation.is_due(epoch, step):
            logs = {**logs, **self._validate(self.validation, logs)}
        self._close_epoch(epoch, logs)

    def _close_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        self.callbacks.close_epoch(epoch, self.step, logs)
        self.stopped, self.last_logs = self.model.stop_training, logs
        self._save_if_due(logs)
        self.random = get_random_state()
        self._plan_boundaries()

    def _tell_boundary(self) -> None:
        for callback in self.callbacks.driven:
            callback.at_boundary()

    def _save_if_due(self, logs: dict[str, Any] | None = None) -> None:
        """Saves at a boundary, once all else is done there; `logs` are those of an epoch that
        ends."""
        if self.saver is None:
            return
        asked, self._save_asked = self._save_asked, False
        checkpoint = self.saver.checkpoint
        # Steps that are trained again one by one come by other places than those that run together.
        searching = any(callback.single_steps for callback in self.callbacks.driven)
        planned = checkpoint.is_planned(self.step, at_epoch_end=logs is not None) and not searching
        if asked or planned or self.stop_is_requested() or time.monotonic() >= checkpoint.next_time:
            # What a callback asks for, it asks for in every run.
            self.saver.save(self, logs=logs, planned=planned or asked)
            self._leave_if_requested()

    # What callbacks of ours may ask.

    @property
    def saves(self) -> bool:
        """Whether there is a `kp.Checkpoint`."""
        return self.saver is not None

    @property
    def validates(self) -> bool:
        """Whether there is data to validate on."""
        return self.validation is not None

    @property
    def plans_saves(self) -> bool:
        """Whether every run of the script saves at the same steps, whatever the clock says."""
        checkpoint = self.saver.checkpoint if self.saver else None
        return checkpoint is not None and (
            checkpoint.every_steps is not None or checkpoint.every_seconds is None
        )

    @property
    def rewinds(self) -> str:
        """Why the run cannot go back; empty if it can."""
        if self.saver is None:
            return "there is no kp.Checkpoint among the callbacks"
        if not getattr(self.source, "random_access", False):
            return (
                "the data (a generator, or a PyDataset with on_epoch_end) cannot be taken up at an "
                "earlier step again"
            )
        return (
            ""
            if self.validation is None or self.validation.random_access
            else "validation_data is a generator"
        )

    def number_of_batch(self, step: int) -> int:
        """Which batch of the source the step after `step` ones trains on."""
        return self.skipped.number_of(step)

    def save_now(self) -> Position:
        """Makes a checkpoint of the start of the run; returns its position."""
        assert self.saver
        set_random_state(self.random)
        self.saver.save(self)
        return self.saver.position(self.step)

    def save_here(self) -> Position:
        """Asks for a checkpoint at this boundary; returns its position."""
        assert self.saver
        self._save_asked = True
        return self.saver.position(self.step)

    def restore_weights(self, position: Position) -> None:
        """Puts `model.weights` back from a checkpoint."""
        assert self.saver
        self.saver.restore_weights(position)

    def roll_back(self, position: Position) -> NoReturn:
        """Leaves what is going on, and goes on from a checkpoint."""
        raise RolledBack(position)

    # What is done at a boundary.

    def validation_step(self) -> None:
        held = self._held
        if held and self.saver and self.stop_is_requested():
            held.put_back()
            self.saver.save(self, pending=held.logs, validates=True, callbacks=held.callbacks)
            self._leave_if_requested()

    def _validate(self, validation: Validation, logs: dict[str, Any] | None) -> dict[str, Any]:
        """Validates; inside an epoch, where there are no logs yet, the model is then as before."""
        inside = logs is None
        held = None
        if inside or (self.saver and self.saver.checkpoint.on_signal):
            held = self._held = HeldState(
                self.model, logs, callback_state(self.callbacks.callbacks)
            )
        try:
            found = validation.run(self.model, self.callbacks)
        finally:
            self._held = None
        if held and inside:
            held.put_back_model()
        self.callbacks.keep_validation(self.step, found)
        return found

    def _plan_boundaries(self) -> None:
        self._next_log = next_multiple(self.step, self._log_every)
        self._next_validation = (
            self.validation.next_step(self.step) if self.validation else math.inf
        )
        self.next_boundary = min(
            self._next_log, self._next_validation, self.callbacks.next_wanted(self.step)
        )
        if self.saver:
            checkpoint = self.saver.checkpoint
            self.next_boundary, self.next_time = (
                min(self.next_boundary, checkpoint.next_step),
                checkpoint.next_time,
            )

    def _leave_if_requested(self) -> None:
        if self._requests.received is not None:
            raise Stopped
