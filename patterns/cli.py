"""The command line: `keras-patterns list | verify | diff | export | demo`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from . import demo
from ._util.table import format_table
from .checkpoint.compare import differing_tensors, differing_values
from .checkpoint.contents import plain_parts
from .checkpoint.store import CheckpointStore
from .storage import Entry, MissingCheckpointError, StoredCheckpoint, StoreError

_EXAMPLES = """examples:
  keras-patterns list runs/digits
  keras-patterns verify runs/digits
  keras-patterns diff runs/digits:900 runs/other:900
  keras-patterns export runs/digits digits.safetensors --step 900
  keras-patterns demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments. Defaults to those of the process.

    Returns:
        The exit code: 0 if all is well; 1 if `verify` found damage, or `diff` or `demo` a
        difference; 2 if the command failed.
    """
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except (StoreError, OSError, demo.TrainingFailedError) as error:
        print(f"keras-patterns: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("keras-patterns: interrupted.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "keras-patterns",
        description="Looks at the checkpoints of kp.Checkpoint. Nothing in them is changed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = partial(_add_command, parser.add_subparsers(required=True, metavar="COMMAND"))
    list_ = add(_list, "show the checkpoints of a folder", "runs/digits")
    verify = add(_verify, "read every byte; exit code 1 if any is damaged", "runs/digits")
    diff = add(_diff, "compare two checkpoints; exit code 1 if they differ", "a:900 b:900")
    export = add(_export, "write the weights into one file", "a a.safetensors --step 900")
    show = add(_demo, "kill a training run twice, resume it, and compare", "--out pictures")
    for of_folder in (list_, verify, export):
        of_folder("directory", metavar="DIR", help="the folder that kp.Checkpoint was given")
    for name in ("first", "second"):
        text = "a folder, and a step in it; without one the newest checkpoint"
        diff(name, metavar="DIR[:STEP]", help=text)
    text = "the new .safetensors file; an existing one is never overwritten"
    export("path", metavar="PATH", help=text)
    export("--step", type=int, help="of the checkpoint; without it the newest sound one")
    show("--out", default="keras-patterns-demo", help="the folder for the picture (%(default)s)")
    show("--keep", action="store_true", help="keep the checkpoints there too")
    show("--quick", action="store_true", help=argparse.SUPPRESS)
    return parser


def _add_command(commands: Any, function: Any, text: str, example: str) -> Any:
    """Adds the command that a function is named for; returns what adds an argument to it."""
    name = function.__name__.removeprefix("_")
    description = f"{text[0].upper()}{text[1:]}."
    epilog = f"example: keras-patterns {name} {example}"
    parser = commands.add_parser(name, help=text, description=description, epilog=epilog)
    parser.set_defaults(command=function)
    return parser.add_argument


def _list(arguments: argparse.Namespace) -> int:
    rows, files = [], []
    for entry in _entries(arguments.directory):
        # Else its run has just removed it.
        with suppress(FileNotFoundError, MissingCheckpointError):
            statuses = _statuses(entry)
            rows.append(_row(entry, statuses))
            files += statuses
    header = ["run", "step", "phase", "created", "backend", "keras", "bytes", "linked", "score"]
    print(format_table(header, rows))
    on_disk = sum({(status.st_dev, status.st_ino): status.st_size for status in files}.values())
    print(
        f"{len(rows)} checkpoints, {on_disk:,} bytes on disk; a linked byte belongs to several "
        "and is there once."
    )
    return 0


def _row(entry: Entry, statuses: list[os.stat_result]) -> list[Any]:
    run, step, phase = entry.position
    size = sum(status.st_size for status in statuses)
    linked = sum(status.st_size for status in statuses if status.st_nlink > 1)
    begin = [run, step, "complete" if phase else "validating"]
    try:
        manifest = entry.manifest
    except MissingCheckpointError:
        raise
    except StoreError:
        return [*begin, "unreadable: see verify", "", "", size, linked, ""]
    score = manifest.score and f"{manifest.score.monitor} {manifest.score.value:.4g}"
    created = manifest.created.replace("T", " ").replace("+00:00", " UTC")
    return [
        *begin,
        created,
        manifest.made_with.get("backend", ""),
        manifest.made_with.get("keras", ""),
        size,
        linked,
        score or "",
    ]


def _statuses(entry: Entry) -> list[os.stat_result]:
    return [path.stat() for path in entry.folder.iterdir() if path.is_file()]


def _verify(arguments: argparse.Namespace) -> int:
    _entries(arguments.directory)
    reports = CheckpointStore(arguments.directory).verify()
    for report in reports:
        print(f"{report.entry.folder.name}: {report.problem or 'sound'}")
    damaged = sum(report.problem is not None for report in reports)
    print(
        f"{len(reports)} checkpoints, {damaged} damaged."
        if damaged
        else f"{len(reports)} checkpoints, all sound."
    )
    return 1 if damaged else 0


def _diff(arguments: argparse.Namespace) -> int:
    first, second = _read(arguments.first), _read(arguments.second)
    tensors = differing_tensors(first.tensors, second.tensors)
    values = differing_values(plain_parts(first.document), plain_parts(second.document))
    for what, differences in (("tensor", tensors), ("value", values)):
        if differences:
            print(format_table([what, "difference"], differences), end="\n\n")
    count = len(first.tensors.keys() | second.tensors.keys())
    print(
        f"{len(tensors)} of {count} tensors and {len(values)} values differ."
        if tensors or values
        else f"{count} tensors, all equal."
    )
    return 1 if tensors or values else 0


def _export(arguments: argparse.Namespace) -> int:
    _entries(arguments.directory)
    entry = CheckpointStore(arguments.directory).export(arguments.path, arguments.step)
    print(f"The weights of {entry.folder} are in {arguments.path}.")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    size = {"epochs": 2, "kills": 1, "seeds": 1} if arguments.quick else {}
    return demo.run(arguments.out, arguments.keep, **size)


def _entries(directory: str) -> list[Entry]:
    """The checkpoints of a folder, of which there must be some."""
    entries = CheckpointStore(directory).entries()
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
    _entries(directory)
    store = CheckpointStore(directory)
    return (
        store.read_at(int(step)) if step else store.again(lambda: store.read(store.entries()[-1]))
    )
