"""The differences between the contents of two checkpoints, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Difference(NamedTuple):
    """One place in which two checkpoints differ.

    Attributes:
        place: The key of a tensor, or the way to a value in the document.
        what: How they differ there.
    """

    place: str
    what: str


def differing_tensors(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> list[Difference]:
    """The tensors that are not equal to the bit, or that only one side has.

    Example:

    >>> differing_tensors({"bias": np.float32([1, 2])}, {"bias": np.float32([1, 2.5])})
    [Difference(place='bias', what='1 of 2 numbers, by 0.5 at most')]
    """
    keys = dict.fromkeys([*first, *second])
    return [
        Difference(key, what)
        for key in keys
        if (what := _tensor_difference(first.get(key), second.get(key)))
    ]


def differing_values(first: Any, second: Any, place: str = "") -> list[Difference]:
    """The leaves in which two JSON documents differ; 1 and 1.0 do.

    Example:

    >>> differing_values({"wait": 1, "best": 0.5}, {"wait": 2, "best": 0.5})
    [Difference(place='wait', what='1 and 2')]
    """
    found = []
    if isinstance(first, dict) and isinstance(second, dict):
        keys = dict.fromkeys([*first, *second])
        pairs = [(str(key), first.get(key, _MISSING), second.get(key, _MISSING)) for key in keys]
    elif isinstance(first, list) and isinstance(second, list):
        pairs = [
            (str(index), a, b) for index, (a, b) in enumerate(zip(first, second, strict=False))
        ]
        if len(first) != len(second):
            found = [Difference(place, f"{len(first)} and {len(second)} entries")]
    elif _text(first) == _text(second):
        return []
    else:
        return [Difference(place, f"{_text(first):.60} and {_text(second):.60}")]
    return found + [
        one
        for name, a, b in pairs
        for one in differing_values(a, b, f"{place}/{name}" if place else name)
    ]


_MISSING = object()


def _text(value: Any) -> str:
    # As text, since NaN is not equal to itself, and 1 is equal to 1.0.
    return "nothing" if value is _MISSING else repr(value)


def _tensor_difference(first: np.ndarray | None, second: np.ndarray | None) -> str:
    if first is None or second is None:
        return "only in the second" if first is None else "only in the first"
    for name in ("dtype", "shape"):
        if getattr(first, name) != getattr(second, name):
            return f"{name} {getattr(first, name)} and {getattr(second, name)}"
    changed = (_bytes(first) != _bytes(second)).any(axis=1)
    return (
        f"{changed.sum():,} of {first.size:,} numbers, by {_distance(first, second)}"
        if changed.any()
        else ""
    )


def _bytes(array: np.ndarray) -> np.ndarray:
    return (
        np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, array.itemsize)
    )


def _distance(first: np.ndarray, second: np.ndarray) -> str:
    wide = np.complex128 if first.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        distances = np.abs(first.astype(wide) - second.astype(wide))
    known = distances[~np.isnan(distances)]
    # NaN on one side, or -0.0 and 0.0.
    return f"{known.max():.3g} at most" if known.size == distances.size else "NaN"
