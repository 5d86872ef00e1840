"""Where a running search is shown: the last lines of a terminal, or a cell of a notebook."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TextIO

import keras

from .._util.display import is_notebook
from .._util.last_lines import LastLines, has_free_terminal
from .._util.text import encodable
from .overview import Overview
from .printed import Printed

# In a notebook. On a terminal, as many as it has lines.
_MOST_ROWS = 50
# Of the terminal: head and foot of the table, and the line above it.
_LINES_AROUND = 6


class Screen(Protocol):
    """Where a search is shown."""

    @property
    def rows(self) -> int:
        """The number of trials that there is room for."""

    def show(self, overview: Overview) -> None:
        """Shows it, in place of what is shown."""

    def starts_workers(self) -> AbstractContextManager[None]:
        """Processes that are started within it do not print into what is shown."""

    def close(self, overview: Overview | None) -> None:
        """Leaves this, unless nothing was shown."""


class Terminal:
    """The last lines of a terminal. What the workers print is shown above them.

    Args:
        file: The terminal.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._last = LastLines(file)
        self._printed: Printed | None = None

    @property
    def rows(self) -> int:
        """As many as the terminal has lines, less those around the table."""
        return max(self._last.size().lines - _LINES_AROUND, 1)

    def show(self, overview: Overview) -> None:
        """Draws it anew, below what has been printed."""
        self._show_printed()
        self._last.draw(self._drawn(overview))

    def close(self, overview: Overview | None) -> None:
        """Leaves it as it was at the end."""
        try:
            self._show_printed(is_end=True)
            if overview is not None:
                self._last.leave("\n".join(self._drawn(overview)))
        finally:
            self._last.close()
            if self._printed is not None:
                self._printed.close()

    @contextmanager
    def starts_workers(self) -> Iterator[None]:
        """Processes that are started within it do not print on the terminal."""
        self._printed = self._printed or Printed()
        with self._last.lock, self._printed.redirected():
            yield

    def _show_printed(self, is_end: bool = False) -> None:
        while self._printed is not None and (text := self._printed.take(is_end)):
            sys.stdout.write(encodable(text, self._file))
            sys.stdout.flush()

    def _drawn(self, overview: Overview) -> list[str]:
        """Lines that fit into the terminal."""
        # Imported here, since only a terminal needs it.
        from rich.box import ASCII2, SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        def text(cell: str) -> Text:
            return Text(encodable(cell, self._file), no_wrap=True, overflow="ellipsis")

        is_ascii = encodable("─…", self._file) != "─…"
        table = Table(box=ASCII2 if is_ascii else SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in overview.header:
            table.add_column(text(name), no_wrap=True)
        for number, row in enumerate(overview.rows):
            table.add_row(*map(text, row), style="bold" if number == overview.best else None)
        # A full line would make the cursor go on to the next.
        console = Console(
            file=io.StringIO(),
            width=self._last.size().columns - 1,
            force_terminal=True,
            color_system="standard",
        )
        with console.capture() as drawn:
            console.print(table, text(overview.summary))
        lines = [line.rstrip() for line in drawn.get().split("\n")]
        return [line for line in lines if line]


class Notebook:
    """A table in a notebook."""

    rows = _MOST_ROWS

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, overview: Overview) -> None:
        """Shows it in the same place."""
        if self._handle is None:
            from IPython.display import display

            self._handle = display(overview, display_id=True)
        else:
            self._handle.update(overview)

    def starts_workers(self) -> AbstractContextManager[None]:
        """They print elsewhere."""
        return nullcontext()

    def close(self, overview: Overview | None) -> None:
        """Leaves it as it was at the end."""
        if overview is not None:
            self.show(overview)


def open_screen(verbose: int | str) -> Screen | None:
    """Where trials are shown; None where lines are printed for them, or nothing is."""
    if verbose in (0, 2) or not keras.config.is_interactive_logging_enabled():
        return None
    if is_notebook():
        return Notebook()
    return Terminal(sys.stdout) if has_free_terminal() else None
