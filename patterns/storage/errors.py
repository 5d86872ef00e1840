"""Errors of the store: where, what, and how to mend it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from .._util.errors import KerasPatternsError

_UNTOUCHED = "The checkpoints that were there before are untouched."
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class StoreError(KerasPatternsError):
    """A checkpoint folder cannot be used as asked.

    Args:
        path: the file or folder that it is about.
        what: what was found there, and what was expected.
        mend: what the person can do.
    """

    def __init__(self, path: Path | str, what: str, mend: str) -> None:
        super().__init__(f"{path}: {what}. {mend}")

    @classmethod
    def failed(cls, path: Path | str, action: str, error: OSError) -> StoreError:
        """Says that the operating system refused `action`, and what can be done about it."""
        reason = error.strerror or str(error)
        return cls(path, f"cannot {action} ({reason})", f"{_mend(error.errno)} {_UNTOUCHED}")

    @classmethod
    def empty(cls, directory: Path | str, what: str = "there is no checkpoint") -> StoreError:
        """Says that a folder has no checkpoint."""
        return cls(directory, what, "Name the folder that kp.Checkpoint was given.")


class DamagedCheckpointError(StoreError):
    """A checkpoint is not what was written.

    Args:
        folder: the checkpoint.
        file: the name of the damaged file in it.
        what: how it differs from what was written.
        tensors: the keys of the damaged tensors, where that is known.
    """

    def __init__(self, folder: Path, file: str, what: str, tensors: Sequence[str] = ()) -> None:
        self.folder = folder
        self.file = file
        self.tensors = tuple(tensors)
        mend = "Use another checkpoint of the folder, or put this one back from a copy."
        super().__init__(folder / file, f"damaged checkpoint: {what}", mend)


class NewerFormatError(StoreError):
    """A checkpoint was written by a later keras-patterns in a format that this one cannot read."""


class StoreInUseError(StoreError):
    """Another writer holds the folder."""


def _mend(number: int | None) -> str:
    if number in _FULL:
        return "Free some space there, keep fewer checkpoints, or choose another folder."
    if number in _FORBIDDEN:
        return "Give this user the right to write there, or choose another folder."
    return "Check the path and the disk, or choose another folder."
