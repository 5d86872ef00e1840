"""Optuna's journal in the folder of a search, and the lock that a killed process gives back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..storage.lock import check_lock_file

_TAIL_BYTES = 1 << 16


class JournalLock:
    """The lock of Optuna's `JournalFileBackend`, held by the operating system.

    Optuna's own locks are files that a killed process leaves behind: others wait 30 seconds for it.
    A line that a process was killed in would make the journal unreadable once another one follows;
    whoever takes the lock removes it first.

    Args:
        journal: The file of the journal.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        path = journal.with_name(f".{journal.name}.lock")
        check_lock_file(path)
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        """Waits for the lock, and removes a line that was not written to its end."""
        self._lock.acquire()
        _drop_unfinished_line(self._journal)
        return True

    def release(self) -> None:
        """Gives the lock back."""
        self._lock.release()


def _drop_unfinished_line(journal: Path) -> None:
    with open(journal, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        kept = end
        while kept:
            start = max(0, kept - _TAIL_BYTES)
            file.seek(start)
            found = file.read(kept - start).rfind(b"\n")
            if found >= 0:
                kept = start + found + 1
                break
            kept = start
        if kept < end:
            file.truncate(kept)


def journal_storage(journal: Path) -> Any:
    """Optuna's storage in a file, for the processes of one machine."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalLock(journal)))
