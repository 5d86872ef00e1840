"""The length of a training that has not begun."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import keras

from ..data.rows import is_rows


def steps_asked(x: Any, arguments: Mapping[str, Any]) -> int | None:
    """The steps of a call of `kp.fit` or `model.fit`; None where they are not plain from it.

    Args:
        x: As in `kp.fit`.
        arguments: Others of the call, by name; they may be wrong ones.
    """
    if arguments.get("plan") is not None:
        return getattr(arguments["plan"], "total_steps", None)
    if arguments.get("total_steps") is not None:
        return _count(arguments["total_steps"])
    steps, epochs = arguments.get("steps_per_epoch"), _count(arguments.get("epochs"))
    if steps is not None and epochs is None:
        epochs = 1
    if steps is None and is_rows(x):
        arrays = [leaf for leaf in keras.tree.flatten(x) if hasattr(leaf, "shape")]
        size = _count(arguments.get("batch_size") or 32)
        steps = -(-len(arrays[0]) // size) if arrays and size else None
    steps = _count(steps)
    return steps * epochs if steps and epochs else None


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, numbers.Integral) and int(value) > 0 else None
