"""Between one call of `model.fit` and the callbacks of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import keras

from keras_patterns.backends import current

from ..state.randomness import set_random_state
from .blocks import Blocks
from .driver import Driver
from .engine import CONTINUE, DONE, Verdict
from .fusing import Fusing
from .segments import Segment


class LeaveFit(Exception):
    """Carries a verdict out of `model.fit`."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class FitCallbacks(keras.callbacks.CallbackList):
    """Stands between one call of `fit` and the callbacks of the run, which see one `fit` only.

    Args:
        driver: Of the run; its `at_step` is called at boundaries.
        segment: The steps that `fit` is to run.
        fusing: Is told of steps that are made one by one, and whether blocks are worth it.
        blocks: Of the segment; None where steps are made one by one.

    Attributes:
        verdict: Of a segment that ran to its end.
        done: Steps of the run that are done.
        blocks: Of the segment.
    """

    def __init__(
        self, driver: Driver, segment: Segment, fusing: Fusing, blocks: Blocks | None
    ) -> None:
        super().__init__()
        self.verdict: Verdict = CONTINUE
        self.done = segment.start
        self._driver = driver
        self._segment = segment
        self._fusing = fusing
        self.blocks = blocks
        self._callbacks = driver.callbacks
        self._stream = driver.data.stream
        self._epoch_start = segment.start
        self._shift = segment.offset
        self._size = segment.steps_per_execution
        self._is_fresh = True
        self._was_stopped: bool | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        behind = epoch - self._segment.first_epoch
        self._epoch_start = self._segment.start + behind * self._segment.steps
        self._shift = 0 if behind else self._segment.offset
        if self._is_fresh:
            set_random_state(self._driver.carried.random)
        if not (self._fusing.take_told(self._epoch_start) or self._shift):
            self._callbacks.on_epoch_begin(epoch, logs)
        self._driver.carried.take_random()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        driver, step = self._driver, self.done
        if self._is_fresh:
            self._is_fresh = False
            # Since on_epoch_begin, fit has reset the metrics, and on some backends drawn from a
            # global generator.
            driver.carried.put_back()
            driver.model.stop_training |= self._fusing.take_stop()
        self._note_trained()
        if driver.is_due(step):
            self._fusing.note_boundary()
            self._leave_unless_continue(driver.at_step(step))
        if self.blocks and self._fusing.is_outdated:
            self._fusing.leave_blocks(step)
            self._leave_between(step)
        if self.blocks:
            is_inside = step > self._epoch_start - self._shift
            if is_inside and self._fusing.gives_up():
                self._leave_between(step)
            until_due = max(1, min(driver.next_boundary - step, self._epoch_stop - step))
            if driver.model.stop_training:
                # Keras looks at it after the next step.
                until_due = 1
            self._size = self.blocks.prepare(step, int(until_due))
        else:
            self._fusing.note_step()
        self._callbacks.on_train_batch_begin(step - self._epoch_start + self._shift, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.done += self._size
        self._callbacks.on_train_batch_end(self.done - 1 - self._epoch_start + self._shift, logs)
        if self._data_have_ended or (self.blocks and self.done >= self._epoch_stop):
            # Keras's way to run no other step.
            self._was_stopped = self._driver.model.stop_training
            self._driver.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model = self._driver.model
        is_cut = False
        if self._was_stopped is not None:
            model.stop_training, self._was_stopped = self._was_stopped, None
        if self._data_have_ended:
            # Several steps that run in one go may be fewer then.
            self.done = self._segment.start + self._stream.lent
            is_cut = self.done < self._epoch_stop
        self._note_trained()
        if not (self._segment.closes or model.stop_training or is_cut):
            self._driver.carried.take()
            self._driver.cursor = replace(self._driver.cursor, step=self.done)
            return
        self._fusing.note_boundary()
        verdict = self._driver.at_step(self.done, dict(logs or {}), is_cut)
        if verdict is DONE:
            self.verdict = verdict
            model.stop_training = True
        elif verdict is not CONTINUE or self._stream.has_ended:
            self._leave(verdict)

    @property
    def _epoch_stop(self) -> int:
        """The step after the last one of this epoch that the segment has."""
        return self._epoch_start + self._segment.steps

    @property
    def _reads_by_index(self) -> bool:
        return self.blocks is not None and self.blocks.by_index

    def _note_trained(self) -> None:
        if not self._reads_by_index:
            self._stream.note_trained(self.done - self._segment.start)

    def _leave_between(self, step: int) -> NoReturn:
        """Leaves `fit` where nothing is due."""
        self._driver.cursor = replace(self._driver.cursor, step=step)
        self._driver.carry()
        self._leave(CONTINUE)

    @property
    def _data_have_ended(self) -> bool:
        """True if all batches that there are have been trained on."""
        stream = self._stream
        if self._reads_by_index:
            return False
        return stream.has_ended and self.done - self._segment.start >= stream.lent

    def _leave_unless_continue(self, verdict: Verdict) -> None:
        if verdict is not CONTINUE:
            self._leave(verdict)

    def _leave(self, verdict: Verdict) -> NoReturn:
        current().sync(self._driver.model)
        raise LeaveFit(verdict)
