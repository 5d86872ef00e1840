"""The output of workers, which is shown above a table of trials."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_READ_BYTES = 1 << 20
# What is further behind is left out: nobody reads so much, and it would fill the disk.
_MOST_BYTES = 1 << 26
# Modes of fallocate(2): the file keeps its size, and has a hole.
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class Printed:
    """The output of workers, in a file without a name: one that is left alone can go on
    writing, and nothing stays behind. The file has only what nobody has taken yet.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("ab+", buffering=0)  # noqa: SIM115
        self._read = 0

    @contextmanager
    def redirected(self) -> Iterator[None]:
        """Processes that are started within it print here, and not on a terminal."""
        before = {number: os.dup(number) for number in (1, 2) if os.isatty(number)}
        try:
            for number in before:
                os.dup2(self._file.fileno(), number)
            yield
        finally:
            for number, copy in before.items():
                os.dup2(copy, number)
                os.close(copy)

    def take(self, is_end: bool) -> str:
        """The lines that are new.

        Args:
            is_end: Whether one that has no end yet is among them.
        """
        behind = os.fstat(self._file.fileno()).st_size - self._read
        if behind > _MOST_BYTES:
            self._take(behind - _READ_BYTES)
            return f"... {behind - _READ_BYTES:,} bytes of the workers' output are left out ...\n"
        data = os.pread(self._file.fileno(), _READ_BYTES, self._read)
        is_full, whole = len(data) == _READ_BYTES, data.rfind(b"\n") + 1
        takes_all = not whole if is_full else is_end
        lines = data if takes_all else data[:whole]
        self._take(len(lines))
        text = lines.decode(errors="replace")
        return text if text.endswith("\n") or not text else f"{text}\n"

    def _take(self, size: int) -> None:
        self._read += size
        if size:
            _give_back(self._file.fileno(), self._read)

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()


def _give_back(file: int, size: int) -> None:
    """Makes a hole of the start of a file, which takes no place on the disk. Systems other than
    Linux have no such call: there the file is as long as what is printed.
    """
    if sys.platform == "linux":
        # From 0 on: a hole has whole blocks only, and a line may end in one.
        fallocate = ctypes.CDLL(None).fallocate
        fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
        fallocate(file, _KEEP_SIZE | _PUNCH_HOLE, 0, size)
