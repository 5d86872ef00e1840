"""Leaving batches out of the data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from .sources import BatchSource


def number_of_batch(step: int, skipped: Collection[int]) -> int:
    """Which batch of a source a step gets where some are left out, so that those after them move up.

    Args:
        step: from 0.
        skipped: the numbers of the batches that are left out, from 0.

    Example:

    >>> [number_of_batch(step, {1, 2}) for step in range(3)]
    [0, 3, 4]
    """
    for number in sorted(skipped):
        step += number <= step
    return step


def batches_without(source: BatchSource, skipped: Collection[int], step: int) -> Iterator[Any]:
    """Return the batches from step `step` on, less those that are left out."""
    first = number_of_batch(step, skipped)
    batches = source.batches(first)
    return _Without(batches, first, frozenset(skipped)) if skipped else batches


class _Without(Iterator[Any]):
    """No generator: one that a thread of a framework still reads could not be closed."""

    def __init__(self, batches: Iterator[Any], first: int, skipped: frozenset[int]) -> None:
        self._batches, self._next, self._skipped = batches, first, skipped

    def __next__(self) -> Any:
        while True:
            number, self._next = self._next, self._next + 1
            batch = next(self._batches)
            if number not in self._skipped:
                return batch

    def close(self) -> None:
        """Ends the workers of the source, if there are any."""
        if hasattr(self._batches, "close"):
            self._batches.close()
