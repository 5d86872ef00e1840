"""`kp.trackers.Tracking`: the hook that sends the curves of a run to a tracker."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from .._util.arguments import check_choice
from .._util.messages import say
from .._util.schema import checked
from ..run.history import RunHistory
from ..run.hooks import Hook
from ..run.requests import Boundary, RunView, Saving
from ..run.signals import RunInterrupted, RunPaused
from ..storage import Position
from .courier import Batch, Courier
from .protocol import Status, TrackedRun, Tracker
from .rows import RowReader, flat

When = Literal["saved", "now"]
# How a run is left that is to go on.
_LEFT = (RunInterrupted, RunPaused, KeyboardInterrupt)


class Tracking(Hook):
    """Sends the curves of a run of `kp.fit` or `kp.Run` to a tracker of one's own, each point once.

    The tracker gets what the `kp.RunHistory` gets: the metrics of each epoch, the learning rate and
    the momentum at its end, the running metrics inside epochs (`log_every_steps=`), the
    validations, and the events, each with the step. The id of the tracker's run is in the
    checkpoint, so that a resume goes on with that run. Rows are sent once no resume and no rollback
    can come before them again: when a checkpoint that holds them is on disk. At the end of the run
    the rest is sent. A run without a `kp.Checkpoint` sends its rows at once.

    A thread of its own sends them. What the tracker raises never ends the training: it is said in a
    line, and tried again at the next checkpoint.

    Args:
        tracker: A `kp.trackers.Tracker`.
        when: `"saved"`, or `"now"`: rows are sent at the next boundary, and taken back where the
            run goes back, for trackers whose `rewind` can do that. Defaults to `"saved"`.
        name: Of the tracker's run, for people. Defaults to None: its id, which begins with the
            date.
        settings: Settings of one's own, such as those of a trial, which are kept beside those of
            the run. Defaults to none.

    Raises:
        TypeError: If `tracker` lacks a method.
        ValueError: If an argument is out of range; at the start of the run, if that is plain
            `model.fit`, or if the object tracks another run.

    Example:

    >>> import tempfile, keras, numpy as np, keras_patterns as kp
    >>> class Collected:
    ...     rows = []
    ...     def open(self, run):
    ...         return self.rows[-1].step if self.rows else -1
    ...     def send(self, rows):
    ...         self.rows += rows
    ...     def rewind(self, step):
    ...         return False
    ...     def close(self, status):
    ...         print(status)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x = np.ones((32, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tracking = kp.trackers.Tracking(Collected())
    ...     history = kp.fit(model, x, x[:, 0], batch_size=8, epochs=2, seed=0, verbose=0,
    ...         callbacks=[tracking, kp.Checkpoint(folder)])
    FINISHED
    >>> [(row.step, list(row.metrics)) for row in Collected.rows]
    [(4, ['learning_rate', 'loss']), (8, ['learning_rate', 'loss'])]
    """

    def __init__(
        self,
        tracker: Tracker,
        when: When = "saved",
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        caller = type(self).__name__
        missing = [
            method
            for method in ("open", "send", "rewind", "close")
            if not callable(getattr(tracker, method, None))
        ]
        if missing:
            raise TypeError(
                f"{caller}: `tracker` must have the methods of kp.trackers.Tracker; "
                f"{type(tracker).__name__} lacks {', '.join(missing)}."
            )
        check_choice(caller, "when", when, ("saved", "now"))
        if not (name is None or (isinstance(name, str) and name.strip())):
            raise ValueError(f"{caller}: `name` must be a text or None. Received: {name!r}.")
        if not isinstance(settings or {}, Mapping):
            raise TypeError(f"{caller}: `settings` must be a dict by name. Received: {settings!r}.")
        self.tracker, self.when, self.name = tracker, when, name
        self.settings = dict(settings or {})
        self._courier: Courier | None = None
        self._reset("")

    def _reset(self, run_id: str) -> None:
        self._state: dict[str, Any] = {"run_id": run_id, "sent_step": -1, "folder": ""}
        self._reader = RowReader()
        self._unsaved: Batch | None = None
        self._is_on_disk = False
        self._is_finished = False

    # The state.

    def get_config(self) -> dict[str, Any]:
        """The settings of one's own: where and when curves are sent is no part of what a run is."""
        return {"settings": flat(self.settings)} if self.settings else {}

    def get_state(self) -> dict[str, Any]:
        """The id of the tracker's run, the last step that was sent, and the folder of the run."""
        if self._courier:
            self._state = {**self._state, "sent_step": self._courier.sent}
        return dict(self._state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes the state of a checkpoint. That of another callback of the same name is none."""
        if "run_id" in state:
            kinds = {"run_id": str, "sent_step": int, "folder": str}
            self._state = {
                name: checked(state.get(name), kind, name) for name, kind in kinds.items()
            }
            self._is_on_disk = True

    # What the run calls.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets an earlier run."""
        caller = type(self).__name__
        if self._courier is not None:
            raise ValueError(
                f"{caller}: this object tracks a run that is under way. Make one for each run."
            )
        self._reset(_new_id())
        super().on_train_begin(logs)

    def on_run_start(self, run: RunView) -> None:
        """Makes the courier, in the run that begins or goes on."""
        if not run.can_replay:
            raise ValueError(
                f"{type(self).__name__} needs the steps of kp.fit or kp.Run; this is plain "
                "model.fit. Train with kp.fit."
            )
        if self._courier is not None:
            return
        before, origin = self._state["folder"], run.origin
        if _is_fork(before, run.folder):
            self._say(
                f"this run is a copy of that in {before}, which is still there: its curves, all of "
                "them, become a run of their own."
            )
            self._reset(_new_id())
        self._state["folder"] = str(run.folder or "")
        run_id, sent = self._state["run_id"], self._state["sent_step"]
        settings = flat({**run.settings, **self.settings})
        tracked = TrackedRun(run_id, self.name or run_id, settings)
        stands_at = -1 if origin is None else origin.step - (origin.phase == 0)
        self._courier = Courier(self.tracker, tracked, sent, stands_at, self._say)
        self._send_now(stands_at)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sends the rows of the epoch before, if that is to be at once."""
        super().on_epoch_begin(epoch, logs)
        if self.run:
            self._send_now(self.run.step)

    def on_boundary(self, boundary: Boundary) -> None:
        """Notes the time; sends the rows of earlier steps, if that is to be at once. Those of this
        one are not all there yet.
        """
        self._reader.note_time(boundary.step, time.time())
        self._send_now(boundary.step - 1)

    def on_save(self, saving: Saving) -> None:
        """Reads the rows that the checkpoint will hold, while the run stands still."""
        if self._courier:
            self._unsaved = self._read(saving.position.step)

    def on_published(self, position: Position, settled_step: int) -> None:
        """Sends the rows to which no run comes back."""
        self._is_on_disk = True
        if self._courier is None or self._unsaved is None or self._courier.is_busy:
            return
        after, rows = self._unsaved
        settled = [row for row in rows if row.step <= settled_step]
        # Where the tracker failed, the way is tried again even with nothing new to send.
        if settled or self._courier.has_failed:
            self._courier.send(Batch(after, settled))

    def on_restore(self, rewound: bool) -> None:
        """In a run that goes back: takes back what was sent of the steps after it."""
        if rewound and self._courier and self.run:
            self._courier.rewind(self.run.step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """The run has come to its end."""
        self._is_finished = True
        super().on_train_end(logs)

    def on_run_end(self) -> None:
        """Sends the rest, and closes the tracker's run."""
        courier, run = self._courier, self.run
        if courier is None or run is None:
            return
        error = None if self._is_finished else sys.exception()
        is_left = error is None or isinstance(error, _LEFT)
        status: Status = "FINISHED" if self._is_finished else "KILLED" if is_left else "FAILED"
        # What comes after the last checkpoint of a run that goes on is trained again.
        sends_rest = self._is_finished or not run.has_checkpoints
        courier.end(self._reads_rest(run) if sends_rest else None, status)
        self._state = self.get_state()
        self._courier = self._unsaved = None
        self._is_finished = False
        if self._reader.left_out:
            names = ", ".join(map(repr, sorted(self._reader.left_out)))
            self._say(f"{names}: no single number, and not sent.")

    # Odds and ends.

    def _send_now(self, upto: int) -> None:
        """Sends rows that may be taken back, or of a run that never goes back. Not before the id of
        the tracker's run is on disk: a resume would not find that run.
        """
        courier, run = self._courier, self.run
        if not (courier and run):
            return
        at_once = not run.has_checkpoints or (self.when == "now" and self._is_on_disk)
        if at_once and not (courier.is_busy or courier.has_failed):
            batch = self._read(upto)
            if batch.rows:
                courier.send(batch)

    def _read(self, upto: int) -> Batch:
        assert self.run
        assert self._courier
        after = self._courier.sent
        self._reader.forget(after)
        return Batch(after, self._reader.read(_history(self.run), after, upto, time.time()))

    def _reads_rest(self, run: RunView) -> Any:
        history, step = _history(run), run.step
        return lambda after: Batch(after, self._reader.read(history, after, step, time.time()))

    def _say(self, text: str) -> None:
        below_bar = bool(self.run and self.run.has_open_bar)
        say(f"{type(self).__name__}: {text}", below_bar)


def _new_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def _history(run: RunView) -> RunHistory:
    history = run.history
    assert isinstance(history, RunHistory)
    return history


def _is_fork(saved: str, folder: Path | None) -> bool:
    """True if the folder in which a state was saved is another one than this, and still there."""
    before = Path(saved)
    if not saved or folder is None or not before.is_dir():
        return False
    return not (folder.exists() and before.samefile(folder))
