"""Checks that the outputs of a part of a model are the same at every step of a training."""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
import numpy as np

from ... import _keras
from ..._util.messages import listed
from ...optimizers.where import nodes_of, variable_paths
from ...state.preservation import preserved
from ...state.snapshot import copy_values
from ...state.variables import find_variables
from .split import SplitModel

# How much a layer draws; if all that it has are 0, nothing.
_AMOUNTS = ("rate", "stddev", "dropout", "recurrent_dropout")


def check_frozen(caller: str, model: keras.Model, split: SplitModel) -> None:
    """Raises if training would change the outputs of the part: by its weights, its statistics, its
    state, or at random.

    Raises:
        ValueError: Naming the layer or the variable.
    """
    names = variable_paths(model)
    trainable = [
        names.get(id(variable), variable.path) for variable in split.part.trainable_variables
    ]
    if trainable:
        raise ValueError(
            f"{caller}: what is trainable before the end of {split.at!r} must be frozen, or the "
            "features would not be constant: "
            f"{listed(trainable)}. Freeze it with kp.freeze, or cut further up."
        )
    paths = {id(node.layer): node.path for node in nodes_of(model)}
    for layer in _keras.all_layers(split.part):
        if what := _moves(layer):
            path = paths.get(id(layer), layer.name)
            raise ValueError(
                f"{caller}: {path!r} ({type(layer).__name__}) comes before the end of {split.at!r} "
                f"and {what}"
            )


def check_constant(caller: str, model: keras.Model, split: SplitModel, batch: Any) -> np.ndarray:
    """Calls the part in training mode, as it is when the whole model is trained, and leaves all
    state as it was.

    This finds what no list of layers can know: a layer of a person's own that draws, counts, or has
    a mode of its own.

    Returns:
        The outputs in inference mode, which those in training mode are equal to.

    Raises:
        ValueError: If state changes, the outputs differ, or carry a mask, which features would
            lose.
    """
    inputs = keras.tree.map_structure(
        lambda array: None if array is None else keras.ops.convert_to_tensor(array), batch
    )
    variables = find_variables(split.part).variables
    with preserved(split.part):
        before = copy_values(variables)
        outputs = split.part(inputs, training=False)
        trained = split.part(inputs, training=True)
        after = copy_values(variables)
    names = variable_paths(model)
    moved = [
        names.get(id(variable), key)
        for key, variable in variables.items()
        if before[key].tobytes() != after[key].tobytes()
    ]
    if moved:
        raise ValueError(
            f"{caller}: the output of {split.at!r} would not be constant: each call changes "
            f"{listed(moved)}. Cut further up."
        )
    if _keras.mask_of(outputs) is not None:
        raise ValueError(
            f"{caller}: the output of {split.at!r} carries a mask, which features would lose. Cut "
            "behind the layers that use it, or further up than what makes it."
        )
    expected, found = (
        np.asarray(keras.ops.convert_to_numpy(tensor)) for tensor in (outputs, trained)
    )
    if not close(expected, found, 8 * _eps(expected.dtype)):
        raise ValueError(
            f"{caller}: the output of {split.at!r} is another one in training mode than in "
            "inference. No layer of Keras's that comes before does that: one of a class of its "
            "own, or a Lambda, does. Cut further up."
        )
    return expected


def close(expected: np.ndarray, found: np.ndarray, tolerance: float) -> bool:
    """Tells whether two arrays of floats agree within a fraction of the largest value; NaN equals
    NaN.
    """
    if expected.shape != found.shape:
        return False
    wide = expected.astype(np.float64)
    scale = np.abs(wide[np.isfinite(wide)]).max(initial=0.0)
    return np.allclose(
        wide, found.astype(np.float64), rtol=0, atol=tolerance * scale, equal_nan=True
    )


def _eps(dtype: np.dtype) -> float:
    return 0.0 if dtype.kind in "biu" else float(ml_dtypes.finfo(dtype).eps)


def _moves(layer: keras.Layer) -> str:
    """The reason why a frozen layer gives other outputs in training; empty if it does not."""
    if getattr(layer, "stateful", False):
        return "keeps a state from batch to batch. Cut further up, or make it with stateful=False."
    if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
        return (
            "is trainable, so its statistics move, even with frozen weights. Set its `trainable` "
            "to False."
        )
    amounts = [getattr(layer, name) for name in _AMOUNTS if hasattr(layer, name)]
    # A generator alone does not tell: every recurrent cell holds one.
    if _keras.draws(layer) and (any(amounts) or not amounts):
        return (
            "draws at random in training, which features would be without. Cut further up, or "
            "switch it off: set a dropout's `rate` to 0, apply an augmentation to `x`. A call with "
            "training=False in the graph is not enough: `fit` overrides it."
        )
    return ""
