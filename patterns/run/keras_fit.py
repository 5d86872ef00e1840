"""The engine that drives `model.fit`, in as few calls as Keras allows."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any

from keras_patterns.backends import current

from .. import _keras
from ..optimizers.finalization import finalized_once
from .building import build, check_sizes
from .driver import Driver
from .engine import Verdict
from .executions import StepsPerExecution
from .fit_callbacks import FitCallbacks, LeaveFit
from .fusing import Fuse, Fusing
from .history import RunHistory
from .segments import Segment, segments
from .start_point import StartPoint


def train_by_fit(
    driver: Driver,
    start: StartPoint,
    verbose: int | str,
    fuse: Fuse = False,
    each_log: bool = False,
) -> RunHistory:
    """Runs all steps of a run that is open; returns its History. `KerasFit` has the arguments."""
    check_sizes(driver)
    driver.data.is_fed = True
    with KerasFit(driver, verbose, fuse, each_log) as engine:
        driver.engine = engine
        verdict = driver.begin(start)
        build(driver)
        more = driver.carry_out(verdict)
        while more:
            more = driver.carry_out(engine.run())
        engine.finish()
    driver.end()
    return driver.callbacks.history


class KerasFit:
    """Runs steps by `model.fit`: the loop, `train_step` and distribution are Keras's.

    One call of `fit` is a segment. A call of its own is needed after a resume inside an epoch, for
    an epoch of another length, for steps that `steps_per_execution` does not divide, and after a
    verdict that cannot be carried out inside `fit`.

    Args:
        driver: Of the run.
        verbose: As in `model.fit`.
        fuse: As in `kp.fit`.
        each_log: Whether hooks are to have the logs of each step of a block, with a new first axis;
            else they have those of its last step.
    """

    def __init__(
        self, driver: Driver, verbose: int | str, fuse: Fuse, each_log: bool = False
    ) -> None:
        self._driver = driver
        self._verbose = verbose
        self._together = StepsPerExecution(driver.model)
        self._fusing = Fusing(driver, fuse, verbose, each_log)
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
        self._fusing.decide()
        segment = self._next_segment()
        length = None if driver.plan_is_open else driver.plan.steps_in(segment.first_epoch)
        driver.callbacks.set_epoch_steps(length)
        blocks = None if driver.timeline.runs_single_steps else self._fusing.blocks
        by_index = blocks is not None and blocks.by_index
        if not (by_index or driver.data.stream.peek(1)):
            return driver.end_between_epochs()
        told = FitCallbacks(driver, segment, self._fusing, blocks)
        try:
            self._fit(segment, told)
            verdict = told.verdict
        except LeaveFit as leaving:
            verdict = leaving.verdict
        if by_index:
            # What was trained on was not read from the stream.
            driver.data.open_at(told.done, driver.plan.total_steps - told.done)
        return verdict

    def _fit(self, segment: Segment, told: FitCallbacks) -> None:
        driver, stream = self._driver, self._driver.data.stream
        if told.blocks and not told.blocks.by_itself:
            told.blocks.begin(segment.stop - segment.start)
            feed = told.blocks.feed
        else:
            feed = self._feed(segment)
        try:
            with (
                driver.foreign.watching(),
                self._together.running(segment.steps_per_execution),
                self._fusing.running(told.blocks),
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
        finally:
            feed.close()
            stream.take_back()

    def _feed(self, segment: Segment) -> Any:
        data = self._driver.data
        batches = data.lend(segment.stop - segment.start)
        return current().feed(batches, data.samples, data.source.thread_safe, self._driver.model)

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
        self._together.forget()
        self._fusing.forget()

    def finish(self) -> None:
        """Does at the end of the run what Keras does at the end of each `fit`."""
        self._finalize()

    def _next_segment(self) -> Segment:
        driver = self._driver
        if driver.timeline.runs_single_steps or driver.plan_is_open:
            # To the end of the epoch, where it is seen whether they are single still.
            return replace(next(segments(driver.plan, driver.cursor.step)), epochs=1)
        together = driver.model.steps_per_execution
        return self._fusing.cut(next(segments(driver.plan, driver.cursor.step, together)))
