"""Cutting the graph of a model in two at a layer. Both parts share their layers with the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from ... import _keras
from ..._util.messages import listed
from ...optimizers.where import Node, Where, nodes_of, select

_OFFERED = 5


class SplitModel(NamedTuple):
    """The two parts of a model.

    Attributes:
        at: The path of the last layer of the first part.
        part: From the model's inputs to the output of that layer.
        head: From there to the model's outputs.
    """

    at: str
    part: keras.Model
    head: keras.Model


def split_model(caller: str, model: keras.Model, at: Where) -> SplitModel:
    """Cuts a model behind one layer, which may be inside a nested functional model or Sequential.

    Raises:
        TypeError: As `select`.
        ValueError: If `at` selects more than one layer or none, or the graph cannot be cut there;
            the message says why.
    """
    selection = select(caller, model, at)
    chosen = {id(node.layer) for node in selection.nodes}
    outermost = [
        node for node in selection.nodes if not any(id(layer) in chosen for layer in node.above)
    ]
    if len(outermost) != 1 or {id(v) for node in selection.nodes for v in node.own} != {
        id(v) for v in selection.variables
    }:
        found = [node.path for node in outermost] or [
            variable.path for variable in selection.variables
        ]
        raise ValueError(
            f"{caller}: `at` must select one layer, the last one of the part that is cached. "
            f"{at!r} selects {listed(found)}."
        )
    node = outermost[0]
    part, head = _Splitter(caller, model, node).split(model, [*node.above, node.layer])
    return SplitModel(node.path, part, head)


class _Splitter:
    def __init__(self, caller: str, model: keras.Model, node: Node) -> None:
        self._caller = caller
        self._model = model
        self._at = node
        self._paths = {id(one.layer): one.path for one in nodes_of(model)}

    def split(
        self, model: keras.Layer, chain: Sequence[keras.Layer]
    ) -> tuple[keras.Model, keras.Model]:
        """Splits a model that holds `chain[0]`, which holds `chain[1]`, and so on to the layer
        behind which it is cut.
        """
        graph = self._graph(model)
        node = self._call(model, graph, chain[0])
        # Behind the last layer of a nested model is behind that model.
        if len(chain) > 1 and not self._is_last(chain[0], chain[1:]):
            inner_part, inner_head = self.split(chain[0], chain[1:])
            part = keras.Model(
                graph.input, inner_part(*node.arguments.args, **node.arguments.kwargs)
            )
            features = _input_like(inner_head.inputs[0])
            return part, self._head_model(
                graph, node, features, keras.tree.flatten(inner_head(features))
            )
        if len(node.outputs) != 1:
            raise self._error(
                f"gives {len(node.outputs)} outputs. Cut behind a layer that gives one"
            )
        if _same(node.outputs, graph.outputs):
            raise self._error(
                f"is the last layer of {model.name!r}: there is no head behind it. Cut further up"
            )
        features = _input_like(node.outputs[0])
        return keras.Model(graph.input, node.outputs[0]), self._head_model(
            graph, node, features, [features]
        )

    def _head_model(
        self, graph: Any, node: Any, features: Any, known: Sequence[Any]
    ) -> keras.Model:
        """The model from features to the outputs of a graph, of which the outputs of one node are
        known.
        """
        self._check_no_way_past(graph, node)
        name = f"{self._model.name}_head"
        outputs = {id(tensor): value for tensor, value in zip(node.outputs, known, strict=True)}
        following = [tensor for tensor in graph.outputs if id(tensor) not in outputs]
        if len(following) == len(graph.outputs) and known[0] is features:
            return keras.Model(node.outputs[0], graph.output, name=name)
        if following:
            # Keras makes no model one of whose outputs is one of its inputs.
            values = keras.Model(node.outputs, following)(list(known))
            outputs |= {
                id(tensor): value
                for tensor, value in zip(following, keras.tree.flatten(values), strict=True)
            }
        packed = keras.tree.pack_sequence_as(
            graph.output, [outputs[id(tensor)] for tensor in graph.outputs]
        )
        return keras.Model(features, packed, name=name)

    def _graph(self, model: keras.Layer) -> Any:
        graph = _keras.graph_of(model)
        if graph is not None:
            return graph
        if model is self._model:
            raise ValueError(
                f"{self._caller}: {model.name!r} ({type(model).__name__}) cannot be cut, since "
                "Keras does not know its graph. Write it as keras.Model(inputs, outputs), or write "
                "its head as a model of its own, to be trained on what `predict` of the frozen "
                "part gives."
            )
        path = self._paths[id(model)]
        raise self._error(
            f"is inside {path!r}, whose graph Keras does not know. Cut behind {path!r}, or further "
            "up"
        )

    def _call(self, model: keras.Layer, graph: Any, layer: keras.Layer) -> Any:
        """The one node of a layer."""
        calls = [node for node in _keras.graph_nodes(graph) if node.operation is layer]
        if len(calls) != 1:
            raise self._error(
                f"is called {len(calls)} times in {model.name!r} by {layer.name!r}. Cut behind a "
                "layer called once"
            )
        return calls[0]

    def _is_last(self, model: keras.Layer, chain: Sequence[keras.Layer]) -> bool:
        graph = self._graph(model)
        last = _same(self._call(model, graph, chain[0]).outputs, graph.outputs)
        return last and (len(chain) == 1 or self._is_last(chain[0], chain[1:]))

    def _check_no_way_past(self, graph: Any, node: Any) -> None:
        past = _bypasses(graph, node)
        if not past:
            return
        nodes = _keras.graph_nodes(graph)
        calls = [id(one.operation) for one in nodes]
        possible = [
            (abs(position - nodes.index(node)), position)
            for position, one in enumerate(nodes)
            if id(one.operation) in self._paths
            and calls.count(id(one.operation)) == 1
            and len(one.outputs) == 1
            if not one.is_input
            and not _same(one.outputs, graph.outputs)
            and not _bypasses(graph, one)
        ]
        nearest = sorted(position for _, position in sorted(possible)[:_OFFERED])
        names = listed([self._paths[id(nodes[position].operation)] for position in nearest])
        ways = listed([self._paths.get(id(operation), operation.name) for operation in past])
        mend = (
            f"The graph can be cut behind {names}"
            if names
            else "There is no layer behind which it can be cut"
        )
        raise self._error(
            f"is not all that the head needs: the output of {ways} goes past it. {mend}"
        )

    def _error(self, what: str) -> ValueError:
        return ValueError(
            f"{self._caller}: {self._model.name!r} cannot be cut at {self._at.path!r}, which "
            f"{what}."
        )


def _bypasses(graph: Any, last: Any) -> list[Any]:
    """The operations up to the `last` node, or beside it, whose outputs are needed behind it."""
    behind: set[int] = {id(tensor) for tensor in last.outputs}
    maker: dict[int, Any] = {}
    needed: list[Any] = []
    for node in _keras.graph_nodes(graph):
        maker.update((id(tensor), node.operation) for tensor in node.outputs)
        if node is not last and any(id(tensor) in behind for tensor in node.input_tensors):
            behind.update(id(tensor) for tensor in node.outputs)
            needed += node.input_tensors
    past = [maker[id(tensor)] for tensor in [*needed, *graph.outputs] if id(tensor) not in behind]
    return list({id(operation): operation for operation in past}.values())


def _input_like(tensor: Any) -> Any:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)


def _same(tensors: Sequence[Any], others: Sequence[Any]) -> bool:
    return [id(tensor) for tensor in tensors] == [id(tensor) for tensor in others]
