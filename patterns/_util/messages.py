"""Messages to the person who started a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import keras

from .text import visible, write_line

_LOGGER = logging.getLogger("keras_patterns")


def say(
    text: str, below_bar: bool = False, *, verbose: int | str = "auto", level: int = logging.INFO
) -> None:
    """Prints one line that names this package; control characters in it show as escapes.

    It goes to the logger `keras_patterns` instead where the person wants no output: with `verbose`
    0, or after `keras.config.disable_interactive_logging()`, which does the same to Keras's own
    messages.

    Args:
        text: The message.
        below_bar: Whether a progress bar is still open, below which it goes. Defaults to False.
        verbose: That of the function that was called. Defaults to `"auto"`: it is printed.
        level: The level in the log, `logging.WARNING` for what must be seen. Defaults to
            `logging.INFO`.
    """
    if verbose != 0 and keras.config.is_interactive_logging_enabled():
        if below_bar:
            write_line()
        write_line(f"keras-patterns: {text}")
    else:
        _LOGGER.log(level, visible(text))


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names in quotes, the first ones of many.

    Example:

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b', ..."
    """
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")


def first_line(error: BaseException) -> str:
    """The kind of an error, and the first line of what it says.

    Example:

    >>> first_line(ValueError("no such shape\\nat line 3"))
    'ValueError: no such shape'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
