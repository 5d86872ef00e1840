"""Paths as they are given."""

from __future__ import annotations

import os
from pathlib import Path


def bound_path(path: str | os.PathLike[str]) -> Path:
    """The same path, independent of a later change of the working directory.

    Raises:
        FileNotFoundError: the path is relative, and the working directory has been deleted.

    Example:

    >>> bound_path("runs").is_absolute()
    True

    Raises:
        TypeError: It is no path.
        ValueError: It holds the character NUL, which no system takes.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"A path must be a str or a pathlib.Path. Received: {path!r}.")
    if "\0" in os.fspath(path):
        raise ValueError(f"A path cannot hold the character NUL. Received: {os.fspath(path)!r}.")
    try:
        # Not `resolve`: a link in it may be set to lead elsewhere, and `..` after a link stays
        # right.
        return Path(path).absolute()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{str(path)!r} leads nowhere, since the working directory has been deleted. Give an "
            "absolute path, or change to another directory."
        ) from error
