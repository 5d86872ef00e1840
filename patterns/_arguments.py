"""Checks of arguments, made where they are given."""

from __future__ import annotations

import operator
from typing import Any


def whole_number(where: str, name: str, value: Any, *, least: int = 1) -> int:
    """Return `value` as an `int`, or raise an error that echoes it.

    Args:
        where: who was called, for the message.
        name: the argument's name, for the message.
        value: what was given. A NumPy integer is as good as an `int`; a `bool` or a `float` is not.
        least: the smallest value allowed. Defaults to `1`.

    Returns:
        The number.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is too small.

    Example:

    >>> whole_number("fit", "epochs", 3)
    3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: `{name}` must be a whole number. Received: {value!r} ({type(value).__name__}).") from None
    if number < least:
        raise ValueError(f"{where}: `{name}` must be at least {least}. Received: {number}.")
    return number
