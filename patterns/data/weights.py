"""The form of a batch, and class weights as the sample weights of a batch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from .._util.arguments import whole_number
from .rows import dense_batch, is_flat


def as_batch(item: Any, class_weight: Mapping[int, float] | None, origin: str) -> tuple:
    """Return one item of a dataset or generator as `(x,)`, `(x, y)` or `(x, y, sample_weight)`.

    Lists inside become tuples, which mean the same on every backend.

    Args:
        item: a tuple or list of one to three structures of arrays, or a single array or dict (`x`).
        class_weight: weight of each class, or `None`.
        origin: the dataset or generator that gave the item, for messages.

    Returns:
        The tuple.

    Raises:
        ValueError: the item is nothing of the kind, or has sample weights and `class_weight` is
            given as well.
        TypeError: an array is ragged, or sparse in a way that is not served.
    """
    # A structure is looked through as slowly as a small batch is made.
    batch = tuple(item) if is_flat(item) else dense_batch(keras.tree.lists_to_tuples(item), origin)
    if isinstance(batch, dict) or hasattr(batch, "shape"):
        batch = (batch,)
    while isinstance(batch, tuple) and len(batch) > 1 and batch[-1] is None:
        batch = batch[:-1]
    if not isinstance(batch, tuple) or not 1 <= len(batch) <= 3:
        raise ValueError(
            f"{origin} must give `(x,)`, `(x, y)` or `(x, y, sample_weight)`. Received: "
            f"{_describe(item)}."
        )
    if class_weight is None:
        return batch
    if len(batch) != 2:
        raise ValueError(
            f"{origin} gave {_describe(item)}, and `class_weight` needs `(x, y)`: without targets "
            "there is no class, and sample weights cannot be given at the same time."
        )
    return (*batch, class_sample_weights(batch[1], class_weight))


def class_sample_weights(y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """Return the sample weights that `class_weight` gives to a batch of targets, as Keras does.

    Args:
        y: labels of shape `(batch,)` or `(batch, 1)`, or one-hot targets `(batch, classes)`.
        class_weight: weight of each class; a class that it does not have weighs 1.

    Returns:
        Weights of shape `(batch,)`, in Keras's `floatx`.

    Raises:
        ValueError: `y` is a structure, or has no one label an example.

    Example:

    >>> class_sample_weights(np.array([[0, 1], [1, 0]]), {0: 5.0}).tolist()
    [1.0, 5.0]
    """
    if keras.tree.is_nested(y):
        raise ValueError(
            f"`class_weight` is for models with a single output. Received: y={_describe(y)}. Give "
            "each output its `sample_weight`."
        )
    labels = y if isinstance(y, np.ndarray) else keras.ops.convert_to_numpy(y)
    if labels.ndim > 1:
        labels = labels.argmax(axis=-1) if labels.shape[-1] != 1 else labels[..., 0]
    if labels.ndim != 1:
        raise ValueError(
            "`class_weight` needs one label an example: `y` of shape (batch,), (batch, 1) or "
            f"(batch, classes). Received: y of shape {tuple(y.shape)}. Pass `sample_weight`."
        )
    classes = np.round(labels).astype(np.int64).tolist()
    return np.array([class_weight.get(label, 1.0) for label in classes], keras.config.floatx())


def check_class_weight(class_weight: Any) -> dict[int, float] | None:
    """Return `class_weight` with plain keys and values, or raise an error that echoes it.

    Args:
        class_weight: `{class: weight}`, or `None`. A class is a whole number, negative ones and
            `1.0` included, since Keras looks for labels that equal it.

    Returns:
        A dict of `int` to `float`, or `None`.

    Raises:
        TypeError: it is no such mapping.
        ValueError: a class is no whole number, or a weight is negative or not finite.
    """
    if class_weight is None:
        return None
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            "`class_weight` must be a dict of class number to weight. Received: "
            f"{_describe(class_weight)}."
        )
    for name, weights in class_weight.items():
        if isinstance(weights, Mapping):
            raise ValueError(
                f"`class_weight` is one dict of class number to weight, for models with a single "
                f"output, as in Keras. Received: a dict for {name!r}. Multiply the weights into "
                "the `sample_weight` of that output."
            )
    return {_class(key): _weight(key, weight) for key, weight in class_weight.items()}


def _weight(label: Any, weight: Any) -> float:
    try:
        number = float(weight)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(
            f"`class_weight`: a weight must be a finite number, at least 0. Received: {weight} "
            f"for class {label}."
        )
    return number


def _class(key: Any) -> int:
    if isinstance(key, bool | np.bool_ | float | np.floating) and int(key) == key:
        return int(key)
    return whole_number("class_weight", "class", key, least=-sys.maxsize)


def class_weight_json(class_weight: Mapping[int, float] | None) -> dict[str, float] | None:
    """Return `class_weight` as JSON has it, for a fingerprint."""
    if class_weight is None:
        return None
    return {str(label): class_weight[label] for label in sorted(class_weight)}


def _describe(item: Any) -> str:
    if isinstance(item, (tuple, list)):
        return f"a {type(item).__name__} of {len(item)}"
    return f"{str(item)[:60]!r} ({type(item).__name__})"
