"""A stretch of batches as data that `model.fit` takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from ._read_ahead import ReadAhead

# What `train_step` gets: `(x,)`, `(x, y)`, `(x, y, sample_weight)`, or `x` alone.
Batch = Any


def each_leaf(convert: Callable[[Any], Any]) -> Callable[[Batch], Batch]:
    """A function that converts the arrays of a batch. What has no structure inside goes past
    `keras.tree`, which takes as long as a small step.
    """

    def converted(batch: Batch) -> Batch:
        if type(batch) is tuple and all(leaf is None or hasattr(leaf, "shape") for leaf in batch):
            return tuple(map(convert, batch))
        return keras.tree.map_structure(convert, batch)

    return converted


class Batches(DataAdapter):
    """Hands batches to Keras's loop as they are, without a known end.

    Every public kind of data wraps or copies: a generator cannot give `x` alone, and a `DataLoader`
    draws from torch's global generator. `fit` takes a `DataAdapter` of one's own, whose class Keras
    does not export. True for Keras 3.15.

    Args:
        batches: Read in order, once.
        convert: What to make of each batch.
        ahead: Whether batches may be made in another thread before they are needed. Defaults to
            False.
    """

    num_batches = None
    batch_size = None

    def __init__(
        self,
        batches: Iterable[Batch],
        convert: Callable[[Batch], Batch],
        ahead: bool = False,
    ) -> None:
        items = iter(batches)
        self._first = [convert(batch) for batch in itertools.islice(items, 1)]
        self._rest: Iterator[Batch] = map(convert, items)
        self._reader = ReadAhead(self._rest) if ahead else None

    def get_jax_iterator(self) -> Iterator[Batch]:
        """The batches. Keras takes one to build a model with, then asks for all of them again."""
        return itertools.chain(self._first, self._reader or self._rest)

    get_torch_dataloader = get_jax_iterator

    def close(self) -> None:
        """Ends the thread that makes batches, if there is one."""
        if self._reader is not None:
            self._reader.close()


class NativeFeed(DataAdapter):
    """Hands an iterator of `tf.data` to Keras's loop on TensorFlow, which reads one batch in each
    step, with no known end. True for Keras 3.15.

    Args:
        iterator: Is taken for a dataset by whoever makes an iterator of it.
    """

    num_batches = None
    batch_size = None

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def get_tf_dataset(self) -> Any:
        """The iterator, which gives itself; it goes on from one call of `fit` to the next."""
        return self._iterator
