"""Batches for Keras's loop on TensorFlow, which fetches each inside the step."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ._feed import Batch, Feed, NativeFeed
from ._gathered import Gathered
from .loaders import NativeBatches

# Enough to make one batch while another is trained on.
_BATCHES_AHEAD = 2
# Handing one batch over from Python costs as much as a step of a small model, so small batches are
# handed over several at once: never more than so many, nor than so many bytes, nor what takes
# longer to make.
_TOGETHER, _TOGETHER_BYTES, _TOGETHER_SECONDS = 16, 1 << 20, 0.02
# Of batches that TensorFlow makes itself, only the places of the examples are handed over.
_PLACES_TOGETHER = 64


def feed(
    batches: Iterable[Batch] | NativeBatches | Gathered,
    samples: Sequence[Batch],
    ahead: bool,
    owner: keras.Model,
) -> Feed:
    """As `feed` of the backend."""
    if isinstance(batches, NativeBatches):
        return NativeFeed(batches.iterator)
    if isinstance(batches, Gathered):
        return NativeFeed(_gathered(batches))
    form = form_of(samples)
    if not ahead or any(leaf is None for leaf in keras.tree.flatten(form)):
        return PulledFeed(batches, form, owner)
    together = min(_TOGETHER, _TOGETHER_BYTES // max(1, _bytes(samples[0])))
    if together > 1:
        stacked = keras.tree.map_structure(
            lambda spec: tf.TensorSpec([None, *spec.shape], spec.dtype), form
        )
        dataset = tf.data.Dataset.from_generator(
            lambda: _stacks(batches, together), output_signature=stacked
        )
        return NativeFeed(dataset.prefetch(1).unbatch())
    dataset = tf.data.Dataset.from_generator(lambda: batches, output_signature=form)
    return NativeFeed(dataset.prefetch(_BATCHES_AHEAD))


class PulledFeed(NativeFeed):
    """Batches that each step pulls from Python by itself: none is read before its step, and no
    pipeline stands between.

    Args:
        batches: Read in order, once.
        form: The structure of a batch, a `tf.TensorSpec` for each array.
        owner: The model whose step pulls. The step is traced with what it pulls from, which is
            therefore used again where the form is the same.
    """

    def __init__(self, batches: Iterable[Batch], form: Batch, owner: keras.Model) -> None:
        idle = _idle.setdefault(owner, {}).setdefault(repr(form), [])
        pulled = idle.pop() if idle else _Pulled(form)
        pulled.batches = iter(batches)
        super().__init__(pulled)
        self._retire = weakref.finalize(self, _retire, pulled, idle)

    def close(self) -> None:
        """Lets another feed have what the step is traced with."""
        self._retire()


class _Pulled(tf.distribute.DistributedIterator):
    """An iterator that is read inside a compiled step; Keras knows it by its base class. True for
    Keras 3.15.

    Args:
        form: As in `PulledFeed`.

    Attributes:
        batches: The iterator that is pulled from.
    """

    def __init__(self, form: Batch) -> None:
        self.batches: Iterator[Batch] = iter(())
        self._form = form
        self._specs = [spec for spec in keras.tree.flatten(form) if spec is not None]

    @property
    def element_spec(self) -> Batch:
        """The form of a batch."""
        return self._form

    def get_next(self) -> Batch:
        """The next batch, as tensors; a step that finds none raises `tf.errors.OutOfRangeError`."""
        kinds = [spec.dtype for spec in self._specs]
        return self._packed(tf.numpy_function(self._pull, [], kinds))

    def get_next_as_optional(self) -> tf.experimental.Optional:
        """The next batch, or an empty optional."""
        kinds = [tf.bool, *(spec.dtype for spec in self._specs)]
        is_there, *leaves = tf.numpy_function(self._pull_or_nothing, [], kinds)
        # A place that is left empty has no specification of its own.
        nothing = tf.experimental.Optional.empty(None)
        batch = self._packed(leaves, nothing)
        specs = keras.tree.map_structure(
            lambda spec: tf.OptionalSpec(None) if spec is None else spec, self._form
        )
        return tf.cond(
            is_there,
            lambda: tf.experimental.Optional.from_value(batch),
            lambda: tf.experimental.Optional.empty(specs),
        )

    __next__ = get_next

    def __iter__(self) -> _Pulled:
        return self

    def _pull(self) -> list[np.ndarray]:
        batch = next(self.batches)
        keras.tree.assert_same_structure(batch, self._form)
        leaves = keras.tree.flatten(batch)
        forms = keras.tree.flatten(self._form)
        return [
            _checked(leaf, spec)
            for leaf, spec in zip(leaves, forms, strict=True)
            if _is_there(leaf, spec)
        ]

    def _pull_or_nothing(self) -> list[np.ndarray]:
        try:
            return [np.array(True), *self._pull()]
        except StopIteration:
            return [np.array(False), *map(_nothing, self._specs)]

    def _packed(self, leaves: Sequence[tf.Tensor], nothing: Any = None) -> Batch:
        for leaf, spec in zip(leaves, self._specs, strict=True):
            leaf.set_shape(spec.shape)
        rest = iter(leaves)
        return keras.tree.map_structure(
            lambda spec: nothing if spec is None else next(rest), self._form
        )


# For each model and form: the iterators that its compiled steps pull from, and nobody uses now.
_idle: weakref.WeakKeyDictionary[keras.Model, dict[str, list[_Pulled]]] = (
    weakref.WeakKeyDictionary()
)


def _retire(pulled: _Pulled, idle: list[_Pulled]) -> None:
    # A step that should still run finds the end.
    pulled.batches = iter(())
    idle.append(pulled)


def _is_there(leaf: Any, spec: tf.TensorSpec | None) -> bool:
    if (leaf is None) == (spec is None):
        return leaf is not None
    raise TypeError(f"a batch has {leaf!r:.80} in the place of {spec}, as the first batch had it.")


def _checked(leaf: Any, spec: tf.TensorSpec) -> np.ndarray:
    array = np.asarray(leaf, None if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)
    if not spec.shape.is_compatible_with(array.shape):
        raise TypeError(
            f"a batch has an array of shape {array.shape}; expected {tuple(spec.shape)}, as in the "
            "first batches."
        )
    return array


def _nothing(spec: tf.TensorSpec) -> np.ndarray:
    return np.zeros([size or 0 for size in spec.shape], spec.dtype.as_numpy_dtype)


def _gathered(batches: Gathered) -> tf.data.Dataset:
    """Batches that TensorFlow makes; from Python come the places of their examples alone, those of
    many batches at once.
    """
    if batches.take is None:
        batches.take = _taker(batches)
    blocks = tf.data.Dataset.from_generator(
        lambda: _stacks(batches.places, _PLACES_TOGETHER),
        output_signature=tf.TensorSpec([None, None], tf.int64),
    )
    return blocks.unbatch().map(batches.take).prefetch(_BATCHES_AHEAD)


def _taker(batches: Gathered) -> Callable[[Any], Batch]:
    with tf.device("CPU:0"):
        tensors = keras.tree.map_structure(tf.convert_to_tensor, batches.arrays)

    def take(places: Any) -> Batch:
        def rows(array: tf.Tensor, dtype: np.dtype) -> tf.Tensor:
            return tf.cast(tf.gather(array, places), dtype)

        return keras.tree.map_structure(rows, tensors, batches.dtypes)

    return take


def _stacks(batches: Iterable[Batch], most: int) -> Iterator[Batch]:
    """Batches of equal shapes that follow each other, stacked along a new first axis."""
    group: list[Batch] = []
    began = time.monotonic()
    try:
        for batch in batches:
            if group and _shapes(batch) != _shapes(group[0]):
                yield _stack(group)
                group = []
            group.append(batch)
            if len(group) == most or time.monotonic() - began > _TOGETHER_SECONDS:
                yield _stack(group)
                group, began = [], time.monotonic()
    except Exception:
        # What came before an error is still trained on.
        if group:
            yield _stack(group)
        raise
    if group:
        yield _stack(group)


def _stack(group: Sequence[Batch]) -> Batch:
    return keras.tree.map_structure(lambda *arrays: np.stack(arrays), *group)


def _shapes(batch: Batch) -> list[tuple[int, ...]]:
    return [np.shape(array) for array in keras.tree.flatten(batch)]


def _bytes(batch: Batch) -> int:
    return sum(np.asarray(array).nbytes for array in keras.tree.flatten(batch))


def form_of(samples: Sequence[Batch]) -> Batch:
    """The shapes of batches: the first axis is open, and so is any other in which two batches
    differ.
    """

    def spec(*arrays: Any) -> Any:
        if arrays[0] is None:
            return None
        if isinstance(arrays[0], keras.KerasTensor):
            # As the data themselves say.
            return tf.TensorSpec(arrays[0].shape, arrays[0].dtype)
        shapes = [np.shape(array) for array in arrays]
        open_shape = [
            n if {n} == set(sizes) and axis else None
            for axis, (n, *sizes) in enumerate(_columns(shapes))
        ]
        return tf.TensorSpec(open_shape, tf.as_dtype(np.asarray(arrays[0]).dtype))

    return keras.tree.map_structure(spec, *samples)


def _columns(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [(shapes[0][axis], *(shape[axis] for shape in shapes)) for axis in range(len(shapes[0]))]
