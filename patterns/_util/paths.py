"""Paths as they are given."""

from __future__ import annotations

import os
from pathlib import Path


def bound_path(path: str | os.PathLike[str]) -> Path:
    """The same path, independent of a later change of the working directory.

    Example:

    >>> bound_path("runs").is_absolute()
    True

    Raises:
        ValueError: It holds the character NUL, which no system takes.
    """
    if "\0" in os.fspath(path):
        raise ValueError(f"A path cannot hold the character NUL. Received: {os.fspath(path)!r}.")
    # Not `resolve`: a link in it may be set to lead elsewhere, and `..` after a link stays right.
    return Path(path).absolute()
