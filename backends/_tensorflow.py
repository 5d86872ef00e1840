"""Keras on TensorFlow."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import config
from tensorflow.python.ops import stateful_random_ops

from keras_patterns._util.random_states import check_array, check_python

from ._blocks import BlockProgram
from ._errors import is_memory_error
from ._feed import Batch, Feed
from ._gathered import Gathered
from ._held import StateAccess
from ._measured import Values, assigning_step
from ._spread import ignored_distribution
from ._tensorflow_blocks import TensorFlowBlocks
from ._tensorflow_feed import feed
from ._trees import copied_if_kept, tree_from_arrays, tree_to_arrays
from .loaders import NativeBatches

_TABLES = (tf.lookup.experimental.MutableHashTable, tf.lookup.experimental.DenseHashTable)
_READS = ("ReadVariableOp", "ResourceGather", "VariableShape", "VarIsInitializedOp")


class TensorFlowBackend:
    """TensorFlow fetches its batches inside the step, from a `tf.data.Dataset`."""

    name = "tensorflow"
    version = tf.__version__
    carries_attribute_optimizers = True
    decays_at_once = False
    step_overhead = 2e-3
    program_cost = 0.5
    fuses_steps = True
    gathers = True
    runs_python = False

    def attributes(self, node: Any) -> Mapping[str, Any]:
        return vars(node)

    def held_dtype(self, name: str) -> str:
        return name

    def build(self, model: keras.Model, batch: tuple[Any, ...]) -> None:
        try:
            model._symbolic_build(data_batch=batch)
        except (RuntimeError, ValueError, NotImplementedError):
            # Unlike the others, this trainer also takes models whose train_step never calls the
            # model (two networks that play against each other): their parts are built by whoever
            # made them.
            if model.optimizer is not None and not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)

    def prepare(self, model: keras.Model) -> None:
        pass

    def hold(self, model: keras.Model) -> Callable[[], None]:
        return lambda: None

    def sync(self, model: keras.Model) -> None:
        pass

    def to_host(self, variables: Sequence[keras.Variable], buffers: Sequence[np.ndarray]) -> None:
        for variable, buffer in zip(variables, buffers, strict=True):
            np.copyto(buffer, np.asarray(variable.value), casting="no")

    def assign(self, variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> None:
        for variable, array in zip(variables, copied_if_kept(arrays), strict=True):
            if hasattr(variable.value, "distribute_strategy"):
                variable.assign(array)
            else:
                # What `assign` comes to, without two more copies.
                tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=array)

    def finite_check(self, variables: Sequence[keras.Variable]) -> Callable[[], np.ndarray]:
        @tf.function(autograph=False)
        def are_finite() -> Any:
            return [tf.reduce_all(tf.math.is_finite(variable.value)) for variable in variables]

        # Traced by name, not by the first call: of calls that trace, TensorFlow warns from the
        # fifth function made here on.
        traced = are_finite.get_concrete_function()
        return lambda: np.array([bool(flag) for flag in traced()], bool)

    def spread_blocker(self, model: keras.Model) -> str | None:
        here = tf.distribute.get_strategy()
        owners = [model, *(variable.value for variable in model.variables)]
        others = [getattr(one, "distribute_strategy", here) for one in owners]
        others = [one for one in others if one is not here]
        if not others and not tf.distribute.has_strategy():
            return ignored_distribution()
        kind = type((others or [here])[0]).__name__
        return (
            f"{kind} spreads the model, and a run under tf.distribute is not served yet. Build and "
            "train the model outside of the strategy's scope."
        )

    def batch_parts(self) -> int:
        return 1

    def device(self) -> str:
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return f"{len(devices)} x {devices[0].device_type}"

    def peak_memory(self) -> int | None:
        if not tf.config.list_logical_devices("GPU"):
            return None
        peak: int = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        return peak

    def is_out_of_memory(self, error: BaseException) -> bool:
        return is_memory_error(error, lambda one: isinstance(one, tf.errors.ResourceExhaustedError))

    def settings(self) -> dict[str, Any]:
        threads = tf.config.threading
        return {
            # 0 leaves it to TensorFlow.
            "intra_op_threads": threads.get_intra_op_parallelism_threads(),
            "inter_op_threads": threads.get_inter_op_parallelism_threads(),
            # It has no public name.
            "op_determinism": config.is_op_determinism_enabled(),
            "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
        }

    def tree_to_arrays(self, tree: Any) -> dict[str, np.ndarray]:
        return tree_to_arrays(tree)

    def tree_from_arrays(self, like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        return tree_from_arrays(like, arrays)

    def random_state(self) -> dict[str, Any]:
        # No public name reads either: the seeds that eager random operations draw, and the
        # generator behind tf.random.get_global_generator(), which asking by the public name would
        # create. True for TensorFlow 2.21.
        eager, generator = (
            getattr(context.context(), "_rng", None),
            stateful_random_ops.global_generator,
        )
        state: dict[str, Any] = {}
        if eager is not None:
            version, words, gauss = eager.getstate()
            state["eager"] = {
                "version": version,
                "words": np.array(words, "uint32"),
                "gauss": gauss,
            }
        if generator is not None:
            state["generator"] = np.asarray(generator.state)
        return state

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        eager, generator = state.get("eager"), state.get("generator")
        # All is checked before anything is set.
        if eager is not None:
            check_python(eager, "tensorflow.eager")
        if generator is not None:
            check_array(generator, np.int64, (3,), "tensorflow.generator")
        if eager is not None:
            context.context()._rng = random.Random()
            words = tuple(eager["words"].tolist())
            context.context()._rng.setstate((eager["version"], words, eager["gauss"]))
        if generator is not None:
            tf.random.set_global_generator(tf.random.Generator.from_state(generator, alg="philox"))

    def set_seed(self, seed: int) -> None:
        tf.random.set_seed(seed)

    @contextmanager
    def seeded(self, words: np.ndarray) -> Iterator[None]:
        # The seeds of eager operations come from a generator of Python's. True for TensorFlow 2.21.
        eager, here = context.context(), int(words[0]) | int(words[1]) << 32
        outside, eager._rng = getattr(eager, "_rng", None), random.Random(here)
        generator = stateful_random_ops.global_generator
        state = None if generator is None else generator.state.numpy()
        if generator is not None:
            generator.reset_from_seed(here % 2**63)
        try:
            yield
        finally:
            eager._rng = outside
            if generator is not None:
                generator.state.assign(state)

    def state_access(self, thing: Any) -> StateAccess | None:
        if isinstance(thing, tf.random.Generator):
            return _generator_access(thing)
        if isinstance(thing, _TABLES):
            return _table_access(thing)
        if isinstance(thing, tf.Variable):
            return StateAccess("tf.Variable", lambda: np.array(thing.numpy()), thing.assign)
        return None

    def is_random_key(self, thing: Any) -> bool:
        return False

    def untold_operations(self, known: Set[int]) -> list[str]:
        graph = tf.compat.v1.get_default_graph()
        lines = [
            f"{operation.name} ({operation.type})"
            for operation in _operations(graph)
            if _is_untold(operation)
        ]
        return lines + [
            f"the variable {variable.name} ({operation.type})"
            for variable in getattr(graph, "_watched_variables", ())
            if id(variable) not in known
            for operation in _moved_by(graph, variable)[:1]
        ]

    def gradients(
        self, model: keras.Model, batch: tuple[Any, ...]
    ) -> tuple[float, list[np.ndarray | None]]:
        x, y, sample_weight = (
            keras.tree.map_structure(
                lambda leaf: None if leaf is None else keras.ops.convert_to_tensor(leaf), part
            )
            for part in batch
        )
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            # One of before Keras 3.3 has no argument `training`, which this leaves out.
            loss = model._compute_loss(x, y, outputs, sample_weight, training=True)
        found = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        return float(loss), [
            None if one is None else np.asarray(tf.convert_to_tensor(one)) for one in found
        ]

    def gradient_function(
        self, model: keras.Model
    ) -> Callable[[tuple[Any, ...]], tuple[float, list[np.ndarray | None]]]:
        return partial(self.gradients, model)

    def measured_step(
        self, model: keras.Model, fresh: Values, counter: keras.Variable, loss_key: str
    ) -> Callable[..., Any]:
        return assigning_step(model.train_step, fresh, counter, loss_key)

    def feed(
        self,
        batches: Iterable[Batch] | NativeBatches | Gathered,
        samples: Sequence[Batch],
        ahead: bool,
        owner: keras.Model,
    ) -> Feed:
        return feed(batches, samples, ahead, owner)

    def block_program(
        self, model: keras.Model, sample: Batch, tests: bool = False, each: bool = False
    ) -> BlockProgram:
        return TensorFlowBlocks(model, sample, tests, each)

    def run_function(
        self, model: keras.Model, function: Callable[..., Any], data: Feed, times: int
    ) -> Any:
        iterator = iter(data.get_tf_dataset())
        return [function(iterator) for _ in range(times)][-1]


def _generator_access(generator: tf.random.Generator) -> StateAccess:
    return StateAccess(
        f"tf.random.Generator(alg={int(generator.algorithm)})",
        lambda: generator.state.numpy().copy(),
        generator.state.assign,
        lambda words: generator.reset_from_seed((int(words[0]) | int(words[1]) << 32) % 2**63),
    )


def _table_access(table: Any) -> StateAccess:
    def get() -> dict[str, Any]:
        keys, values = (_plain(tensor) for tensor in table.export())
        return {"keys": keys, "values": values}

    def put(state: Any) -> None:
        if not isinstance(state, Mapping) or state.keys() != {"keys", "values"}:
            raise TypeError(f"it must hold keys and values; received {state!r:.80}")
        # Made first, so that what does not fit changes nothing.
        keys = tf.constant(state["keys"], table.key_dtype, [len(state["keys"])])
        shape = [len(state["keys"]), *table._value_shape]
        values = tf.constant(state["values"], table.value_dtype, shape)
        table.remove(table.export()[0])
        table.insert(keys, values)

    kind = f"{type(table).__name__}({table.key_dtype.name}, {table.value_dtype.name})"
    return StateAccess(kind, get, put, has_fixed_form=False)


def _plain(tensor: tf.Tensor) -> Any:
    """An array, or nested lists of bytes."""
    array = tensor.numpy()
    return array.tolist() if array.dtype.hasobject else array


def _operations(graph: Any, seen: set[int] | None = None) -> Iterator[tf.Operation]:
    """The operations of a graph and of the functions that it calls, each function once. No public
    name gives these. True for TensorFlow 2.21.
    """
    seen = set() if seen is None else seen
    if id(graph) in seen or not hasattr(graph, "get_operations"):
        return
    seen.add(id(graph))
    yield from graph.get_operations()
    for function in getattr(graph, "_functions", {}).values():
        yield from _operations(getattr(function, "graph", None), seen)


def _is_untold(operation: tf.Operation) -> bool:
    """True if an operation draws from a state in its kernel, or calls Python."""
    if operation.type in ("EagerPyFunc", "PyFunc", "NonDeterministicInts"):
        return True
    names = {attribute.name for attribute in operation.op_def.attr}
    if not {"seed", "seed2"} <= names:
        return False
    # A recurrent kernel draws for its dropout.
    return "dropout" not in names or operation.get_attr("dropout") > 0


def _moved_by(graph: Any, variable: tf.Variable) -> list[tf.Operation]:
    """The operations that do more with a variable than read it."""
    captured = [inner for outer, inner in graph.captures if outer is variable.handle]
    return [
        operation
        for handle in captured
        for operation in handle.consumers()
        if operation.type not in _READS
    ]


ADAPTER = TensorFlowBackend()
