"""The thread that hands rows to a tracker, so that the training never waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from .._util.messages import first_line
from .protocol import Row, Status, TrackedRun, Tracker


class Batch(NamedTuple):
    """The rows of the steps after one, without a gap."""

    after: int
    rows: Sequence[Row]


class Courier:
    """Hands the rows of one run to a tracker, in the order of their steps and each once.

    What the tracker raises is said, once until it answers again. What was not sent is still in the
    History, and comes with a later batch.

    Args:
        tracker: Gets the rows.
        run: To be opened there before the first rows.
        sent: The last step that was sent by the word of a checkpoint, -1 for none.
        stands_at: The last step that the run has done. What the tracker has of later ones is of a
            course that is gone.
        say: Prints a line.

    Attributes:
        sent: The last step that the tracker has, as far as is known.
        has_failed: Whether the last try failed.
    """

    def __init__(
        self,
        tracker: Tracker,
        run: TrackedRun,
        sent: int,
        stands_at: int,
        say: Callable[[str], None],
    ) -> None:
        self.sent = sent
        self.has_failed = False
        self._tracker, self._run, self._say = tracker, run, say
        self._last_given = stands_at
        self._is_open = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keras-patterns-tracker")
        self._task: Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """True while rows are being sent; later ones can wait for the next time."""
        return self._task is not None and not self._task.done()

    def send(self, batch: Batch) -> None:
        """Hands rows over; returns at once."""
        self._task = self._thread.submit(self._try, lambda: self._deliver(batch))

    def rewind(self, step: int) -> None:
        """The run has gone back to a step; returns at once."""
        self._thread.submit(self._try, lambda: self._rewind(step))

    def end(self, read: Callable[[int], Batch] | None, status: Status) -> None:
        """Sends the rest, closes the tracker and waits for both.

        Args:
            read: Gives the rows after a step; None where nothing more is to be sent.
            status: Of the run.
        """
        if read:
            self._thread.submit(self._try, lambda: self._deliver_all(read))
        self._thread.submit(self._try, lambda: self._close(status))
        self._thread.shutdown()

    # In the thread.

    def _try(self, task: Callable[[], None]) -> None:
        try:
            task()
        except (Exception, SystemExit) as error:
            self._is_open = False
            if not self.has_failed:
                self.has_failed = True
                self._say(
                    f"does not take the curves of this run ({first_line(error)}). The training "
                    "goes on; they are sent again at the next checkpoint."
                )

    def _deliver_all(self, read: Callable[[int], Batch]) -> None:
        self._open()
        self._deliver(read(self.sent))

    def _deliver(self, batch: Batch) -> None:
        if batch.rows:
            self._last_given = max(self._last_given, batch.rows[-1].step)
        self._open()
        rows = [row for row in batch.rows if row.step > self.sent]
        # It had fewer than was thought: the next batch begins after those.
        if rows and batch.after <= self.sent:
            self._tracker.send(rows)
            self.sent = rows[-1].step
        if self.has_failed:
            self.has_failed = False
            self._say("takes the curves again; none is missing.")

    def _open(self) -> None:
        if self._is_open:
            return
        last = self._tracker.open(self._run)
        self._is_open = True
        if last is not None:
            self.sent = last
        elif self._tracker.rewind(self.sent):
            # Where it cannot do that, rows may be there twice.
            return
        if self.sent > self._last_given:
            self._rewind(self._last_given)

    def _rewind(self, step: int) -> None:
        self._last_given = step
        if not self._is_open or self.sent <= step:
            return
        if self._tracker.rewind(step):
            self.sent = step
            return
        self._say(
            f"has rows of this run up to step {self.sent:,}, and the run stands at step {step:,}. "
            f"Those of the steps in between stay as they are; new ones are sent after step "
            f"{self.sent:,}."
        )

    def _close(self, status: Status) -> None:
        if self._is_open:
            self._tracker.close(status)
            self._is_open = False
