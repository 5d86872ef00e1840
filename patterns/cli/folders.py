"""The checkpoints of a folder, without Keras."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..storage import (
    CheckpointFolder,
    Entry,
    MissingCheckpointError,
    StoreError,
    phase_folder,
    phases_in,
)


def rows_of(store: CheckpointFolder) -> tuple[list[dict[str, Any]], dict[tuple[int, int], int]]:
    """A row for each checkpoint of a folder, and the size of each of their files by its identity: a
    file that several share is there once.
    """
    rows: list[dict[str, Any]] = []
    files = {}
    for entry in store.entries():
        # Else its writer has just retired it.
        with suppress(FileNotFoundError, MissingCheckpointError):
            statuses = _statuses(entry)
            rows.append(_described(entry, statuses))
            files.update({(one.st_dev, one.st_ino): one.st_size for one in statuses})
    return rows, files


def _described(entry: Entry, statuses: Sequence[os.stat_result]) -> dict[str, Any]:
    run, step, phase = entry.position
    found = {
        "run": run,
        "step": step,
        "state": "complete" if phase else "validating",
        "folder": entry.folder.name,
        "created": None,
        "backend": None,
        "keras": None,
        "bytes": sum(one.st_size for one in statuses),
        "linked_bytes": sum(one.st_size for one in statuses if one.st_nlink > 1),
        "score": None,
        "problem": None,
    }
    try:
        manifest = entry.manifest
    except MissingCheckpointError:
        raise
    except StoreError as error:
        return {**found, "problem": str(error)}
    score = manifest.score
    return {
        **found,
        "created": manifest.created,
        **{name: text_or_none(manifest.made_with.get(name)) for name in ("backend", "keras")},
        # JSON has no NaN.
        "score": score
        and {**score._asdict(), "value": score.value if math.isfinite(score.value) else None},
    }


def _statuses(entry: Entry) -> list[os.stat_result]:
    """Those of the files of a checkpoint. No link is followed."""
    with os.scandir(entry.folder) as files:
        return [
            file.stat(follow_symlinks=False)
            for file in files
            if file.is_file(follow_symlinks=False)
        ]


def stores_in(
    directory: str, check: Callable[..., Any] | None = None
) -> list[tuple[str | None, CheckpointFolder]]:
    """The folder, and those of its phases, that hold checkpoints; there must be some. `check` is
    that of `CheckpointFolder`.
    """
    phases: list[str | None] = [None, *phases_in(directory)]
    stores = [(phase, CheckpointFolder(phase_folder(directory, phase), check)) for phase in phases]
    found = [(phase, store) for phase, store in stores if store.entries()]
    if not found:
        what = "no checkpoint is there" if Path(directory).is_dir() else "there is no such folder"
        raise StoreError.empty(directory, what)
    return found


def text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)
