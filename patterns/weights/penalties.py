"""`kp.regularize`: penalties on weights, and rates of dropout, of a model that exists."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import keras

from .. import _keras
from .._util.arguments import check_number
from .._util.messages import listed
from .._util.warn import warn
from ..optimizers.where import Node, Where, nodes_of, select, variable_paths
from .chosen import chosen_weights

_CALLER = "kp.regularize"
_DROPOUTS = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)
# Layers whose configuration has those of the layers inside them.
_SAVING_INNER = (
    *(keras.layers.Wrapper, keras.layers.Bidirectional),
    *(keras.layers.RNN, keras.layers.StackedRNNCells),
)


def regularize(
    model: keras.Model,
    l1: float | None = None,
    l2: float | None = None,
    where: Where | None = None,
    *,
    dropout: float | None = None,
) -> None:
    """Sets the penalty on weights of a model that exists, and the rates of its dropout layers.

    The loss has `l1 * sum(abs(w)) + l2 * sum(w**2)` more for each weight `w`, in place of the
    penalty that it had. Weights, slots and everything else stay as they are, and a compiled model
    goes on with the next `fit`. Setting `layer.kernel_regularizer` on a built layer, instead, does
    nothing: Keras reads it when it makes the weights.

    Frozen weights are not penalised until they are trained. A model with a `train_step` or
    `compute_loss` of its own must add `model.losses`, as Keras's does.

    Args:
        model: A built model, compiled or not.
        l1: Of the sum of absolute values, at least 0. Defaults to None: 0 if `l2` is given.
        l2: Of the sum of squares, at least 0. Defaults to None: 0 if `l1` is given. Both 0 takes a
            penalty away.
        where: What `where` selects everywhere. Of a layer these are the kernels, the weights of at
            least two axes but for biases; a bias or a scale is penalised where its own path is
            selected, as by `"*/bias"`. Defaults to None: all kernels, and all dropout layers.
        dropout: The rate of the dropout layers that `where` selects, in [0, 1). Defaults to None:
            their rates stay.

    Raises:
        TypeError: If `model` is no model, or an argument is of the wrong type.
        ValueError: If nothing is asked, a number is out of range, or `where` selects no weight, or
            with `dropout` no dropout layer. Nothing is changed then, nor by Ctrl-C.

    Warns:
        UserWarning: If the penalty of a weight is not in the file of a saved model, since no
            argument of a layer stands for it; it is in force until the process ends.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    >>> model = keras.Sequential([keras.Input((2,)), layer])
    >>> model.compile(keras.optimizers.SGD(0.5), "mse")
    >>> kp.regularize(model, l2=0.1)
    >>> history = model.fit(np.zeros((4, 2)), np.zeros((4, 1)), verbose=0)
    >>> round(history.history["loss"][0], 3), round(float(model.get_weights()[0].sum()), 3)
    (0.2, 1.8)
    """
    if l1 is None and l2 is None and dropout is None:
        raise ValueError(f"{_CALLER}: nothing is asked. Give l1=, l2= or dropout=.")
    weights, penalty, layers = {}, None, []
    if l1 is not None or l2 is not None:
        first, second = (
            0.0 if value is None else check_number(_CALLER, name, value)
            for name, value in (("l1", l1), ("l2", l2))
        )
        penalty = keras.regularizers.L1L2(first, second) if first or second else None
        weights = chosen_weights(_CALLER, model, where)
    if dropout is not None:
        check_number(_CALLER, "dropout", dropout, below=1.0)
        layers = _dropouts(model, where)
    unsaved = _unsaved(model, weights) if penalty else []
    with ExitStack() as undo:
        undo.callback(_recompile, model)
        for layer, weight in weights.values():
            undo.callback(_penalize(layer, weight, penalty))
        for number, layer in enumerate(layers):
            undo.callback(_keras.set_dropout_rate(layer, float(dropout or 0), number))
        _recompile(model)
        undo.pop_all()
    if unsaved:
        warn(
            f"{_CALLER}: the penalty of {listed(unsaved)} is in the loss, but not in the file of a "
            "saved model: no argument of a layer stands for it. Call kp.regularize again after "
            "loading.",
        )


def _penalize(layer: keras.Layer, weight: keras.Variable, penalty: Any) -> Callable[[], None]:
    """Sets the penalty of a weight, and the argument of its layer, by which it is saved; returns a
    function that puts both back.
    """
    argument, before = _argument_of(layer, weight), weight.regularizer
    noted = getattr(layer, argument) if argument else None

    def restore() -> None:
        weight.regularizer = before
        if argument:
            setattr(layer, argument, noted)

    try:
        if argument:
            setattr(layer, argument, penalty)
        weight.regularizer = penalty
    except BaseException:
        restore()
        raise
    return restore


def _argument_of(layer: keras.Layer, weight: keras.Variable) -> str:
    """The argument of a layer that says how one of its weights is penalised; empty if none does."""
    names = [weight.name, weight.name.removesuffix("_kernel")]
    if isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D):
        names = ["depthwise" if weight.name == "kernel" else weight.name]
    arguments = [f"{name}_regularizer" for name in names]
    return next((one for one in arguments if hasattr(layer, one)), "")


def _unsaved(model: keras.Model, weights: Any) -> list[str]:
    """The paths of the weights whose penalty the configuration of the model does not have."""
    saving = {
        id(node.layer)
        for node in nodes_of(model)
        if all(_saves_inner(one) for one in (model, *node.above))
    }
    paths = variable_paths(model)
    return [
        paths[id(weight)]
        for layer, weight in weights.values()
        if id(layer) not in saving or not _argument_of(layer, weight)
    ]


def _saves_inner(layer: keras.Layer) -> bool:
    if isinstance(layer, keras.Model):
        return _keras.is_graph(layer)
    return isinstance(layer, _SAVING_INNER)


def _dropouts(model: keras.Model, where: Where | None) -> list[keras.Layer]:
    nodes: list[Node] = select(_CALLER, model, model if where is None else where).nodes
    found = [node.layer for node in nodes if isinstance(node.layer, _DROPOUTS)]
    if not found:
        finds = "there is" if where is None else f"{where!r} selects"
        raise ValueError(
            f"{_CALLER}: {finds} no dropout layer in {model.name!r}. A layer that is "
            "there can get another rate, but none can be added to a model that exists."
        )
    return found


def _recompile(model: keras.Model) -> None:
    """Compiles the steps anew, in which penalties and rates are constants."""
    _keras.recompile_step(model)
    _keras.recompile_tests(model)
