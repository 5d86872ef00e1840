"""The commands that look at checkpoints. None of them needs Keras."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._util.table import format_table
from .._util.text import write_line
from ..storage import CheckpointFolder, DamagedCheckpointError, Entry, StoredCheckpoint, StoreError
from ..storage.compare import Difference, differing_tensors, differing_values
from ..storage.parts import export_checkpoint, plain_parts


def write_json(value: Any) -> None:
    """Prints a JSON object, in ASCII."""
    for line in json.dumps(value, indent=2, allow_nan=False).splitlines():
        write_line(line)


def list_(arguments: argparse.Namespace) -> int:
    """Shows a line for each checkpoint of a folder."""
    rows, files = [], {}
    for entry in _entries(arguments.directory):
        statuses = _statuses(entry)
        # Else its writer has just retired it.
        if statuses is not None:
            rows.append(_described(entry, statuses))
            files.update({(one.st_dev, one.st_ino): one.st_size for one in statuses})
    on_disk = sum(files.values())
    if arguments.json:
        write_json({**_folder(arguments), "checkpoints": rows, "bytes_on_disk": on_disk})
        return 0
    header = ["run", "step", "state", "created", "backend", "keras", "bytes", "linked", "score"]
    _write_table(header, [_cells(row) for row in rows])
    write_line(
        f"{len(rows)} checkpoints, {on_disk:,} bytes on disk; a linked byte belongs to several and "
        "is there once."
    )
    return 0


def _described(entry: Entry, statuses: Sequence[os.stat_result]) -> dict[str, Any]:
    run, step, phase = entry.position
    found = {
        "run": run,
        "step": step,
        "state": "complete" if phase else "validating",
        "folder": entry.folder.name,
        "created": None,
        "backend": None,
        "keras": None,
        "bytes": sum(one.st_size for one in statuses),
        "linked_bytes": sum(one.st_size for one in statuses if one.st_nlink > 1),
        "score": None,
        "problem": None,
    }
    try:
        manifest = entry.manifest
    except StoreError as error:
        return {**found, "problem": str(error)}
    score = manifest.score
    return {
        **found,
        "created": manifest.created,
        **{name: _text(manifest.made_with.get(name)) for name in ("backend", "keras")},
        # JSON has no NaN.
        "score": score
        and {**score._asdict(), "value": score.value if math.isfinite(score.value) else None},
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _cells(row: dict[str, Any]) -> list[Any]:
    begin = [row["run"], row["step"], row["state"]]
    sizes = [row["bytes"], row["linked_bytes"]]
    if row["problem"] is not None:
        return [*begin, "unreadable: see verify", "", "", *sizes, ""]
    score = row["score"]
    value = math.nan if score and score["value"] is None else score and score["value"]
    return [
        *begin,
        row["created"].replace("T", " ").replace("+00:00", " UTC"),
        row["backend"] or "",
        row["keras"] or "",
        *sizes,
        f"{score['monitor']} {value:.4g}" if score else "",
    ]


def _statuses(entry: Entry) -> list[os.stat_result] | None:
    """Those of the files of a checkpoint; None if it is gone. No link is followed."""
    try:
        with os.scandir(entry.folder) as files:
            return [
                file.stat(follow_symlinks=False)
                for file in files
                if file.is_file(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return None


def verify(arguments: argparse.Namespace) -> int:
    """Reads every byte of every checkpoint of a folder."""
    _entries(arguments.directory)
    reports = CheckpointFolder(arguments.directory).verify()
    damaged = sum(report.problem is not None for report in reports)
    if arguments.json:
        rows = [_verdict(report.entry, report.problem) for report in reports]
        write_json({**_folder(arguments), "checkpoints": rows, "damaged": damaged})
        return 1 if damaged else 0
    for report in reports:
        write_line(f"{report.entry.folder.name}: {report.problem or 'sound'}")
    verdict = f"{damaged} damaged" if damaged else "all sound"
    write_line(f"{len(reports)} checkpoints, {verdict}.")
    return 1 if damaged else 0


def _verdict(entry: Entry, problem: StoreError | None) -> dict[str, Any]:
    damage = problem if isinstance(problem, DamagedCheckpointError) else None
    return {
        "run": entry.position.run,
        "step": entry.position.step,
        "state": "complete" if entry.position.phase else "validating",
        "folder": entry.folder.name,
        "sound": problem is None,
        "problem": _text(problem),
        "file": damage and damage.file,
        "tensors": list(damage.tensors) if damage else [],
    }


def diff(arguments: argparse.Namespace) -> int:
    """Compares two checkpoints to the bit."""
    first, second = _read(arguments.first), _read(arguments.second)
    tensors = differing_tensors(first.tensors, second.tensors)
    values = differing_values(plain_parts(first.document), plain_parts(second.document))
    count = len(first.tensors.keys() | second.tensors.keys())
    if arguments.json:
        write_json(
            {
                "first": str(first.entry.folder),
                "second": str(second.entry.folder),
                "equal": not (tensors or values),
                "tensors_compared": count,
                "tensors": _places(tensors),
                "values": _places(values),
            }
        )
        return 1 if tensors or values else 0
    for what, differences in (("tensor", tensors), ("value", values)):
        if differences:
            _write_table([what, "difference"], differences)
            write_line()
    write_line(
        f"{len(tensors)} of {count} tensors and {len(values)} values differ."
        if tensors or values
        else f"{count} tensors, all equal."
    )
    return 1 if tensors or values else 0


def _places(differences: Sequence[Difference]) -> list[dict[str, str]]:
    return [{"place": one.place, "difference": one.what} for one in differences]


def export(arguments: argparse.Namespace) -> int:
    """Writes the weights of a checkpoint into one file."""
    _entries(arguments.directory)
    store = CheckpointFolder(arguments.directory)
    entry = export_checkpoint(store, arguments.path, arguments.step)
    write_line(f"The weights of {entry.folder} are in {arguments.path}.")
    return 0


def _write_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    for line in format_table(header, rows).splitlines():
        write_line(line)


def _folder(arguments: argparse.Namespace) -> dict[str, str]:
    return {"folder": arguments.directory}


def _entries(directory: str) -> list[Entry]:
    """The checkpoints of a folder, of which there must be some."""
    entries = CheckpointFolder(directory).entries()
    if not entries:
        what = "no checkpoint is there" if Path(directory).is_dir() else "there is no such folder"
        raise StoreError.empty(directory, what)
    return entries


def _read(place: str) -> StoredCheckpoint:
    """The checkpoint that `DIR` or `DIR:STEP` names."""
    directory, colon, step = place.rpartition(":")
    if not colon or not step.isdecimal() or Path(place).exists():
        directory = place
        step = ""
    entries = _entries(directory)
    store = CheckpointFolder(directory)
    return store.read(store.at(int(step)) if step else max(entries))
