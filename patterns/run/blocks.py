"""Blocks of batches, for steps that are one program of the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import Block, BlockProgram, current

from ..state.preservation import preserved
from ..state.snapshot import copy_values
from ..state.variables import find_variables
from .driver import Driver

# A block has one of these lengths on the device, whatever it holds: each is compiled once.
_ROOMS = (8, 64)
_MOST_BYTES = 16 * 2**20
# A signal waits for two blocks at most.
_MOST_SECONDS = 0.1


class Blocks:
    """The batches of a run, block by block.

    Args:
        driver: Of the run.
        program: The steps as one program.
        sample: A batch.
        seconds_per_step: As it was measured without blocks.

    Attributes:
        stepwise: Seconds that a step took without blocks.
        seconds: Of the blocks that were full: how long each of their steps took.
    """

    def __init__(
        self, driver: Driver, program: BlockProgram, sample: Any, seconds_per_step: float
    ) -> None:
        self._driver = driver
        self._size = len(keras.tree.flatten(sample)[0])
        nbytes = sum(np.asarray(leaf).nbytes for leaf in keras.tree.flatten(sample))
        most = min(_MOST_BYTES / max(nbytes, 1), _MOST_SECONDS / max(seconds_per_step, 1e-9))
        self._most = int(max(1, min(_ROOMS[-1], most)))
        self._next: Any = None
        self._began = 0.0
        self._count = 0
        self.stepwise = seconds_per_step
        self.seconds: list[float] = []
        self.train_function = program.train_function(self.take)
        self.feed = program.feed

    def prepare(self, step: int, left: int) -> int:
        """Makes the block that begins at a step, of at most `left` steps; returns how many it
        has.
        """
        now = time.perf_counter()
        if self._count == self._most:
            self.seconds.append((now - self._began) / self._count)
        data = self._driver.data
        source: Any = data.source
        numbers = []
        for ahead in range(step, step + min(left, self._most)):
            number = data.skipped.number_of(ahead)
            if len(source.indices(number)) != self._size:
                break
            numbers.append(number)
        if numbers:
            room = next(room for room in _ROOMS if room >= len(numbers))
            self._next = Block(source.block(numbers, room), len(numbers))
        else:
            batch = data.source.batch(data.skipped.number_of(step))
            self._next = data.source.for_train_step(batch)
        self._count = max(1, len(numbers))
        self._began = now
        return self._count

    def take(self) -> Any:
        """The block that was made last."""
        return self._next


def difference(model: keras.Model, program: BlockProgram, block: Block, batches: list[Any]) -> str:
    """The difference between a program and the steps that it stands for; empty if there is none.

    Both begin with another rate and count of steps than those that the program was made with: what
    was read then must not be part of it.

    Args:
        model: Is trained both ways, and put back.
        program: The program.
        block: What it is given.
        batches: The same batches one by one, of one shape.
    """
    steps = current().feed(iter(batches), batches, False, model)
    stepwise = _outcome(model, model.train_function, steps, len(batches))
    steps.close()
    fused = _outcome(model, program.train_function(lambda: block), program.feed, 1)
    for name, value in stepwise.items():
        if value.tobytes() != fused[name].tobytes():
            return f"{name} is another one after {len(batches)} steps"
    return ""


def _outcome(
    model: keras.Model, function: Callable[..., Any], data: Any, times: int
) -> dict[str, np.ndarray]:
    """The values of all variables after some steps."""
    with preserved(model):
        for variable in find_variables(model).of("optimizer").values():
            if not variable.shape:
                variable.assign(_another(variable))
        current().run_function(model, function, data, times)
        current().sync(model)
        return copy_values(find_variables(model).variables)


def _another(number: keras.Variable) -> Any:
    if "int" in number.dtype:
        return keras.ops.add(number.value, 1000)
    return keras.ops.multiply(number.value, 0.5)
