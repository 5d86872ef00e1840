"""The trials of a search on the screen, while it runs."""

from __future__ import annotations

import html
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TextIO, TypeAlias

import keras

from .._util.display import is_notebook
from .._util.last_lines import LastLines, has_free_terminal
from .._util.table import format_table, html_table
from .._util.text import encodable, short, visible
from .result import STATES, TuneResult
from .search import Search
from .trial import PLANNED, TAKEN_OVER

Starting: TypeAlias = Callable[[], AbstractContextManager[None]]

# Between two looks at the storage; more where a look takes long, which may be this share of time.
_SECONDS, _SHARE = 1.0, 0.02
# In a notebook. On a terminal, as many as it has lines.
_MOST_ROWS = 50
# Of the terminal: head and foot of the table, and the line above it.
_LINES_AROUND = 6
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Overview:
    """A search at one moment.

    Attributes:
        header: The columns.
        rows: The trials that are shown, by number, as texts.
        best: The row of the best trial; None if none is shown.
        summary: All of it in a line.
    """

    header: list[str]
    rows: list[list[str]]
    best: int | None
    summary: str

    def __repr__(self) -> str:
        return f"{format_table(self.header, self.rows)}\n{self.summary}"

    def _repr_html_(self) -> str:
        return f"{html_table(self.header, self.rows)}<p>{html.escape(self.summary)}</p>"


class Watched:
    """The trials of a search, read from its storage, and from the folders of those in progress:
    whoever has them.

    Args:
        result: The search.
        monitor: The metric that is reported.
        planned: How many trials there are to be; None if nobody knows.
    """

    def __init__(self, result: TuneResult, monitor: str, planned: int | None) -> None:
        self._result, self._monitor, self._planned = result, monitor, planned
        self._steps: dict[int, int] = {}

    def look(self, most: int) -> Overview:
        """The search now.

        Args:
            most: How many trials are to be shown: those in progress, the best, and the newest.
        """
        trials = self._result.study.get_trials(deepcopy=False)
        sign = -1 if self._result.study.direction.name == "MAXIMIZE" else 1
        complete = [one for one in trials if one.state.name == "COMPLETE"]
        best = min(complete, key=lambda one: sign * one.value, default=None)
        shown = _of_interest(trials, best, most)
        columns = [(name, cells) for name, cells in self._columns(shown) if any(cells)]
        return Overview(
            [name for name, _ in columns],
            [list(row) for row in zip(*(cells for _, cells in columns), strict=True)],
            shown.index(best) if best in shown else None,
            self._summary(trials, best, len(trials) - len(shown)),
        )

    def _columns(self, shown: Sequence[Any]) -> list[tuple[str, list[str]]]:
        """The columns, some of which may be empty."""
        parts = [self._result.trial_of(one) for one in shown]
        groups = sorted({name for part in parts for name in part.group})
        names = sorted({name for one in shown for name in one.params})
        better = max if self._result.study.direction.name == "MAXIMIZE" else min

        def best_of(trial: Any) -> float | None:
            if trial.state.name == "COMPLETE":
                return float(trial.value)
            return better(trial.intermediate_values.values(), default=None)

        return [
            ("trial", [str(one.number) for one in shown]),
            *((name, [_text(part.group.get(name)) for part in parts]) for name in groups),
            ("from", [_text(part.parent) for part in parts]),
            ("state", [_state_of(one) for one in shown]),
            ("steps", [self._steps_of(one) for one in shown]),
            (self._monitor, [_text(_newest(one)) for one in shown]),
            ("best", [_text(best_of(one)) for one in shown]),
            *((name, [_text(one.params.get(name)) for one in shown]) for name in names),
        ]

    def _steps_of(self, trial: Any) -> str:
        """Steps done, of how many."""
        done = self._steps.get(trial.number)
        if done is None:
            # What is reported is not always saved, nor the other way round.
            saved = self._result.trial_of(trial).step
            done = max([saved, *trial.intermediate_values])
            if trial.state.is_finished():
                self._steps[trial.number] = done
        planned = trial.user_attrs.get(PLANNED)
        if planned is None:
            return f"{done:,}" if done else ""
        return f"{done:,}/{planned:,}"

    def _summary(self, trials: Sequence[Any], best: Any, hidden: int) -> str:
        ended = sum(one.state.is_finished() for one in trials)
        running = sum(one.state.name == "RUNNING" for one in trials)
        parts = [f"{ended:,}{'' if self._planned is None else f' of {self._planned:,}'} ended"]
        if running:
            parts.append(f"{running:,} running")
        if best is not None:
            parts.append(f"the best is trial {best.number} with {best.value:.6g}")
        if hidden:
            parts.append(f"{hidden:,} not shown")
        return " - ".join(parts)


