"""One writer per folder, by a lock of the operating system, which ends with its process."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated

import msgspec
from filelock import FileLock, Timeout
from msgspec import Meta

from .._util.schema import Fields
from .errors import StoreError, StoreInUseError, refusals
from .folder import clear_leftovers
from .plain_files import create_plain, make_folder, open_plain

_LOCK = ".lock"
_HOLDER = ".lock-holder.json"
_HOLDER_BYTES = 4096


class WriterLock:
    """The lock of one folder, for someone who may hold it already when it is needed.

    Args:
        directory: the folder.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the folder; see `writer_lock`."""
        with writer_lock(self._directory):
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def ensure_held(self) -> AbstractContextManager[None]:
        """Holds the folder, unless it is held."""
        return nullcontext() if self._held else self.hold()


@contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Holds the folder for one writer, and clears what killed ones left there.

    Args:
        directory: the folder; made if there is none.

    Raises:
        StoreInUseError: another writer has it, in this process or in another one.
        StoreError: the folder cannot be written to.
    """
    # Not per thread: a background writer may be the one that gives it back.
    lock = FileLock(directory / _LOCK, timeout=0, thread_local=False)
    holder = directory / _HOLDER
    try:
        make_folder(directory)
        check_lock_file(directory / _LOCK)
        lock.acquire()
        said = {"pid": os.getpid(), "host": socket.gethostname()}
        create_plain(holder, json.dumps(said).encode())
        clear_leftovers(directory)
    except Timeout:
        what = f"another run writes its checkpoints there ({_describe_holder(holder)})"
        mend = "Wait until it ends, stop it, or give this run a folder of its own."
        raise StoreInUseError(directory, what, mend) from None
    except OSError as error:
        with suppress(OSError):
            lock.release()
        raise StoreError.failed(directory, "write to the folder", error) from error
    try:
        yield
    finally:
        # Who held it last harms nobody.
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        with refusals(directory, "give the folder back"):
            lock.release()


class _Holder(Fields, frozen=True):
    pid: int
    # What can be printed: no line breaks, no orders to a terminal.
    host: Annotated[str, Meta(pattern=r"\A[!-~]{1,255}\Z")]


def _describe_holder(holder: Path) -> str:
    try:
        with open_plain(holder, any_folder=True) as file:
            found = msgspec.json.decode(file.read(_HOLDER_BYTES), type=_Holder)
        return f"process {found.pid} on {found.host}"
    except (OSError, ValueError, RecursionError):
        return "a process that has not said which it is"


def check_lock_file(path: Path) -> None:
    """Raises if opening the lock could reach something outside the folder, or wait."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        what = "the lock is a link or a device, or the same file as another one"
        raise StoreError(path, what, "If no run writes its checkpoints there, delete it.")
