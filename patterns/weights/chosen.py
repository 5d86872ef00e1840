"""The weights that are meant where a whole layer is selected: its kernels."""

from __future__ import annotations

import keras

from .. import _keras
from ..optimizers.where import Where, select


def chosen_weights(
    caller: str, model: keras.Model, where: Where | None
) -> dict[int, tuple[keras.Layer, keras.Variable]]:
    """Weights with the layers that hold them, by their `id`, in the model's order.

    Of a layer that `where` selects, these are the kernels: weights of at least two axes that are no
    biases. A weight that it selects by itself is one of them whatever it is.

    Args:
        caller: The function that was called, for messages.
        model: A built model.
        where: As everywhere. None selects all layers.

    Raises:
        ValueError: If there are none.
    """
    ids: set[int] = set()
    parts = where if isinstance(where, list | tuple | set | frozenset) else [where]
    for part in parts:
        selection = select(caller, model, model if part is None else part)
        inside = {id(one) for node in selection.nodes for one in node.own}
        ids |= {id(one) for one in selection.weights if is_kernel(one) or id(one) not in inside}
    holders = [model, *_keras.all_layers(model)]
    found = {
        id(one): (layer, one)
        for layer in holders
        for one in _keras.weights_made_trainable(layer)
        if id(one) in ids
    }
    if not found:
        finds = "there is" if where is None else f"{where!r} selects"
        raise ValueError(
            f"{caller}: {finds} no kernel, a weight of at least two axes, in "
            f'{model.name!r}. Another weight is selected by its own path, such as "*/bias".'
        )
    return found


def is_kernel(weight: keras.Variable) -> bool:
    """True of a weight of at least two axes that is no bias; those of GRU and of attention have
    two.
    """
    return len(weight.shape) > 1 and "bias" not in weight.name
