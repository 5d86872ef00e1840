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


class Feed(DataAdapter):
    """The data that Keras's loop reads, without a known end.

    `fit` takes a `DataAdapter` of one's own, whose class Keras does not export. Every public kind
    of data wraps or copies: a generator cannot give `x` alone, and a `DataLoader` draws from
    torch's global generator. True for Keras 3.15.
    """

    num_batches: int | None = None
    batch_size = None

    def close(self) -> None:
        """Ends what makes batches, if that is somewhere else; nobody reads any more."""


class Batches(Feed):
    """Hands batches to Keras's loop as they are.

    Args:
        batches: Read in order, once.
        convert: What to make of each batch.
        ahead: Whether batches may be made in another thread before they are needed. Defaults to
            False.
    """

    def __init__(
        self,
        batches: Iterable[Batch],
        convert: Callable[[Batch], Batch],
        ahead: bool = False,
    ) -> None:
        items = iter(batches)
        self._taken = [convert(batch) for batch in itertools.islice(items, 1)]
        self._rest: Iterator[Batch] = map(convert, items)
        self._reader = ReadAhead(self._rest) if ahead else None

    def get_jax_iterator(self) -> Iterator[Batch]:
        """The batches. Keras takes one to build a model with, and on an accelerator the next one as
        well, which is moved there meanwhile. Then it asks for all of them again.
        """
        return itertools.chain(tuple(self._taken), self._noted())

    def _noted(self) -> Iterator[Batch]:
        for count, batch in enumerate(self._reader or self._rest):
            # Who takes more does not build.
            self._taken = [*self._taken, batch] if count == 0 else []
            yield batch

    get_torch_dataloader = get_jax_iterator

    def close(self) -> None:
        """Ends the thread that makes batches, if there is one."""
        if self._reader is not None:
            self._reader.close()


class NoFeed(Feed):
    """Stands in for data where the train function has its own."""

    def get_jax_iterator(self) -> Iterator[Any]:
        """Nothing, as often as it is asked for."""
        return itertools.repeat(None)

    get_torch_dataloader = get_tf_dataset = get_jax_iterator


class NativeFeed(Feed):
    """Hands a dataset of `tf.data`, or an iterator, to Keras's loop on TensorFlow, which reads one
    batch in each step.

    Args:
        dataset: An iterator is taken for one by whoever makes an iterator of it: it gives itself,
            and goes on from one call of `fit` to the next.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def get_tf_dataset(self) -> Any:
        """The dataset."""
        return self._dataset
