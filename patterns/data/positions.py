"""The positions of a loader: states that are taken rarely, each with the step that comes next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# The part of the time that taking states may cost. Writing them costs about as much again.
SHARE = 0.01
# Whoever reads a loader reads no more batches ahead than so many.
READ_AHEAD = 256


@dataclass(frozen=True)
class LoaderPosition:
    """A place in the batches of a loader.

    Attributes:
        step: The step whose batch comes next.
        pass_number: The pass that is open, from 0.
        pass_start: The step of its first batch.
        state: Of the loader.
        random: Of the random stream in which it is drawn.
    """

    step: int
    pass_number: int
    pass_start: int
    state: Any
    random: Any

    def as_dict(self) -> dict[str, Any]:
        """The fields, the state not copied."""
        return dict(vars(self))


class PositionClock:
    """Says when the state of a loader is taken, so that it costs a given share of the time at most.

    Args:
        first_cost: Seconds that the first state is expected to take.
        share: Of the time. Defaults to None: `SHARE`.
        clock: Gives seconds. Defaults to `time.perf_counter`.

    Example:

    >>> now = 0.0
    >>> clock = PositionClock(first_cost=1, share=0.02, clock=lambda: now)
    >>> clock.is_due()
    False
    >>> now = 50.0
    >>> clock.is_due()
    True
    """

    def __init__(
        self,
        first_cost: float = 0.0,
        share: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._share = SHARE if share is None else share
        self._clock = clock
        self._due = clock() + first_cost / self._share

    def is_due(self) -> bool:
        """True if it is time for a state."""
        return self._clock() >= self._due

    def measure(self, take: Callable[[], Any]) -> Any:
        """Calls `take` and returns its result; how long it took decides when the next is due."""
        began = self._clock()
        taken = take()
        now = self._clock()
        self._due = now + (now - began) / self._share
        return taken


class PositionLog:
    """The newest positions of a loader that is read ahead of the steps that are trained.

    Args:
        clock: Says when one is due.

    Attributes:
        owes_one: True if there was none when one was last asked for.
        base: The one from which the loader was opened; None for its start.
    """

    def __init__(self, clock: PositionClock) -> None:
        self.base: LoaderPosition | None = None
        self.owes_one = False
        self._clock = clock
        self._newest: deque[LoaderPosition] = deque()

    def is_due(self, step: int) -> bool:
        """True if a position at `step` is worth its cost now."""
        last = self._newest[-1] if self._newest else self.base
        return step > (last.step if last else 0) and self._clock.is_due()

    def add(self, take: Callable[[], LoaderPosition | None]) -> None:
        """Takes a position, if there is one now; forgets those that no step to come needs."""
        taken = self._clock.measure(take)
        self.owes_one = taken is None
        if taken is None:
            return
        self._newest.append(taken)
        reached = self._newest[-1].step - READ_AHEAD
        while len(self._newest) > 1 and self._newest[1].step <= reached:
            self._newest.popleft()

    def at(self, step: int) -> LoaderPosition | None:
        """The newest one at or before `step`; None for the start."""
        known = [one for one in self._newest if one.step <= step]
        if known:
            return known[-1]
        return self.base if self.base and self.base.step <= step else None
