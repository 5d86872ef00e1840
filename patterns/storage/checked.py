"""The files that this process has read from end to end, and what it found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import NamedTuple

from .errors import DamagedCheckpointError, SystemRefusalError
from .files import FileRow, TensorRow, read_file
from .layout import Inode


class FileState(NamedTuple):
    """The facts by which a file is known to be the one that was seen, as far as the file system
    tells.
    """

    device: int
    inode: int
    bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path | str) -> FileState:
        """The state of a file; of a link, that of the link itself."""
        # os.stat: on Windows the directory's own record has no inode number.
        status = os.stat(path, follow_symlinks=False)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class CheckedFiles:
    """Remembers what reading a tensor file has shown, for as long as the file stays as it is: each
    is read once.
    """

    def __init__(self) -> None:
        self._found: dict[Inode, tuple[FileState, FileRow, bool]] = {}

    @property
    def damaged(self) -> Set[Inode]:
        """The files that were found damaged."""
        return {inode for inode, (_, _, sound) in self._found.items() if not sound}

    def note(self, state: FileState, row: FileRow, sound: bool) -> None:
        """Remembers what was found by reading a file against its row in a manifest."""
        self._found[state[:2]] = (state, row, sound)

    def is_sound(self, path: Path, row: FileRow, tensors: Mapping[str, TensorRow]) -> bool:
        """Tells whether a file is what a manifest says; False too where it cannot be read.

        Args:
            path: the file; its folder is the checkpoint.
            row: what the manifest says of the file.
            tensors: what it says of the tensors in it, by key.
        """
        try:
            state = FileState.of(path)
            seen = self._found.get(state[:2])
            if seen is None or seen[:2] != (state, row):
                read_file(path, row, tensors)
                self.note(state, row, sound=True)
                return True
            return seen[2]
        except DamagedCheckpointError:
            self.note(state, row, sound=False)
        except (OSError, SystemRefusalError):
            pass
        return False
