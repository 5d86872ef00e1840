"""Blocks of batches, for steps that are one program of the device."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import Block, BlockProgram

from .driver import Driver

_MOST_STEPS = 64
_MOST_BYTES = 16 * 2**20
# A signal waits for two blocks at most.
_MOST_SECONDS = 0.1
# So many full blocks are timed, the first of which may compile.
_TIMED = 4
# Blocks of fewer steps do not pay; so many are looked at.
FEWEST_STEPS = 4
_LOOKED_AT = 8


class Blocks:
    """The batches of a run, block by block.

    Args:
        driver: Of the run.
        program: The steps as one program.
        sample: A batch.
        seconds_per_step: As it was measured without blocks.

    Attributes:
        train_function: A stand-in for that of the model.
        feed: What `fit` is given in the place of data.
    """

    def __init__(
        self, driver: Driver, program: BlockProgram, sample: Any, seconds_per_step: float
    ) -> None:
        self._driver = driver
        leaves = [leaf for leaf in keras.tree.flatten(sample) if leaf is not None]
        self._size = len(leaves[0])
        nbytes = sum(leaf.nbytes for leaf in leaves)
        most = min(_MOST_BYTES / max(nbytes, 1), _MOST_SECONDS / max(seconds_per_step, 1e-9))
        self._most = int(max(1, min(_MOST_STEPS, most)))
        self._next: Any = None
        self._began = 0.0
        self._count = 0
        self._counts: list[int] = []
        self._stepwise = seconds_per_step
        self._seconds: list[float] = []
        self._rooms = program.rooms
        self.train_function = program.train_function(self.take)
        self.feed = program.feed

    def prepare(self, step: int, left: int) -> int:
        """Makes the block that begins at a step, of at most `left` steps; returns how many it
        has.
        """
        now = time.perf_counter()
        if self._count == self._most and len(self._seconds) < _TIMED:
            self._seconds.append((now - self._began) / self._count)
        data = self._driver.data
        source: Any = data.source
        numbers = []
        for ahead in range(step, step + min(left, self._most)):
            number = data.skipped.number_of(ahead)
            if source.batch_length(number) != self._size:
                break
            numbers.append(number)
        if numbers:
            rooms = (*self._rooms, len(numbers))
            room = next(room for room in rooms if room >= len(numbers))
            self._next = Block(source.block(numbers, room), len(numbers))
        else:
            batch = data.source.batch(data.skipped.number_of(step))
            self._next = data.source.for_train_step(batch)
        self._count = max(1, len(numbers))
        self._began = now
        if len(self._counts) < _LOOKED_AT:
            self._counts.append(self._count)
        return self._count

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
        """The block that was made last."""
        return self._next
