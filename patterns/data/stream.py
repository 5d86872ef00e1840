"""The batches of a run, one for each step, however far ahead they are read."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from keras_patterns.backends.loaders import NativeBatches


class BatchStream(Iterator[Any]):
    """An iterator that can be looked into, that takes back what nobody trained on, and that
    remembers what it raised.

    A framework reads batches ahead, in threads of its own too, and reports an error of the source
    as one of its own.

    Args:
        batches: From the source.
        form: Gives a batch the form in which `train_step` gets it.
        may_end: Whether the source may have no more batches. Each of a loan is read when the one
            before it is taken then, so that the end is known before a step is begun without one:
            TensorFlow would run the part of that step which needs no data. Defaults to False.

    Attributes:
        error: The error that the source raised, or None.
        has_ended: Whether no batch is left; those that are lent out may still be trained on.
        is_untouched: Whether no batch has been taken yet.
    """

    def __init__(
        self,
        batches: Iterator[tuple[Any, ...]],
        form: Callable[[Any], Any],
        may_end: bool = False,
    ) -> None:
        self._source = batches
        self._may_end = may_end
        self._batches: Iterator[Any] = map(form, batches)
        # Read, and not taken yet.
        self._waiting: deque[Any] = deque()
        self._loan: _Loan | None = None
        self._left = 0
        self.error: Exception | None = None
        self.has_ended = False
        self.is_untouched = True

    def peek(self, count: int) -> list[Any]:
        """The next batches, without taking them."""
        self._waiting.extend(itertools.islice(self._batches, max(0, count - len(self._waiting))))
        return list(itertools.islice(self._waiting, count))

    def lend(self, count: int) -> Iterator[Any]:
        """The next batches, for a reader that may read ahead and may not get to the end."""
        self._loan = _Loan(itertools.islice(self, count))
        self._left = count
        return self._loan

    @property
    def lent(self) -> int:
        """The number of batches of the last loan that have been read."""
        return self._loan.lent if self._loan else 0

    def note_trained(self, count: int) -> None:
        """So many batches of the last loan have been trained on."""
        if self._loan is not None:
            self._loan.note_trained(count)

    def take_back(self) -> None:
        """Ends the loan: what was read and not trained on comes next again."""
        if self._loan is not None:
            self._waiting.extendleft(reversed(self._loan.close()))
            self._loan = None
            self._left = 0

    def close(self) -> None:
        """Ends the threads or processes that make batches, if there are any."""
        if self._loan is not None:
            self._loan.close()
        if hasattr(self._source, "close"):
            self._source.close()

    @contextmanager
    def errors_first(self) -> Iterator[None]:
        """Raises what the source raised in place of what a framework made of it. The error of a
        batch that was read ahead stays where it is, if another one comes first.
        """
        try:
            yield
        except Exception as error:
            if self.error is not None and type(error).__module__.startswith("tensorflow."):
                raise self.error from None
            raise

    def __next__(self) -> Any:
        self.is_untouched = False
        try:
            batch = self._waiting.popleft() if self._waiting else next(self._batches)
            self._left -= 1
            # Not beyond the loan: what comes after it may be somebody else's.
            if self._may_end and self._left > 0:
                self._look_ahead()
            return batch
        except StopIteration:
            self.has_ended = True
            raise
        except Exception as error:
            self.error = error
            # Whoever read it ahead may leave before its turn, and a generator that has raised ends.
            self._batches = map(_raise, itertools.repeat(error))
            raise

    def _look_ahead(self) -> None:
        try:
            self.has_ended = not self.peek(1)
        except Exception as error:
            # Of the next batch: this one is trained on.
            self._batches = map(_raise, itertools.repeat(error))


def _raise(error: Exception) -> Any:
    raise error


class NativeStream:
    """Batches that the backend reads by itself, one in each step; in place of a `BatchStream`.

    Nothing is read that is not trained on, so nothing is taken back.

    Args:
        batches: Without an end.
        start: The step of the first one.
        note_read: Is told which step's batch is the next one that is read.
    """

    error = None
    has_ended = False

    def __init__(
        self, batches: NativeBatches, start: int, note_read: Callable[[int], None]
    ) -> None:
        self._native = batches
        self._start = self._next = start
        self._note_read = note_read

    @property
    def is_untouched(self) -> bool:
        """True if no batch has been trained on."""
        return self._next == self._start

    def peek(self, count: int) -> list[Any]:
        """Not the next batch, but one of its shape."""
        return [self._native.sample]

    def lend(self, count: int) -> NativeBatches:
        """All of them: their reader keeps count."""
        self._lent_from = self._next
        return self._native

    @property
    def lent(self) -> int:
        """The number of batches of the last loan that have been read."""
        return self._next - self._lent_from

    def note_trained(self, count: int) -> None:
        """So many batches of the last loan have been trained on."""
        self._next = self._lent_from + count
        self._note_read(self._next)

    def take_back(self) -> None:
        """Nothing has been read that was not trained on."""

    def close(self) -> None:
        """There are no threads but the framework's own."""

    def errors_first(self) -> AbstractContextManager[None]:
        """The framework's own errors say what is wrong."""
        return nullcontext()


class _Loan(Iterator[Any]):
    """Batches that are lent to a reader, which may be a thread that outlives its use."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self._out: deque[Any] = deque()
        self._trained = 0
        self._lock = threading.Lock()

    def __next__(self) -> Any:
        with self._lock:
            batch = next(self._batches)
            self._out.append(batch)
            return batch

    @property
    def lent(self) -> int:
        """The number of batches that have been read."""
        # A thread may be about to add one.
        with self._lock:
            return self._trained + len(self._out)

    def note_trained(self, count: int) -> None:
        """So many batches have been trained on since it began."""
        while self._trained < count:
            self._out.popleft()
            self._trained += 1

    def close(self) -> list[Any]:
        """Ends it; returns what was read and not trained on. A reader that outlives its use, as
        TensorFlow's generators do, holds no batches and no source then.
        """
        with self._lock:
            left, self._out = list(self._out), deque()
            self._batches = iter(())
            return left
