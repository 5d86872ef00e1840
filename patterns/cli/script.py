"""The command `preflight`: looks at what a script would train, without training it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .._util.text import write_line, write_text
from .looking import write_json

_CHILD = "keras_patterns.cli.first_fit"
# For the streams of a process.
_STANDARD_ERROR = 2


class NoCallError(RuntimeError):
    """There was nothing to examine; says why."""


def examine(arguments: argparse.Namespace) -> int:
    """Runs a script up to its first `fit`, and shows what a preflight finds there."""
    script = Path(arguments.script)
    if not script.is_file():
        raise NoCallError(f"{script}: there is no such file. Name a script of Python.")
    found = _examined(arguments)
    problem, call = found["problem"], found["call"]
    place = f"{call['file']}:{call['line']}" if call and call["file"] else str(script)
    if arguments.json:
        shown = {name: value for name, value in found.items() if name != "text"}
        write_json({"script": arguments.script, **shown})
    if problem is not None:
        raise NoCallError(f"{place}: {problem}.")
    if not arguments.json:
        write_line(f"{place}: {call['function']} would train here. Nothing was trained.")
        write_text(found["text"])
    return int(found["worst"] == "error")


def _examined(arguments: argparse.Namespace) -> dict[str, Any]:
    """The report of a child process that runs the script."""
    # A file, since what a script prints may be anything.
    with tempfile.TemporaryDirectory(prefix="keras-patterns-") as folder:
        report = Path(folder) / "report.json"
        asked = {
            "script": arguments.script,
            "arguments": arguments.of_script,
            "skip": arguments.skip,
            "report": str(report),
        }
        done = subprocess.run(
            [sys.executable, "-m", _CHILD],
            input=json.dumps(asked),
            text=True,
            # No cache of what the script imports.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=_STANDARD_ERROR if arguments.json else None,
        )
        if not report.exists():
            raise NoCallError(
                f"{arguments.script}: its process ended with {done.returncode} before it called "
                "fit."
            )
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found
