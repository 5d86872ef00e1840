"""The last lines of a terminal, below all else that is printed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

_ERASE = "\r\x1b[2K"


class LastLines:
    """The last lines of a terminal, below all else that is printed.

    Standard output is watched meanwhile, to take them away before anything is printed. Rich has
    such a thing, which takes text without a newline, as of a debugger, for a line, and square
    brackets in it for markup.

    A terminal that goes away takes nothing with it: what is printed from then on is dropped.

    Args:
        file: A terminal.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.lock = threading.RLock()
        self._process = os.getpid()
        self._drawn = 0
        self._is_inside_line = self._is_closed = False
        self._watched = {
            name: _Watched(stream, self)
            for name in ("stdout", "stderr")
            if (stream := getattr(sys, name)) is file or is_terminal(stream)
        }
        for name, stream in self._watched.items():
            setattr(sys, name, stream)

    def draw(self, lines: Sequence[str]) -> None:
        """Draws them anew, unless something has been printed that does not end its line, or they
        are closed.

        Args:
            lines: None wider than the terminal, and no more than it has.
        """
        with self.lock:
            if not (self._is_inside_line or self._is_closed):
                self._write(self._erased() + "\n".join(lines))
                self._drawn = len(lines)

    def leave(self, text: str) -> None:
        """Leaves a text in their place."""
        with self.lock:
            start = "\n" if self._is_inside_line else ""
            self._is_inside_line = False
            self._write(f"{self._erased()}{start}{text}\n")

    def close(self) -> None:
        """Takes them away, and gives standard output back."""
        try:
            with self.lock:
                self._is_inside_line, self._is_closed = False, True
                self._write(self._erased())
        finally:
            for name, stream in self._watched.items():
                if getattr(sys, name) is stream:
                    setattr(sys, name, stream.watched_file)

    def size(self) -> os.terminal_size:
        """Columns and lines of the terminal."""
        try:
            columns, lines = os.get_terminal_size(self._file.fileno())
        except OSError:
            columns = lines = 0
        return os.terminal_size((columns or 80, lines or 24))

    def print(self, text: str, file: TextIO) -> None:
        """Writes a text to a watched file, in their place."""
        if os.getpid() != self._process:
            # A thread that is not in this fork of the process may have held the lock.
            file.write(text)
            return
        with self.lock, suppress(OSError):
            if erased := self._erased():
                self._write(erased)
            if text:
                self._is_inside_line = not text.endswith("\n")
            file.write(text)

    def _erased(self) -> str:
        """The signs that take them away."""
        lines, self._drawn = self._drawn, 0
        if lines < 2:
            return _ERASE if lines else ""
        return f"\r\x1b[{lines - 1}A\x1b[J"

    def _write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)
            self._file.flush()


class _Watched:
    """A terminal that says what it is about to write, and drops what it cannot.

    Attributes:
        watched_file: What it stands for.
    """

    def __init__(self, file: TextIO, last: LastLines) -> None:
        self.watched_file = file
        self._last = last

    def write(self, text: str) -> int:
        """Writes it."""
        self._last.print(text, self.watched_file)
        return len(text)

    def flush(self) -> None:
        """Flushes it."""
        with suppress(OSError):
            self.watched_file.flush()

    def writelines(self, lines: Any) -> None:
        """Writes them."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.watched_file, name)


def has_free_terminal() -> bool:
    """True if standard output is a terminal that can do more than write lines, and no other display
    has it.
    """
    is_taken = hasattr(sys.stdout, "rich_proxied_file") or isinstance(sys.stdout, _Watched)
    return is_terminal(sys.stdout) and not is_taken and os.environ.get("TERM") != "dumb"


def is_terminal(file: Any) -> bool:
    """True if a file is a terminal."""
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):
        return False
