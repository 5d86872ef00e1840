"""Phases: several runs of one script, each in a folder of its own inside one."""

from __future__ import annotations

import os
import re
from pathlib import Path

_PREFIX = "phase-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def phase_folder(directory: str | os.PathLike[str], phase: str | None) -> Path:
    """The folder of a phase; the directory itself where there are none.

    Args:
        directory: The folder of all phases.
        phase: Its name; None for a run that has the directory to itself.

    Raises:
        ValueError: If the name is not one that every file system takes.

    Example:

    >>> phase_folder("runs/digits", "head").as_posix()
    'runs/digits/phase-head'
    """
    if phase is None:
        return Path(directory)
    if not isinstance(phase, str) or not _NAME.fullmatch(phase):
        raise ValueError(
            "A phase is named by up to 64 letters, digits, dots, underscores and hyphens, and "
            f"begins with a letter or digit. Received: phase={phase!r}."
        )
    return Path(directory) / f"{_PREFIX}{phase}"


def phases_in(directory: str | os.PathLike[str]) -> list[str]:
    """The phases of a folder, the oldest first."""
    try:
        with os.scandir(directory) as items:
            found = [
                (item.stat(follow_symlinks=False).st_ctime_ns, item.name.removeprefix(_PREFIX))
                for item in items
                if item.name.startswith(_PREFIX)
                and _NAME.fullmatch(item.name.removeprefix(_PREFIX))
                and item.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for _, name in sorted(found)]
