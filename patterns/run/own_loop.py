"""The engine of a loop of one's own: it hands out batches, and has boundaries between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops

from .._util.schema import Count, checked, require
from .driver import Driver
from .engine import CONTINUE
from .start_point import StartPoint


class OwnLoop:
    """Hands out the batches of a run in blocks that no boundary cuts.

    Args:
        driver: Of the run.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._sums: dict[str, Any] = {}
        self._count = 0
        self._newest: Mapping[str, Any] = {}

    def blocks(self, start: StartPoint, most: int) -> Iterator[tuple[int, list[Any]]]:
        """Gives the first step of each block and its batches; at most `most` of them."""
        driver = self._driver
        more = self._carry_out(driver.begin(start))
        while more:
            first = driver.cursor.step
            epoch, offset = driver.plan.locate(first)
            if not offset:
                self.reset()
                driver.callbacks.set_epoch_steps(driver.plan.steps_in(epoch))
                driver.callbacks.on_epoch_begin(epoch)
            count = self._length(first, most)
            batches = driver.data.read(count)
            data_ended = len(batches) < count
            if not batches:
                self._end(first, offset)
                return
            count = len(batches)
            driver.callbacks.on_train_batch_begin(offset)
            yield first, batches
            driver.callbacks.on_train_batch_end(offset + count - 1, dict(self._newest))
            more = self._boundary(first + count, data_ended)

    def note(self, logs: Mapping[str, Any]) -> None:
        """Adds the metrics of a step to those of the epoch; nothing is read from the device."""
        self._newest = logs
        self._count += 1
        for name, value in logs.items():
            value = ops.stop_gradient(ops.convert_to_tensor(value))
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def metrics(self) -> dict[str, Any]:
        """The means of the epoch so far; waits for the device."""
        return {
            name: float(ops.convert_to_numpy(value)) / self._count
            for name, value in self._sums.items()
        }

    def get_state(self) -> dict[str, Any]:
        """The sums of the epoch so far."""
        sums = {name: ops.convert_to_numpy(value) for name, value in self._sums.items()}
        return {"sums": sums, "count": self._count}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Puts back what `get_state` gave."""
        sums = checked(state["sums"], dict[str, np.ndarray], "sums")
        self._count = checked(state["count"], Count, "count")
        require(bool(self._count) or not sums, "count", "there are sums of no step")
        self._sums = {name: ops.convert_to_tensor(value) for name, value in sums.items()}

    def reset(self) -> None:
        """An epoch begins."""
        self._sums = {}
        self._count = 0

    def open_epoch(self, epoch: int) -> None:
        """Shows its progress."""
        driver = self._driver
        driver.callbacks.open_bar(epoch, driver.cursor.step - epoch * driver.plan.steps_per_epoch)

    def forget_compiled(self) -> None:
        """The step is the person's own."""

    def _length(self, first: int, most: int) -> int:
        """The steps until something is due, at least one and at most `most`."""
        driver = self._driver
        epoch, offset = driver.plan.locate(first)
        left = driver.plan.steps_in(epoch) - offset
        until_boundary = max(driver.next_boundary - first, 1)
        return int(min(most, left, until_boundary))

    def _end(self, step: int, offset: int) -> None:
        """Ends a run whose data have ended before its plan."""
        driver = self._driver
        verdict = (
            driver.at_step(step, self.metrics(), data_ended=True)
            if offset
            else driver.end_between_epochs()
        )
        self._carry_out(verdict)

    def _boundary(self, step: int, data_ended: bool) -> bool:
        driver = self._driver
        driver.cursor = replace(driver.cursor, step=step)
        if data_ended:
            return self._carry_out(driver.at_step(step, self.metrics(), data_ended=True))
        if step == driver.plan.total_steps or not driver.plan.locate(step)[1]:
            return self._carry_out(driver.at_step(step, self.metrics()))
        return self._carry_out(driver.at_step(step)) if driver.is_due(step) else True

    def _carry_out(self, verdict: Any) -> bool:
        more = self._driver.carry_out(verdict)
        if verdict is not CONTINUE or self._driver.carried.metrics:
            self._driver.carried.put_back()
        return more
