"""Checkpoints as the store lists them and as it reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import (
    DamagedCheckpointError,
    MissingCheckpointError,
    StoreError,
    SystemRefusalError,
    refusals,
)
from .manifest import Manifest, Position
from .plain_files import is_there
from .retention import Candidate

FolderId = tuple[str, int, int]
# How often a directory is listed again where what it has just named is gone.
_ROUNDS = 100


@dataclass(frozen=True, order=True)
class Entry:
    """A checkpoint in a folder, sound or not; the later one is larger."""

    position: Position
    folder: Path

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest of the checkpoint; StoreError if it cannot be read, or has been removed."""
        try:
            return Manifest.load(self.folder)
        except DamagedCheckpointError as error:
            if is_there(self.folder):
                raise
            raise MissingCheckpointError(self.folder) from error

    def with_manifest(self, manifest: Manifest) -> Entry:
        """The same checkpoint with the manifest that was read with its bytes, which outlasts it."""
        entry = Entry(self.position, self.folder)
        # Where cached_property looks first.
        vars(entry)["manifest"] = manifest
        return entry

    @property
    def candidate(self) -> Candidate:
        """The facts by which a retention decides; no score if the manifest is damaged."""
        try:
            return Candidate(self.position, self.manifest.score, self.manifest.needs)
        except (SystemRefusalError, MissingCheckpointError):
            # Nothing is known: it may have the best score of all, or one that is newer has.
            raise
        except StoreError:
            return Candidate(self.position)

    @property
    def score(self) -> float | None:
        """The value that it was scored, if it was and its manifest is not damaged."""
        score = self.candidate.score
        return None if score is None else score.value


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint as it was read, each byte checked."""

    entry: Entry
    document: dict[str, Any]
    tensors: dict[str, np.ndarray]

    @property
    def position(self) -> Position:
        """The position in the training at which it was taken."""
        return self.entry.position


class Report(NamedTuple):
    """The state of one checkpoint; `problem` is None if it is sound."""

    entry: Entry
    problem: StoreError | None


def list_entries(directory: Path, known: Mapping[FolderId, Entry]) -> dict[FolderId, Entry]:
    """The checkpoints in a directory.

    Args:
        directory: need not exist.
        known: an earlier answer; what is still there is the same object, with its manifest read.

    Raises:
        StoreError: the directory cannot be listed.
    """
    with refusals(directory, "list the folder"):
        for left in reversed(range(_ROUNDS)):
            try:
                return _list(directory, known)
            except FileNotFoundError:
                # There is no folder yet, or its writer has just retired one: look again.
                if not is_there(directory):
                    return {}
                if not left:
                    raise
    raise AssertionError


def _list(directory: Path, known: Mapping[FolderId, Entry]) -> dict[FolderId, Entry]:
    found = {}
    with os.scandir(directory) as items:
        for item in items:
            position = Position.parse(item.name)
            if position and item.is_dir(follow_symlinks=False):
                place = (item.name, item.inode(), item.stat().st_mtime_ns)
                found[place] = known.get(place) or Entry(position, Path(item.path))
    return found


def newest_run(entries: list[Entry]) -> list[Entry]:
    """The entries of the newest run, of entries that are in order."""
    return [entry for entry in entries if entry.position.run == entries[-1].position.run]
