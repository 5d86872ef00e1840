"""`kp.trackers.TensorBoard`: the curves of a run in event files."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._util.paths import bound_path
from .extras import check_installed
from .protocol import Row, Status, TrackedRun
from .tracking import Tracking, When

_PREFIX = "events.out.tfevents."
_SETTINGS = "settings"


class TensorBoard(Tracking):
    """Writes the curves of a run of `kp.fit` or `kp.Run` for TensorBoard, each point once.

    Needs the extra `tensorboard`: `tensorboardX`, no TensorFlow. Each run has a folder in
    `log_dir`, named after its name and its id, and each process of the run an event file in it. The
    axis is the step. Where a run goes on after a kill, or back, a mark in its next file makes
    TensorBoard drop what came after (`purge_step`), so that there is one series. Events and the
    settings are texts.

    Args:
        log_dir: The folder that TensorBoard is to show. Made if it does not exist. A relative one
            is bound here.
        when: As in `kp.trackers.Tracking`. Defaults to `"now"`.
        name: Of the run. Defaults to None: its id.
        settings: As in `kp.trackers.Tracking`.

    Raises:
        ImportError: If tensorboardX is missing.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp, tempfile, os
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x = np.ones((32, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     board = kp.trackers.TensorBoard(os.path.join(folder, "logs"), name="first")
    ...     saved = kp.Checkpoint(os.path.join(folder, "run"))
    ...     history = kp.fit(model, x, x[:, 0], epochs=2, seed=0, verbose=0,
    ...         callbacks=[board, saved])
    ...     [name] = os.listdir(os.path.join(folder, "logs"))
    >>> name.startswith("first-")
    True
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        when: When = "now",
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        check_installed("TensorBoard", "tensorboardX", "tensorboard")
        super().__init__(_EventFiles(bound_path(log_dir)), when, name, settings)


class _EventFiles:
    """The event files of a run, in a folder of its own."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._folder = log_dir
        self._settings = ""
        self._last = -1
        self._writer: Any = None

    def open(self, run: TrackedRun) -> int:
        """Reads what the run has; its next file is made with the next rows."""
        self._release()
        named = "".join(c if c.isalnum() or c in "-_." else "_" for c in run.name[:50])
        folder = run.id if run.name == run.id else f"{named}-{run.id}"
        # A script may name the run otherwise than it did.
        there = sorted(self._log_dir.glob(f"*{run.id}"))
        self._folder = there[0] if there else self._log_dir / folder
        self._last, written = _read(self._folder)
        table = "\n".join(
            ["| setting | value |", "| --- | --- |"]
            + [f"| {name} | {value} |" for name, value in run.settings.items()]
        )
        self._settings = "" if table == written else table
        return self._last

    def send(self, rows: Sequence[Row]) -> None:
        """Writes a record for each row: it is there as a whole or not at all."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary
        from tensorboardX.summary import text

        if self._writer is None:
            self._begin_file()
        for row in rows:
            values = [
                Summary.Value(tag=name, simple_value=value) for name, value in row.metrics.items()
            ]
            texts = [(f"events/{event.kind}", event.text) for event in row.events]
            if self._settings:
                texts.append((_SETTINGS, self._settings))
                self._settings = ""
            values += [value for named in texts for value in text(*named).value]
            record = Event(wall_time=row.time, step=row.step, summary=Summary(value=values))
            self._writer.write(record.SerializeToString())
        self._writer.flush()
        self._last = rows[-1].step

    def rewind(self, step: int) -> bool:
        """The next file drops what comes after a step."""
        self._release()
        self._last = step
        return True

    def close(self, status: Status) -> None:
        """Closes the file."""
        self._release()

    def _begin_file(self) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        # Files are read in the order of their names, whatever the clocks of two hosts say.
        stamps = [int(file.name.removeprefix(_PREFIX)[:10]) for file in _files(self._folder)]
        stamp = max(int(time.time()), max(stamps, default=0) + 1)
        path = self._folder / f"{_PREFIX}{stamp:010d}.{socket.gethostname()}"
        self._writer = RecordWriter(str(path))
        now = time.time()
        start = SessionLog(status=SessionLog.START)
        for record in (
            Event(wall_time=now, file_version="brain.Event:2"),
            # The first file needs the mark too, or TensorBoard takes later ones for disorder.
            Event(wall_time=now, step=max(self._last + 1, 1), session_log=start),
        ):
            self._writer.write(record.SerializeToString())
        self._writer.flush()

    def _release(self) -> None:
        # What could not be written cannot be closed either, on a full disk.
        with suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self._writer = None


def _files(folder: Path) -> list[Path]:
    files = folder.glob(f"{_PREFIX}*") if folder.is_dir() else ()
    return sorted(file for file in files if file.name.removeprefix(_PREFIX)[:10].isdigit())


def _read(folder: Path) -> tuple[int, str]:
    """The last step that the files of a run hold, -1 for none, and the settings in them."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    last, settings = -1, ""
    for file in _files(folder):
        for record in _records(file):
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                last = min(last, event.step - 1)
            elif event.summary.value:
                last = event.step
            for value in event.summary.value:
                if value.tag.startswith(_SETTINGS + "/"):
                    settings = value.tensor.string_val[0].decode()
    return last, settings


def _records(file: Path) -> Iterator[bytes]:
    """The whole records of a file; the last one may have been cut off."""
    data = file.read_bytes()
    at = 0
    while at + 12 <= len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        end = at + 12 + size
        if end + 4 > len(data):
            return
        yield data[at + 12 : end]
        at = end + 4
