"""Lets one call to the system fail, by strace: the real calls, those of C code included.

    python syscalls.py    # for each line of JSON on the standard input, one answer on the output

A line is `{"scenario", "folder", "step", "call", "number", "error"}`. A child is forked that does
what the scenario says, while the `number`-th of its calls of that name fails with the error;
without a call, all are counted. Forked, since importing takes longer than what is tested.
"""

import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
from store_support import at, tensors

from keras_patterns.storage import CheckpointFolder, Retention, StoreError

STRACE = shutil.which("strace")
ERRORS = ("EIO", "EMFILE", "EACCES", "ENOSPC")
_ANSWER_BYTES = 1 << 16
# Of the interpreter's own, and of what says how a call went.
_NOT_OF_THE_STORE = {"mmap", "ioctl", "readlink", "fcntl"}


def arrays_at(step):
    """Tensors that are linked, and one that moves."""
    return {"frozen": np.arange(9.0), "moving": np.full(5, float(step))}


def save(folder, step):
    """A save, and what is retired for it."""
    store = CheckpointFolder(folder)
    with store.lock():
        store.write(at(step), {"step": step}, tensors(arrays_at(step)))
        store.prune(Retention(2))


def resume(folder, step):
    """What a resume reads; it must be the newest."""
    store = CheckpointFolder(folder)
    with store.lock():
        newest, damaged = store.newest_sound()
    assert not damaged, [str(one) for one in damaged]
    assert newest.position == at(step), f"step {newest.position.step} instead of {step}"


def go_back(folder, step):
    """A run goes back one checkpoint, and saves anew."""
    store = CheckpointFolder(folder)
    with store.lock():
        store.discard_after(at(step - 1))
        store.write(at(step), {"step": step}, tensors(arrays_at(step)))


def look(folder, step):
    """A reader looks at everything."""
    store = CheckpointFolder(folder)
    assert store.best() is None
    assert [report.entry.position.step for report in store.verify()]


SCENARIOS = {one.__name__: one for one in (save, resume, go_back, look)}


def one_life(asked):
    """Forks a child, and returns what it said and how often each call was made or failed."""
    answer = mmap.mmap(-1, _ANSWER_BYTES)
    child = os.fork()
    if not child:
        _be_traced(asked, answer)
    with tempfile.NamedTemporaryFile("r") as log:
        command = [STRACE, "-f", "-p", str(child), "-o", log.name, "-e", "trace=%file,%desc"]
        if "call" in asked:
            failing = f"inject={asked['call']}:error={asked['error']}:when={asked['number']}"
            command += ["-e", failing]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = tracer.stderr.readline()
        answer[0] = 1
        os.waitpid(child, 0)
        said += tracer.communicate()[1]
        lines = log.read().splitlines()
    if "attached" not in said:
        return {"refused": said}
    # "1234  openat(...": those that were in flight when it came are not the store's.
    calls = Counter(match[1] for line in lines if (match := re.match(r"\d+ +(\w+)\(", line)))
    calls = {name: count for name, count in calls.items() if name not in _NOT_OF_THE_STORE}
    text = bytes(answer[1:]).rstrip(b"\0").decode()
    return json.loads(text) | {"calls": calls, "failed": "(INJECTED)" in "".join(lines)}


def _be_traced(asked, answer):
    while not answer[0]:
        time.sleep(0.001)
    outcome = {"error": None, "kind": None}
    try:
        SCENARIOS[asked["scenario"]](asked["folder"], asked["step"])
    except BaseException as error:
        kind = "StoreError" if isinstance(error, StoreError) else repr(error)
        outcome = {"error": str(error), "kind": kind}
    text = json.dumps(outcome).encode()
    answer[1 : 1 + len(text)] = text
    os._exit(0)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        # So that nothing is left to be imported.
        for step in range(1, 5):
            save(scratch, step)
        for scenario in (resume, look, go_back):
            scenario(scratch, 4)
    for line in sys.stdin:
        print(json.dumps(one_life(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
