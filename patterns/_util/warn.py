"""Warnings that point to the line of the person."""

from __future__ import annotations

import sys
import warnings

# Packages whose frames may stand between a person's line and what it leads to.
_BETWEEN = {"keras_patterns", "keras", "contextlib"}


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line of the person's own that called this package, however deep inside it, or
    inside of Keras, the reason is found.

    Args:
        text: The message.
        category: Of the warning. Defaults to `UserWarning`.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
