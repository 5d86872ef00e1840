"""Small named states as readable JSON and arrays, both ways, exactly.

JSON has no tuples, no NaN, no NumPy scalars and only strings as keys: those are written as an
object with one key that starts with `$`. Arrays go into a separate dictionary, for the store.
Nothing here can run code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ..storage.decoding import decode

__all__ = ["decode", "encode"]


def encode(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    """Turns a state into JSON, and puts its arrays into `arrays` under keys that start with
    `place`.

    Args:
        value: Nested dicts, lists and tuples of None, booleans, numbers, strings, bytes, NumPy
            scalars, arrays and backend tensors.
        place: The name of the state; errors and the keys of its arrays start with it.
        arrays: Receives the arrays. They are not copied.

    Returns:
        What `json.dumps(..., allow_nan=False)` takes.

    Raises:
        TypeError: If a part is none of these; the message names its place.
    """
    while place in arrays:
        place += "'"
    if value is None or (isinstance(value, bool | int | str) and type(value) in (bool, int, str)):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.generic):
        arrays[place] = np.asarray(value)
        return {"$scalar": place}
    if (isinstance(value, np.ndarray) and not value.dtype.hasobject) or keras.ops.is_tensor(value):
        arrays[place] = np.asarray(keras.ops.convert_to_numpy(value))
        return {"$array": place}
    if type(value) is bytes:
        return {"$bytes": value.hex()}
    if isinstance(value, list | tuple):
        items = [encode(item, f"{place}/{index}", arrays) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        return _encode_mapping(value, place, arrays)
    raise TypeError(
        f"The state at {place!r} is a {type(value).__module__}.{type(value).__qualname__}, which a "
        "checkpoint cannot hold. "
        "Expected nested dicts, lists and tuples of None, booleans, numbers, strings and arrays. "
        "Give this part as one of those (an object as its own small dict), or leave it out of the "
        "state."
    )


def _encode_mapping(
    value: Mapping[Any, Any], place: str, arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: encode(item, f"{place}/{key}", arrays) for key, item in value.items()}
    pairs = [
        [encode(key, f"{place}/key {index}", arrays), encode(item, f"{place}/{index}", arrays)]
        for index, (key, item) in enumerate(value.items())
    ]
    return {"$dict": pairs}
