"""The depth in a model of each layer with weights."""

from __future__ import annotations

import keras

from .. import _keras

NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
    keras.layers.SpectralNormalization,
)


def depths(model: keras.Model) -> dict[int, int]:
    """The depth of each layer that holds weights itself, by its `id`.

    In a functional model or a Sequential, nested ones included, it is the number of layers with
    weights on the longest way from the inputs to it. A normalization belongs to the layer before
    it. Where the graph is not known, as in a subclassed model, it is the order of the layers. A
    layer that is used twice counts where it is used first. Depths count from 0, without gaps.
    """
    found: dict[int, int] = {}
    _measure(model, 0, found)
    ranks = {depth: rank for rank, depth in enumerate(sorted(set(found.values())))}
    return {layer: ranks[depth] for layer, depth in found.items()}


def _measure(layer: keras.Layer, preceding: int, found: dict[int, int]) -> int:
    """Notes the depth of what holds weights in `layer`, which so many others precede; returns how
    many precede what follows it.
    """
    if isinstance(layer, keras.Model) and _keras.is_graph(layer) and layer.built:
        return _measure_graph(layer, preceding, found)
    reached = preceding
    if _keras.own_variables(layer):
        normalizes = isinstance(layer, NORMALIZATIONS)
        found.setdefault(id(layer), max(preceding - 1, 0) if normalizes else preceding)
        reached = max(preceding, 1) if normalizes else preceding + 1
    for inner in _keras.sublayers(layer):
        reached = _measure(inner, reached, found)
    return reached


def _measure_graph(model: keras.Model, preceding: int, found: dict[int, int]) -> int:
    reached: dict[int, int] = {}
    last = preceding
    for operation, inputs, outputs in _keras.calls_in_order(model):
        before = max((reached.get(tensor, preceding) for tensor in inputs), default=preceding)
        after = _measure(operation, before, found) if isinstance(operation, keras.Layer) else before
        reached.update(dict.fromkeys(outputs, after))
        last = max(last, after)
    return last
