"""Nothing lost: each call to the system fails in turn, in a save, a resume, a rewind and a look.

By strace, which fails the real calls, those of C code included. After each: a clear error or
success; nothing sound is lost, renamed or passed over; and a second try succeeds.
"""

import json
import os
import subprocess
import sys

import pytest
import syscalls
from places import SUPPORT
from store_support import at, listing

from keras_patterns.storage import CheckpointFolder

pytestmark = pytest.mark.once

# Of each scenario: calls that fail in the ordinary run. "last" is the last of its name.
SAMPLE = {
    "save": [
        *(("openat", 3, "EMFILE"), ("openat", "last", "EMFILE"), ("read", 1, "EIO")),
        *(("read", "last", "EIO"), ("fsync", 2, "EIO"), ("fsync", "last", "EIO")),
        *(("write", 2, "ENOSPC"), ("link", 1, "EACCES"), ("rename", 1, "EACCES")),
        *(("getdents64", 3, "EIO"), ("newfstatat", 20, "EACCES"), ("mkdir", "last", "ENOSPC")),
    ],
    "resume": [
        *(("openat", "last", "EMFILE"), ("read", 2, "EIO"), ("read", 3, "EIO"), ("read", 5, "EIO")),
        *(("getdents64", 1, "EIO"), ("flock", 1, "EIO"), ("newfstatat", 9, "EACCES")),
    ],
    "go_back": [("rename", 1, "EIO"), ("unlink", 2, "EACCES"), ("read", 1, "EIO")],
    "look": [("read", 3, "EIO"), ("openat", 4, "EACCES"), ("close", 2, "EIO")],
}


class Lives:
    """Lives in one folder, each forked by a process that stays."""

    def __init__(self, process, folder):
        self.process, self.folder, self.step = process, folder, 6
        for step in range(1, self.step + 1):
            syscalls.save(folder, step)

    def ask(self, scenario, **failing):
        asked = {"scenario": scenario, "folder": str(self.folder), "step": self.step, **failing}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "refused" in answer:
            pytest.skip(f"strace cannot trace here: {answer['refused']}")
        return answer

    def live(self, scenario, call, number, error):
        """One life in which a call fails; returns whether there was such a call."""
        self.step += scenario == "save"
        before = self.sound()
        answer = self.ask(scenario, call=call, number=number, error=error)
        self.check(scenario, answer, before, f"{scenario}: {error} at {call} number {number}")
        return answer["failed"]

    def check(self, scenario, answer, before, what):
        said = answer["error"]
        assert answer["kind"] in (None, "StoreError"), f"{what}: {answer['kind']}"
        assert said is None or str(self.folder) in said, f"{what}: {said}"
        after = self.sound()
        may_go = {at(self.step), at(self.step - 2)} if scenario in ("save", "go_back") else set()
        assert before - may_go <= after, f"{what}: lost {before - after}"
        if at(self.step - 2) in before - after:
            assert at(self.step) in after, f"{what}: retired before there was a new one"
        if said is None and scenario != "look":
            assert at(self.step) in after, f"{what}: said to be done"
        syscalls.SCENARIOS[scenario](self.folder, self.step)
        assert CheckpointFolder(self.folder).latest().position == at(self.step), what

    def sound(self):
        """The positions of the checkpoints, all of them sound, and nothing set aside."""
        assert not [name for name in listing(self.folder) if name[0] != "." and name[:4] != "run-"]
        reports = CheckpointFolder(self.folder).verify()
        assert [str(report.problem) for report in reports if report.problem] == []
        return {report.entry.position for report in reports}


@pytest.fixture(scope="module")
def process():
    if syscalls.STRACE is None:
        pytest.skip("there is no strace, which fails the calls")
    process = subprocess.Popen(
        [sys.executable, str(SUPPORT / "syscalls.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    yield process
    process.communicate()


@pytest.fixture
def lives(process, tmp_path):
    return Lives(process, tmp_path / "store")


@pytest.mark.parametrize("scenario", SAMPLE)
def test_a_call_to_the_system_fails(lives, scenario):
    calls = lives.ask(scenario)["calls"]
    lives.step += scenario == "save"
    syscalls.SCENARIOS[scenario](lives.folder, lives.step)
    for call, number, error in SAMPLE[scenario]:
        number = calls[call] if number == "last" else number
        assert lives.live(scenario, call, number, error), f"there is no {call} number {number}"


@pytest.mark.syscalls
@pytest.mark.parametrize("error", syscalls.ERRORS)
@pytest.mark.parametrize("scenario", syscalls.SCENARIOS)
def test_each_call_to_the_system_fails(lives, scenario, error):
    failed = 0
    for call in lives.ask(scenario)["calls"]:
        number = 1
        while lives.live(scenario, call, number, error):
            number += 1
        failed += number - 1
    assert failed > 50
