"""The check of values that were read from disk: their types, their ranges and their names.

The kinds are those of `msgspec`, and nothing is converted: a number in quotes is no number, True is
no integer. An error names the place of what does not fit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

# Steps, positions, sizes: all that is counted. What is above is no count, and would overflow where
# it is handed to a framework.
MOST = 10**18 - 1
# Levels of nesting of a JSON value. Python's own limit depends on who calls.
DEEPEST = 100

Count = Annotated[int, Meta(ge=0, le=MOST)]
Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]

_TOKEN = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


class SchemaError(ValueError):
    """A value is not of the kind that is expected; the message names its place."""


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of objects with these very fields."""


def checked(value: Any, kind: Any, place: str) -> Any:
    """The value as its kind.

    Args:
        value: JSON, or what JSON became; arrays are of the kind `np.ndarray`.
        kind: A type as `msgspec.convert` takes it.
        place: The name of the value, with which errors begin.

    Raises:
        SchemaError: If it is of another kind.

    Example:

    >>> checked({"step": 3}, dict[str, Count], "cursor")
    {'step': 3}
    >>> try:
    ...     checked([0, -1], list[Count], "resumes")
    ... except SchemaError as error:
    ...     print(error)
    resumes[1]: expected `int` >= 0, received -1
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise SchemaError(_explain(str(error), value, place)) from None
    except (UnicodeError, OverflowError, RecursionError) as error:
        # A name of half a character, and other values that no field has.
        raise SchemaError(f"{place}: {error}") from None


def table(value: Any, kind: Any, place: str, key_kind: Any = str) -> dict[str, Any]:
    """An object whose entries are all of one kind; an error names the entry.

    Args:
        value: As in `checked`.
        kind: Of each entry.
        place: As in `checked`.
        key_kind: Of each key. Defaults to any text.
    """
    try:
        # All at once; where that fails, one by one, for the name.
        found: dict[str, Any] = msgspec.convert(value, dict[key_kind, kind])
        return found
    except (msgspec.ValidationError, UnicodeError, OverflowError, RecursionError):
        entries = checked(value, dict[Any, Any], place)
    return {
        checked(key, key_kind, f"the name {shown(key)} in {place}"): checked(
            entry, kind, f"{place}[{shown(key)}]"
        )
        for key, entry in entries.items()
    }


def check_like(value: Any, example: Any, place: str, none_is_number: bool = True) -> None:
    """Raises unless a value is built as an example is: the same names, and the same types under
    them. A list that is empty in the example may hold numbers.

    Args:
        value: As in `checked`.
        example: Dicts, lists, numbers, texts and None.
        place: As in `checked`.
        none_is_number: Whether None stands for a number that is still to come, rather than for
            anything. Defaults to True.
    """
    if isinstance(example, Mapping):
        found = checked(value, dict[str, Any], place)
        require(found.keys() == example.keys(), place, f"expected {[*example]}, not {[*found]}")
        for name, one in example.items():
            check_like(found[name], one, f"{place}.{name}", none_is_number)
    elif isinstance(example, list) and example:
        require(len(checked(value, list, place)) == len(example), place, "another length")
        for index, one in enumerate(example):
            check_like(value[index], one, f"{place}[{index}]", none_is_number)
    elif example is None:
        checked(value, float | None if none_is_number else Any, place)
    else:
        checked(value, list[float] if isinstance(example, list) else type(example), place)


def check_json(value: Any, place: str) -> None:
    """Raises if a value that `json` has read is nested too deeply, or holds a number that JSON does
    not have (NaN, infinity).
    """
    level = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, float) and not math.isfinite(one):
                raise SchemaError(f"{place}: {one!r} is no number of JSON")
        if not inner:
            return
        level = inner
    raise SchemaError(f"{place}: it is nested more than {DEEPEST} levels deep")


def require(holds: bool, place: str, what: str) -> None:
    """Raises if a condition does not hold; `what` is the rest of the sentence."""
    if not holds:
        raise SchemaError(f"{place}: {what}")


def shown(value: Any, most: int = 60) -> str:
    """A value in an error: one line, and not longer than `most`."""
    try:
        # Slices first: what a file holds may be as long as it likes.
        text = repr(value[:most] if isinstance(value, str) else value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a long {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."


def _explain(text: str, value: Any, place: str) -> str:
    text, _, way = text.partition(" - at ")
    way = way.strip("`").removeprefix("$")
    found = _at(value, way)
    received = "" if found is None else f", received {shown(found[0])}"
    is_way = way.startswith((".", "["))
    return f"{place}{way if is_way else ''}: {text[:1].lower()}{text[1:]}{received}"


def _at(value: Any, way: str) -> tuple[Any] | None:
    """The value at a way of msgspec's, if that can be followed."""
    if "key" in way or "[...]" in way:
        return None
    for name, index in _TOKEN.findall(way):
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list | tuple):
            value = value[int(index)]
        else:
            return None
    return (value,)
