"""Runs programs in children of a process that has imported the frameworks and done nothing else.

Importing takes longer than most runs. For each line on the standard input, `{"argv": ..., "cwd":
..., "out": ..., "err": ...}`, a child is forked that becomes the program, and its exit status is
printed: minus the number of the signal that killed it.

A child shares with the next one what an import leaves, and the seed of Python's hashes. It holds no
model, random state or thread of another.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
from pathlib import Path

import keras

import keras_patterns as kp
import keras_patterns.testing

# Loaded when they are first used.
LATE = (kp.fit, kp.Checkpoint, kp.CheckpointStore, kp.Run, keras_patterns.testing, keras.Sequential)


def check_that_no_thread_runs():
    """A lock that another thread holds would stay locked in the child. The allocator's thread is
    started anew there.
    """
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    others = [name for name in names if name != "jemalloc_bg_thd"]
    assert len(others) == 1, f"threads run in what is to be forked: {names}"


def adopt_orphans():
    """Makes the workers that a killed child leaves behind children of this process (Linux)."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def end_orphans():
    """Ends the workers that a child has left behind."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for orphan in map(int, children):
        os.kill(orphan, signal.SIGKILL)
        os.waitpid(orphan, 0)


def next_program():
    """Serves until there is nothing to serve; in each child, returns what it is to become."""
    for line in sys.stdin:
        check_that_no_thread_runs()
        child = os.fork()
        if not child:
            return json.loads(line)
        _, status = os.waitpid(child, 0)
        end_orphans()
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def become(argv, cwd, out, err):
    """As the command `python ARGV... > OUT 2> ERR` in a folder."""
    os.chdir(cwd)
    for number, path in enumerate((out, err), start=1):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    adopt_orphans()
if __name__ == "__main__" and (program := next_program()):
    become(**program)
