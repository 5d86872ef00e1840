"""Nothing lost: whoever reads beside a run that saves and retires at every step sees no error."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from places import SUPPORT
from store_support import at, tensors

import keras_patterns as kp
from keras_patterns.cli import main
from keras_patterns.storage import CheckpointFolder, Entry, Manifest, MissingCheckpointError

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
    # How many states were seen is up to the machine.
    assert len(set(steps)) > 2


@pytest.mark.once
def test_readers_of_a_store_beside_its_writer(beside):
    directory, process = beside()
    check(process, look_at_the_store(directory, ROUNDS))


def test_readers_of_a_run_beside_it(beside, capsys):
    directory, process = beside("fit")
    check(process, look_at_the_run(directory, ROUNDS // 8, capsys))


@pytest.mark.once
def test_a_reader_that_is_too_slow_each_time_is_told_so(tmp_path, monkeypatch):
    store = CheckpointFolder(tmp_path)
    store.write(at(1), {}, [])

    def removed(entry):
        raise MissingCheckpointError(entry.folder)

    monkeypatch.setattr(store, "read", removed)
    for look in (store.newest_sound, lambda: store.read_at(1)):
        with pytest.raises(kp.StoreError, match=r"removes checkpoints faster .*\(keep_last=\)"):
            look()


@pytest.mark.once
def test_a_checkpoint_that_is_removed_is_not_called_damaged(tmp_path):
    store = CheckpointFolder(tmp_path)
    entry = store.write(at(1), {}, [])
    shutil.rmtree(entry.folder)
    with pytest.raises(MissingCheckpointError, match="the checkpoint is not there any more"):
        store.read(entry)
    with pytest.raises(MissingCheckpointError):
        Entry(entry.position, entry.folder).manifest  # noqa: B018 - it is read here
    with pytest.raises(kp.StoreError, match="there is no checkpoint of step 1"):
        store.read_at(1)


@pytest.mark.once
def test_another_checkpoint_under_the_same_name_is_read_instead(tmp_path, monkeypatch):
    """A run that has gone back saves a step again while somebody reads it."""
    store, reader = CheckpointFolder(tmp_path), CheckpointFolder(tmp_path)
    entry = store.write(at(2), {}, tensors({"a": np.ones(3)}))
    load, turns = Manifest.load, []

    def slow(folder):
        manifest = load(folder)
        if not turns:
            turns.append(folder)
            store.discard_after(at(1))
            store.write(at(2), {}, tensors({"a": np.zeros(3)}))
        return manifest

    monkeypatch.setattr(Manifest, "load", slow)
    assert reader.read(entry).tensors["a"].tolist() == [0, 0, 0]


@pytest.mark.once
@pytest.mark.syscalls
def test_readers_of_a_store_in_a_thousand_rounds(beside):
    directory, process = beside()
    check(process, look_at_the_store(directory, 1_000))


@pytest.mark.syscalls
def test_readers_of_a_run_in_a_thousand_rounds(beside, capsys):
    directory, process = beside("fit")
    check(process, look_at_the_run(directory, 1_000, capsys))
