"""Layers as they are seen from outside while a model is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .. import _keras
from ..data.rows import each_array
from ..state.preservation import preserved
from ..state.variables import find_variables

_ZERO_BELOW = {"relu", "relu6"}
_FLAT_ENDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0)}
# Its layers count as saturated and dead by this much of their range.
_END = 0.01


@dataclass
class LayerView:
    """One call of a layer, in numbers.

    Attributes:
        layer: The layer.
        name: In words that are the same in every process.
        activation: The name of its activation; empty if it has none, or it is not Keras's.
        is_weighted: Whether it multiplies its input with weights.
        training: Whether it ran in training mode; None if it knows no such thing.
        input: Its first input.
        output: Its output.
        wrong_ids: Of an Embedding, the lowest and the highest id if one is out of range.
    """

    layer: keras.Layer
    name: str
    activation: str
    is_weighted: bool
    training: bool | None
    input: np.ndarray | None
    output: np.ndarray
    wrong_ids: tuple[int, int] | None = None

    @property
    def spread(self) -> float:
        """The standard deviation over the examples, in the mean over the units."""
        return float(np.sqrt(self.output.var(axis=0, dtype="float64").mean()))

    @property
    def units(self) -> np.ndarray:
        """Its output with a row for each place of each example, and a column for each unit."""
        return self.output.reshape(-1, self.output.shape[-1])

    @property
    def dead(self) -> float:
        """The share of its units that are zero everywhere, of an activation that can be so."""
        if self.activation not in _ZERO_BELOW:
            return 0.0
        return float((self.units.max(axis=0) <= 0).mean())

    @property
    def saturated(self) -> float:
        """The share of its values at the flat ends of its activation."""
        if self.activation not in _FLAT_ENDS:
            return 0.0
        low, high = _FLAT_ENDS[self.activation]
        margin = _END * (high - low)
        return float(((self.output < low + margin) | (self.output > high - margin)).mean())


def observe(model: keras.Model, x: Any, *, training: bool = False) -> tuple[Any, list[LayerView]]:
    """Calls a model, and leaves it as it was.

    Args:
        model: A built model.
        x: A batch of inputs.
        training: The mode. Defaults to inference.

    Returns:
        Its outputs, and the views of its layers in the order of their calls; of a layer that is
        called several times, the last one. Layers in a loop that the framework traces are left out.
    """
    views: dict[int, LayerView] = {}
    keys = {id(variable): key for key, variable in find_variables(model).variables.items()}
    with preserved(model), _keras.quiet_faults(), ExitStack() as stack:
        for layer in _keras.observed_layers(model):
            listening = _listening(layer, _described(layer, keys), views)
            stack.enter_context(_keras.replaced(layer, "call", listening))
        outputs = model(each_array(keras.ops.convert_to_tensor, x), training=training)
        return keras.tree.map_structure(as_array, outputs), list(views.values())


def as_array(leaf: Any) -> np.ndarray:
    """A tensor as an array of floats, or of integers."""
    array = keras.ops.convert_to_numpy(leaf)
    return np.array(array if array.dtype.kind in "iub" else array.astype("float32"))


def activation_of(layer: keras.Layer) -> str:
    """The name of a layer's activation; that of a layer that is one; empty if there is none."""
    kinds = {keras.layers.ReLU: "relu", keras.layers.Softmax: "softmax"}
    for kind, name in kinds.items():
        if isinstance(layer, kind):
            plain = not any(getattr(layer, one, 0) for one in ("negative_slope", "threshold"))
            return name if plain else ""
    function = getattr(layer, "activation", None)
    if not getattr(function, "__module__", "").startswith("keras."):
        return ""
    return getattr(function, "__name__", "")


def is_weighted(layer: keras.Layer) -> bool:
    """True if a layer holds a matrix, an Embedding's included."""
    return any(len(variable.shape) > 1 for variable in layer.weights)


@contextmanager
def without_noise(model: keras.Model) -> Iterator[list[str]]:
    """Within it, layers that draw at random and have no weights, such as dropout and augmentation,
    run in inference mode. Gives their kinds.
    """
    found = [
        layer
        for layer in _keras.all_layers(model)
        if _keras.draws(layer) and not _keras.weights_made_trainable(layer)
    ]
    # A layer that knows no mode draws whatever the mode is.
    found = [
        layer
        for layer in found
        if not isinstance(layer, keras.layers.RNN) and _training_place(layer) is not None
    ]
    with ExitStack() as stack:
        for layer in found:
            stack.enter_context(_keras.replaced(layer, "call", _in_inference(layer)))
        yield sorted({type(layer).__name__ for layer in found})


def _in_inference(layer: keras.Layer) -> Callable[..., Any]:
    call, place = layer.call, _training_place(layer)

    def quiet(*arguments: Any, training: Any = None, **more: Any) -> Any:
        if place is not None and len(arguments) > place:
            return call(*arguments[:place], False, *arguments[place + 1 :], **more)
        return call(*arguments, training=False, **more)

    return quiet


def _training_place(layer: keras.Layer) -> int | None:
    """The place of `training` among the arguments of a layer's `call`; None if it has none."""
    names = list(inspect.signature(layer.call).parameters)
    return names.index("training") if "training" in names else None


def _listening(layer: keras.Layer, name: str, views: dict[int, LayerView]) -> Callable[..., Any]:
    call, place = layer.call, _training_place(layer)

    def listening(*arguments: Any, **more: Any) -> Any:
        wrong_ids = None
        if isinstance(layer, keras.layers.Embedding):
            arguments, wrong_ids = _within(layer, arguments)
        outputs = call(*arguments, **more)
        training = more.get("training")
        if place is not None and len(arguments) > place:
            training = arguments[place]
        view = _view(layer, name, arguments, outputs, training)
        if view is not None:
            view.wrong_ids = wrong_ids
            views.pop(id(layer), None)
            views[id(layer)] = view
        return outputs

    return listening


def _view(
    layer: keras.Layer, name: str, arguments: Any, outputs: Any, training: Any
) -> LayerView | None:
    try:
        output = as_array(keras.tree.flatten(outputs)[0])
        inputs = [leaf for leaf in keras.tree.flatten(arguments) if leaf is not None]
        first = as_array(inputs[0]) if inputs and keras.ops.is_tensor(inputs[0]) else None
    except Exception:
        # Inside a loop that a framework traces there are no values.
        return None
    if output.ndim < 2 or not output.size:
        return None
    mode = training if isinstance(training, bool) else None
    return LayerView(layer, name, activation_of(layer), is_weighted(layer), mode, first, output)


def _within(layer: keras.Layer, arguments: Any) -> tuple[Any, tuple[int, int] | None]:
    """Ids that an Embedding can look up, and the range of those that it was given, if it cannot:
    what happens then is left to the framework.
    """
    try:
        ids = as_array(arguments[0])
    except Exception:
        return arguments, None
    low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
    if low >= 0 and high < layer.input_dim:
        return arguments, None
    return (keras.ops.clip(arguments[0], 0, layer.input_dim - 1), *arguments[1:]), (low, high)


def _described(layer: keras.Layer, keys: dict[int, str]) -> str:
    places = {keys[id(one)].rpartition("/")[0] for one in layer.weights if id(one) in keys}
    place = min(places, default="")
    return f"{type(layer).__name__} at {place}" if place else f"a {type(layer).__name__}"


def rms(values: np.ndarray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype="float64"))))
