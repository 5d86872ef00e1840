"""Recognising errors by their type and their text."""

from __future__ import annotations

from collections.abc import Callable


def is_memory_error(error: BaseException, refused: Callable[[BaseException], bool]) -> bool:
    """True if an error, or one that it stands for (`__cause__`), says that memory was refused.

    Args:
        error: Any.
        refused: Whether one error is the framework's own of this kind.
    """
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, MemoryError) or refused(one):
            return True
        one = one.__cause__
    return False
