"""Processes in which every warning is an error, and terminals that show nothing but ASCII."""

import os
import subprocess
import sys

import pytest
from places import ROOT

PROGRAM = str(ROOT / "tests" / "support" / "run_everything.py")


def run(folder, *arguments, options=(), **environment):
    return subprocess.run(
        [sys.executable, *options, PROGRAM, folder, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
    )


@pytest.mark.parametrize("how", ["from the start", "late"])
def test_no_warning_of_the_library_s_own(how):
    options = [] if how == "late" else ["-W", "error"]
    result = run("run", how, options=options)
    assert result.returncode == 0, result.stderr.decode()[-2000:]


def test_a_folder_whose_name_the_terminal_cannot_show():
    folder = os.fsdecode("läuft-雪-".encode() + b"\xff")
    result = run(folder, LC_ALL="C", PYTHONIOENCODING="ascii:strict", PYTHONUTF8="0")
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    assert b"\\udcff" in result.stdout
