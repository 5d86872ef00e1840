"""Batches of one form, stacked into a block."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from keras_patterns.backends import Block

_MOST_STEPS = 64
_MOST_BYTES = 16 * 2**20
# A signal waits for two blocks at most.
_MOST_SECONDS = 0.1
# Blocks of fewer steps do not pay.
FEWEST_STEPS = 4


class ByNumber(Protocol):
    """Batches that are made by their numbers, of arrays."""

    def batch_length(self, number: int, /) -> int:
        """The number of examples of a batch."""

    def step_batch(self, number: int, /) -> Any:
        """A batch."""

    def block(self, numbers: Sequence[int], room: int, /) -> Any:
        """Batches of one size along a new first axis of `room` places."""


def indexed_block(source: ByNumber, numbers: Iterable[int], size: int, rooms: Sequence[int]) -> Any:
    """A block of batches that are made by their numbers; the first batch if it has another size.

    Args:
        source: Makes them, of arrays.
        numbers: Of the batches; the block ends before the first that has another size.
        size: Examples of a batch.
        rooms: Of the program.
    """
    first, *rest = numbers
    if source.batch_length(first) != size:
        return source.step_batch(first)
    alike = [
        first,
        *itertools.takewhile(lambda number: source.batch_length(number) == size, rest),
    ]
    return Block(source.block(alike, room_for(len(alike), rooms)), len(alike))


def form_of(batch: Any) -> str:
    """The structure of a batch with the dtype and the shape of each array, as text."""
    return repr(
        keras.tree.map_structure(
            lambda leaf: None if leaf is None else (str(leaf.dtype), tuple(leaf.shape)), batch
        )
    )


def most_steps(sample: Any, seconds: float) -> int:
    """The most steps that a block may have.

    Args:
        sample: A batch.
        seconds: That a step takes.
    """
    nbytes = sum(leaf.nbytes for leaf in keras.tree.flatten(sample) if leaf is not None)
    most = min(_MOST_BYTES / max(nbytes, 1), _MOST_SECONDS / max(seconds, 1e-9))
    return int(max(1, min(_MOST_STEPS, most)))


def room_for(count: int, rooms: Sequence[int]) -> int:
    """The places of a block for so many batches."""
    return next(room for room in (*rooms, count) if room >= count)


def stacked(batches: Sequence[Any], room: int) -> Any:
    """Batches of one form along a new first axis of `room` places, of which the last ones may be
    left as they are.
    """

    def stack(*leaves: Any) -> Any:
        if leaves[0] is None:
            return None
        if room == len(leaves) and not isinstance(leaves[0], np.ndarray):
            return keras.ops.stack(leaves)
        array = np.empty((room, *leaves[0].shape), np.asarray(leaves[0]).dtype)
        for place, leaf in enumerate(leaves):
            array[place] = leaf
        return array

    return keras.tree.map_structure(stack, *batches)
