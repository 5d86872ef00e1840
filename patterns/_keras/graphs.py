"""The graph of a functional model or a Sequential."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
from keras.src.backend.common.masking import get_keras_mask
from keras.src.models.functional import Functional


def is_graph(model: keras.Model) -> bool:
    """True if `model.layers` is the model: a functional model or a Sequential. Keras does not
    export the class `Functional`.
    """
    return isinstance(model, Functional | keras.Sequential)


def graph_of(layer: Any) -> Any:
    """The functional model that a layer is, or that a Sequential keeps inside; None where there is
    none, or `call` is its own.
    """
    if isinstance(layer, keras.Sequential):
        return layer._functional if type(layer).call is keras.Sequential.call else None
    return layer if isinstance(layer, Functional) and type(layer).call is Functional.call else None


def graph_nodes(graph: Any) -> list[Any]:
    """The calls in a functional model, each after those that it needs: Keras's nodes, which no
    public name of a model gives.
    """
    return [
        node
        for depth in sorted(graph._nodes_by_depth, reverse=True)
        for node in graph._nodes_by_depth[depth]
    ]


class Call(NamedTuple):
    """One call in the graph of a model: what is called, the symbolic tensors that go in and come
    out, and all arguments, these tensors among them.
    """

    operation: Any
    inputs: list[Any]
    outputs: list[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def graph_calls(model: keras.Model) -> list[Call]:
    """The calls that a built functional model or Sequential makes, each after those that it
    needs."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return [
        Call(
            node.operation,
            list(node.input_tensors),
            list(node.outputs),
            node.arguments.args,
            node.arguments.kwargs,
        )
        for node in graph_nodes(graph)
    ]


def calls_in_order(model: keras.Model) -> Iterator[tuple[Any, list[int], list[int]]]:
    """The calls that a functional model or a Sequential makes, each after those that it needs.

    Yields:
        What is called, and the `id` of each tensor that goes in and that comes out.
    """
    if isinstance(model, keras.Sequential):
        for number, layer in enumerate(model.layers):
            yield layer, [number - 1] if number else [], [number]
        return
    for call in graph_calls(model):
        yield (
            call.operation,
            [id(tensor) for tensor in call.inputs],
            [id(tensor) for tensor in call.outputs],
        )


def mask_of(tensor: Any) -> Any:
    """The mask that a tensor carries from layer to layer; None if it has none. No public name says
    it for every backend.
    """
    return get_keras_mask(tensor)
