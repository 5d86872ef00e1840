"""Tabulates a function that notes each call, and dies of SIGKILL in the call after `at` ones:
`python run_tabulate.py AT`.
"""

import os
import signal
import sys
from pathlib import Path

import keras_patterns as kp


def noted(point):
    calls = Path("calls.txt")
    before = calls.read_text(encoding="utf-8") if calls.exists() else ""
    calls.write_text(f"{before}{point.tolist()}\n", encoding="utf-8")
    if len(before.splitlines()) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return [point[0] / 3, point[0] ** 2]


kp.tabulate(noted, [(0.0, 1.0)], 10, path="table.jsonl")
