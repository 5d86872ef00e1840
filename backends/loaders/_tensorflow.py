"""`tf.data`, on every backend."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import dataset_pb2, tensor_pb2, types_pb2

from ._tensorflow_graph import Pipeline
from .protocol import NativeBatches

# Of `external_state_policy`: whether the position holds all that moves is known from the graph.
_IGNORE = 1


def open_loader(x: Any, kind: str) -> TensorFlowLoader:
    """The adapter of a `tf.data.Dataset`.

    Raises:
        TypeError: If it is no dataset, or gives no batches.
        ValueError: If it is empty.
    """
    if not isinstance(x, tf.data.Dataset):
        raise TypeError(
            f"{type(x).__name__} is an iterator of a tf.data.Dataset, and cannot be begun again. "
            "Give the dataset itself."
        )
    return TensorFlowLoader(x, kind)


def renewer(x: Any) -> Callable[[], Any]:
    """A function that gives a dataset which draws what `x` would draw if nobody had gone through it
    yet; `x` itself, with what it has cached, where it draws nothing.
    """
    pipeline = Pipeline(x) if isinstance(x, tf.data.Dataset) else None
    return pipeline.anew if pipeline and pipeline.draws else lambda: x


class TensorFlowLoader:
    """The batches of a `tf.data.Dataset`.

    One iterator of it runs through all passes, so that it reads ahead over their ends. Only where
    the length is not known, pass 0 may be read alone, to learn it; pass 1 holds all others then.

    Args:
        dataset: Gives batches.
        kind: For messages, with its article.

    Attributes:
        joins_passes: True: `open(1)` gives all passes.
        why_lost: What stands in the way of finding the place again at all, with the way out; empty
            if nothing does.
        native: The batches of the open pass, if the backend reads them by itself.
    """

    joins_passes = True

    def __init__(self, dataset: tf.data.Dataset, kind: str) -> None:
        self.kind = kind
        length = int(dataset.cardinality())
        if length == 0:
            raise ValueError(f"{kind} gives no batch: it is empty.")
        self.steps_per_pass = length if length > 0 else None
        self.is_endless = length == tf.data.INFINITE_CARDINALITY
        self._pipeline = Pipeline(dataset)
        self._dataset = _in_step(_dense(self._pipeline.anew()), self._pipeline.calls_python)
        _check_batches(self._dataset.element_spec)
        self.why_lost = self._pipeline.why_lost
        self.why_replayed = self._pipeline.why_replayed
        self.has_state = self._pipeline.has_state
        if self.has_state and self._pipeline.reads_variables:
            self.why_replayed = "the variables that it reads keep the values that they have now"
        self.is_pure = not self._pipeline.calls_python
        self.first_cost = self._pipeline.state_cost
        self._iterator: Any = None
        self._has_no_end = False

    @property
    def native(self) -> NativeBatches | None:
        """The batches of the open pass, if they have no end and the backend reads them by itself.

        A batch whose shape is not told by the dataset is read for it, and the iterator put back.
        """
        if keras.backend.backend() != "tensorflow" or not (self.is_pure and self._has_no_end):
            return None
        sample = _symbolic(self._dataset.element_spec)
        if sample is None and self.has_state:
            state = self.get_state()
            if state is not None:
                sample = _to_host(next(self._iterator))
                self.set_state(1, state)
        return None if sample is None else NativeBatches(self._iterator, sample)

    def open(self, number: int) -> Iterator[Any]:
        """The batches of all passes; of the first alone where its length is not known."""
        self._has_no_end = number > 0 or self.steps_per_pass is not None or self.is_endless
        self._iterator = iter(self._dataset.repeat() if self._has_no_end else self._dataset)
        return map(_to_host, self._iterator)

    def get_state(self) -> dict[str, np.ndarray] | None:
        """The state of the iterator, as TensorFlow writes it; None where that is not all."""
        pieces = tf.raw_ops.SerializeIterator(
            resource_handle=self._iterator._iterator_resource, external_state_policy=_IGNORE
        )
        written = tf.io.serialize_tensor(pieces).numpy()
        if not self._pipeline.is_complete(written):
            return None
        return {"iterator": np.frombuffer(written, np.uint8)}

    def set_state(self, number: int, state: Any) -> Iterator[Any]:
        """Opens pass `number` where a state was taken.

        Raises:
            ValueError: If it is no state of this pipeline. What the pieces of a state hold is
                compressed, and only TensorFlow reads it.
        """
        serialized = _checked(state)
        batches = self.open(number)
        try:
            tf.raw_ops.DeserializeIterator(
                resource_handle=self._iterator._iterator_resource,
                serialized=tf.io.parse_tensor(serialized, tf.variant),
            )
        except tf.errors.OpError as error:
            raise ValueError(
                f"The position in the checkpoint is none of {self.kind} as it is now: "
                f"{error.message.splitlines()[0]}"
            ) from error
        return batches

    def fingerprint(self) -> dict[str, Any]:
        """The kind of the batches, and the operations, constants and seeds of the pipeline."""
        return {
            "kind": "tf.data",
            "batches": str(self._dataset.element_spec),
            "steps_per_pass": self.steps_per_pass,
            **self._pipeline.fingerprint(),
        }


def _checked(state: Any) -> bytes:
    """The bytes of a state, if they are what TensorFlow writes, as far as Python can tell."""
    written = state.get("iterator") if isinstance(state, Mapping) else None
    if isinstance(written, np.ndarray) and written.dtype == np.uint8:
        try:
            if _is_sound(tensor_pb2.TensorProto.FromString(written.tobytes())):
                return written.tobytes()
        except Exception as error:  # Of the parser, whose errors have no common public class.
            raise ValueError(_NO_POSITION) from error
    raise ValueError(_NO_POSITION)


_NO_POSITION = "The checkpoint holds a position of the data that is none of a tf.data.Dataset."


def _is_sound(tensor: Any) -> bool:
    """True of a vector of pieces of an iterator, each with as many tensors as it has names."""
    shape = tensor.tensor_shape
    if tensor.dtype != types_pb2.DT_VARIANT or shape.unknown_rank or len(shape.dim) != 1:
        return False
    pieces = _pieces(tensor.tensor_content)
    return len(pieces) == shape.dim[0].size and all(map(_is_piece, pieces))


def _pieces(content: bytes) -> list[bytes]:
    """The parts of a list: the length of each in groups of seven bits, then all parts."""
    ends, place, rest = [0], 0, len(content)
    while ends[-1] < rest:
        length = shift = 0
        while True:
            byte = content[place]
            place += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        ends.append(ends[-1] + length)
        rest = len(content) - place
    if ends[-1] != rest:
        raise ValueError("the parts do not end where they should")
    return [content[place + start : place + end] for start, end in itertools.pairwise(ends)]


def _is_piece(piece: bytes) -> bool:
    data = tensor_pb2.VariantTensorDataProto.FromString(piece)
    names = data.metadata.decode().split("@@")[1:]
    values = [value for tensor in data.tensors for value in tensor.variant_val]
    if [value.type_name for value in values] != ["tensorflow.data.CompressedElement"]:
        return False
    element = dataset_pb2.CompressedElement.FromString(values[0].metadata)
    return (
        data.type_name == "tensorflow::Iterator"
        and len(element.component_metadata) == len(names)
        and names != []
        and all(map(_has_its_size, element.component_metadata))
    )


def _has_its_size(component: Any) -> bool:
    """True of a tensor that has as many bytes as its shape says; of text that is not known."""
    shape = component.tensor_shape
    kind = tf.as_dtype(component.dtype)
    if shape.unknown_rank or any(axis.size < 0 for axis in shape.dim):
        return False
    count = math.prod(axis.size for axis in shape.dim)
    if not kind.size or kind in (tf.string, tf.variant, tf.resource):
        return kind in (tf.string, tf.variant)
    return bool(sum(component.uncompressed_bytes) == count * kind.size)


def _in_step(dataset: tf.data.Dataset, calls_python: bool) -> tf.data.Dataset:
    """Python code that is called in the pipeline runs when a batch is asked for, if the person has
    not said otherwise: TensorFlow would else read ahead of its own accord.
    """
    if not calls_python:
        return dataset
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


def _dense(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """With sparse and ragged tensors made dense, as on the other backends."""
    kinds = (tf.SparseTensorSpec, tf.RaggedTensorSpec)
    if not any(isinstance(spec, kinds) for spec in _specs(dataset.element_spec)):
        return dataset

    def dense(leaf: Any) -> Any:
        if isinstance(leaf, tf.SparseTensor):
            return tf.sparse.to_dense(leaf)
        return leaf.to_tensor() if isinstance(leaf, tf.RaggedTensor) else leaf

    def dense_batch(*batch: Any) -> Any:
        return tf.nest.map_structure(dense, batch if len(batch) > 1 else batch[0])

    return dataset.map(dense_batch)


def _check_batches(element: Any) -> None:
    for spec in _specs(element):
        if isinstance(spec, tf.data.DatasetSpec):
            raise TypeError(
                "a tf.data.Dataset gives datasets (window, group_by_window). Make batches of them: "
                "`.flat_map(lambda window: window.batch(n))`."
            )
        if getattr(spec, "shape", None) is not None and spec.shape.rank == 0:
            raise TypeError(
                "a tf.data.Dataset gives single examples, not batches: its elements are "
                f"{element}. Say `.batch(n)`."
            )


def _symbolic(element: Any) -> Any:
    """A batch that has the shapes of the elements; None if one is not told."""
    tensors = [spec for spec in _specs(element) if spec is not None]
    if not all(isinstance(spec, tf.TensorSpec) for spec in tensors):
        return None
    if any(spec.shape.rank is None or None in spec.shape.as_list()[1:] for spec in tensors):
        return None

    def symbol(spec: Any) -> Any:
        return keras.KerasTensor(tuple(spec.shape), spec.dtype.name)

    return tf.nest.map_structure(
        lambda spec: symbol(spec) if isinstance(spec, tf.TensorSpec) else None, element
    )


def _specs(element: Any) -> list[Any]:
    return tf.nest.flatten(element)


def _to_host(batch: Any) -> Any:
    return tf.nest.map_structure(_leaf_to_host, batch)


def _leaf_to_host(leaf: Any) -> np.ndarray | None:
    if isinstance(leaf, tf.experimental.Optional):
        return leaf.get_value().numpy() if leaf.has_value() else None
    return None if leaf is None else leaf.numpy()
