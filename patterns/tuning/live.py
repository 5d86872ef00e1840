"""The table of a search that is kept up to date while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TypeAlias

from .overview import Overview, Watched
from .result import TuneResult
from .screens import Screen, open_screen
from .search import Search

Starting: TypeAlias = Callable[[], AbstractContextManager[None]]

# Between two looks at the storage; more where a look takes long, which may be this share of time.
_SECONDS, _SHARE = 1.0, 0.02


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
        # A Ctrl-C may come here too, where the storage does not answer.
        try:
            self._ends.set()
            self._thread.join()
            with suppress(Exception):
                self._look()
        finally:
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
