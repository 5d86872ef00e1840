"""The settings of a model's layers, its loss and its metrics, as its script gives them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from xxhash import xxh3_64_hexdigest

from .. import _keras
from ..state.walk import is_own

Json = dict[str, Any]

# Names, what follows from the shapes, and what stands for itself: the layer is asked whether it is
# trainable, layers inside of a model have settings of their own, and a generator goes on in its
# state, whatever seed it began with (that of RandomCrop is another one in each process).
_LEFT_OUT = {
    *("name", "trainable", "registered_name", "module", "dtype", "build_config", "batch_shape"),
    *("attention_axes", "layers", "input_layers", "output_layers", "seed"),
}
# Of `compile`: the setting, and where the running means that it decides on are kept.
COMPILED = {
    "loss": ("loss_tracker/", "compile_loss/"),
    "loss_weights": ("loss_tracker/", "compile_loss/"),
    "metrics": ("compile_metrics/",),
    "weighted_metrics": ("compile_metrics/",),
}
_MOST_CHARACTERS = 80


def describe_model(model: keras.Model, sets_trainable: bool = False) -> Json:
    """The settings of each layer, the calls in a functional model, the loss and the metrics, as
    JSON that is short enough to be kept in each checkpoint.

    Args:
        model: As its script gives it.
        sets_trainable: Whether a hook says what is trained, and the script does not.
    """
    inner = list(_layers(model, set()))
    layers = [
        _describe_layer(layer) | ({} if sets_trainable else {"trainable": layer.trainable})
        for layer in inner
    ]
    parts = [model, *(layer for layer in inner if isinstance(layer, keras.Model))]
    graphs = [_keras.graph_of(one) for one in parts if not isinstance(one, keras.Sequential)]
    described = [_describe_graph(graph) for graph in graphs if graph is not None]
    arguments = _keras.compiled_with(model)
    return {
        "layers": layers,
        "calls": [call for calls, _ in described for call in calls],
        "outputs": "; ".join(outputs for _, outputs in described),
        **{name: _text(arguments.get(name)) for name in COMPILED},
    }


def _describe_graph(graph: keras.Model) -> tuple[list[Json], str]:
    """The calls of a functional model in order, what is called and on what, and the outputs.
    Tensors are counted from those that go into the model on, layers as in `graph.layers`.
    """
    numbers = {id(tensor): number for number, tensor in enumerate(graph.inputs)}
    places = {id(layer): place for place, layer in enumerate(graph.layers)}

    def named(leaf: Any) -> Any:
        return f"tensor {numbers[id(leaf)]}" if id(leaf) in numbers else leaf

    calls = []
    for operation, _, outputs, *arguments in _keras.graph_calls(graph):
        if isinstance(operation, keras.layers.InputLayer):
            continue
        args, kwargs = keras.tree.map_structure(named, arguments)
        on = ", ".join([*map(_whole_text, args), *filter(None, [_arguments(kwargs)])])
        place = places.get(id(operation))
        # The settings of layers are told once, however often one is called.
        settings = {"layer": place} if place is not None else _described_settings(operation)
        calls.append({"class": type(operation).__name__, "on": _shortened(on), **settings})
        for tensor in outputs:
            numbers.setdefault(id(tensor), len(numbers))
    return calls, _shortened(", ".join(map(named, graph.outputs)))


def _layers(outer: keras.Layer, seen: set[int]) -> Iterator[keras.Layer]:
    """The layers that a script names: what Keras's own layers hold follows from their settings, and
    is there once they are built.
    """
    for layer in _keras.sublayers(outer):
        if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
            continue
        seen.add(id(layer))
        yield layer
        if isinstance(layer, keras.Model) or is_own(type(layer)):
            yield from _layers(layer, seen)


def _describe_layer(layer: keras.Layer) -> Json:
    named = {"class": type(layer).__name__, "dtype": layer.dtype_policy.name}
    return named | _described_settings(layer)


def _described_settings(thing: keras.Operation) -> Json:
    return {
        key: value if _is_number(value) else _text(value)
        for key, value in _settings(thing).items()
        if value is not None and key not in _LEFT_OUT and not key.endswith("_initializer")
    }


def _settings(
    thing: keras.Operation | keras.losses.Loss | keras.metrics.Metric,
) -> Mapping[str, Any]:
    try:
        return thing.get_config()
    except Exception:
        # A person's own need not tell its settings to be trained with.
        return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _text(value: Any) -> str:
    """A value in a few words, the same in each process; a long one ends in a digest of all."""
    return _shortened(_whole_text(value))


def _shortened(text: str) -> str:
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:_MOST_CHARACTERS]}... {xxh3_64_hexdigest(text.encode())}"


def _whole_text(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return str(value)
    if isinstance(value, np.ndarray | np.generic):
        return str(value.tolist())
    if isinstance(value, Mapping):
        if "class_name" in value and "config" in value:
            return _call(str(value["class_name"]), value["config"])
        return "{" + _arguments(value) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(map(_whole_text, value)) if isinstance(value, set | frozenset) else value
        return "[" + ", ".join(map(_whole_text, items)) + "]"
    if isinstance(value, keras.losses.Loss | keras.metrics.Metric):
        return _call(type(value).__name__, _settings(value))
    return str(getattr(value, "__qualname__", type(value).__name__))


def _call(name: str, config: Any) -> str:
    """The call that makes an object; the name of a function, whose code tells its place in a file,
    too.
    """
    if name == "__lambda__":
        return "a lambda"
    return f"{name}({_arguments(config)})" if isinstance(config, Mapping) else str(config)


def _arguments(config: Mapping[Any, Any]) -> str:
    return ", ".join(
        f"{key}={_whole_text(item)}"
        for key, item in config.items()
        if item is not None and key not in _LEFT_OUT
    )