def _of_interest(trials: Sequence[Any], best: Any, most: int) -> list[Any]:
    """Those in progress, the best, and the newest of the others, by number."""
    order = sorted(trials, key=lambda one: (one.state.is_finished(), one is not best, -one.number))
    return sorted(order[: max(most, 1)], key=lambda one: one.number)


def _state_of(trial: Any) -> str:
    if trial.state.name == "RUNNING" and TAKEN_OVER in trial.user_attrs:
        return "taken over"
    return STATES.get(trial.state.name, trial.state.name.lower())


def _newest(trial: Any) -> float | None:
    reports = trial.intermediate_values
    return reports[max(reports)] if reports else None


def _text(value: Any) -> str:
    return "" if value is None else visible(short(value))


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


class Printed:
    """The output of workers, in a file without a name: one that is left alone can go on
    writing, and nothing stays behind.
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
        data = os.pread(self._file.fileno(), _READ_BYTES, self._read)
        is_full, whole = len(data) == _READ_BYTES, data.rfind(b"\n") + 1
        takes_all = not whole if is_full else is_end
        lines = data if takes_all else data[:whole]
        self._read += len(lines)
        text = lines.decode(errors="replace")
        return text if text.endswith("\n") or not text else f"{text}\n"

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()


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
        self._show_printed(is_end=True)
        if overview is not None:
            self._last.leave("\n".join(self._drawn(overview)))
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


class LiveTable:
    """A table of trials that is kept up to date by a thread, at most once a second. Nothing that
    fails in it reaches the search.

    Args:
        watched: The trials.
        screen: Where they are shown.
    """

    def __init__(self, watched: Watched, screen: Screen) -> None:
        self._watched, self.screen = watched, screen
        self._newest: Overview | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keras-patterns trials", daemon=True)

    def __enter__(self) -> LiveTable:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._thread.join()
        with suppress(Exception):
            self._look()
        with suppress(Exception):
            self.screen.close(self._newest)

    def _look(self) -> Overview:
        self._newest = self._watched.look(self.screen.rows)
        return self._newest

    def _run(self) -> None:
        seconds = 0.0
        while not self._ends.wait(seconds):
            start = time.monotonic()
            # The storage may be away for a while, and so may the terminal.
            with suppress(Exception):
                self.screen.show(self._look())
            seconds = max(_SECONDS, (time.monotonic() - start) / _SHARE)


@contextmanager
def live_trials(search: Search, result: TuneResult) -> Iterator[Starting]:
    """Within it, a search is shown as a table, if there is a place for one, and says nothing.

    Args:
        search: That is to run.
        result: The same, for people.

    Yields:
        A function that makes a context in which workers are to be started.
    """
    screen = open_screen(search.verbose)
    if screen is None:
        yield nullcontext
        return
    search.verbose = 0
    watched = Watched(result, search.monitor, search.strategy.count)
    with LiveTable(watched, screen):
        yield screen.starts_workers


def open_screen(verbose: int | str) -> Screen | None:
    """Where trials are shown; None where lines are printed for them, or nothing is."""
    if verbose in (0, 2) or not keras.config.is_interactive_logging_enabled():
        return None
    if is_notebook():
        return Notebook()
    return Terminal(sys.stdout) if has_free_terminal() else None
