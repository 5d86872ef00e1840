"""Progress as a person sees it: a bar on a terminal, lines in a file, a table in a notebook."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

import keras

from .last_lines import LastLines, has_free_terminal
from .progress import Progress, number
from .table import format_table, html_table
from .text import encodable, visible, write_line

# In a file: a line a minute, and one for each of at most so many epochs.
_LINE_SECONDS = 60.0
_MOST_LINES = 50
# On a terminal and in a notebook.
_BAR_SECONDS = 0.1
_TABLE_SECONDS = 1.0
_MOST_ROWS = 50
# A display takes this share of the time at most: over a slow connection it moves less often.
_SHARE = 0.02
_LEAST_BAR, _MOST_BAR = 5, 20


class Display(Protocol):
    """One way to show progress.

    Attributes:
        seconds: Between two calls of `show`, at least.
    """

    seconds: float

    def begin(self, title: str) -> None:
        """A part begins."""

    def show(self, progress: Progress) -> None:
        """Shows how far it is."""

    def finish(self, progress: Progress) -> None:
        """Shows the end of a part, such as an epoch."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


class Silence:
    """Shows nothing."""

    seconds = math.inf

    def begin(self, title: str) -> None:
        """Nothing."""

    def show(self, progress: Progress) -> None:
        """Nothing."""

    def finish(self, progress: Progress) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines(Silence):
    """Writes lines, for a file: one a minute, and one for each part, or each of 50 of many parts.

    Args:
        parts: How many parts there are to be.
        clock: Gives seconds.
    """

    seconds = _LINE_SECONDS

    def __init__(self, parts: int, clock: Callable[[], float]) -> None:
        self._every = math.ceil(parts / _MOST_LINES)
        self._clock = clock
        self._last = clock()
        self._count = 0

    def show(self, progress: Progress) -> None:
        """Writes a line if the last one is a minute old."""
        if self._clock() - self._last >= self.seconds:
            self._write(progress)

    def finish(self, progress: Progress) -> None:
        """Writes a line, unless there are many parts and the last line is not a minute old."""
        self._count += 1
        if progress.is_last or not self._count % self._every:
            self._write(progress)
        else:
            self.show(progress)

    def _write(self, progress: Progress) -> None:
        self._last = self._clock()
        write_line(progress.titled_line())


class PartLines(Silence):
    """Writes what Keras writes for `verbose=2`."""

    def begin(self, title: str) -> None:
        """Writes the title, if there is one."""
        if title:
            write_line(title)

    def finish(self, progress: Progress) -> None:
        """Writes a line."""
        write_line(progress.line())


class Bar(Silence):
    """Draws a bar in the last line of a terminal.

    Args:
        file: A terminal.
    """

    seconds = _BAR_SECONDS

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._last = LastLines(file)
        self._signs = "━─" if encodable("━─", file) == "━─" else "=-"

    def show(self, progress: Progress) -> None:
        """Draws the bar anew."""
        # Imported here, since only a terminal needs it.
        from rich.cells import cell_len, set_cell_size

        # A full line would make the cursor go on to the next.
        width = self._last.size().columns - 1
        size = min(max(width - cell_len(progress.line(progress.title)) - 1, _LEAST_BAR), _MOST_BAR)
        done = size * progress.done // progress.total if progress.total else 0
        bar = self._signs[0] * done + self._signs[1] * (size - done)
        text = encodable(progress.line(f"{progress.title} {bar}".lstrip()), self._file)
        self._last.draw([set_cell_size(text, width).rstrip()])

    def finish(self, progress: Progress) -> None:
        """Leaves a line in place of the bar."""
        self._last.leave(encodable(progress.titled_line(), self._file))

    def close(self) -> None:
        """Takes the bar away, and gives standard output back."""
        self._last.close()


class Table(Silence):
    """Shows a table in a notebook, which grows by a row with each part.

    Args:
        display: `IPython.display.display`.
    """

    seconds = _TABLE_SECONDS

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None
        self._parts: list[Progress] = []

    def show(self, progress: Progress) -> None:
        """Shows it in a last row."""
        table = _NotebookTable([*self._parts, progress])
        if self._handle is None:
            self._handle = self._display(table, display_id=True)
        else:
            self._handle.update(table)

    def finish(self, progress: Progress) -> None:
        """Leaves a row."""
        self.show(progress)
        self._parts = [*self._parts, progress][-_MOST_ROWS:]


class _NotebookTable:
    """A table of progress, as a notebook shows it: the newest rows of many."""

    def __init__(self, parts: list[Progress]) -> None:
        names = dict.fromkeys(name for part in parts for name in part.metrics)
        self._header = ["", "steps", "time", *map(visible, names)]
        self._rows = [
            [
                part.title,
                part.count.strip(),
                ", ".join(part.times),
                *(number(part.metrics[name]) if name in part.metrics else "" for name in names),
            ]
            for part in parts
        ]

    def __repr__(self) -> str:
        return format_table(self._header, self._rows)

    def _repr_html_(self) -> str:
        return html_table(self._header, self._rows)


def make_display(verbose: int | str, parts: int, clock: Callable[[], float]) -> Display:
    """The display for where the standard output goes now.

    Args:
        verbose: As in `model.fit`: 0 is silent, 2 writes a line for each part.
        parts: How many parts there are to be.
        clock: Gives seconds.
    """
    if verbose == 0:
        return Silence()
    if verbose == 2:
        return PartLines()
    if is_notebook():
        from IPython.display import display

        return Table(display)
    return Bar(sys.stdout) if has_free_terminal() else Lines(parts, clock)


def is_notebook() -> bool:
    """True if what is printed shows in a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class Shown:
    """A display that is opened when there is something to show, moves no more often than it should,
    and is silent after `keras.config.disable_interactive_logging()`.

    Args:
        verbose: As in `model.fit`.
        parts: How many parts there are to be. Defaults to 1.
        clock: Gives seconds. Defaults to `time.monotonic`.
    """

    def __init__(
        self,
        verbose: int | str,
        parts: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verbose = verbose
        self._parts = parts
        self._clock = clock
        self._display: Display | None = None
        self._next = math.inf if verbose in (0, 2) else -math.inf

    def is_due(self, now: float) -> bool:
        """True if it may move. Costs next to nothing."""
        return now >= self._next

    def begin(self, title: str) -> None:
        """A part begins."""
        self._opened().begin(title)

    def show(self, make: Callable[[], Progress]) -> None:
        """Shows progress, which may take time to find out, as the device is waited for."""
        start = self._clock()
        display = self._opened()
        # The first of a file comes after its interval.
        if not isinstance(display, Lines) or self._next > -math.inf:
            display.show(make())
        now = self._clock()
        self._next = now + max(display.seconds, (now - start) / _SHARE)

    def finish(self, progress: Progress) -> None:
        """Shows the end of a part."""
        self._opened().finish(progress)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._display is not None:
            self._display.close()
            self._display = None

    def _opened(self) -> Display:
        if not keras.config.is_interactive_logging_enabled():
            self.close()
            return Silence()
        if self._display is None:
            self._display = make_display(self._verbose, self._parts, self._clock)
        return self._display
