"""The progress of a run: the time of its steps, and of those that are left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from .._util.display import Shown
from .._util.progress import Progress, duration, time_per_step
from .open_plan import Plan, is_open


class RunProgress:
    """Times the steps that this process makes, and shows them: as a bar, lines or a table.

    What other processes have done of an epoch, or what is done again after a rollback, took none of
    the time that is measured here. The first step is left out, as its program is compiled in it;
    validations are, too.

    Args:
        plan: Of the run.
        verbose: As in `model.fit`.
        clock: Gives seconds. Defaults to `time.monotonic`.
    """

    def __init__(
        self, plan: Plan, verbose: int | str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan = plan
        self._digits = 0 if verbose == 2 else 1
        self._tells_rest = verbose != 2
        self._clock = clock
        self._shown = Shown(verbose, plan.epochs, clock)
        self._epoch = _Epoch(plan, 0, 0, clock())
        self._made = _Made()

    def begin_epoch(self, epoch: int, offset: int = 0) -> None:
        """An epoch begins, or is taken up.

        Args:
            epoch: From 0.
            offset: Its steps that are done. Defaults to 0.
        """
        self._epoch = _Epoch(self._plan, epoch, offset, self._clock())
        self._shown.begin(self._title)

    def note_step(self, batch: int, logs: Mapping[str, Any]) -> None:
        """A step of the epoch is done.

        Args:
            batch: The number of its batch in the epoch, from 0.
            logs: Its metrics, which are read from the device only where they are shown.
        """
        now = self._clock()
        self._made.note(self._epoch.note(batch + 1, now), now)
        if self._shown.is_due(now):
            self._shown.show(lambda: self._progress(now, logs))

    def pause(self) -> None:
        """A validation begins."""
        self._epoch.pause(self._clock())

    def go_on(self) -> None:
        """A validation has ended."""
        self._epoch.go_on(self._clock())

    def end_epoch(self, logs: Mapping[str, Any]) -> None:
        """The epoch has ended."""
        self._shown.finish(self._progress(self._clock(), logs, ends=True))

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._shown.close()

    @property
    def _title(self) -> str:
        epochs = self._plan.epochs
        return f"Epoch {self._epoch.number + 1}/{epochs}" if epochs > 1 else ""

    def _progress(self, now: float, logs: Mapping[str, Any], ends: bool = False) -> Progress:
        epoch = self._epoch
        of_step = epoch.seconds_per_step(now)
        times = [duration(now - epoch.start), time_per_step(of_step, self._digits)]
        is_unknown = is_open(self._plan)
        left = self._plan.total_steps - epoch.steps_before - epoch.done
        if self._tells_rest and left and not is_unknown:
            of_run = self._made.seconds_per_step(now)
            rest = []
            if of_run is not None and not ends:
                rest.append(f"{duration(of_step * (epoch.steps - epoch.done))} left")
            if of_run is not None and self._plan.epochs > 1:
                rest.append(f"run {duration(of_run * left)} left")
            times += [", ".join(rest)] if rest else []
        metrics = dict(_numbers(logs))
        total = None if is_unknown else self._plan.steps_in(epoch.number)
        return Progress(self._title, epoch.done, total, tuple(times), metrics, not left)


def _numbers(logs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The metrics in the order in which Keras shows them; of one with several values, the mean.
    What else a callback adds at the end of an epoch, such as a text, is for History alone.
    """
    for name, value in sorted(logs.items()):
        if isinstance(value, Mapping):
            yield from _numbers(value)
            continue
        try:
            array = np.asarray(keras.ops.convert_to_numpy(value))
        except ValueError:
            # Rows of different lengths.
            continue
        if array.size and array.dtype.kind not in "OSUmM":
            yield name, float(np.mean(array))


class _Epoch:
    """The time that steps of an epoch take in this process."""

    def __init__(self, plan: Plan, number: int, offset: int, now: float) -> None:
        self.number = number
        self.start = now
        self.steps = plan.steps_in(number)
        self.steps_before = number * plan.steps_per_epoch
        self.done = self._offset = offset
        self._paused = 0.0
        self._pause_start = math.inf
        # Steps done and seconds run when the first step was over, or the first few in one go.
        self._first: tuple[int, float] | None = None

    def note(self, done: int, now: float) -> int:
        """Takes down the steps done; returns how many are new."""
        new, self.done = done - self.done, done
        if self._first is None:
            self._first = done, self._active(now)
        return new

    def pause(self, now: float) -> None:
        self._pause_start = now

    def go_on(self, now: float) -> None:
        if self._pause_start < math.inf:
            self._paused += now - self._pause_start
        self._pause_start = math.inf

    def seconds_per_step(self, now: float) -> float:
        done, seconds = self._first or (self._offset, 0.0)
        if done == self.done:
            done, seconds = self._offset, 0.0
        return (self._active(now) - seconds) / max(self.done - done, 1)

    def _active(self, now: float) -> float:
        return min(now, self._pause_start) - self.start - self._paused


class _Made:
    """The steps that this process has made in all, with all that happened between them."""

    def __init__(self) -> None:
        self._count = 0
        self._first: tuple[int, float] | None = None

    def note(self, new: int, now: float) -> None:
        """Takes down that steps are done."""
        self._count += new
        if self._first is None:
            self._first = self._count, now

    def seconds_per_step(self, now: float) -> float | None:
        """None where there is only the first step, in which the program was compiled."""
        if self._first is None or self._first[0] == self._count:
            return None
        return (now - self._first[1]) / (self._count - self._first[0])
