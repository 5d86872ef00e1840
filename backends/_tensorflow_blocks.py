"""The steps of a model as one function of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from ._blocks import LAGS, ROOMS, Block, CannotFuseError
from ._feed import Batch, Feed, NoFeed
from ._tensorflow_feed import PulledFeed, form_of


class TensorFlowBlocks:
    """A loop over a model's `train_step` or `test_step`, whose number of rounds is an argument of
    the function.

    Args:
        model: Compiled and built.
        sample: A batch.
        tests: Whether it is `test_step`. Defaults to False.
        each: Whether the logs of each step are given. Defaults to False: those of the last one.

    Raises:
        CannotFuseError: If it cannot be had.
    """

    is_outdated = False

    def __init__(
        self, model: keras.Model, sample: Batch, tests: bool = False, each: bool = False
    ) -> None:
        if model.run_eagerly:
            raise CannotFuseError("the model runs eagerly")
        self.kind = "xla loop" if model.jit_compile else "loop"
        self.rooms: tuple[int, ...] = ROOMS if model.jit_compile else ()
        self.feed: Feed = NoFeed()
        self._model, self._each = model, each
        self._form = form_of([sample] * 2)
        self._step_function = model.test_function if tests else model.train_function
        one_step = model.test_step if tests else model.train_step
        step = tf.function(one_step, jit_compile=model.jit_compile)
        # The size of a batch is as open as in `fit`: where it is known, Keras computes some means
        # otherwise.
        self._first_logs = step.get_concrete_function(self._form).structured_outputs
        self._program = self._program_of_stacked(step, model.jit_compile)

        def pulling_program(iterator: Iterator[Any], count: tf.Tensor) -> Any:
            return self._loop(count, count, lambda index: step(next(iterator)))

        # An iterator is no part of a program of XLA; its steps are programs of their own then.
        self._pulling_program = tf.function(pulling_program, autograph=False)

    def _program_of_stacked(self, step: Callable[[Batch], Any], jit_compile: bool) -> Any:
        def program(batches: Batch, count: tf.Tensor) -> Any:
            def one(index: tf.Tensor) -> Any:
                batch = keras.tree.map_structure(
                    lambda array: None if array is None else array[index], batches
                )
                if not (jit_compile and is_on_cpu):
                    return step(batch)
                # Always true. A branch is compiled by itself, as the step is: what takes the batch
                # out of the block would be merged into it, and round some sums otherwise.
                is_next = tf.reduce_all(index - LAGS < count)
                return tf.cond(is_next, lambda: step(batch), self._zeros)

            places = tf.shape(tf.nest.flatten(batches)[0])[0]
            return self._loop(count, places, one)

        is_on_cpu = not tf.config.list_logical_devices("GPU")

        stacked = keras.tree.map_structure(
            lambda spec: None if spec is None else tf.TensorSpec([None, *spec.shape], spec.dtype),
            self._form,
        )
        return tf.function(
            program,
            input_signature=[stacked, tf.TensorSpec([], tf.int32)],
            jit_compile=jit_compile,
            autograph=False,
        )

    def _zeros(self) -> Any:
        return tf.nest.map_structure(
            lambda leaf: tf.zeros(leaf.shape, leaf.dtype), self._first_logs
        )

    def _loop(self, count: tf.Tensor, places: tf.Tensor, one: Callable[[tf.Tensor], Any]) -> Any:
        """The logs of the last of so many steps, or those of each, in so many places."""

        def empty(leaf: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([[places], leaf.shape], 0) if self._each else leaf.shape
            return tf.zeros(shape, leaf.dtype)

        def after(index: tf.Tensor, before: Any) -> Any:
            def put(all_logs: tf.Tensor, logs: tf.Tensor) -> tf.Tensor:
                return tf.tensor_scatter_nd_update(all_logs, [[index]], logs[None])

            logs = one(index)
            return index + 1, tf.nest.map_structure(put, before, logs) if self._each else logs

        logs = tf.nest.map_structure(empty, self._first_logs)
        return tf.while_loop(lambda index, _: index < count, after, (tf.constant(0), logs))[1]

    def function(self, take: Callable[[], Block | Batch | int | None]) -> Callable[[Any], Any]:
        def run(iterator: Iterator[Any]) -> Any:
            next_one = take()
            if next_one is None:
                return self._step_function(iterator)
            if isinstance(next_one, int):
                return self._pulling_program(iterator, tf.constant(next_one))
            if not isinstance(next_one, Block):
                one = PulledFeed([next_one], self._form, self._model)
                logs = self._step_function(iter(one.get_tf_dataset()))
                one.close()
                return logs
            batches = keras.tree.map_structure(_tensor, next_one.batches)
            logs = self._program(batches, tf.constant(next_one.count))
            if self._each:
                logs = tf.nest.map_structure(lambda leaf: leaf[: next_one.count], logs)
            return logs

        return run

    def compilation(self, block: Block) -> Callable[[], Any] | None:
        if self._model.jit_compile:
            # A program of XLA writes all variables, also where it makes no step.
            return None
        program = self._program.get_concrete_function()
        batches = keras.tree.map_structure(_tensor, block.batches)
        return lambda: program(batches, tf.constant(0))


def _tensor(array: Any) -> Any:
    return None if array is None else tf.convert_to_tensor(array)
