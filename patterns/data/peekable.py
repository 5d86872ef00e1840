"""The stream of batches of one run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class PeekableBatches(Iterator[Any]):
    """An iterator that can be looked into, and that remembers what it raised.

    A framework that fetches batches in a thread of its own reports an error of the source as one of
    its own.

    Args:
        batches: From the source.
        form: Gives a batch the form in which `train_step` gets it.

    Attributes:
        error: What the source raised, or None.
    """

    def __init__(
        self, batches: Iterator[tuple[Any, ...]], form: Callable[[tuple[Any, ...]], Any]
    ) -> None:
        self._source = batches
        self._batches: Iterator[Any] = map(form, batches)
        self.error: Exception | None = None

    def peek(self, count: int) -> list[Any]:
        """The next batches, without taking them."""
        first = list(itertools.islice(self._batches, count))
        self._batches = itertools.chain(first, self._batches)
        return first

    def close(self) -> None:
        """Ends the threads or processes that make batches, if there are any."""
        if hasattr(self._source, "close"):
            self._source.close()

    @contextmanager
    def errors_first(self) -> Iterator[None]:
        """Raises what the source raised in place of what a framework made of it."""
        try:
            yield
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise

    def __next__(self) -> Any:
        try:
            return next(self._batches)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
