"""Nothing lost: whoever reads beside a run that saves and retires at every step sees no error."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from places import SUPPORT

import keras_patterns as kp
from keras_patterns.cli import main
from keras_patterns.storage import CheckpointFolder

ROUNDS = 40


@pytest.fixture
def beside(tmp_path):
    """Starts a run beside this process; answers its folder."""
    started = []

    def start(*arguments):
        directory = tmp_path / "runs"
        command = [sys.executable, str(SUPPORT / "run_retiring.py"), str(directory), *arguments]
        path = os.pathsep.join(filter(None, sys.path))
        environment = os.environ | {"PYTHONPATH": path}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        assert process.stdout.readline() == "started\n"
        return directory, process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def look_at_the_store(directory, rounds):
    """Every way to look, by a store that stays and by one that is new; returns the steps seen."""
    stays, steps = CheckpointFolder(directory), []
    for _ in range(rounds):
        for store in (stays, CheckpointFolder(directory)):
            assert store.entries()
            assert store.steps()
            newest, damaged = store.newest_sound()
            assert not damaged
            assert newest.tensors["moving"][0] == newest.position.step == newest.document["step"]
            reports = store.verify()
            assert reports
            assert not any(report.problem for report in reports)
            assert store.best()
            steps.append(newest.position.step)
    return steps


def look_at_the_run(directory, rounds, capsys):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.ones((8, 4), "float32")
    store, steps = kp.CheckpointStore(directory), []
    for number in range(rounds):
        steps.append(store.restore(model))
        assert store.find().fell_back == ""
        assert kp.CheckpointStore(directory).export(Path(f"weights-{number}.safetensors"))
        assert kp.average_checkpoints(directory, model)
        assert kp.select_checkpoint(directory, model, (x, x[:, :1]), verbose=0).rows
        assert kp.warm_start(directory, model)
        assert main(["list", str(directory)]) == 0
        assert main(["verify", str(directory)]) == 0
        captured = capsys.readouterr()
        assert "unreadable" not in captured.out
        assert captured.err == ""
    return steps


def check(process, steps):
    assert process.poll() is None, "the run has ended, so nobody was read beside"
    assert steps == sorted(steps)
    assert len(set(steps)) > len(steps) / 4


@pytest.mark.once
def test_readers_of_a_store_beside_its_writer(beside):
    directory, process = beside()
    check(process, look_at_the_store(directory, ROUNDS))


def test_readers_of_a_run_beside_it(beside, capsys):
    directory, process = beside("fit")
    check(process, look_at_the_run(directory, ROUNDS // 8, capsys))


@pytest.mark.once
@pytest.mark.syscalls
def test_readers_of_a_store_in_a_thousand_rounds(beside):
    directory, process = beside()
    check(process, look_at_the_store(directory, 1_000))


@pytest.mark.syscalls
def test_readers_of_a_run_in_a_thousand_rounds(beside, capsys):
    directory, process = beside("fit")
    check(process, look_at_the_run(directory, 1_000, capsys))
