"""Nothing lost: killed at any instant, the newest published checkpoint is there and sound."""

import os
import random
import signal
import time

import pytest
from places import SUPPORT
from run_store_writer import arrays_at
from store_support import assert_same, at, listing, python

from keras_patterns.storage import CheckpointFolder

pytestmark = pytest.mark.once

KILLS = int(os.environ.get("KERAS_PATTERNS_STORM", "20"))


def killed_at_random(writer, directory, first):
    """Starts a child, kills it after a random time, and returns the last step that it announced."""
    writer.stdin.write(f"{directory} {first}\n")
    writer.stdin.flush()
    child = int(writer.stdout.readline().split()[1])
    # Not to wait for anything: the instant of the kill is what is drawn.
    time.sleep(random.uniform(0.0, 0.15))
    os.kill(child, signal.SIGKILL)
    announced = first - 1
    while (line := writer.stdout.readline()) != "dead\n":
        announced = int(line.split()[1])
    return announced


def test_a_storm_of_kills_loses_nothing(tmp_path):
    code = (SUPPORT / "run_store_writer.py").read_text()
    writer, first, left = python(code), 1, 0
    try:
        for _ in range(KILLS):
            announced = killed_at_random(writer, tmp_path, first)
            store = CheckpointFolder(tmp_path)
            left += any(name.startswith(".") for name in listing(tmp_path))
            newest, damaged = store.newest_sound()
            assert damaged == []
            step = newest.position.step if newest else 0
            assert step in (announced, announced + 1)
            for entry in store.entries():
                checkpoint = store.read(entry)
                assert checkpoint.position == at(checkpoint.document["step"])
                assert_same(checkpoint.tensors, arrays_at(checkpoint.document["step"]))
            first = step + 1
    finally:
        writer.communicate(timeout=60)
    # It was killed while at work, not only before: in the midst of checkpoints, and after some.
    assert left > KILLS / 4
    assert first > KILLS / 4
    with CheckpointFolder(tmp_path).lock():
        assert not any(name.startswith(".") for name in listing(tmp_path))
    print(f"{KILLS} kills, {first - 1} checkpoints, {left} kills left something half done")
