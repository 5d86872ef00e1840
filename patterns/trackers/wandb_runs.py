"""`kp.trackers.WandB`: the curves of a run at Weights & Biases."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .extras import check_installed
from .protocol import Row, Status, TrackedRun
from .tracking import Tracking

_STEP = "kp/step"
# How long W&B's process may take to write what a run that has ended has said.
_MOST_SECONDS = 30.0
_EXIT_CODES: dict[Status, int] = {"FINISHED": 0, "FAILED": 1, "KILLED": 255}


class WandB(Tracking):
    """Sends the curves of a run of `kp.fit` or `kp.Run` to Weights & Biases, each point once.

    Needs the extra `wandb`. Rows are sent when a checkpoint that holds them is on disk, with the
    time at which they were made. The id of the run is in the checkpoint; a resume goes on with it.
    The step is the axis, as `kp/step` and as W&B's own step. The settings are the run's config.

    With `WANDB_MODE=offline`, each process writes a folder of its own with the same id, below
    `dir`. W&B writes these every 15 seconds; what a kill takes with it is written by the next
    process. `wandb sync` brings them to the server.

    Args:
        project: The project's name.
        name: Of the run, for people. Defaults to None: its id.
        settings: As in `kp.trackers.Tracking`.
        init: Other arguments of `wandb.init`, such as `{"entity": "us", "group": "search"}`.
            Defaults to none.

    Raises:
        ImportError: If wandb is missing.
        ValueError: If `init` says what this says.

    Example:

    >>> import keras_patterns as kp
    >>> callback = kp.trackers.WandB("digits", init={"tags": ["first"]})  # doctest: +SKIP
    """

    def __init__(
        self,
        project: str,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        check_installed("WandB", "wandb", "wandb")
        own = {"project", "id", "name", "config", "resume", "reinit", "resume_from", "fork_from"}
        if taken := own & dict(init or {}).keys():
            raise ValueError(
                f"WandB: `init` must not hold {', '.join(sorted(taken))}, which this sets itself. "
                "The config is `settings`."
            )
        super().__init__(_WandbRun(project, dict(init or {})), "saved", name, settings)


class _WandbRun:
    """A run of a project, by its id."""

    def __init__(self, project: str, init: dict[str, Any]) -> None:
        self._project, self._init = project, init
        self._run: Any = None

    def open(self, run: TrackedRun) -> int | None:
        """Begins the run, or goes on with it, beside any other of the process."""
        import wandb

        if self._run is not None:
            with suppress(Exception):
                self._run.finish(exit_code=_EXIT_CODES["FAILED"])
        # Its way to keep what is printed changes sys.stdout, which a thread must not.
        given = {"settings": wandb.Settings(console="off"), **self._init}
        self._run = opened = wandb.init(
            project=self._project,
            id=run.id,
            name=run.name,
            resume="allow",
            reinit="create_new",
            **given,
        )
        opened.config.update(dict(run.settings), allow_val_change=True)
        opened.define_metric(_STEP)
        opened.define_metric("*", step_metric=_STEP)
        if opened.offline:
            return _last_step_in_files(Path(opened.dir).parents[1], run.id)
        # The server's step is the one after the last that it has.
        return int(opened.step) - 1

    def send(self, rows: Sequence[Row]) -> None:
        """Logs each row at its step."""
        for row in rows:
            events = {f"events/{event.kind}": event.text for event in row.events}
            fields = {_STEP: row.step, **row.metrics, **events, "_timestamp": row.time}
            self._run.log(fields, step=row.step, commit=True)

    def rewind(self, step: int) -> bool:
        """W&B keeps what it has."""
        return False

    def close(self, status: Status) -> None:
        """Ends the run with an exit code; without a network, once all of it is in its file."""
        run, self._run = self._run, None
        file = Path(run.dir).parent / f"run-{run.id}.wandb"
        run.finish(exit_code=_EXIT_CODES[status])
        if run.offline:
            _wait_for_end(file)


def _wait_for_end(file: Path) -> None:
    """Waits until a file of W&B's holds the end of its run.

    Another process writes it, and `finish` does not wait for that. A resume in this process would
    find fewer rows than there will be; and where nothing is done at Python's exit, as in a process
    of multiprocessing, W&B's process would be ended before it has written them.
    """
    latest = time.monotonic() + _MOST_SECONDS
    with suppress(Exception):
        while time.monotonic() < latest:
            if any(record.WhichOneof("record_type") == "exit" for record in _records_of(file)):
                return
            time.sleep(0.01)


def _last_step_in_files(folder: Path, run_id: str) -> int | None:
    """The last step that the files of earlier processes of a run hold, -1 for none; None if this
    version of W&B writes them otherwise.
    """
    last = -1
    try:
        # A second folder of the same second has another end.
        for file in folder.glob(f"*run-*-{run_id}*/run-{run_id}.wandb"):
            for record in _records_of(file):
                if record.WhichOneof("record_type") == "history":
                    last = max(last, record.history.step.num)
    except Exception:
        return None
    return last


def _records_of(file: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    return map(Record.FromString, _records(file.read_bytes()))


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of a file of W&B's: the log of LevelDB, after seven bytes.

    References:
        github.com/google/leveldb, doc/log_format.md.
    """
    block, head = 32768, 7
    at, record = head, b""
    while at + head <= len(data):
        left = block - at % block
        if left < head:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        piece = data[at + head : at + head + size]
        if not kind or len(piece) < size:
            return
        record += piece
        at += head + size
        # A whole record, or the last piece of one.
        if kind in (1, 4):
            yield record
            record = b""
