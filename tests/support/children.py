"""Runs of cases in fresh processes, and what they end with."""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from run_case import loaded

from keras_patterns import CheckpointStore
from keras_patterns.testing import assert_same_state

BACKENDS = ("jax", "tensorflow", "torch")
SCRIPT = Path(__file__).with_name("run_case.py")
SERVER = Path(__file__).with_name("fork_server.py")
Process = subprocess.CompletedProcess[str]


def run(
    path: Path,
    *arguments: Any,
    script: Path = SCRIPT,
    alone: bool = False,
    backend: str | None = None,
    server: int = 0,
) -> Process:
    """Runs run_case.py, or another script, in a folder, which need not be there.

    Args:
        path: The folder.
        arguments: Of the script.
        script: Defaults to run_case.py.
        alone: Import everything anew, in a process that shares nothing with others. Defaults to
            False: a child of fork_server.py.
        backend: Defaults to that under test.
        server: The number of the server, each of which runs one child at a time. Defaults to 0.
    """
    path.mkdir(parents=True, exist_ok=True)
    backend = backend or os.environ["KERAS_BACKEND"]
    argv = [str(part) for part in (script, *arguments)]
    if alone or not _can_fork(backend):
        return subprocess.run(
            [sys.executable, *argv],
            cwd=path,
            env={**os.environ, "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
            check=False,
        )
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        program = {"argv": argv, "cwd": str(path), "out": str(out), "err": str(err)}
        status = _forked(program, backend, server)
        said = [one.read_text(encoding="utf-8") if one.exists() else "" for one in (out, err)]
    return Process(argv, status, *said)


@functools.cache
def _can_fork(backend: str) -> bool:
    """Not where threads run: CUDA has some once Keras is imported on PyTorch."""
    if not Path("/proc/self/task").exists():
        return False
    return backend != "torch" or not importlib.import_module("torch").cuda.is_available()


def _forked(program: dict[str, Any], backend: str, number: int) -> int:
    """The exit status of a program that a server of the backend has run."""
    server = _server(backend, number)
    try:
        print(json.dumps(program), file=server.stdin, flush=True)
        return int(server.stdout.readline())
    except BaseException:
        # A test that is out of time leaves the program behind.
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()
        _server.cache_clear()
        raise


@functools.cache
def _server(backend: str, number: int) -> Any:
    """One for this process of pytest, each backend and each number."""
    server = subprocess.Popen(
        [sys.executable, SERVER],
        env={**os.environ, "KERAS_BACKEND": backend},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    atexit.register(server.communicate)
    return server


def run_script(script: Path, backend: str, *arguments: Any, alone: bool = False) -> str:
    """Runs a script to its end on a backend; returns what it printed. See `run`."""
    process = run(Path.cwd(), *arguments, script=script, alone=alone, backend=backend)
    check_end(process, 0)
    return process.stdout


def check_end(process: Process, expect: int) -> None:
    """Asserts that it ended with an exit status; minus the number of the signal that killed it."""
    assert process.returncode == expect, (
        f"{process.returncode}, not {expect}:\n{process.stdout}\n{process.stderr}"
    )


def state(path: Path, name: str) -> dict[str, Any]:
    """The state that the run of a case in a folder has ended with."""
    return loaded((path / name / "state.json").read_text(encoding="utf-8"))


_REFERENCES: dict[tuple[Any, ...], dict[str, Any]] = {}


def references(
    *names: str, script: Path = SCRIPT, arguments: Sequence[Any] = ()
) -> dict[str, dict[str, Any]]:
    """The states that uninterrupted runs, without checkpoints, end with in a process of their own.
    Each is run once for a process of pytest.
    """
    how = (script, *arguments)
    if missing := [name for name in names if (*how, name) not in _REFERENCES]:
        with tempfile.TemporaryDirectory() as folder:
            process = run(Path(folder), *missing, "--reference", *arguments, script=script)
            check_end(process, 0)
            found = {(*how, name): state(Path(folder), name) for name in missing}
            _REFERENCES.update(found)
    return {name: _REFERENCES[(*how, name)] for name in names}


class Folder:
    """One run of a case and its children.

    Args:
        path: The folder in which it has one of its own, `self.path`.
        name: The case.
        script: What runs it. Defaults to run_case.py.
        alone: See `run`. Defaults to False.
    """

    def __init__(
        self, path: Path, name: str, script: Path = SCRIPT, *, alone: bool = False
    ) -> None:
        self.path, self._above, self.name = path / name, path, name
        self._how = {"script": script, "alone": alone}

    def child(self, *arguments: Any, expect: int = 0) -> str:
        """Runs the case in a fresh process that starts from other random seeds than those before;
        returns what it printed.

        Args:
            arguments: Of the script.
            expect: The exit status; minus the number of the signal that killed it.
        """
        process = run(self._above, self.name, *arguments, **self._how)
        check_end(process, expect)
        return process.stdout + process.stderr

    def kill_at(self, step: int, *arguments: Any) -> str:
        """Goes on until so many steps are done, and dies there of SIGKILL."""
        return self.child("--at", step, *arguments, expect=-signal.SIGKILL)

    def finish(self, *arguments: Any) -> dict[str, Any]:
        """Goes on to the end; returns the state there."""
        self.child(*arguments)
        return state(self._above, self.name)


class Relay:
    """Runs of several cases: each process finishes the run that the last one was killed in, and
    dies in the next run.

    So there is one process for each kill, and every run goes on in a fresh one.

    Args:
        path: The folder in which each has one of its own.
        kills: For each case, the steps after which it is killed.
        script: What runs them. Defaults to run_case.py.
        every: At multiples of how many steps each is saved. Defaults to 1.
        arguments: Of the script, for every process.
    """

    def __init__(
        self,
        path: Path,
        kills: Mapping[str, Sequence[int]],
        script: Path = SCRIPT,
        every: int = 1,
        arguments: Sequence[Any] = (),
    ) -> None:
        self._path, self._kills, self._script = path, kills, script
        self._every, self._arguments = every, arguments
        self._processes: dict[str, list[Process]] = {name: [] for name in kills}
        last: list[str] = []
        for name, steps in kills.items():
            for step in steps:
                self._run([*last, name], "--at", step)
                last = []
            last = [name]
        self._run(last)

    def check(self, name: str, expected: Mapping[str, Any]) -> None:
        """Asserts that a run was killed at each of its steps, went on there, and ended in this
        state.
        """
        *killed, finished = self._processes[name]
        for process in killed:
            check_end(process, -signal.SIGKILL)
        # Its own end is no measure: the run after it was killed there.
        assert (self._path / name / "state.json").exists(), (
            f"not finished:\n{finished.stdout}\n{finished.stderr}"
        )
        _, record = CheckpointStore(self._path / name / "checkpoints").read_record()
        saved = [step - step % self._every for step in self._kills[name]]
        assert record.resumed_at == saved, (
            f"killed at the steps {self._kills[name]}, went on at {record.resumed_at}"
        )
        assert_same_state(expected, state(self._path, name))

    def _run(self, names: list[str], *arguments: Any) -> None:
        process = run(self._path, *names, *arguments, *self._arguments, script=self._script)
        for name in names:
            self._processes[name].append(process)
