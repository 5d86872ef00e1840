"""Blocks of batches, for steps that are one program of the device."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import Block, BlockProgram

from ..data import DataExhaustedError
from ..data.stacked import FEWEST_STEPS, form_of, indexed_block, room_for, stacked
from ..data.stream import NativeStream
from .run_data import RunData

# So many full blocks are timed, the first of which may compile.
_TIMED = 4
# So many blocks are looked at for their length.
_LOOKED_AT = 8


class Blocks:
    """The batches of a run, block by block.

    Args:
        data: Of the run.
        program: The steps as one program.
        sample: A batch.
        seconds_per_step: As it was measured without blocks.
        most: The most steps of a block.

    Attributes:
        train_function: A stand-in for that of the model.
        feed: What `fit` is given in the place of data.
        by_index: Whether the batches are made by their number; they are read from the stream of the
            run otherwise.
        by_itself: Whether the program reads the batches by itself, from the backend's own feed.
    """

    def __init__(
        self,
        data: RunData,
        program: BlockProgram,
        sample: Any,
        seconds_per_step: float,
        most: int,
    ) -> None:
        self.by_itself = isinstance(data.stream, NativeStream)
        self.by_index = hasattr(data.source, "block")
        self._most, self._program = most, program
        self._next: Any = None
        self._began = 0.0
        self._count = 0
        self._counts: list[int] = []
        self._stepwise = seconds_per_step
        self._seconds: list[float] = []
        kind = _ByItself if self.by_itself else _ByIndex if self.by_index else _AsTheyCome
        self._supply: Any = kind(data, sample, program.rooms)
        self.train_function = program.function(self.take)
        self.feed = program.feed

    def begin(self, steps: int) -> None:
        """A call of `fit` for so many steps begins."""
        self._supply.begin(steps)

    def prepare(self, step: int, left: int) -> int:
        """Makes the block that begins at a step, of at most `left` steps; returns how many it
        has.
        """
        now = time.perf_counter()
        if self._count == self._most and len(self._seconds) < _TIMED:
            self._seconds.append((now - self._began) / self._count)
        self._next = self._supply.next(step, min(left, self._most))
        self._count = _length(self._next)
        self._began = now
        if len(self._counts) < _LOOKED_AT:
            self._counts.append(self._count)
        return self._count

    @property
    def is_outdated(self) -> bool:
        """True if the model has other variables than the program was made for."""
        return self._program.is_outdated

    @property
    def drawback(self) -> str:
        """Why the blocks so far did not pay; empty while nothing says so."""
        if len(self._counts) == _LOOKED_AT and np.mean(self._counts) < FEWEST_STEPS:
            return "something was due after so few steps"
        timed = self._seconds[1:_TIMED]
        if len(timed) == _TIMED - 1 and float(np.median(timed)) > self._stepwise:
            return "blocks took longer"
        return ""

    def take(self) -> Any:
        """The block that was made last, once; None then."""
        taken, self._next = self._next, None
        return taken


def _length(block: Any) -> int:
    if isinstance(block, int):
        return block
    return block.count if isinstance(block, Block) else 1


class _ByItself:
    """Batches that the program reads by itself."""

    def __init__(self, data: RunData, sample: Any, rooms: Sequence[int]) -> None:
        """Nothing of the data is needed."""

    def begin(self, steps: int) -> None:
        """The feed is opened elsewhere."""

    def next(self, step: int, most: int) -> int:
        """The number of batches to read."""
        return most


class _ByIndex:
    """Batches that are gathered at once."""

    def __init__(self, data: RunData, sample: Any, rooms: Sequence[int]) -> None:
        self._data, self._rooms = data, rooms
        self._size = len(next(leaf for leaf in keras.tree.flatten(sample) if leaf is not None))

    def begin(self, steps: int) -> None:
        """There is nothing to open."""

    def next(self, step: int, most: int) -> Any:
        """A block from a step on, or its batch if that has another size."""
        number_of = self._data.skipped.number_of
        numbers = map(number_of, range(step, step + most))
        return indexed_block(self._data, numbers, self._size, self._rooms)


class _AsTheyCome:
    """Batches that are read from the stream of the run, one after the other."""

    def __init__(self, data: RunData, sample: Any, rooms: Sequence[int]) -> None:
        self._data, self._rooms, self._form = data, rooms, form_of(sample)
        self._lent: Iterator[Any] = iter(())
        # The one that was of another form than the block before it.
        self._held: list[Any] = []
        self._error: Exception | None = None

    def begin(self, steps: int) -> None:
        """Borrows so many batches."""
        self._lent, self._held, self._error = self._data.lend(steps), [], None

    def next(self, step: int, most: int) -> Any:
        """A block, or the next batch if that has another form."""
        if self._held:
            return self._held.pop()
        if self._error is not None:
            raise self._error
        batches: list[Any] = []
        try:
            for batch in itertools.islice(self._lent, most):
                if form_of(batch) != self._form:
                    if not batches:
                        return batch
                    self._held.append(batch)
                    break
                batches.append(batch)
        except Exception as error:
            if not batches:
                raise
            # Those before it are trained on.
            self._error = error
        if not batches:
            raise DataExhaustedError(f"the data gave no batch after step {step:,}. Give some.")
        return Block(stacked(batches, room_for(len(batches), self._rooms)), len(batches))
