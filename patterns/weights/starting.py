"""`kp.initialize`: initial values of the weights of a model that exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from .. import _keras
from .._util.arguments import whole_number
from .._util.models import check_built
from ..data.rows import as_rows, take
from ..optimizers.where import Where
from ..state import copy_values, find_variables, put_back
from .chosen import chosen_weights

_CALLER = "kp.initialize"
_RULES = {
    "he": "HeNormal",
    "glorot": "GlorotUniform",
    "lecun": "LecunNormal",
    "orthogonal": "Orthogonal",
    "zeros": "Zeros",
    "ones": "Ones",
}
_CONSTANT = ("zeros", "ones")
_LSUV = "lsuv"
# Of Mishkin and Matas, whose layers have no more rounds than these.
_VARIANCE_ERROR, _ROUNDS = 0.01, 10
_ROWS = 256

_MEASURED = (
    *(keras.layers.Dense, keras.layers.EinsumDense),
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose),
)

InitialValues: TypeAlias = "str | keras.initializers.Initializer"


@_keras.quiet_arrays()
def initialize(
    model: keras.Model,
    rules: InitialValues | Mapping[Any, InitialValues] | Sequence[tuple[Where, InitialValues]],
    *,
    x: Any = None,
    seed: int = 0,
) -> None:
    """Gives weights of a model that exists new initial values, by rules for its parts.

    | rule | values | for |
    | --- | --- | --- |
    | `"he"` | normal, of variance 2 / inputs | ReLU and its kin |
    | `"glorot"` | uniform, of variance 2 / (inputs + outputs) | tanh, sigmoid, linear layers |
    | `"lecun"` | normal, of variance 1 / inputs | SELU |
    | `"orthogonal"` | orthonormal | recurrent and deep linear layers |
    | `"lsuv"` | orthonormal, then scaled by the data | deep nets without normalization |
    | `"zeros"`, `"ones"`, an initializer of Keras's | | |

    LSUV goes through the layers in order, and scales the kernel of each until what it hands to its
    activation has variance 1 on the data.

    All other weights, the statistics and the slots of the optimizer stay as they are; for a model
    that has been trained, compile it with a new optimizer. No global random state is drawn from.

    Args:
        model: A built model, compiled or not.
        rules: A rule for all kernels, or a mapping from what `where` selects to a rule, or a list
            of such pairs. Of a layer the kernels are meant, the weights of at least two axes but
            for biases; a bias is selected by its own path, as in `{"*/bias": "zeros"}`. Of what
            several of them select the last one counts.
        x: Inputs for `"lsuv"`, of which the first 256 are used: arrays of shape `(examples, ...)`
            in the structure that the model takes. Defaults to None.
        seed: Of the values; each weight has its own numbers. Defaults to 0.

    Raises:
        TypeError: If `model` is no model, or an argument is of the wrong type.
        ValueError: If a rule is unknown, or selects no weight; if `"lsuv"` lacks its data, or is
            asked of a layer other than Dense, EinsumDense and convolutions, or of one whose outputs
            do not vary. Everything is as before then, and after Ctrl-C.

    Example:

    >>> import keras, keras_patterns as kp
    >>> layers = [keras.layers.Dense(400, "relu", name="body"), keras.layers.Dense(2, name="head")]
    >>> model = keras.Sequential([keras.Input((200,)), *layers])
    >>> kp.initialize(model, {"body": "he", "head": "zeros"})
    >>> [round(float(layer.get_weights()[0].std()), 2) for layer in model.layers]
    [0.1, 0.0]

    References:
        K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852.
        X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
            networks", AISTATS 2010.
        D. Mishkin, J. Matas, "All you need is a good init", ICLR 2016, arXiv:1511.06422.
    """
    check_built(_CALLER, model)
    whole_number(_CALLER, "seed", seed, least=0)
    chosen: dict[int, tuple[keras.Layer, keras.Variable, InitialValues]] = {}
    for where, rule in _pairs(rules):
        _check_rule(rule)
        for key, (layer, weight) in chosen_weights(_CALLER, model, where).items():
            chosen[key] = (layer, weight, rule)
    order = {id(weight): number for number, weight in enumerate(model.weights)}
    ordered = sorted(chosen.values(), key=lambda one: order[id(one[1])])
    scaled = [(layer, weight) for layer, weight, rule in ordered if rule == _LSUV]
    data = _lsuv_data(x, scaled) if scaled else None
    weights = find_variables(model).of("weight")
    before = copy_values(weights)
    others = [key for key, variable in weights.items() if id(variable) not in chosen]
    try:
        for _, weight, rule in ordered:
            weight.assign(_values(rule, weight, seed, order[id(weight)]))
        for layer, weight in scaled:
            _scale(model, layer, weight, data)
        put_back(weights, before, others)
    except BaseException:
        put_back(weights, before)
        raise


def _pairs(rules: Any) -> list[tuple[Any, Any]]:
    if isinstance(rules, str | keras.initializers.Initializer):
        return [(None, rules)]
    pairs = list(rules.items()) if isinstance(rules, Mapping) else rules
    if not (
        isinstance(pairs, list | tuple)
        and pairs
        and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs)
    ):
        raise TypeError(
            f"{_CALLER}: `rules` must be a rule, a mapping from what `where` selects to a rule, or "
            f'a list of such pairs, such as [("block1_*", "he"), (head, "glorot")]. Received: '
            f"{rules!r}."
        )
    return [(where, rule) for where, rule in pairs]


def _check_rule(rule: Any) -> None:
    if isinstance(rule, keras.initializers.Initializer):
        return
    if not isinstance(rule, str) or rule not in {*_RULES, _LSUV}:
        raise ValueError(
            f"{_CALLER}: a rule must be one of {', '.join(map(repr, [*_RULES, _LSUV]))}, or an "
            f"initializer of Keras's. Received: {rule!r}."
        )


def _values(rule: InitialValues, weight: keras.Variable, seed: int, number: int) -> Any:
    """New values of a weight, drawn from a seed of its own."""
    if isinstance(rule, str):
        kind = getattr(keras.initializers, _RULES["orthogonal" if rule == _LSUV else rule])
        # Without a seed Keras draws one from Python's random state.
        rule = kind() if rule in _CONSTANT else kind(seed=0)
    config = rule.get_config()
    if "seed" in config:
        given = config["seed"] if isinstance(config["seed"], int) else 0
        words = np.random.SeedSequence([seed, number, given]).generate_state(1)
        rule = type(rule).from_config({**config, "seed": int(words[0] >> 1)})
    return rule(weight.shape, weight.dtype)


def _lsuv_data(x: Any, scaled: list[tuple[keras.Layer, keras.Variable]]) -> Any:
    """The first rows of the inputs, as tensors."""
    if x is None:
        raise ValueError(f'{_CALLER}: "lsuv" scales by the outputs on data. Give x=.')
    for layer, weight in scaled:
        if not isinstance(layer, _MEASURED):
            raise ValueError(
                f'{_CALLER}: "lsuv" is for the kernels of Dense, EinsumDense and convolutions. '
                f"{weight.path!r} is one of a {type(layer).__name__}; give it another rule."
            )
    rows = as_rows(x, "x")
    return keras.tree.map_structure(
        lambda one: keras.ops.convert_to_tensor(take(one, np.arange(min(len(one), _ROWS)))), rows
    )


def _scale(model: keras.Model, layer: keras.Layer, weight: keras.Variable, data: Any) -> None:
    """Divides a kernel until the outputs before the activation have variance 1."""
    for _ in range(_ROUNDS):
        variance = _variance(model, layer, data)
        if not 0 < variance < np.inf:
            raise ValueError(
                f'{_CALLER}: "lsuv" cannot scale {weight.path!r}: the outputs of its layer have '
                f"the variance {variance:.3g} on `x`. Look at the layers before it, or at `x`."
            )
        if abs(variance - 1) <= _VARIANCE_ERROR:
            return
        weight.assign(weight / keras.ops.cast(np.sqrt(variance), weight.dtype))


def _variance(model: keras.Model, layer: keras.Layer, data: Any) -> float:
    """The variance of what a layer hands to its activation, in all of its calls."""
    found: list[np.ndarray] = []
    activation = layer.activation

    def recorded(outputs: Any) -> Any:
        found.append(np.asarray(keras.ops.convert_to_numpy(outputs), "float64").ravel())
        return activation(outputs)

    with _keras.replaced(layer, "activation", recorded):
        model(data, training=False)
    return float(np.concatenate(found).var()) if found else 0.0
