"""A display of steps outside of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from .display import Shown
from .progress import Progress, duration, time_per_step


class StepCounter:
    """Shows how many of some steps are done, outside of a run. It is closed by hand, or used in a
    `with` statement.

    Args:
        total: How many steps there are.
        verbose: As in `model.fit`.
        clock: Gives seconds. Defaults to `time.monotonic`.
    """

    def __init__(
        self, total: int, verbose: int | str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._clock = clock
        self._start = clock()
        self._shown = Shown(verbose, clock=clock)
        self._newest: tuple[int, Mapping[str, float]] | None = None

    def __enter__(self) -> StepCounter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, done: int, metrics: Mapping[str, float] | None = None) -> None:
        """Steps are done; the last one is shown at once."""
        self._newest = done, metrics or {}
        if done >= self._total:
            self.close()
        elif self._shown.is_due(self._clock()):
            self._shown.show(self._progress)

    def close(self) -> None:
        """Shows where it has ended, and leaves the terminal as it was."""
        if self._newest is not None:
            self._shown.finish(self._progress(is_last=True))
        self._newest = None
        self._shown.close()

    def _progress(self, is_last: bool = False) -> Progress:
        done, metrics = self._newest or (0, {})
        seconds = self._clock() - self._start
        of_step = seconds / max(done, 1)
        times = [duration(seconds), time_per_step(of_step, 1)]
        if not is_last:
            times.append(f"{duration(of_step * (self._total - done))} left")
        return Progress("", done, self._total, tuple(times), metrics, is_last)
