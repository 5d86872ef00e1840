"""Plain files of a folder that may be a stranger's: opened through no link, written durably, read
whole.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TypeVar

import numpy as np

from .errors import DamagedCheckpointError, SystemRefusalError, says_no_file

# Not through a link, not waiting for the other end of a pipe, not for a child process.
_PLAINLY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))
# Small tensors are gathered before they go to the system, large ones pass through without a copy.
_BUFFER_BYTES = 1 << 20
# What is larger is read by several threads in pieces of this size, each of which fits into a cache.
_PIECE_BYTES = 2 << 20
_MOST_THREADS = 4
# A folder that cannot be opened or synchronised at all (Windows, some network file systems).
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES}

_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")


def write_durably(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Writes a new file from its parts and waits until it is on disk."""
    with open(path, "xb", buffering=_BUFFER_BYTES) as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Puts a small file in the place of an older one, as a whole or not at all."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    write_durably(unfinished, [data])
    os.replace(unfinished, path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder, with the parents that are missing, and waits until its name is on disk."""
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    # Also where it was there: whoever made it may have been killed before this.
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on disk, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def is_there(path: Path) -> bool:
    """Tells whether anything has that name; SystemRefusalError where the system does not say, which
    `os.path.lexists` takes for a no.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SystemRefusalError(path, "look for it", error) from error
    return True


@contextmanager
def open_plain(path: Path, *, any_folder: bool = False) -> Iterator[FileIO]:
    """Opens a file to be read, if it is one: no link, folder, pipe, socket or device. Nothing is
    waited for.

    Args:
        path: the file.
        any_folder: whether its folder may be a link. Defaults to False.

    Raises:
        NotAFileError: it is something else.
        OSError: there is none, or the system refuses.
    """
    by_folder = os.open in os.supports_dir_fd and not any_folder
    try:
        # A device may do something when it is opened.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise NotAFileError(path)
        folder = os.open(path.parent, os.O_DIRECTORY | _PLAINLY) if by_folder else None
        try:
            descriptor = os.open(path.name if by_folder else path, _PLAINLY, dir_fd=folder)
        finally:
            if folder is not None:
                os.close(folder)
    except OSError as error:
        if says_no_file(error) and not isinstance(error, FileNotFoundError):
            raise NotAFileError(path) from error
        raise
    with FileIO(descriptor) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFileError(path)
        yield file


NOT_A_FILE = "it is a folder, a link or a device, not a file of its own"


class NotAFileError(OSError):
    """In the place of a file is something else."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ELOOP, NOT_A_FILE, str(path))


def create_plain(path: Path, data: bytes) -> None:
    """Makes a small file anew: whatever has the name loses it, and is not written to."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAINLY, 0o666)
    with open(descriptor, "wb") as file:
        file.write(data)


class Arrivals:
    """The bytes of a file while it is read.

    Args:
        path: the file.
        data: where they come to stand, from the first on.
        counts: the number of bytes of each piece that has come.

    Attributes:
        data: where they come to stand.
    """

    def __init__(self, path: Path, data: np.ndarray, counts: Iterator[int]) -> None:
        self.data = data
        self._path = path
        self._counts = counts
        self._filled = 0

    def pieces(self, begin: int, end: int) -> Iterator[memoryview]:
        """The bytes from `begin` to `end`, as they come.

        Raises:
            DamagedCheckpointError: the file ends before.
        """
        while begin < end:
            while self._filled <= begin:
                count = next(self._counts, 0)
                self._filled += count
                if not count:
                    what = f"it has {self._filled} bytes instead of {self.data.nbytes}"
                    raise damaged(self._path, what)
            reached = min(end, self._filled)
            yield self.data[begin:reached].data
            begin = reached


def read_bytes(path: Path, most: int = sys.maxsize) -> np.ndarray:
    """The bytes of a plain file of the checkpoint `path.parent`; arguments and errors are those of
    `arriving`.
    """
    with arriving(path, most=most) as found:
        for _ in found.pieces(0, found.data.nbytes):
            pass
        return found.data


@contextmanager
def arriving(path: Path, size: int | None = None, most: int = sys.maxsize) -> Iterator[Arrivals]:
    """Reads a plain file of the checkpoint `path.parent`, while what is there is looked at.

    Args:
        path: the file.
        size: of the file, as it must be; nothing is read of one of another size. Defaults to any.
        most: the largest size that it may have. Defaults to any.

    Raises:
        DamagedCheckpointError: there is no such file.
        SystemRefusalError: the system does not let it be read, which says nothing about its bytes.
    """
    try:
        with open_plain(path) as file:
            found = os.fstat(file.fileno()).st_size
            if size is not None and found != size:
                raise damaged(path, f"it has {found} bytes instead of {size}")
            if found > most:
                raise damaged(path, f"it has {found:,} bytes, and may have {most:,}")
            _check_memory(found)
            data = np.empty(found, np.uint8)
            with closing(_fill(data, file)) as counts:
                yield Arrivals(path, data, counts)
    except FileNotFoundError as error:
        raise damaged(path, "the file is missing") from error
    except NotAFileError as error:
        raise damaged(path, NOT_A_FILE) from error
    except (OSError, MemoryError) as error:
        raise SystemRefusalError(path, "read the file", error) from error


def _fill(data: np.ndarray, file: FileIO) -> Generator[int, None, None]:
    """Reads a file into an array, a large one by several threads; gives the number of bytes of each
    piece, in order, up to the first that lacks some.
    """
    if data.nbytes <= _PIECE_BYTES or not hasattr(os, "preadv"):
        yield _read_on(data, lambda rest, filled: file.readinto(rest))
        return
    pieces = [data[start : start + _PIECE_BYTES] for start in range(0, data.nbytes, _PIECE_BYTES)]

    def read(number: int) -> int:
        start = number * _PIECE_BYTES
        return _read_on(
            pieces[number], lambda rest, filled: os.preadv(file.fileno(), [rest], start + filled)
        )

    with _answers(read, range(len(pieces))) as counts:
        for piece, count in zip(pieces, counts, strict=True):
            yield count
            if count < piece.nbytes:
                return


def _read_on(data: np.ndarray, read: Callable[[memoryview, int], int | None]) -> int:
    """Fills an array by calls that each read a part only, of a large file; and nothing at its
    end.
    """
    filled = 0
    while count := read(data[filled:].data, filled):
        filled += count
    return filled


@contextmanager
def _answers(
    work: Callable[[_Part], _Answer], parts: Iterable[_Part]
) -> Iterator[Iterator[_Answer]]:
    """The answers for all parts, in their order; by threads that go ahead of whoever takes them,
    where there is a core for one.
    """
    cores = _cores()
    threads = ThreadPoolExecutor(min(_MOST_THREADS, cores))
    answers: Iterator[_Answer] = map(work, parts)
    try:
        if cores > 1:
            # No thread can be started at a limit of the system, nor when Python ends.
            with suppress(RuntimeError):
                answers = threads.map(work, parts)
        yield answers
    finally:
        threads.shutdown(cancel_futures=True)


def _cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def damaged(path: Path, what: str, tensors: Sequence[str] = ()) -> DamagedCheckpointError:
    """The error that a file of the checkpoint `path.parent` is not as it must be."""
    return DamagedCheckpointError(path.parent, path.name, what, tensors)


def _check_memory(size: int) -> None:
    """Raises before a system that lends more memory than it has ends the process for it."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not known here
        return
    if size > memory:
        raise MemoryError(f"it has {size:,} bytes, and this machine a memory of {memory:,}")
