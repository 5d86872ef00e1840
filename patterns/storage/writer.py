"""Writing beside the training."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BackgroundWriter:
    """One thread that writes one checkpoint at a time; what goes wrong there is raised where the
    run waits for it.

    Attributes:
        failed: Whether `wait` would raise. Reading it costs nothing.
    """

    def __init__(self) -> None:
        self.failed = False
        self._executor: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def submit(self, task: Callable[[], None], background: bool) -> None:
        """Runs a task after the one before it: in the thread, or here and now."""
        self.wait()
        if not background:
            task()
            return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="keras-patterns-checkpoint")
        self._pending = self._executor.submit(task)
        self._pending.add_done_callback(self._note_failure)

    def wait(self) -> None:
        """Waits for the task that was handed over; raises what it raised."""
        pending = self._pending
        self._pending = None
        self.failed = False
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Ends the thread, after what was handed over is done."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _note_failure(self, task: Future[None]) -> None:
        self.failed = task.exception() is not None
