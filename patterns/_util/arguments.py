"""Checks of arguments, made where they are given."""

from __future__ import annotations

import inspect
import math
import operator
from numbers import Real
from typing import Any, Literal

# Steps, or the batches of an evaluation, in blocks that are one program: where that pays, where it
# can be had, never.
Fuse = Literal["auto", True, False]


def whole_number(caller: str, name: str, value: Any, *, least: int = 1) -> int:
    """Return `value` as an `int`, or raise an error that echoes it.

    Args:
        caller: the function that was called, for the message.
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
        raise TypeError(
            f"{caller}: `{name}` must be a whole number. Received: {value!r} "
            f"({type(value).__name__})."
        ) from None
    if number < least:
        raise ValueError(f"{caller}: `{name}` must be at least {least}. Received: {number}.")
    return number


def check_number(
    caller: str,
    name: str,
    value: Any,
    *,
    least: float = 0.0,
    above: float | None = None,
    below: float = math.inf,
) -> float:
    """Return `value` as a `float`, or raise an error that echoes it.

    Args:
        caller: the function that was called, for the message.
        name: the argument's name, for the message.
        value: what was given. A NumPy number is as good as a `float`; a `bool` is not.
        least: the smallest value allowed. Defaults to `0.0`.
        above: what it must exceed, in place of `least`. Defaults to `None`.
        below: what must exceed it. Defaults to infinity.

    Returns:
        The number.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not finite, or out of range.

    Example:

    >>> check_number("fit", "rate", 1)
    1.0
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{caller}: `{name}` must be a number. Received: {value!r} ({type(value).__name__})."
        )
    number = float(value)
    enough = number >= least if above is None else number > above
    if not (math.isfinite(number) and enough and number < below):
        limits = f"at least {least:g}" if above is None else f"greater than {above:g}"
        limits += f" and less than {below:g}" if below < math.inf else ""
        raise ValueError(f"{caller}: `{name}` must be finite, {limits}. Received: {value!r}.")
    return number


def check_order(caller: str, low_name: str, low: float, high_name: str, high: float) -> None:
    """Raises if `low` is not below `high`."""
    if not low < high:
        raise ValueError(
            f"{caller}: `{low_name}` must be below `{high_name}`. Received: {low!r} and {high!r}."
        )


def check_choice(caller: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises if `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(
            f"{caller}: `{name}` must be one of {', '.join(map(repr, choices))}. Received: "
            f"{value!r}."
        )


def check_takes(caller: str, name: str, function: Any, *arguments: str) -> None:
    """Raises if `function` is none, or cannot be called with so many arguments.

    Args:
        caller: the function that was called, for the message.
        name: the argument's name, for the message.
        function: what was given.
        arguments: what each argument will be, in words.
    """
    if not callable(function):
        raise TypeError(
            f"{caller}: `{name}` must be a function of {' and '.join(arguments)}. Received: "
            f"{function!r}."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Some functions in C do not say.
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"{caller}: `{name}` is called with {' and '.join(arguments)}, and it is "
            f"{getattr(function, '__qualname__', repr(function))}{signature} ({error})."
        ) from None


def check_fuse(caller: str, fuse: Any) -> None:
    """Raises if `fuse` is none of its three values."""
    if not (fuse == "auto" or isinstance(fuse, bool)):
        raise ValueError(f'{caller}: fuse must be "auto", True or False. Received: {fuse!r}.')
