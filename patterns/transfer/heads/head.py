"""A new head on the features of a model."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_patterns.backends import current

from ... import _keras
from ..._util.models import check_built
from ...optimizers.where import Where
from .backbone import Backbone, find_backbone

_CALLER = "replace_head"


@_keras.quiet_arrays()
def replace_head(
    model: keras.Model, layer: keras.Layer | Sequence[keras.Layer], at: Where | None = None
) -> keras.Model:
    """A model with another head on the features of this one.

    The new model has the layers of the old one, not copies of them, up to the features: what trains
    one of them changes both. It is not compiled.

    Where the head begins is found from the output of a functional model or a Sequential. Going back
    over layers without weights, the first with weights is the head if it is a `Dense`, or a
    convolution of a map of size 1 as in MobileNet: it and what follows are left out, and such a map
    is flattened. If it is any other layer, as in `keras.applications` with `include_top=False`, the
    model has no head: the new one is put on its output.

    Args:
        model: A built model: functional, Sequential, or a subclassed one with its head in an
            attribute.
        layer: The new head: a layer, or several in order, such as `[GlobalAveragePooling2D(),
            Dense(5, name="classes")]`.
        at: A `where` for one layer directly in the model, whose output is the features; what
            follows it is left out. A functional model with several outputs needs it. In a
            subclassed model: the name of the attribute that holds the head; it is replaced in
            place, since only the person who wrote `call` knows what is done with it. Defaults to
            None: see above.

    Returns:
        The new model: a Sequential if `model` is one, else a functional one, with all of its inputs
        and its name. It is of the class of `model`, unless this has a constructor of its own. A
        subclassed model is returned itself.

    Raises:
        TypeError: If `model` is no model, or `layer` holds something else than layers.
        ValueError: If the model is not built, `at` is missing or is not one layer, the head does
            not fit on the features (a `Dense` on a feature map, too, which Keras would apply to
            each of its points), or a name is taken.

    Example:

    >>> import keras, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="relu"),
    ...     keras.layers.Dense(10)])
    >>> kp.replace_head(model, keras.layers.Dense(3, name="classes")).output_shape
    (None, 3)

    References:
        J. Yosinski, J. Clune, Y. Bengio, H. Lipson, "How transferable are features in deep neural
            networks?", 2014,
            arXiv:1411.1792.
    """
    head = _head(model, layer)
    if not _keras.is_graph(model):
        return _replace_attribute(model, head, at)
    backbone = find_backbone(_CALLER, model, at)
    if backbone.flattens:
        head = [keras.layers.Flatten(), *head]
    _check_names(backbone, head)
    return (
        _sequential(model, backbone, head)
        if isinstance(model, keras.Sequential)
        else _functional(model, backbone, head)
    )


def _head(model: Any, layer: Any) -> list[keras.Layer]:
    check_built(_CALLER, model, needed="features")
    head = list(layer) if isinstance(layer, list | tuple) else [layer]
    for one in head:
        if not isinstance(one, keras.Layer):
            raise TypeError(
                f"{_CALLER}: `layer` must be a Keras layer, or a list of them. Received: {one!r} "
                f"({type(one).__name__})."
            )
    if not head:
        raise ValueError(f"{_CALLER}: `layer` must hold at least one layer. Received: {layer!r}.")
    return head


def _sequential(
    model: keras.Sequential, backbone: Backbone, head: list[keras.Layer]
) -> keras.Sequential:
    kept = [
        layer for layer in backbone.operations if not isinstance(layer, keras.layers.InputLayer)
    ]
    new = _class_of(model, keras.Sequential)([model.inputs[0], *kept], name=model.name)
    for layer in head:
        _extend(layer, new.output_shape, new.add, layer)
    return new


def _functional(model: keras.Model, backbone: Backbone, head: list[keras.Layer]) -> keras.Model:
    reached = backbone.features
    for layer in head:
        reached = _extend(layer, tuple(reached.shape), layer, reached)
    return _class_of(model, keras.Model)(model.input, reached, name=model.name)


def _class_of(model: keras.Model, plain: type) -> Any:
    """The model's class, if it is made as Keras's are."""
    made_by = getattr(type(model).__init__, "__module__", "")
    return type(model) if made_by.split(".")[0] == "keras" else plain


def _extend(
    layer: keras.Layer, shape: tuple[int | None, ...], add: Callable[[Any], Any], what: Any
) -> Any:
    """Adds a layer of the head by a call of `add`, on what has this shape."""
    _check_not_on_a_map(layer, shape)
    try:
        return add(what)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{_CALLER}: {layer.name!r} does not fit on what comes before it, of shape {shape}: "
            f"{error}"
        ) from error


def _check_not_on_a_map(layer: keras.Layer, shape: tuple[int | None, ...]) -> None:
    if isinstance(layer, keras.layers.Dense) and len(shape) > 3:
        raise ValueError(
            f"{_CALLER}: {layer.name!r} is a Dense on a feature map, of shape {shape}, and would "
            "be applied to each of its points. Put a pooling or a Flatten before it: "
            f"layer=[GlobalAveragePooling{len(shape) - 2}D(), Dense(...)]. For an output at each "
            "point, give a convolution with a kernel of size 1."
        )


def _check_names(backbone: Backbone, head: list[keras.Layer]) -> None:
    taken = {one.name: one for one in backbone.operations}
    for layer in head:
        if layer.name in taken:
            if layer is taken[layer.name]:
                raise ValueError(
                    f"{_CALLER}: {layer.name!r} is in the new model already. Give a new layer."
                )
            raise ValueError(
                f"{_CALLER}: {layer.name!r} is the name of another layer of the new model, too. "
                f'Give it a name of its own: {type(layer).__name__}(..., name="classes").'
            )
        taken[layer.name] = layer


def _replace_attribute(model: keras.Model, head: list[keras.Layer], at: Any) -> keras.Model:
    attributes = {
        name: value
        for name, value in current().attributes(model).items()
        if not name.startswith("_")
    }
    layers = {name: value for name, value in attributes.items() if isinstance(value, keras.Layer)}
    if not isinstance(at, str) or at not in layers:
        near = difflib.get_close_matches(str(at), layers, cutoff=0.4) or list(layers)
        raise ValueError(
            f"{_CALLER}: {model.name!r} is a {type(model).__name__}, whose graph is not known, so "
            f"`at` must be the name of the attribute that holds its head. Received: {at!r}. "
            f"Attributes that hold a layer: {', '.join(near) or 'none'}."
        )
    new = head[0] if len(head) == 1 else keras.Sequential(head, name=at)
    shape = (layers[at].get_build_config() or {}).get("input_shape")
    if shape is not None:
        # The size of the batch that the model was built on says nothing.
        shape = (None, *shape[1:])
        _check_not_on_a_map(head[0], shape)
        _extend(new, shape, new, keras.KerasTensor(shape))
    _keras.replace_sublayer(model, at, new)
    # What was compiled trains the old head.
    model.compiled = False
    return model
