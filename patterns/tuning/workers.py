"""Several processes that work on one search."""

from __future__ import annotations

import io
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import Any

from .._util.messages import first_line, say
from .errors import TuningError
from .folder import import_blocker
from .opening import SearchArguments, open_search
from .search import Search, until

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def check_workers(
    asked: SearchArguments, start: str = "workers > 1 start processes", by_file: bool = True
) -> None:
    """Raises if other processes cannot work on a search.

    Args:
        asked: The search.
        start: That there are others, for messages.
        by_file: Whether they read the script anew, to find what it defines.

    Raises:
        TypeError: If a part of the search cannot be sent to them.
        ValueError: If they cannot import a function of the search, or reach the storage.
    """
    given = {"objective": asked.objective, "sampler": asked.sampler, **vars(asked.strategy)}
    functions = {name: one for name, one in given.items() if callable(one)}
    for name, function in functions.items():
        blocker = import_blocker(function, by_file)
        if not blocker:
            continue
        raise ValueError(
            f"{asked.caller}: {start}, which cannot import `{name}`: {blocker}. Define it with "
            f"`def` at the top of a module or of the script, and call {asked.caller} under "
            '`if __name__ == "__main__":`.'
        )
    for name, one in {**given, "pruner": asked.pruner}.items() if by_file else ():
        try:
            ForkingPickler.dumps(one)
        except Exception as error:
            raise TypeError(
                f"{asked.caller}: {start}, to which `{name}` cannot be sent ({first_line(error)}). "
                f"Make what it holds inside the objective. Received: {one!r}."
            ) from error
    if asked.storage is not None and not isinstance(asked.storage, str):
        raise ValueError(
            f"{asked.caller}: {start}, which open the storage by themselves: give its URL, or "
            f"leave storage= out. Received: {asked.storage!r}."
        )


def run_workers(
    asked: SearchArguments,
    workers: int,
    seconds: float | None,
    search: Search,
    starts_workers: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Lets processes work on a search until nothing is left to do.

    Args:
        asked: The search.
        workers: How many processes.
        seconds: After so many no trial is begun.
        search: The same, opened here.
        starts_workers: Makes a context in which they are started. Defaults to one that does
            nothing.

    Raises:
        TuningError: If trials are left because processes have ended before their time.
        SystemExit: If a signal asked this process to end. The others have saved by then.
    """
    # What was drawn here is not drawn again there.
    told = replace(asked, seed=search.seed, verbose=search.verbose)
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = [
        context.Process(target=_work, args=(told, seconds), name=f"keras-patterns worker {number}")
        for number in range(workers)
    ]

    def stop() -> None:
        for process in processes:
            if process.pid is not None and process.is_alive():
                process.terminate()

    with signals_to(stop) as received:
        with starts_workers():
            for process in processes:
                process.start()
        _wait(processes)
    if received:
        raise SystemExit(128 + received[0])
    ended = {process.name: process.exitcode for process in processes if process.exitcode}
    if any((code or 0) > 0 for code in ended.values()):
        raise TuningError(
            f"{asked.caller}: a worker ended with an error, which it has printed "
            f"({_codes(ended)}). Every trial is kept. Mend it, and start the script again."
        )
    if ended and search.has_more():
        raise TuningError(
            f"{asked.caller}: all workers have ended, and trials are left ({_codes(ended)}; a "
            "negative number is that of the signal that killed it). Every trial is kept. Start the "
            "script again."
        )
    for name, code in ended.items():
        say(f"{name} was killed ({code}); the others have done its work.", verbose=asked.verbose)


def _work(asked: SearchArguments, seconds: float | None) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What it has printed is not lost when it is killed, nor late.
        sys.stdout.reconfigure(line_buffering=True)
    # A Ctrl-C in the terminal reaches the process that has started this one, which passes it on.
    os.setpgid(0, 0)
    parent, in_time = multiprocessing.parent_process(), until(seconds)
    open_search(asked).run(lambda: in_time() and parent is not None and parent.is_alive())


def _wait(processes: list[BaseProcess]) -> None:
    """Waits for all; when one has ended with an error, the others are asked to save and end."""
    waiting = list(processes)
    while waiting:
        multiprocessing.connection.wait([process.sentinel for process in waiting])
        ended = [process for process in waiting if process.exitcode is not None]
        waiting = [process for process in waiting if process not in ended]
        if any((process.exitcode or 0) > 0 for process in ended):
            for other in waiting:
                other.terminate()


@contextmanager
def signals_to(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Within it, SIGTERM and SIGINT stop the workers; gives those that came."""
    received: list[int] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        stop()

    before: dict[int, Callable[..., Any] | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        before = {signum: signal.signal(signum, handle) for signum in _SIGNALS}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _codes(ended: Mapping[str, int | None]) -> str:
    return ", ".join(f"{name}: {code}" for name, code in ended.items())
