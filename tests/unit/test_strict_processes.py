"""Processes in which every warning is an error, and terminals that show nothing but ASCII."""

import os
import subprocess
import sys

from places import ROOT

PROGRAM = str(ROOT / "tests" / "support" / "run_everything.py")


def test_no_warning_of_the_library_s_own_nor_a_name_that_the_terminal_cannot_show():
    """Every warning is an error, from the start and from the first import on, by a filter that no
    other library's comes before.
    """
    folder = os.fsdecode("läuft-雪-".encode() + b"\xff")
    environment = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    result = subprocess.run(
        [sys.executable, "-W", "error", PROGRAM, folder],
        env={**os.environ, **environment},
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    assert b"\\udcff" in result.stdout
