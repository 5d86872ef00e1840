"""Nothing lost: a run killed by the hundred inside saves goes on each time, to the same end."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from places import SUPPORT
from run_case import loaded

from keras_patterns import CheckpointStore
from keras_patterns.testing import assert_same_state

KILLS = int(os.environ.get("KERAS_PATTERNS_STORM", "200"))
SCRIPT = SUPPORT / "run_storm.py"
# More than the storm can reach.
FAR = 1_000_000


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )


def one_life(folder):
    """Starts the run, kills it at a random instant after a few steps, and returns what it said
    first.
    """
    child = start(folder, FAR)
    lines, steps = [], random.randint(1, 5)
    while steps and (line := child.stdout.readline()):
        lines.append(line)
        steps -= line == "step\n"
    # Not to wait for anything: the instant of the kill is what is drawn. A save takes some 20 ms
    # here.
    time.sleep(random.uniform(0.0, 0.04))
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL, "".join(lines)
    return lines[0]


def state_after(folder, total_steps, name):
    child = start(folder, total_steps, name)
    said, _ = child.communicate()
    assert child.returncode == 0, said
    return loaded((folder / name).read_text(encoding="utf-8"))


@pytest.mark.storm
def test_a_run_in_a_storm_of_kills(tmp_path):
    step, half_done = 0, 0
    for life in range(KILLS):
        said = one_life(tmp_path)
        assert f"going on from step {step:,} of" in said if step else said == "step\n", (
            f"life {life}: {said}"
        )
        assert "fell back" not in said
        newest, damaged = CheckpointStore(tmp_path / "checkpoints").newest_sound()
        assert not damaged
        half_done += any(name.startswith(".tmp") for name in os.listdir(tmp_path / "checkpoints"))
        assert newest is None or newest.position.step >= step
        step = newest.position.step if newest else 0
    assert step > KILLS / 2, "it was killed before it came to save"
    print(f"{KILLS} kills, {half_done} of them inside a save; step {step} was reached")
    total = step + 10
    assert_same_state(
        state_after(tmp_path, total, "reference.json"), state_after(tmp_path, total, "state.json")
    )
