"""The backbone of a model: what comes before its head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from ... import _keras
from ..._keras import Call
from ...optimizers.where import Where, select

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@dataclass(frozen=True)
class Backbone:
    """The features of a model, and the operations that compute them.

    Attributes:
        features: The symbolic tensor.
        operations: Those that compute it, in order; layers, and operations that are none.
        flattens: Whether it is a map of size 1 that is to be flattened.
    """

    features: Any
    operations: list[Any]
    flattens: bool = False


def find_backbone(caller: str, model: keras.Model, at: Where | None) -> Backbone:
    """The backbone of a functional model or a Sequential.

    Args:
        caller: The function that was called, for messages.
        model: The model, built.
        at: One layer, whose output is the features. None: see `replace_head`.

    Raises:
        ValueError: If `at` is missing or is not one layer.
    """
    calls = _keras.graph_calls(model)
    if at is not None:
        return _backbone_up_to(caller, model, calls, at)
    if len(model.outputs) > 1:
        names = ", ".join(repr(one) for one in model.output_names)
        raise ValueError(
            f"{caller}: {model.name!r} has {len(model.outputs)} outputs ({names}), so which head "
            "is to be replaced is not known. Give `at`, the layer whose output is the features."
        )
    last = _last_with_weights(calls, model.outputs[0])
    if last is None or not _is_head(last, model):
        if last and _ends_in_head(last.operation):
            raise ValueError(
                f"{caller}: {last.operation.name!r}, the last with weights in {model.name!r}, is a "
                "model with a head of its own. Give `at`, the layer whose output is the features, "
                f"or replace the head of {last.operation.name!r} first."
            )
        return _backbone_of(calls, model.outputs[0])
    features = last.inputs[0]
    return _backbone_of(
        calls,
        features,
        flattens=len(features.shape) > 2 and isinstance(last.operation, _CONVOLUTIONS),
    )


def _backbone_of(calls: Sequence[Call], features: Any, flattens: bool = False) -> Backbone:
    needed = {id(features)}
    operations = []
    for call in reversed(calls):
        if needed & {id(tensor) for tensor in call.outputs}:
            needed |= {id(tensor) for tensor in call.inputs}
            operations.append(call.operation)
    return Backbone(features, list(dict.fromkeys(reversed(operations))), flattens)


def _backbone_up_to(caller: str, model: keras.Model, calls: Sequence[Call], at: Where) -> Backbone:
    nodes = select(caller, model, at).nodes
    inside = {id(node.layer) for node in nodes}
    chosen = [node for node in nodes if not any(id(layer) in inside for layer in node.above)]
    if len(chosen) != 1:
        found = (
            f"{len(chosen)} layers: {', '.join(repr(node.path) for node in chosen[:5])}"
            if chosen
            else "no layer"
        )
        raise ValueError(
            f"{caller}: `at` must select one layer in {model.name!r}. {at!r} selects {found}."
        )
    node = chosen[0]
    if node.above:
        outer = node.above[0].name
        raise ValueError(
            f"{caller}: {node.path!r} lies inside {outer!r}, and a model can be cut between its "
            f"own layers only. Cut that one: {caller}(model.get_layer({outer!r}), layer, "
            f"at={node.path.partition('/')[2]!r})."
        )
    outputs = [tensor for call in calls if call.operation is node.layer for tensor in call.outputs]
    if len(outputs) != 1:
        raise ValueError(
            f"{caller}: {node.path!r} gives {len(outputs)} tensors in {model.name!r}, so which are "
            "the features is not known. Give another layer as `at`."
        )
    return _backbone_of(calls, outputs[0])


def _last_with_weights(calls: Sequence[Call], output: Any) -> Call | None:
    """Going back from the output over what has no weights; None where the ways part before."""
    made_by = {id(tensor): call for call in calls for tensor in call.outputs}
    while (call := made_by.get(id(output))) is not None:
        if getattr(call.operation, "weights", None):
            return call
        if len(call.inputs) != 1:
            return None
        output = call.inputs[0]
    return None


def _is_head(call: Call, model: keras.Model) -> bool:
    if isinstance(call.operation, keras.layers.Dense):
        return True
    sizes = [size for size in call.inputs[0].shape[1:] if size != 1]
    return (
        isinstance(call.operation, _CONVOLUTIONS)
        and len(sizes) <= 1
        and len(model.outputs[0].shape) == 2
    )


def _ends_in_head(operation: Any) -> bool:
    if not (
        isinstance(operation, keras.Model)
        and _keras.is_graph(operation)
        and operation.built
        and len(operation.outputs) == 1
    ):
        return False
    last = _last_with_weights(_keras.graph_calls(operation), operation.outputs[0])
    return last is not None and (_is_head(last, operation) or _ends_in_head(last.operation))
