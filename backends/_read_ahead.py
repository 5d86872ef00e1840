"""Making the next batches in a thread, where that takes long enough to be worth it."""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

# Batches ahead.
_AHEAD = 2
# A batch that is made in fewer seconds comes sooner from where it is needed than from a thread.
_WORTH_IT = 1e-3
# So many batches are timed before that is decided.
_TIMED = 8


class ReadAhead(Iterator[Any]):
    """The items of an iterator; the next ones are made while the newest one is used.

    The first few are made where they are needed, and timed: two threads that both hold Python's
    lock for most of the time hinder each other.

    Args:
        items: May be read from another thread.
        worth_it: The seconds an item must take. Defaults to None: a millisecond.
    """

    def __init__(self, items: Iterator[Any], worth_it: float | None = None) -> None:
        self._items = items
        self._worth_it = _WORTH_IT if worth_it is None else worth_it
        self._seconds: list[float] = []
        self._thread: _Maker | None = None

    def __next__(self) -> Any:
        if self._thread is not None:
            return self._thread.take()
        if len(self._seconds) == _TIMED:
            return next(self._items)
        began = time.perf_counter()
        item = next(self._items)
        self._seconds.append(time.perf_counter() - began)
        if len(self._seconds) == _TIMED and statistics.median(self._seconds) >= self._worth_it:
            self._thread = _Maker(self._items)
        return item

    def close(self) -> None:
        """Ends the thread, if there is one."""
        if self._thread is not None:
            self._thread.end()


class _Maker:
    """A thread that makes items."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._made: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        self._is_ended = False
        self._last: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, name="keras-patterns-batches", daemon=True
        )
        self._thread.start()

    def take(self) -> Any:
        """The next item; raises what making it raised."""
        if self._last is None:
            item, self._last = self._made.get()
            if self._last is None:
                self._room.release()
                return item
        raise self._last

    def end(self) -> None:
        """Waits for the item that is being made; no other is."""
        self._is_ended = True
        self._room.release()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._room.acquire()
            if self._is_ended:
                return
            try:
                self._made.put((next(self._items), None))
            except BaseException as error:
                self._made.put((None, error))
                return
