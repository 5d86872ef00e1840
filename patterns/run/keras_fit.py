"""The engine that drives `model.fit`, in as few calls as Keras allows."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, NoReturn

import keras

from keras_patterns.backends import current

from .. import _keras
from ..optimizers.finalization import finalized_once
from ..state.randomness import set_random_state
from ..state.variables import has_own_step
from .checks import check_batch_sizes, check_not_frozen
from .driver import Driver
from .engine import CONTINUE, DONE, Verdict
from .fusing import FusedSteps
from .history import RunHistory
from .segments import Segment, segments
from .start_point import StartPoint


def train_by_fit(driver: Driver, start: StartPoint, verbose: int | str) -> RunHistory:
    """Runs all steps of a run that is open; returns its History."""
    check_batch_sizes("the data", driver.data.batch_sizes(driver.plan.total_steps))
    check_batch_sizes("validation_data", driver.validation.batch_sizes())
    driver.data.is_fed = True
    with KerasFit(driver, verbose) as engine:
        driver.engine = engine
        verdict = driver.begin(start)
        _build_if_frozen(driver)
        _build_optimizer(driver.model)
        more = driver.carry_out(verdict)
        while more:
            more = driver.carry_out(engine.run())
        engine.finish()
    driver.end()
    return driver.callbacks.history


def _build_if_frozen(driver: Driver) -> None:
    """Builds a model of which a part is frozen, to see that not all of it is."""
    model = driver.model
    if not model.built and not all(layer.trainable for layer in getattr(model, "layers", ())):
        current().build(model, driver.data.samples[0])
        check_not_frozen("kp.fit", model)


def _build_optimizer(model: keras.Model) -> None:
    """Builds the optimizer of a built model, as `fit` would: where it builds itself in the first
    step, TensorFlow traces that step twice.
    """
    optimizer = model.optimizer
    # Keras takes a Sequential for built whose later layers are not.
    is_built = model.built and all(layer.built for layer in _keras.all_layers(model))
    if is_built and optimizer is not None and not optimizer.built and not has_own_step(model):
        optimizer.build(model.trainable_variables)


class KerasFit:
    """Runs steps by `model.fit`: the loop, `train_step` and distribution are Keras's.

    One call of `fit` is a segment. A call of its own is needed after a resume inside an epoch, for
    an epoch of another length, for steps that `steps_per_execution` does not divide, and after a
    verdict that cannot be carried out inside `fit`.

    Args:
        driver: Of the run.
        verbose: As in `model.fit`.
    """

    def __init__(self, driver: Driver, verbose: int | str) -> None:
        self._driver = driver
        self._verbose = verbose
        self._fused = FusedSteps(driver.model)
        self._finalized = finalized_once(driver.model)

    def __enter__(self) -> KerasFit:
        self._finalize = self._finalized.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finalized.__exit__(kind, error, trace)

    def run(self) -> Verdict:
        """Calls `fit` for the next segment."""
        driver = self._driver
        segment = self._next_segment()
        length = None if driver.plan_is_open else driver.plan.steps_in(segment.first_epoch)
        driver.callbacks.set_epoch_steps(length)
        stream = driver.data.stream
        if not stream.peek(1):
            return driver.end_between_epochs()
        batches = driver.data.lend(segment.stop - segment.start)
        thread_safe = driver.data.source.thread_safe
        feed = current().feed(batches, driver.data.samples, thread_safe, driver.model)
        told = _FitCallbacks(driver, segment)
        try:
            with (
                driver.foreign.watching(),
                self._fused.running(segment.steps_per_execution),
                stream.errors_first(),
                _keras.quiet_end_of_data(),
            ):
                driver.model.fit(
                    feed,
                    initial_epoch=segment.first_epoch,
                    epochs=segment.first_epoch + segment.epochs,
                    steps_per_epoch=segment.steps,
                    callbacks=told,
                    verbose=self._verbose,
                    shuffle=False,
                )
        except _Leave as leaving:
            return leaving.verdict
        finally:
            feed.close()
            stream.take_back()
        return told.verdict

    def open_epoch(self, epoch: int) -> None:
        """Shows its progress."""
        driver = self._driver
        driver.callbacks.open_bar(epoch, driver.cursor.step - epoch * driver.plan.steps_per_epoch)

    def metrics(self) -> dict[str, Any]:
        """The running metrics of the model; waits for the device."""
        current().sync(self._driver.model)
        return self._driver.model.get_metrics_result()

    def forget_compiled(self) -> None:
        """Compiles the step anew."""
        self._fused.forget()

    def finish(self) -> None:
        """Does at the end of the run what Keras does at the end of each `fit`."""
        self._finalize()

    def _next_segment(self) -> Segment:
        driver = self._driver
        if driver.timeline.runs_single_steps or driver.plan_is_open:
            # To the end of the epoch, where it is seen whether they are single still.
            return replace(next(segments(driver.plan, driver.cursor.step)), epochs=1)
        return next(segments(driver.plan, driver.cursor.step, driver.model.steps_per_execution))


class _Leave(Exception):
    """Carries a verdict out of `model.fit`."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class _FitCallbacks(keras.callbacks.CallbackList):
    """Stands between one call of `fit` and the callbacks of the run, which see one `fit` only.

    Args:
        driver: Of the run; its `at_step` is called at boundaries.
        segment: The steps that `fit` is to run.

    Attributes:
        verdict: Of a segment that ran to its end.
    """

    def __init__(self, driver: Driver, segment: Segment) -> None:
        super().__init__()
        self.verdict: Verdict = CONTINUE
        self._driver = driver
        self._segment = segment
        self._callbacks = driver.callbacks
        self._stream = driver.data.stream
        self._epoch_start = segment.start
        self._shift = segment.offset
        self._done = segment.start
        self._is_fresh = True
        self._was_stopped = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        behind = epoch - self._segment.first_epoch
        self._epoch_start = self._segment.start + behind * self._segment.steps
        self._shift = 0 if behind else self._segment.offset
        if self._is_fresh:
            set_random_state(self._driver.carried.random)
        if not self._shift:
            self._callbacks.on_epoch_begin(epoch, logs)
        self._driver.carried.take_random()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        driver, step = self._driver, self._epoch_start + batch
        if self._is_fresh:
            self._is_fresh = False
            # Since on_epoch_begin, fit has reset the metrics, and on some backends drawn from a
            # global generator.
            driver.carried.put_back()
        self._stream.note_trained(step - self._segment.start)
        if driver.is_due(step):
            self._leave_unless_continue(driver.at_step(step))
        self._done = step + self._segment.steps_per_execution
        self._callbacks.on_train_batch_begin(batch + self._shift, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._callbacks.on_train_batch_end(batch + self._shift, logs)
        if self._data_have_ended:
            # Keras's way to run no other step.
            self._was_stopped = self._driver.model.stop_training
            self._driver.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model = self._driver.model
        is_cut = False
        if self._data_have_ended:
            # Several steps that run in one go may be fewer then.
            self._done = self._segment.start + self._stream.lent
            model.stop_training = self._was_stopped
            is_cut = self._done < self._epoch_start + self._segment.steps
        self._stream.note_trained(self._done - self._segment.start)
        if not (self._segment.closes or model.stop_training or is_cut):
            self._driver.carried.take()
            self._driver.cursor = replace(self._driver.cursor, step=self._done)
            return
        verdict = self._driver.at_step(self._done, dict(logs or {}), is_cut)
        if verdict is DONE:
            self.verdict = verdict
            model.stop_training = True
        elif verdict is not CONTINUE or self._stream.has_ended:
            self._leave(verdict)

    @property
    def _data_have_ended(self) -> bool:
        """True if all batches that there are have been trained on."""
        stream = self._stream
        return stream.has_ended and self._done - self._segment.start >= stream.lent

    def _leave_unless_continue(self, verdict: Verdict) -> None:
        if verdict is not CONTINUE:
            self._leave(verdict)

    def _leave(self, verdict: Verdict) -> NoReturn:
        current().sync(self._driver.model)
        raise _Leave(verdict)
