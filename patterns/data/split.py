"""Validation data: the cut of arrays, and what a person gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from types import GeneratorType
from typing import Any

import keras

from keras_patterns.backends.loaders import keras_reads, kind_of

from .passes import Passes
from .rows import as_rows, check_values, count_examples, describe, is_rows, named_leaves
from .sparse import is_sparse


def split_validation(x: Any, y: Any, sample_weight: Any, validation_split: float) -> tuple:
    """Return the data without its last part, and the last part, as Keras's `validation_split` does.

    Nothing is shuffled before, and memory maps are not read.

    Args:
        x: inputs: any structure of arrays.
        y: targets, likewise, or `None`.
        sample_weight: likewise, or `None`.
        validation_split: fraction of the examples that validate, between 0 and 1, both excluded.
            `floor(examples * (1 - validation_split))` examples train.

    Returns:
        `((x, y, sample_weight), (x, y, sample_weight))`: training first.

    Raises:
        ValueError: the fraction leaves no example on one side, or the data is not of arrays.

    Example:

    >>> import numpy as np
    >>> (x, _, _), (x_validation, _, _) = split_validation(np.arange(5), None, None, 0.4)
    >>> x.tolist(), x_validation.tolist()
    ([0, 1, 2], [3, 4])
    """
    if isinstance(validation_split, bool) or not 0 < validation_split < 1:
        raise ValueError(
            "`validation_split` must be a fraction between 0 and 1, both excluded. Received: "
            f"{validation_split!r}."
        )
    if not is_rows((x, y, sample_weight)):
        raise ValueError(
            "`validation_split` works with arrays and tensors only. Received: x of type "
            f"{type(x).__name__}. Pass `validation_data`."
        )
    names = ("x", "y", "sample_weight")
    data = [_rows(part, name) for name, part in zip(names, (x, y, sample_weight), strict=True)]
    examples = count_examples(**dict(zip(names, data, strict=True)))
    split_at = math.floor(examples * (1.0 - validation_split))
    if split_at in (0, examples):
        raise ValueError(
            f"`validation_split={validation_split}` of {examples} examples leaves {split_at} to "
            f"train and {examples - split_at} to validate. Give more data, or another fraction."
        )
    return _cut(data, slice(None, split_at)), _cut(data, slice(split_at, None))


def evaluate_arguments(name: str, data: Any) -> dict[str, Any]:
    """Return the data arguments of `model.evaluate` for data given as to `validation_data` of
    `model.fit`.

    Args:
        name: the argument's name, for the message.
        data: `(x, y)`, `(x, y, sample_weight)`, or whatever `x` alone may be, such as a dataset.

    Returns:
        `x`, `y` and `sample_weight`, as far as they are there.

    Raises:
        ValueError: a tuple has too many parts, or none.

    Example:

    >>> evaluate_arguments("data", ([1, 2], [3, 4]))
    {'x': [1, 2], 'y': [3, 4]}
    """
    data = data_parts(name, data)
    if not keras_reads(data[0]) or (len(data) == 1 and _is_iterated_anew(data[0])):
        return {"x": Passes(*data)}
    return dict(zip(("x", "y", "sample_weight"), data, strict=False))


def describe_evaluated(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can be said of the data arguments of `model.evaluate`, as JSON: a digest and more
    of arrays, the class of others.
    """
    found: dict[str, Any] = {}
    try:
        for name, data in arguments.items():
            found |= describe(as_rows(data, name, sparse=True), name)
    except (TypeError, ValueError):
        # `evaluate` takes more than arrays.
        return {"kind": type(arguments["x"]).__name__}
    return {"kind": "arrays", "arrays": found}


def data_parts(name: str, data: Any) -> tuple:
    """Return data given as to `validation_data` of `model.fit` as a tuple of `x` and the rest.

    Args:
        name: the argument's name, for the message.
        data: `(x, y)`, `(x, y, sample_weight)`, or whatever `x` alone may be, such as a dataset.

    Raises:
        ValueError: a tuple has too many parts, or none.
    """
    if not isinstance(data, tuple | list):
        return (data,)
    if not 1 <= len(data) <= 3:
        raise ValueError(
            f"{name} must be (x, y) or (x, y, sample_weight), or a dataset; received {len(data)} "
            "parts."
        )
    return tuple(data)


