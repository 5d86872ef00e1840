"""Keras on TensorFlow."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops

from ._feed import Batch

# Enough to make one batch while another is trained on.
_BATCHES_AHEAD = 2


class TensorFlowBackend:
    """TensorFlow fetches its batches inside the step, from a `tf.data.Dataset`."""

    name = "tensorflow"
    carries_attribute_optimizers = True
    fuses_steps = True

    def attributes(self, node: Any) -> Mapping[str, Any]:
        return vars(node)

    def build(self, model: keras.Model, batch: tuple[Any, ...]) -> None:
        try:
            model._symbolic_build(data_batch=batch)
        except (RuntimeError, ValueError, NotImplementedError):
            # Unlike the others, this trainer also takes models whose train_step never calls the model (two networks
            # that play against each other): their parts are built by whoever made them.
            if model.optimizer is not None and not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)

    def prepare(self, model: keras.Model) -> None:
        pass

    def sync(self, model: keras.Model) -> None:
        pass

    def to_host(self, variables: Sequence[keras.Variable], buffers: Sequence[np.ndarray]) -> None:
        for variable, buffer in zip(variables, buffers, strict=True):
            np.copyto(buffer, np.asarray(variable.value), casting="no")

    def random_state(self) -> dict[str, Any]:
        # No public name reads either: the seeds that eager random operations draw, and the generator behind
        # tf.random.get_global_generator(), which asking by the public name would create. True for TensorFlow 2.21.
        eager, generator = context.context()._rng, stateful_random_ops.global_generator
        state: dict[str, Any] = {}
        if eager is not None:
            version, words, gauss = eager.getstate()
            state["eager"] = {"version": version, "words": np.array(words, "uint32"), "gauss": gauss}
        if generator is not None:
            state["generator"] = np.asarray(generator.state)
        return state

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        if "eager" in state:
            saved = state["eager"]
            context.context()._rng = random.Random()
            words = tuple(int(word) for word in saved["words"])
            context.context()._rng.setstate((saved["version"], words, saved["gauss"]))
        if "generator" in state:
            tf.random.set_global_generator(tf.random.Generator.from_state(state["generator"], alg="philox"))

    def feed(self, batches: Iterable[Batch], samples: Sequence[Batch], ahead: bool) -> Any:
        dataset = tf.data.Dataset.from_generator(lambda: batches, output_signature=_signature(samples))
        return dataset.prefetch(_BATCHES_AHEAD) if ahead else dataset


def _signature(samples: Sequence[Batch]) -> Batch:
    """The shapes of batches: the first axis is open, and so is any other in which two batches differ."""

    def spec(*arrays: Any) -> Any:
        shapes = [np.shape(array) for array in arrays]
        open_shape = [n if {n} == set(sizes) and axis else None for axis, (n, *sizes) in enumerate(_columns(shapes))]
        return tf.TensorSpec(open_shape, tf.as_dtype(np.asarray(arrays[0]).dtype))

    return keras.tree.map_structure(spec, *samples)


def _columns(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [(shapes[0][axis], *(shape[axis] for shape in shapes)) for axis in range(len(shapes[0]))]


ADAPTER = TensorFlowBackend()
