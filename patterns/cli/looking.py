"""The commands that look at checkpoints. None of them needs Keras."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._util.table import format_table
from .._util.text import write_line
from ..storage import (
    CheckpointFolder,
    DamagedCheckpointError,
    Report,
    StoredCheckpoint,
    StoreError,
    SystemRefusalError,
    phase_folder,
    read_document,
)
from ..storage.compare import Difference, differing_tensors, differing_values
from ..storage.parts import export_checkpoint, plain_parts
from .folders import rows_of, stores_in, text_or_none


def write_json(value: Any) -> None:
    """Prints a JSON object, in ASCII."""
    for line in json.dumps(value, indent=2, allow_nan=False).splitlines():
        write_line(line)


def list_(arguments: argparse.Namespace) -> int:
    """Shows a line for each checkpoint of a folder."""
    rows: list[dict[str, Any]] = []
    files: dict[tuple[int, int], int] = {}
    for phase, store in stores_in(arguments.directory):
        found, sizes = rows_of(store)
        rows += [{"phase": phase, **row} for row in found]
        files.update(sizes)
    on_disk = sum(files.values())
    if arguments.json:
        write_json({**_folder(arguments), "checkpoints": rows, "bytes_on_disk": on_disk})
        return 0
    header = ["run", "step", "state", "created", "backend", "keras", "bytes", "linked", "score"]
    cells = [_cells(row) for row in rows]
    if any(row["phase"] for row in rows):
        header = ["phase", *header]
        cells = [[row["phase"] or "", *line] for row, line in zip(rows, cells, strict=True)]
    _write_table(header, cells)
    write_line(
        f"{len(rows)} checkpoints, {on_disk:,} bytes on disk; a linked byte belongs to several and "
        "is there once."
    )
    return 0


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


def verify(arguments: argparse.Namespace) -> int:
    """Reads every byte of every checkpoint of a folder."""
    reports = [
        (phase, report)
        for phase, store in stores_in(arguments.directory, read_document)
        for report in store.verify()
    ]
    # What the system refuses to read may be sound.
    refused = sum(isinstance(report.problem, SystemRefusalError) for _, report in reports)
    damaged = sum(report.problem is not None for _, report in reports) - refused
    code = 2 if refused else int(damaged > 0)
    if arguments.json:
        rows = [{"phase": phase, **_verdict(report)} for phase, report in reports]
        counts = {"damaged": damaged, "refused": refused}
        write_json({**_folder(arguments), "checkpoints": rows, **counts})
        return code
    for phase, report in reports:
        place = phase_folder("", phase) / report.entry.folder.name
        write_line(f"{place}: {report.problem or 'sound'}")
    counts = {"damaged": damaged, "could not be read": refused}
    verdict = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "all sound"
    write_line(f"{len(reports)} checkpoints, {verdict}.")
    return code


def _verdict(report: Report) -> dict[str, Any]:
    entry, problem = report
    damage = problem if isinstance(problem, DamagedCheckpointError) else None
    return {
        "run": entry.position.run,
        "step": entry.position.step,
        "state": "complete" if entry.position.phase else "validating",
        "folder": entry.folder.name,
        "sound": problem is None,
        "problem": text_or_none(problem),
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
    named = "1 value" if len(values) == 1 else f"{len(values)} values"
    write_line(
        f"{len(tensors)} of {count} tensors and {named} differ."
        if tensors or values
        else f"{count} tensors, all equal."
    )
    return 1 if tensors or values else 0


def _places(differences: Sequence[Difference]) -> list[dict[str, str]]:
    return [{"place": one.place, "difference": one.what} for one in differences]


def export(arguments: argparse.Namespace) -> int:
    """Writes the weights of a checkpoint into one file."""
    store = _store(arguments.directory)
    entry = export_checkpoint(store, arguments.path, arguments.step)
    write_line(f"The weights of {entry.folder} are in {arguments.path}.")
    return 0


def _write_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    for line in format_table(header, rows).splitlines():
        write_line(line)


def _folder(arguments: argparse.Namespace) -> dict[str, str]:
    return {"folder": arguments.directory}


def _store(directory: str) -> CheckpointFolder:
    """The folder of one run, which holds checkpoints."""
    stores = stores_in(directory)
    phase, store = stores[0]
    if phase is not None:
        folders = ", ".join(str(store.directory) for _, store in stores)
        what = "its checkpoints are in the folders of its phases"
        raise StoreError(directory, what, f"Give one of {folders}.")
    return store


def _read(place: str) -> StoredCheckpoint:
    """The checkpoint that `DIR` or `DIR:STEP` names."""
    directory, colon, step = place.rpartition(":")
    if not colon or not step.isdecimal() or Path(place).exists():
        directory = place
        step = ""
    store = _store(directory)
    return (
        store.read_at(int(step)) if step else store.again(lambda: store.read(store.entries()[-1]))
    )
