"""The length of a training that has not begun."""

from __future__ import annotations

import math
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
        steps = _steps_of_a_pass(x, arguments)
    steps = _count(steps)
    return steps * epochs if steps and epochs else None


def _steps_of_a_pass(x: Any, arguments: Mapping[str, Any]) -> int | None:
    arrays = [leaf for leaf in keras.tree.flatten(x) if hasattr(leaf, "shape")]
    size, split = _count(arguments.get("batch_size") or 32), arguments.get("validation_split")
    if not arrays or not size:
        return None
    rows = len(arrays[0])
    if isinstance(split, float) and 0 < split < 1 and arguments.get("validation_data") is None:
        rows = math.floor(rows * (1 - split))
    return math.ceil(rows / size)


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, numbers.Integral) and int(value) > 0 else None
