"""Errors of the store: where, what, and how to mend it."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .._util.errors import KerasPatternsError

_UNTOUCHED = "The checkpoints that were there before are untouched."
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}
# What these say of a name is that no plain file stands there; all others say nothing about it.
_NOT_A_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}


class StoreError(KerasPatternsError):
    """A checkpoint folder cannot be used as asked, such as one of `kp.CheckpointStore` that has no
    checkpoint. The message says what to do.

    Args:
        path: the file or folder that it is about.
        what: what was found there, and what was expected.
        mend: what the person can do.
    """

    def __init__(self, path: Path | str, what: str, mend: str) -> None:
        super().__init__(f"{path}: {what}. {mend}")

    @classmethod
    def failed(cls, path: Path | str, action: str, error: OSError) -> SystemRefusalError:
        """Says that the operating system refused `action`, and what can be done about it."""
        return SystemRefusalError(path, action, error)

    @classmethod
    def empty(cls, directory: Path | str, what: str = "there is no checkpoint") -> StoreError:
        """Says that a folder has no checkpoint."""
        return cls(directory, what, "Name the folder that kp.Checkpoint was given.")


class DamagedCheckpointError(StoreError):
    """A checkpoint is not what was written, as `kp.CheckpointStore` finds when it reads one.

    `kp.fit` names it and goes on from the newest sound one. Put it back from a copy, or delete its
    folder.

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


class MissingCheckpointError(StoreError):
    """A checkpoint is no longer in its folder: its run has removed it, or somebody has.

    Args:
        folder: the checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            folder, "the checkpoint is not there any more", "List the folder again for those there."
        )


class SystemRefusalError(StoreError):
    """The operating system refused to read or to write; no file is known to be damaged.

    Args:
        path: the file or folder that it is about.
        action: the thing that cannot be done, such as "read the file".
        error: the refusal.
        kept: a sentence on what is as it was. Defaults to the checkpoints.
    """

    def __init__(
        self, path: Path | str, action: str, error: OSError | MemoryError, kept: str = _UNTOUCHED
    ) -> None:
        self.errno = errno.ENOMEM if isinstance(error, MemoryError) else error.errno
        reason = getattr(error, "strerror", None) or str(error)
        name = errno.errorcode.get(self.errno or 0, "")
        said = f"{reason}, {name}" if name else reason
        super().__init__(path, f"cannot {action} ({said})", f"{_mend(self.errno, action)} {kept}")


class NewerFormatError(StoreError):
    """A checkpoint that `kp.CheckpointStore` reads was written by a later keras-patterns, in a
    format that this one cannot read. It is not damaged: upgrade the package.
    """


class StoreInUseError(StoreError):
    """Another run writes to the folder that `kp.Checkpoint` was given. Wait for its end, or give
    another folder. The lock ends with its process.
    """


def says_no_file(error: OSError) -> bool:
    """Tells whether the system says that no plain file stands at a name; other errors say nothing
    about it.
    """
    return error.errno in _NOT_A_FILE


@contextmanager
def refusals(path: Path | str, action: str, kept: str = _UNTOUCHED) -> Iterator[None]:
    """Raises SystemRefusalError where the operating system refuses what is done inside.

    Args:
        path: the file or folder that it is about.
        action: the thing that is done, such as "write the checkpoint".
        kept: a sentence on what is as it was. Defaults to the checkpoints.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        raise SystemRefusalError(path, action, error, kept) from error


def _mend(number: int | None, action: str) -> str:
    right = action.split()[0]
    if number in _FULL:
        return "Free some space there, keep fewer checkpoints, or choose another folder."
    if number in _FORBIDDEN:
        right = right if right in ("read", "list") else "write"
        return f"Give this user the right to {right} there, or choose another folder."
    if number in _TOO_MANY_FILES:
        return "Close files that are open, or raise the limit (`ulimit -n`), and try again."
    if number == errno.ENOMEM:
        return "Free some memory, and try again."
    return "Check the path and the disk and try again, or choose another folder."
