"""Batches of arrays in memory or on disk, as a function of (seed, step)."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import Gathered

from .order import BatchOrder
from .rows import as_rows, batch_dtype, count_examples, describe, is_in_memory, take
from .weights import check_class_weight, class_sample_weights, class_weight_json

# A framework that makes the batches holds the arrays once more.
_MOST_BYTES = 2**30


class ArraySource:
    """Batches of arrays: the batch of a step is a pure function of `(seed, step)`.

    A pass over `n` examples has `ceil(n / batch_size)` steps and covers each example once; its last
    batch holds what is left, as in Keras. The batches are the same on every backend. Memory maps
    are read a batch at a time. Floats are converted to Keras's `floatx`, batch by batch.

    Args:
        x: inputs: any `keras.tree` structure of arrays, memory maps, tensors or pandas objects.
            Sparse arrays are made dense, batch by batch.
        y: targets, likewise, but none that is sparse. Defaults to `None`.
        sample_weight: one array, or one for each of `y`'s. Defaults to `None`.
        batch_size: examples of a batch. Defaults to `32`.
        shuffle: `True` for a new order of all examples at each pass, `False` for their own order,
            `"batch"` to shuffle within batches only. Defaults to `True`.
        class_weight: `{class: weight}`, turned into sample weights. Defaults to `None`.
        seed: seed of the order, a whole number that is not negative. Defaults to `0`.
        steps_per_pass: in place of `batch_size`: how many batches make a pass. Defaults to `None`.

    Raises:
        ValueError: the lengths differ, an argument is out of range, or two exclude each other.
        TypeError: a leaf is no array, or an argument has the wrong type.

    Example:

    >>> import numpy as np
    >>> source = ArraySource(np.arange(5), batch_size=2, shuffle=False)
    >>> source.steps_per_pass, [x.tolist() for (x,) in (source.batch(1), source.batch(2))]
    (3, [[2, 3], [4]])
    """

    random_access = True
    thread_safe = True
    may_be_collected = True

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int | None = None,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        seed: int = 0,
        steps_per_pass: int | None = None,
    ) -> None:
        x, y = as_rows(x, "x", sparse=True), as_rows(y, "y")
        sample_weight = as_rows(sample_weight, "sample_weight")
        self._class_weight = check_class_weight(class_weight)
        _check_weights(y, sample_weight, self._class_weight)
        examples = count_examples(x=x, y=y, sample_weight=sample_weight)
        if batch_size is None:
            batch_size = math.ceil(examples / steps_per_pass) if steps_per_pass else 32
        self._order = BatchOrder(examples, batch_size, shuffle, seed)
        self._data = _pack(x, y, _for_each_output(y, sample_weight))

    @property
    def examples(self) -> int:
        """Number of examples of a pass."""
        return self._order.examples

    @property
    def batch_size(self) -> int:
        """Examples of a batch, the last one of a pass excepted."""
        return self._order.batch_size

    def batch_sizes(self, steps: int) -> set[int]:
        """Return the sizes that the batches of so many steps have."""
        pass_end = self.steps_per_pass - 1
        return {self.batch_length(step) for step in (0, pass_end) if step < steps}

    @property
    def steps_per_pass(self) -> int:
        """Steps of a pass over the data."""
        return self._order.steps_per_pass

    def batch(self, step: int) -> tuple:
        """Return the batch of `step`, which counts from 0 through all passes."""
        return self._taken(self.indices(step))

    def block(self, numbers: Sequence[int], room: int) -> Any:
        """Return batches of one size as `train_step` gets them, along a new first axis of `room`
        places, of which the last ones may be left as they are.
        """
        indices = [self.indices(number) for number in numbers]

        def stacked(array: Any) -> Any:
            if array is None:
                return None
            shape = (len(indices), len(indices[0]), *array.shape[1:])
            if room == len(indices):
                return array.reshape(shape)
            stack = np.empty((room, *shape[1:]), array.dtype)
            stack[: len(indices)] = array.reshape(shape)
            return stack

        batch = self.for_train_step(self._taken(np.concatenate(indices)))
        return keras.tree.map_structure(stacked, batch)

    def _taken(self, indices: np.ndarray) -> tuple:
        batch = keras.tree.map_structure(
            lambda array: None if array is None else take(array, indices), self._data
        )
        if self._class_weight is not None:
            batch += (class_sample_weights(batch[1], self._class_weight),)
        return batch

    def indices(self, step: int) -> np.ndarray:
        """Return which examples the batch of `step` holds, by their place along the first axis."""
        return self._order.indices(step)

    def batches(self, start: int) -> Iterator[tuple]:
        """Return the batches from step `start` on, without end."""
        return map(self.batch, itertools.count(start))

    def for_train_step(self, batch: tuple) -> Any:
        """Return the batch as Keras gives it to `train_step`: `x` itself where there is nothing
        else.
        """
        return batch if len(batch) > 1 or isinstance(batch[0], tuple) else batch[0]

    def step_batch(self, step: int) -> Any:
        """Return the batch of `step` as Keras gives it to `train_step`."""
        return self.for_train_step(self.batch(step))

    def batch_length(self, step: int) -> int:
        """Return how many examples the batch of `step` holds."""
        return self._order.length(step)

    def index_batches(self, start: int) -> Iterator[np.ndarray]:
        """Return which examples the batches from step `start` on hold, without end."""
        return map(self.indices, itertools.count(start))

    @functools.cached_property
    def gathered(self) -> Gathered | None:
        """The arrays, for a framework that makes the batches; `None` where they do not all lie in
        memory as numbers.
        """
        columns = self._data
        if self._class_weight is not None:
            columns += (class_sample_weights(columns[1], self._class_weight),)
        leaves = keras.tree.flatten(columns)
        if not all(map(is_in_memory, leaves)) or sum(leaf.nbytes for leaf in leaves) > _MOST_BYTES:
            return None
        arrays = self.for_train_step(columns)
        return Gathered(
            keras.tree.map_structure(
                lambda array: array.astype(array.dtype.newbyteorder("="), copy=False), arrays
            ),
            keras.tree.map_structure(lambda array: batch_dtype(array.dtype), arrays),
        )

    def fingerprint(self) -> dict:
        """Return what identifies the data, as JSON; see `rows.digest` for what is read."""
        arrays: dict = {}
        for name, data in zip(("x", "y", "sample_weight"), self._data, strict=False):
            arrays |= describe(data, name)
        return {
            "kind": "arrays",
            "examples": self.examples,
            "batch_size": self._order.batch_size,
            "shuffle": self._order.shuffle,
            "class_weight": class_weight_json(self._class_weight),
            "arrays": arrays,
        }


def _pack(x: Any, y: Any, sample_weight: Any) -> tuple:
    if y is None:
        return (x,)
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def _check_weights(y: Any, sample_weight: Any, class_weight: Any) -> None:
    if sample_weight is not None and class_weight is not None:
        raise ValueError(
            "`sample_weight` and `class_weight` cannot be given at the same time. Multiply the "
            "weights of the classes into `sample_weight`."
        )
    for name, weight in (("sample_weight", sample_weight), ("class_weight", class_weight)):
        if weight is not None and y is None:
            raise ValueError(f"`{name}` was given without targets. Received: y=None.")
    if class_weight is not None:
        class_sample_weights(y if keras.tree.is_nested(y) else y[:1], class_weight)


def _for_each_output(y: Any, sample_weight: Any) -> Any:
    """Return `sample_weight` in the structure of `y`; one array serves all outputs."""
    if sample_weight is None or not keras.tree.is_nested(y):
        return sample_weight
    if keras.tree.is_nested(sample_weight):
        try:
            keras.tree.assert_same_structure(y, sample_weight)
        except (ValueError, TypeError) as error:
            raise ValueError(
                "`sample_weight` must be one array, or have the structure of `y`, one array for "
                f"each output. {error}"
            ) from error
        return sample_weight
    if sample_weight.ndim > 1 and sample_weight.shape != (len(sample_weight), 1):
        raise ValueError(
            "one `sample_weight` for several outputs must have the shape (examples,). Received: "
            f"{sample_weight.shape}. Pass one array for each output."
        )
    return keras.tree.map_structure(lambda _: sample_weight, y)
