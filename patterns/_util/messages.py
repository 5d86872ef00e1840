"""What a run tells the person who started it."""

from __future__ import annotations

from collections.abc import Sequence


def say(text: str, below_bar: bool = False) -> None:
    """Prints one line that says where it comes from; below a progress bar that is still open, if
    there is one.
    """
    print(f"{chr(10) * below_bar}keras-patterns: {text}", flush=True)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names in quotes, the first ones of many.

    Example:

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b', ..."
    """
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