def _is_iterated_anew(x: Any) -> bool:
    """True for an iterable of batches that can be begun again, which Keras does not take."""
    return (
        isinstance(x, Iterable)
        and not isinstance(x, Iterator | keras.utils.PyDataset | str | bytes)
        and not keras.tree.is_nested(x)
        and not is_rows(x)
        and kind_of(x) is None
    )


def _rows(data: Any, name: str) -> Any:
    """Arrays as NumPy has them, but sparse ones as they are: `model.evaluate` takes them so."""
    leaves = keras.tree.flatten(data)
    if not any(map(is_sparse, leaves)):
        return as_rows(data, name)
    for leaf in leaves:
        if is_sparse(leaf) and not hasattr(leaf, "__getitem__"):
            raise ValueError(
                f"`validation_split` cannot cut a {type(leaf).__name__}. Pass `validation_data`."
            )
    return keras.tree.map_structure(
        lambda leaf: getattr(leaf, "tocsr", lambda: leaf)() if is_sparse(leaf) else leaf,
        keras.tree.lists_to_tuples(data),
    )


def check_validation_data(name: str, data: Any) -> None:
    """Raises for data that `model.evaluate` would refuse, which is only after the first epoch.

    Args:
        name: the argument's name, for the message.
        data: as given to `validation_data` of `model.fit`.

    Raises:
        ValueError: arrays differ in length, or a tuple has too many parts.
        TypeError: it is nothing that `model.evaluate` takes, or holds neither numbers nor text.
    """
    parts = evaluate_arguments(name, data)
    x = parts["x"]
    if isinstance(x, Passes):
        return
    if is_rows(tuple(parts.values())):
        count_examples(**{f"{name}/{part}": value for part, value in parts.items()})
        for part, value in parts.items():
            for place, leaf in named_leaves(value, f"{name}/{part}"):
                check_values(leaf, place)
    elif not isinstance(x, keras.utils.PyDataset | GeneratorType) and kind_of(x) is None:
        raise TypeError(
            f"{name} must be arrays, a keras.utils.PyDataset, a generator, another iterable of "
            "batches, or a dataset of a framework. Received: "
            f"{type(x).__module__}.{type(x).__qualname__}"
            f"{_list_of(keras.tree.flatten(tuple(parts.values())))}."
        )


def evaluated_sizes(
    arguments: Mapping[str, Any], batch_size: int | None, steps: int | None
) -> set[int]:
    """Return the sizes of the batches that `model.evaluate` makes of arrays.

    Args:
        arguments: as `evaluate_arguments` gives them; of other data, or none, nothing is said.
        batch_size: as given to `evaluate`.
        steps: as given to `evaluate`.

    Example:

    >>> import numpy as np
    >>> evaluated_sizes({"x": np.ones((7, 2))}, batch_size=4, steps=None)
    {3, 4}
    """
    if not arguments or isinstance(arguments["x"], Passes):
        return set()
    if not is_rows(tuple(arguments.values())):
        return set()
    examples = count_examples(**arguments)
    size = batch_size or (math.ceil(examples / steps) if steps else 32)
    whole, rest = divmod(examples, size)
    reaches_rest = rest and (steps is None or steps > whole)
    return ({size} if whole else set()) | ({rest} if reaches_rest else set())


def _list_of(leaves: list) -> str:
    wrong = [leaf for leaf in leaves if not is_rows(leaf)]
    return f" with a {type(wrong[0]).__name__}, which is no array" if len(leaves) > 1 else ""


def _cut(data: list, part: slice) -> tuple:
    return tuple(
        keras.tree.map_structure(lambda array: None if array is None else array[part], one)
        for one in data
    )
