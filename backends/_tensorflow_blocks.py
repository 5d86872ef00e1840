"""The steps of a model as one function of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from ._blocks import ROOMS, Block, CannotFuseError
from ._feed import Batch, Feed, NoFeed
from ._tensorflow_feed import PulledFeed, form_of


class TensorFlowBlocks:
    """A loop over a model's `train_step`, whose number of rounds is an argument of the function.

    Args:
        model: Compiled and built.
        sample: A batch.

    Raises:
        CannotFuseError: If it cannot be had.
    """

    def __init__(self, model: keras.Model, sample: Batch) -> None:
        if model.run_eagerly:
            raise CannotFuseError("the model runs eagerly")
        self.kind = "xla loop" if model.jit_compile else "loop"
        self.rooms: tuple[int, ...] = ROOMS if model.jit_compile else ()
        self.feed: Feed = NoFeed()
        self._model = model
        self._form = form_of([sample] * 2)
        self._step_function = model.train_function
        step = tf.function(model.train_step, jit_compile=model.jit_compile)
        # As in `fit`, the size of a batch is open: Keras computes some means otherwise where it is
        # known.
        first_logs = step.get_concrete_function(self._form).structured_outputs

        def program(batches: Batch, count: tf.Tensor) -> Any:
            def one(index: tf.Tensor, logs: Any) -> tuple[tf.Tensor, Any]:
                batch = keras.tree.map_structure(
                    lambda array: None if array is None else array[index], batches
                )
                return index + 1, step(batch)

            return loop(count, one)

        def pulling_program(iterator: Iterator[Any], count: tf.Tensor) -> Any:
            return loop(count, lambda index, logs: (index + 1, step(next(iterator))))

        def loop(count: tf.Tensor, one: Callable[..., Any]) -> Any:
            logs = tf.nest.map_structure(lambda leaf: tf.zeros(leaf.shape, leaf.dtype), first_logs)
            return tf.while_loop(lambda index, _: index < count, one, (tf.constant(0), logs))[1]

        stacked = keras.tree.map_structure(
            lambda spec: None if spec is None else tf.TensorSpec([None, *spec.shape], spec.dtype),
            self._form,
        )
        self._program = tf.function(
            program,
            input_signature=[stacked, tf.TensorSpec([], tf.int32)],
            jit_compile=model.jit_compile,
            autograph=False,
        )
        # An iterator is no part of a program of XLA; its steps are programs of their own then.
        self._pulling_program = tf.function(pulling_program, autograph=False)

    def train_function(self, take: Callable[[], Block | Batch | int]) -> Callable[[Any], Any]:
        def train(iterator: Iterator[Any]) -> Any:
            next_one = take()
            if isinstance(next_one, int):
                return self._pulling_program(iterator, tf.constant(next_one))
            if not isinstance(next_one, Block):
                one = PulledFeed([next_one], self._form, self._model)
                logs = self._step_function(iter(one.get_tf_dataset()))
                one.close()
                return logs
            batches = keras.tree.map_structure(_tensor, next_one.batches)
            return self._program(batches, tf.constant(next_one.count))

        return train


def _tensor(array: Any) -> Any:
    return None if array is None else tf.convert_to_tensor(array)
