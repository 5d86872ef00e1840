"""The reading half of the codec of small named states; the writing half is `state/codec.py`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from .._util.schema import SchemaError, checked, require, shown

_Arrays = Mapping[str, np.ndarray]


def decode(value: Any, arrays: _Arrays, place: str = "state") -> Any:
    """The inverse of `encode`: the same types and the same bits. Backend tensors come back as NumPy
    arrays.

    Args:
        value: JSON, at most as deep as `check_json` allows.
        arrays: By key.
        place: The name of the state, with which errors begin.

    Raises:
        SchemaError: If it is not what `encode` gives.
    """
    if isinstance(value, list):
        return [decode(item, arrays, f"{place}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, content),) = value.items()
        if tag.startswith("$"):
            if tag not in _DECODERS:
                what = "was written by a newer keras-patterns. Upgrade it"
                raise SchemaError(
                    f"{place}: unknown mark {shown(tag)} in a state; this checkpoint {what}"
                )
            return _DECODERS[tag](content, arrays, place)
    return {name: decode(item, arrays, f"{place}.{name}") for name, item in value.items()}


def _float(content: Any, arrays: _Arrays, place: str) -> float:
    require(content in ("nan", "inf", "-inf"), place, f"{shown(content)} is no float")
    return float(content)


def _array(content: Any, arrays: _Arrays, place: str) -> np.ndarray:
    key = checked(content, str, place)
    require(key in arrays, place, f"there is no array {shown(key)}")
    return arrays[key]


def _scalar(content: Any, arrays: _Arrays, place: str) -> Any:
    array = _array(content, arrays, place)
    require(array.shape == (), place, f"expected one number, received shape {array.shape}")
    return array[()]


def _bytes(content: Any, arrays: _Arrays, place: str) -> bytes:
    try:
        return bytes.fromhex(checked(content, str, place))
    except ValueError:
        raise SchemaError(f"{place}: {shown(content)} is no hexadecimal text") from None


def _tuple(content: Any, arrays: _Arrays, place: str) -> tuple[Any, ...]:
    return tuple(decode(checked(content, list, place), arrays, place))


def _dict(content: Any, arrays: _Arrays, place: str) -> dict[Any, Any]:
    pairs = checked(content, list[tuple[Any, Any]], place)
    found = {
        _key(decode(key, arrays, place), place): decode(item, arrays, f"{place}[{shown(key)}]")
        for key, item in pairs
    }
    require(len(found) == len(pairs), place, "a key stands twice in one object")
    return found


def _key(key: Any, place: str) -> Hashable:
    if isinstance(key, list | tuple):
        return tuple(_key(item, place) for item in key)
    plain = key is None or isinstance(key, bool | int | float | str | bytes | np.generic)
    require(plain, place, f"{shown(key)} cannot be a key")
    return key


_DECODERS: dict[str, Callable[[Any, _Arrays, str], Any]] = {
    "$float": _float,
    "$scalar": _scalar,
    "$array": _array,
    "$bytes": _bytes,
    "$tuple": _tuple,
    "$dict": _dict,
}
