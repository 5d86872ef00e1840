"""Steps of a model as one program of the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from ._feed import Batch, Feed


# Compiled for each, so few; the last one holds the longest block.
ROOMS = (8, 64)
# Numbers without a pattern, the least of which is 0, for XLA on a CPU to read in each round of a
# loop: one that reads less than 1 KB is compiled as one function there, which rounds some sums
# otherwise than a step does.
LAGS = np.square(np.arange(512, dtype="int32")) % 7


class CannotFuseError(Exception):
    """The steps of a model cannot be one program; the text says why."""


@dataclass(frozen=True)
class Block:
    """Batches of one form, one after the other.

    Attributes:
        batches: The structure of a batch, whose arrays have a new first axis; what follows the last
            batch there is of no meaning.
        count: How many batches.
    """

    batches: Batch
    count: int


class BlockProgram(Protocol):
    """The steps of a model as one program, which is compiled once for any number of them.

    Attributes:
        kind: How it was made, in a word or two.
        feed: What `model.fit` is given in the place of data.
        rooms: The numbers of places that a block may have, in rising order, for each of which the
            program is compiled once; empty where it needs no more places than there are batches.
        is_outdated: Whether somebody has given the model other variables since, for which a step
            is compiled anew. A block is run step by step then.
    """

    kind: str
    feed: Feed
    rooms: tuple[int, ...]
    is_outdated: bool

    def function(self, take: Callable[[], Block | Batch | int | None]) -> Callable[..., Any]:
        """A stand-in for `model.train_function`, or for `model.test_function`, each call of which
        runs on what `take` gives: a block, one batch of another form, which is run as usual, or a
        number of batches that are read from the feed by the program itself. Where it gives None,
        somebody else uses the model meanwhile: it runs on what the call is given, as usual.

        At most two blocks are on their way at a time.
        """

    def compilation(self, block: Block) -> Callable[[], Any] | None:
        """Compiles the program for blocks of this form, in a thread of its own, while the model is
        trained one step at a time; None where there is nothing to be done before the first block.
        """
