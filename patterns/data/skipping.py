"""Leaving batches out of the data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from .._util.errors import NonFiniteError
from .sources import BatchSource

# So many passes in a row without a batch that is not left out: there is none. A shuffled pass may
# have none by chance.
_EMPTY_PASSES = 16


class NoBatchLeftError(NonFiniteError):
    """Every batch is left out."""


class Skipped:
    """The batches that are left out of a source, so that those after them move up: some by their
    number, and all that hold an example.

    Which batches hold an example is found as far as anybody asks, each once.

    Args:
        source: The data.
        state: What `state` gave. Defaults to None: nothing is left out.

    Example:

    >>> import numpy as np
    >>> from keras_patterns.data import ArraySource
    >>> skipped = Skipped(ArraySource(np.arange(6), batch_size=2, shuffle=False))
    >>> skipped.leave_out(1, examples=[3])
    >>> [skipped.number_of(step) for step in range(4)]  # three batches make a pass
    [0, 2, 3, 5]
    """

    def __init__(self, source: BatchSource, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self._source = source
        self._numbers = set(state.get("numbers", ()))
        self._examples = set(state.get("examples", ()))
        # All batches before this one are known to hold one of the examples or not.
        self._checked = int(state.get("known", 0))
        self._excluded_in_a_row = 0
        # A framework may read the batches in a thread of its own.
        self._lock = threading.Lock()

    @property
    def state(self) -> dict[str, Any]:
        """The batches that are left out, as JSON."""
        with self._lock:
            return {
                "numbers": sorted(self._numbers),
                "examples": sorted(self._examples),
                "known": self._checked,
            }

    @property
    def is_empty(self) -> bool:
        """True if no batch is left out."""
        return not (self._numbers or self._examples)

    def leave_out(self, number: int, examples: Collection[int] = ()) -> None:
        """Leaves out a batch, and those after it that hold any of some examples.

        Args:
            number: Of the batch, from 0.
            examples: By their place in the data; the source must tell which ones its batches hold
                (`indices`).

        Raises:
            NoBatchLeftError: If no batch is left.
        """
        with self._lock:
            self._numbers.add(number)
            if examples:
                self._examples.update(examples)
                self._checked = number + 1
                self._excluded_in_a_row = 0
        # Looks for the next batch now, where the one who asks can say what is wrong.
        self.number_of(number)

    def number_of(self, step: int) -> int:
        """The number of the batch that a step gets; both count from 0."""
        with self._lock:
            while True:
                number = step
                for left_out in sorted(self._numbers):
                    number += left_out <= number
                if not self._examples or self._checked > number:
                    return number
                self._check_next()

    def batches(
        self, step: int, read: Callable[[int], Iterator[Any]] | None = None
    ) -> Iterator[Any]:
        """The batches from a step on.

        Args:
            step: Counts from 0.
            read: Gives something for each batch from a number on. Defaults to None: the batches.
        """
        first = self.number_of(step)
        batches = (read or self._source.batches)(first)
        return _OtherBatches(batches, first, self) if self._numbers else batches

    def is_excluded(self, number: int) -> bool:
        """Tells whether a batch is left out."""
        with self._lock:
            while self._examples and self._checked <= number:
                self._check_next()
            return number in self._numbers

    def _check_next(self) -> None:
        """Looks into the first batch that is not known yet."""
        if not self._examples.isdisjoint(self._source.indices(self._checked).tolist()):  # type: ignore[attr-defined]
            self._numbers.add(self._checked)
            self._excluded_in_a_row += 1
        else:
            self._excluded_in_a_row = 0
        self._checked += 1
        if self._excluded_in_a_row >= _EMPTY_PASSES * (self._source.steps_per_pass or 1):
            raise NoBatchLeftError(
                f"no batch is left: each of {self._excluded_in_a_row:,} batches in a row holds one "
                f"of the {len(self._examples):,} examples that are left out. Take these examples "
                "out of the data, or make the batches smaller."
            )


class _OtherBatches(Iterator[Any]):
    """The batches that are not left out; no generator, since one that a thread of a framework still
    reads could not be closed.
    """

    def __init__(self, batches: Iterator[Any], first: int, skipped: Skipped) -> None:
        self._batches = batches
        self._next = first
        self._skipped = skipped

    def __next__(self) -> Any:
        while True:
            number = self._next
            self._next += 1
            batch = next(self._batches)
            if not self._skipped.is_excluded(number):
                return batch

    def close(self) -> None:
        """Ends the workers of the source, if there are any."""
        if hasattr(self._batches, "close"):
            self._batches.close()
