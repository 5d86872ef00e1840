"""The stream of batches of one run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any


class Recorded(Iterator[tuple[Any, ...]]):
    """An iterator that can be looked into, and that remembers what it raised.

    A framework that fetches batches in a thread of its own reports an error of the source as one of its own.

    Attributes:
        error: What the source raised, or None.
    """

    def __init__(self, batches: Iterator[tuple[Any, ...]]) -> None:
        self._source = self._batches = batches
        self.error: Exception | None = None

    def peek(self, count: int) -> list[tuple[Any, ...]]:
        """The next batches, without taking them."""
        first = list(itertools.islice(self._batches, count))
        self._batches = itertools.chain(first, self._batches)
        return first

    def close(self) -> None:
        """Ends the threads or processes that make batches, if there are any."""
        if hasattr(self._source, "close"):
            self._source.close()

    def __next__(self) -> tuple[Any, ...]:
        try:
            return next(self._batches)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
