"""SIGTERM and SIGINT: the first asks the run to stop, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

from .._util.errors import KerasPatternsError
from .._util.messages import say

# No signal has this number.
_PAUSE = 0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class RunInterrupted(SystemExit):
    """A run of `kp.fit` was asked by a signal to stop; its state is saved.

    A `SystemExit`, so that a script that does not catch it ends without a traceback, with 128 plus
    the signal's number as its exit status, and does not take half a run for a whole one.

    Attributes:
        step: How many steps the run has done.
        signal: The signal's number.
    """

    def __init__(self, step: int, signum: int) -> None:
        super().__init__(128 + signum)
        self.step = step
        self.signal = signum


class RunPaused(KerasPatternsError):
    """A hook asked for `Pause`: the run is left, and its state is saved.

    Attributes:
        step: Optimizer steps done.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"the run was left after step {step:,}, as a hook asked")
        self.step = step


class StopRequests:
    """Catches the signals while a run is under way.

    Attributes:
        received: The number of the signal that was caught, or None; 0 where a hook asked to leave
            the run. Reading it costs nothing.
    """

    def __init__(self, active: bool) -> None:
        self.received: int | None = None
        self._active = active
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequests:
        if self._active and threading.current_thread() is not threading.main_thread():
            say(
                "not in the main thread, so a signal to stop is not caught; the newest checkpoint "
                "is what a resume finds."
            )
        elif self._active:
            self._before = {signum: signal.signal(signum, self._handle) for signum in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._before = {}

    def pause(self) -> None:
        """Leaves the run as a signal does."""
        if self.received is None:
            self.received = _PAUSE

    @property
    def is_pause(self) -> bool:
        """True if the run is to be left as a hook asked."""
        return self.received == _PAUSE

    def interruption(
        self, step: int, total_steps: int | None, folder: os.PathLike[str]
    ) -> RunInterrupted | RunPaused:
        """Tells the person how to go on; returns what to raise. The state is saved by then."""
        if self.is_pause:
            return RunPaused(step)
        name = signal.Signals(self.received or 0).name
        of = "" if total_steps is None else f" of {total_steps:,}"
        say(
            f"stopped by {name} after step {step:,}{of}; saved in {folder}. Run the same script "
            "again to go on."
        )
        return RunInterrupted(step, self.received or 0)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received in (None, _PAUSE):
            self.received = signum
            # print() is not safe inside a handler that may have interrupted another print.
            os.write(
                2,
                b"\nkeras-patterns: stopping after the step in flight; "
                b"once more ends the run at once.\n",
            )
            return
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
