"""Runs of cases in fresh processes, and what they end with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from run_case import loaded

SCRIPT = Path(__file__).with_name("run_case.py")


class Folder:
    """The folder of one killed run, and its children.

    Args:
        path: An empty folder.
        name: The case.
        script: What runs it. Defaults to run_case.py.
    """

    def __init__(self, path: Path, name: str, script: Path = SCRIPT) -> None:
        self.path, self.name, self._script, self._children = path, name, script, 0

    def child(self, *arguments: Any, expect: int = 0) -> str:
        """Runs the case in a fresh process that starts from other random seeds than those before; returns what it printed.

        Args:
            arguments: Of the script.
            expect: The exit status; minus the number of the signal that killed it.
        """
        command = [sys.executable, self._script, self.name, "--seed", self._children, *arguments]
        self._children += 1
        result = subprocess.run([str(part) for part in command], cwd=self.path, capture_output=True, text=True, check=False)
        assert result.returncode == expect, f"{result.returncode}, not {expect}:\n{result.stdout}\n{result.stderr}"
        return result.stdout + result.stderr

    def kill_at(self, step: int, *arguments: Any) -> str:
        """Goes on until so many steps are done, and dies there of SIGKILL."""
        return self.child("--at", step, *arguments, expect=-signal.SIGKILL)

    def finish(self) -> dict[str, Any]:
        """Goes on to the end; returns the state there."""
        self.child("--state", "state.json")
        return loaded((self.path / "state.json").read_text(encoding="utf-8"))


def reference(path: Path, name: str) -> dict[str, Any]:
    """The state that an uninterrupted run, without checkpoints, ends with in a process of its own."""
    os.makedirs(path)
    folder = Folder(path, name)
    folder.child("--reference", "--state", "state.json")
    return loaded((path / "state.json").read_text(encoding="utf-8"))
