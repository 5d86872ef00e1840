"""The operations of a `tf.data` pipeline, read before it runs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import xxhash
from tensorflow.core.framework import types_pb2
from tensorflow.python.data.ops.dataset_ops import from_variant
from tensorflow.python.framework import config, op_def_registry

# Of `external_state_policy`.
_IGNORE, _FAIL = 1, 2
# A graph is at most 2 GiB, and constants stand in it.
_MOST_BYTES = 2**30
# Seconds that saving one buffered element takes.
_ELEMENT_COST = 5e-5
# The state of an operation that calls Python is out of reach.
_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
_HINTS = {
    "PyFunc": "from_generator or numpy_function calls Python",
    "EagerPyFunc": "py_function calls Python",
    "RngReadAndSkip": "a tf.random.Generator is drawn from",
    "AssignVariableOp": "a variable is changed, as Keras's augmentation layers do",
}
# What has a state that is not the pipeline's, and that moves.
_MOVING = re.compile(
    r"Assign|RngSkip|RngReadAndSkip|^Stateful|^Random|Multinomial$|^TruncatedNormal$|"
    r"^ParameterizedTruncatedNormal$|^NonDeterministicInts$|Stack(Push|Pop)V2$|Queue|"
    r"^LookupTable(Insert|Remove|Import)"
)
# Stateful by name, and without a state that moves, in a copy that nobody else has.
_HARMLESS = re.compile(
    r"^ReadVariableOp$|^ResourceGather|^VariableShape$|^VarHandleOp$|^VarIsInitializedOp$|"
    r"^LookupTable(Find|Size|Export)|Print|^Assert$|^If$|^While$|^Case$|PartitionedCall$|"
    r"Dataset|^Anonymous.*SeedGenerator$|^DummySeedGenerator$|^HashTable|^AnonymousHashTable$|"
    r"^StatelessRandomGetAlg$"
)
# The way to an iterator that draws seeds, in a state; and to one whose seeds are of one element,
# or whose elements are kept.
_RESEEDED_IN_STATE = re.compile(rb"(Iterator::Root[\w:\[\]]*)(?:@@|:)epoch_num_random_samples")
_RESEEDING = ("reshuffle_each_iteration", "rerandomize_each_iteration")
_ELSEWHERE_IN_STATE = re.compile(rb"(Map|Interleave\w*|GroupByWindow\w*)\[|Cache|Snapshot")
# What a person may change, and gets the same elements in the same order.
_FREE = {"PrefetchDataset", "OptionsDataset", "ModelDataset", "_Retval", "Identity", "NoOp"}
_FREE_INPUTS = {"num_parallel_calls", "buffer_output_elements", "prefetch_input_elements"}


class Pipeline:
    """The operations of a dataset, read before it is begun.

    Args:
        dataset: Of any kind; it is not begun.

    Attributes:
        why_lost: Why its batches come in no order that can be had again, with the way out; empty if
            they can.
        has_state: True if TensorFlow can save its position.
        reads_variables: True if variables are part of it: a copy has their values of now.
        why_replayed: Where `has_state` is False: the operation that stands in the way.
        draws: True if another pass may give other elements, or in another order.
        calls_python: True if Python code is part of it.
        state_cost: Seconds that saving its position is expected to take.

    Raises:
        ValueError: If it holds too much to be looked at.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        _check_size(dataset)
        self._original = dataset
        stateful = ""
        try:
            self._written = _written(dataset, _FAIL)
        except tf.errors.FailedPreconditionError as error:
            stateful = _named(error.message)
            self._written = _written(dataset, _IGNORE)
        graph = tf.compat.v1.GraphDef.FromString(self._written)
        self._scopes = [graph.node, *(one.node_def for one in graph.library.function)]
        self._functions = {one.signature.name: one.node_def for one in graph.library.function}
        operations = {node.op for scope in self._scopes[1:] for node in scope}
        self.calls_python = not operations.isdisjoint(_PYTHON)
        unsound = next(filter(None, map(self._why_unsound, self._scopes)), "")
        is_moved = bool(stateful) and any(map(_has_own_state, operations))
        self.has_state = not is_moved and not unsound
        self.reads_variables = "ReadVariableOp" in operations
        self.why_replayed = self._why_replayed(operations, stateful) if is_moved else unsound
        self._reseeded = self._count_reseeded()
        self.draws = any(self._seeds()) or any(map(_MOVING.search, operations))
        self.why_lost = self._why_lost(dataset)
        self.state_cost = self._buffered() * _ELEMENT_COST

    def anew(self) -> tf.data.Dataset:
        """The dataset as it was when it was read, with variables and seeds of its own: iterators of
        other copies move nothing in it.
        """
        graph = tf.compat.v1.GraphDef.FromString(self._written)
        constants = _constants(graph.node)
        for node in graph.node:
            for name in ("seed_generator", "cache"):
                handle = constants.get(_inputs(node).get(name, ""))
                for one in _value(handle).resource_handle_val if handle else ():
                    # Of an object that is not there, the dataset makes one of its own.
                    one.name = f"{one.name}-{secrets.token_hex(8)}"
            if node.op == "VarHandleOp":
                node.attr["shared_name"].s += b"-" + secrets.token_hex(8).encode()
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
        return from_variant(variant, self._original.element_spec)

    def fingerprint(self) -> dict[str, Any]:
        """The pipeline's operations, constants, functions and seeds, as JSON."""
        pipeline, *functions = self._scopes
        free = {name for node in pipeline for name in _free_inputs(node)}
        constants = [
            _digest(_value(node))
            for node in pipeline
            if node.op == "Const" and node.name not in free and _is_data(node)
        ]
        return {
            "operations": [node.op for node in pipeline if node.op not in {*_FREE, "Const"}],
            "constants": _digest(*sorted(constants)),
            "functions": _digest(*sorted(map(_function_digest, functions))),
            "seeds": [list(seeds) for _, seeds in self._seeds()],
        }

    def is_complete(self, state: bytes) -> bool:
        """False if a state lacks the seeds of the next pass: TensorFlow leaves out those of a
        shuffle that has ended, and begins it anew where the state is put back. True for TensorFlow
        2.21.
        """
        prefixes = {
            prefix
            for prefix in _RESEEDED_IN_STATE.findall(state)
            if not _ELSEWHERE_IN_STATE.search(prefix)
        }
        return all(
            sum(prefix.rpartition(b"::")[2].startswith(name) for prefix in prefixes) >= count
            for name, count in self._reseeded.items()
        )

    def _count_reseeded(self) -> dict[bytes, int]:
        """The operations that draw other seeds in each pass, by their names in a state; but for
        those whose elements are kept, which draw once.
        """
        kept = self._before_caches()
        counts: dict[bytes, int] = {}
        for name in ("Shuffle", "Random"):
            nodes = [
                node
                for node in self._scopes[0]
                if node.op.startswith(f"{name}Dataset") or node.op.startswith(f"{name}AndRepeat")
                if node.name not in kept
            ]
            if any(node.attr[verb].b for node in nodes for verb in _RESEEDING):
                counts[name.encode()] = len(nodes)
        return counts

    def _before_caches(self) -> set[str]:
        """The names of the nodes whose elements are kept by a cache or a snapshot."""
        nodes = {node.name: node for node in self._scopes[0]}
        caches = [one for one in nodes.values() if re.match("Cache|Snapshot", one.op)]
        found: set[str] = set()
        waiting = [name for cache in caches for name in _inputs(cache).values()]
        while waiting:
            name = waiting.pop()
            if name in nodes and name not in found:
                found.add(name)
                waiting += [one.split(":")[0] for one in nodes[name].input]
        return found

    def _why_replayed(self, operations: set[str], stateful: str) -> str:
        name = next((name for name in (*_HINTS, stateful) if name in operations), stateful)
        hint = f": {_HINTS[name]}" if name in _HINTS else ""
        said = f"TensorFlow cannot save the state of {name}{hint}"
        if self.calls_python and self._reads_ahead():
            said += (
                "; it is called ahead of the training, so it must draw from generators of its own, "
                "not from the global ones"
            )
        return said

    def _reads_ahead(self) -> bool:
        return any(
            node.op == "PrefetchDataset" or node.op.startswith("Parallel")
            for node in self._all_nodes()
        )

    def _why_unsound(self, scope: Any) -> str:
        """The operation whose state TensorFlow saves, and which does not go on from it as it was;
        empty if there is none. True for TensorFlow 2.21.
        """
        constants = _constants(scope)
        for node in scope:
            name = constants.get(_inputs(node).get("filename", ""))
            if re.match("Snapshot", node.op) or (
                node.op.startswith("Cache") and name and any(_value(name).string_val)
            ):
                return f"{node.op} goes on from files that change while it writes them"
            if node.op == "DirectedInterleaveDataset" and not node.attr["stop_on_empty_dataset"].b:
                # It forgets how many of its inputs have ended, and waits for ever for them.
                return (
                    "sample_from_datasets and choose_from_datasets do not see their end from a "
                    "saved position, but with stop_on_empty_dataset=True"
                )
        return ""

    def _why_lost(self, dataset: tf.data.Dataset) -> str:
        for node in self._all_nodes():
            if node.op.startswith("DataService"):
                return f"{node.op} shares out its elements while it runs. Read them in the script"
            if _is_unordered(node):
                return (
                    f"{node.op} gives its elements in the order in which they are ready. Say "
                    "deterministic=True"
                )
            if "Parallel" in node.op and not config.is_op_determinism_enabled():
                moving = self._moving_in(node)
                if moving:
                    return (
                        f"{moving} is called by several threads of {node.op} at once, in any "
                        "order. Leave num_parallel_calls out, draw by tf.random.stateless_uniform, "
                        "or call tf.config.experimental.enable_op_determinism() before the dataset "
                        "is made"
                    )
        if dataset.options().deterministic is False:
            return "its options say deterministic=False. Say True"
        for name, seeds in self._seeds():
            if not any(seeds):
                return (
                    f"{name} has no seed, and draws another one in each process. Call "
                    "keras.utils.set_random_seed(...) before the dataset is made, or give it seed="
                )
        return ""

    def _moving_in(self, node: Any) -> str:
        """The operation in the functions of a node that moves a state; empty if there is none."""
        return next((one.op for one in self._called_by(node) if _MOVING.search(one.op)), "")

    def _called_by(self, node: Any, seen: set[str] | None = None) -> Iterator[Any]:
        """The nodes of all functions that a node calls."""
        seen = set() if seen is None else seen
        for attribute in node.attr.values():
            for function in (attribute.func, *attribute.list.func):
                if function.name in self._functions and function.name not in seen:
                    seen.add(function.name)
                    for inner in self._functions[function.name]:
                        yield inner
                        yield from self._called_by(inner, seen)

    def _seeds(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The seeds of each operation that has some, as far as they are constants."""
        for scope in self._scopes:
            constants = _constants(scope)
            for node in scope:
                if {"seed", "seed2"} <= set(node.attr):
                    yield node.op, (node.attr["seed"].i, node.attr["seed2"].i)
                seeds = [_input(node, name, constants) for name in ("seed", "seed2")]
                if None not in seeds:
                    yield node.op, tuple(map(int, seeds))

    def _buffered(self) -> int:
        """The number of elements that are held back to be shuffled."""
        pipeline = self._scopes[0]
        constants = _constants(pipeline)
        sizes = [
            _input(node, "buffer_size", constants) or 0
            for node in pipeline
            if node.op.startswith("Shuffle")
        ]
        return sum(max(0, int(size)) for size in sizes)

    def _all_nodes(self) -> Iterator[Any]:
        for scope in self._scopes:
            yield from scope


def _written(dataset: tf.data.Dataset, policy: int) -> bytes:
    """The graph of a dataset, with the values of its variables and tables."""
    graph: bytes = tf.raw_ops.DatasetToGraphV2(
        input_dataset=dataset._variant_tensor, external_state_policy=policy
    ).numpy()
    return graph


def _check_size(dataset: tf.data.Dataset) -> None:
    size = sum(tensor.dtype.size * tensor.shape.num_elements() for tensor in _tensors(dataset))
    if size > _MOST_BYTES:
        raise ValueError(
            f"a tf.data.Dataset holds {size / 2**30:.1f} GiB of arrays (from_tensor_slices), too "
            "many to be looked at. Give the arrays themselves, or read them from files."
        )


def _tensors(dataset: tf.data.Dataset) -> Iterator[Any]:
    """The tensors that a dataset and those that it is made of hold."""
    for tensor in getattr(dataset, "_tensors", ()):
        if tensor.dtype.size and tensor.shape.num_elements():
            yield tensor
    for one in dataset._inputs():
        yield from _tensors(one)


def _has_own_state(operation: str) -> bool:
    definition = op_def_registry.get(operation)
    if operation in _PYTHON or definition is None:
        return True
    return definition.is_stateful and not _HARMLESS.search(operation)


def _named(message: str) -> str:
    """The operation that TensorFlow names in its error."""
    found = re.search(r"(\w+) is stateful", message)
    return found[1] if found else "an operation"


def _is_unordered(node: Any) -> bool:
    return node.attr["deterministic"].s == b"false" or node.attr["sloppy"].b


def _constants(nodes: Any) -> dict[str, Any]:
    return {node.name: node for node in nodes if node.op == "Const"}


def _inputs(node: Any) -> dict[str, str]:
    """The inputs of a node by their names, which are counted from the end: an argument that stands
    for several comes before those that are asked for.
    """
    definition = op_def_registry.get(node.op)
    if definition is None:
        return {}
    names = [argument.name for argument in definition.input_arg]
    given = [name.split(":")[0] for name in node.input if not name.startswith("^")]
    return dict(zip(reversed(names), reversed(given), strict=False))


def _input(node: Any, name: str, constants: dict[str, Any]) -> Any:
    """The number that an input is; None if it has none, or it is no constant."""
    if "Dataset" not in node.op:
        return None
    constant = constants.get(_inputs(node).get(name, ""))
    return None if constant is None else tf.make_ndarray(_value(constant))


def _free_inputs(node: Any) -> list[str]:
    free = {*_FREE_INPUTS, "buffer_size"} if node.op == "PrefetchDataset" else _FREE_INPUTS
    return [given for name, given in _inputs(node).items() if name in free]


def _is_data(constant: Any) -> bool:
    """False of the handle of an object of this process."""
    return constant.attr["dtype"].type not in (types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)


def _value(constant: Any) -> Any:
    return constant.attr["value"].tensor


def _function_digest(nodes: Any) -> str:
    """Of what a function computes, without the names in it, which count up in a process."""
    return _digest(
        *(
            _digest(_value(node)) if node.op == "Const" and _is_data(node) else node.op
            for node in nodes
        )
    )


def _digest(*parts: Any) -> str:
    digest = xxhash.xxh3_128()
    for part in parts:
        written = part.encode() if isinstance(part, str) else part.SerializeToString()
        digest.update(len(written).to_bytes(8, "little") + written)
    return digest.hexdigest()
