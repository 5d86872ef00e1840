"""One run: the calls of `model.fit`, and what is carried from one to the next."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .._util.messages import say
from ..checkpoint.contents import Record, metric_values, restore_weights
from ..data import BatchSource, Skipped
from ..data.peekable import PeekableBatches
from ..optimizers.finalization import finalized_once
from ..state.randomness import get_random_state, set_random_state
from ..state.snapshot import copy_values, put_back
from ..state.variables import find_variables
from ..storage import Position
from .boundaries import AtBoundaries, EndsHere, RolledBack, Stopped
from .callback_list import RunCallbacks
from .fusing import FusedSteps
from .plan import StepPlan
from .saving import Saver
from .segments import Segment, segments
from .shaping import Shaping
from .signals import RunInterrupted
from .start_point import Beginning
from .validation import Validation


class Run(AtBoundaries):
    """A run of a compiled model, taken from one `model.fit` to the next; its own `Boundaries`.

    Args:
        model: The model.
        plan: How many steps, in epochs of how many.
        source: The training data.
        validation: How to validate, if at all.
        callbacks, verbose, log_every_steps: As in `kp.fit`.
        saver: Makes and puts back checkpoints; None if the run is not saved.
    """

    def __init__(
        self,
        model: keras.Model,
        plan: StepPlan,
        source: BatchSource,
        validation: Validation | None,
        callbacks: Sequence[keras.callbacks.Callback],
        saver: Saver | None,
        verbose: int | str,
        log_every_steps: int | None,
    ) -> None:
        listeners = RunCallbacks(
            callbacks, self, model, verbose=verbose, epochs=plan.epochs, steps=plan.steps_per_epoch
        )
        super().__init__(model, plan, source, validation, saver, listeners, log_every_steps)
        self.until_end = ExitStack()
        self._verbose = verbose
        self._metrics: dict[str, np.ndarray] = {}
        self._fused = FusedSteps(model)
        self._shaping = Shaping(model, self.callbacks.callbacks, plan.total_steps)

    def execute(self, beginning: Beginning) -> keras.callbacks.History:
        """Trains to the end of the plan."""
        with self.until_end as stack:
            stack.callback(_keras.shut_down, self.callbacks)
            stack.enter_context(self.callbacks.driven_by(self))
            if self.saver:
                stack.enter_context(self.saver)
            stack.enter_context(self._requests)
            finalize = stack.enter_context(finalized_once(self.model))
            try:
                self._train_through(self._begin(beginning))
            except Stopped:
                assert self.saver
                raise self._interruption(self.saver) from None
            finalize()
            self.callbacks.end_run(self.last_logs)
            if self.saver and self.stop_is_requested():
                raise self._interruption(self.saver)
        return self.callbacks.history

    def _train_through(self, logs: dict[str, Any] | None) -> None:
        """Trains to the end and saves it, going back wherever a callback asks for it."""
        while True:
            try:
                self.callbacks.tell_beginning()
                self._train(logs)
                if self.saver:
                    self.saver.finish(self)
                return
            except RolledBack as request:
                (position,) = request.args
                logs = self._go_back(position)

    def _interruption(self, saver: Saver) -> RunInterrupted:
        saver.checkpoint.wait()
        return self._requests.interruption(
            self.step, self.plan.total_steps, saver.checkpoint.store.directory
        )

    def _begin(self, beginning: Beginning) -> dict[str, Any] | None:
        """Starts the callbacks and puts back the state; returns the logs of an epoch whose end is
        still to be told.
        """
        record = beginning.record
        self.model.stop_training = False
        if record and not beginning.weights_only:
            self.step, self.stopped = beginning.position.step, record.stopped
            self.skipped = Skipped(self.source, record.skipped)
        self._open_data()
        self.shape(None if beginning.weights_only else record)
        if record or self.callbacks.want_to_begin:
            current().build(self.model, self._samples[0])
        if record is None or beginning.weights_only:
            if record:
                restore_weights(self.model, record)
            self.callbacks.start_run()
            self.random = get_random_state()
            self._plan_boundaries()
            return None
        assert self.saver
        lines = self.saver.put_back(self, beginning.position, record)
        self.origin = beginning.position
        goes_on = record.logs is not None or (
            self.step < self.plan.total_steps and not self.stopped
        )
        self.callbacks.history.resumes = record.resumes + [self.step] * goes_on
        return self._enter(record, lines)

    def _go_back(self, position: Position) -> dict[str, Any] | None:
        """Puts everything back to where a checkpoint was made, but for what callbacks of ours keep;
        as `_begin` does.
        """
        assert self.saver
        self.model.stop_training = False
        position, record, lines = self.saver.go_back(self, position)
        self._shaping.tell()
        self.step, self.stopped = position.step, record.stopped
        self._batches.close()
        self._open_data()
        return self._enter(record, lines)

    def _open_data(self) -> None:
        # Where nothing is left, one batch shows how to build the model; a generator need not be run
        # to its end for it.
        left = 0 if self.stopped else self.plan.total_steps - self.step
        batches = self.skipped.batches(self.step if left else 0)
        self._batches = PeekableBatches(batches, self.source.for_train_step)
        self.until_end.callback(self._batches.close)
        self._samples = self._batches.peek(min(2, left or 1))

    def _enter(self, record: Record, lines: list[str]) -> dict[str, Any] | None:
        for line in lines:
            say(f"{line}.")
        self.random = record.random
        self.last_logs = {
            name: values[-1] for name, values in self.callbacks.history.history.items() if values
        }
        self._metrics = metric_values(find_variables(self.model), record)
        if self.validation:
            self.validation.skip_to(record.validated)
        self._plan_boundaries()
        if record.validates and record.logs is None:
            self.next_boundary = self._next_validation = self.step
        return record.logs

    def _train(self, logs: dict[str, Any] | None) -> None:
        if logs is not None:
            epoch = self.plan.locate(self.step - 1)[0]
            self.callbacks.open_bar(epoch)
            self._put_back_carried()
            self.model.stop_training = self.stopped
            self.epoch_ends(epoch, self.step, logs)
        elif self.step == self.plan.total_steps or self.stopped:
            self._put_back_carried()
        elif self.plan.locate(self.step)[1]:
            self.callbacks.open_bar(self.plan.locate(self.step)[0])
        else:
            self._metrics = {}
        step = self.step
        while step < self.plan.total_steps and not self.stopped:
            if self._shaping.change(step):
                self._forget_shape()
            segment = self._next_segment(step)
            try:
                self._fit(segment)
            except EndsHere as end:
                (logs,) = end.args
                self._close_epoch(self.plan.locate(self.step)[0], logs)
            step = segment.stop

    def _next_segment(self, step: int) -> Segment:
        cut = self._shaping.next_change(step)
        if any(callback.single_steps for callback in self.callbacks.driven):
            # To the end of the epoch, where it is seen whether they are single still.
            return replace(next(segments(self.plan, step, cut=cut)), epochs=1)
        return next(segments(self.plan, step, self.model.steps_per_execution, cut))

    def _fit(self, segment: Segment) -> None:
        self.callbacks.begin_segment(segment, self.plan.steps_in(segment.first_epoch))
        count = segment.stop - segment.start
        feed = current().feed(
            itertools.islice(self._batches, count), self._samples, self.source.thread_safe
        )
        with self._fused.running(segment.steps_per_execution), self._batches.errors_first():
            self.model.fit(
                feed,
                initial_epoch=segment.first_epoch,
                epochs=segment.first_epoch + segment.epochs,
                steps_per_epoch=segment.steps,
                callbacks=self.callbacks,
                verbose=self._verbose,
                shuffle=False,
            )

    def shape(self, record: Record | None) -> None:
        """Has the model train what it trained when a checkpoint was made, or what it is to train at
        the start.
        """
        if self._shaping.begin(record.callbacks if record else {}, self._samples[0]):
            self._forget_shape()

    def _forget_shape(self) -> None:
        self._fused.forget()
        if self.saver:
            self.saver.forget_variables()

    def recompile(self) -> None:
        """Has the step compiled anew, since what is compiled into it has changed."""
        self._fused.forget()

    def _put_back_carried(self) -> None:
        set_random_state(self.random)
        if self._metrics:
            put_back(find_variables(self.model).of("metric"), self._metrics)
            self._metrics = {}

    def segment_opens(self) -> None:
        set_random_state(self.random)

    def epoch_is_open(self) -> None:
        self.random = get_random_state()

    def first_step(self) -> None:
        # Between on_epoch_begin and here, fit has reset the metrics, and on some backends drawn
        # from a global generator.
        self._put_back_carried()
        current().prepare(self.model)

    def segment_ends(self) -> None:
        self.random = get_random_state()
        self._metrics = copy_values(find_variables(self.model).of("metric"))
