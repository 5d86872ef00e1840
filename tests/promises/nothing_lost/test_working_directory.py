"""Nothing lost: a path leads where it led when it was given, whatever becomes of the working
directory.
"""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from store_support import at, listing, some_arrays, tensors

import keras_patterns as kp
from keras_patterns.storage import CheckpointFolder, Retention

once = pytest.mark.once

X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
Y = X.sum(1, keepdims=True)
HOOKS = sorted(
    name for name in dir(kp.Hook) if name.startswith("on_") and callable(getattr(kp.Hook, name))
)


class Killed(Exception):
    pass


class Wanders(kp.Hook):
    """Changes the working directory in every hook, to one where another run has the same folder.

    Args:
        elsewhere: The directories that it goes to in turn.
        kill_at: The batch, counted over all, in which it ends the run.
    """

    def __init__(self, elsewhere, kill_at=None):
        super().__init__()
        self.elsewhere, self.kill_at = elsewhere, kill_at
        self.turns, self.batches, self.used = 0, 0, set()

    def get_state(self):
        self.wander("get_state")
        return {"batches": self.batches}

    def set_state(self, state):
        self.wander("set_state")
        self.batches = state["batches"]

    def next_boundary(self, step):
        self.wander("next_boundary")
        return step + 2

    def required_checkpoints(self):
        self.wander("required_checkpoints")
        return ()

    def wander(self, name):
        self.used.add(name)
        self.turns += 1
        os.chdir(self.elsewhere[self.turns % len(self.elsewhere)])
        if name == "on_train_batch_end":
            self.batches += 1
            if self.batches == self.kill_at:
                raise Killed


def _wandering(name):
    def hook(self, *arguments, **options):
        self.wander(name)
        return getattr(super(Wanders, self), name)(*arguments, **options)

    return hook


for _name in HOOKS:
    setattr(Wanders, _name, _wandering(_name))


@pytest.fixture
def home(tmp_path):
    """The directory in which a run is started."""
    home = tmp_path / "home"
    home.mkdir()
    os.chdir(home)
    return home


@pytest.fixture
def elsewhere(tmp_path, home):
    """Two others, each with a folder of the same name and another run in it."""
    folders = [tmp_path / "elsewhere", tmp_path / "nowhere"]
    for folder in folders:
        for step in range(1, 7):
            CheckpointFolder(folder / "runs").write(at(step), {}, tensors(some_arrays(step)))
        (folder / "log.csv").write_text("epoch,loss\n0,0.5\n")
    return folders


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def train(*callbacks, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    checkpoint = kp.Checkpoint("runs", every_steps=1, keep_last=2, **options)
    logger = keras.callbacks.CSVLogger("log.csv")
    arguments = {"validation_data": (X, Y), "batch_size": 8, "epochs": 3, "seed": 0, "verbose": 0}
    try:
        kp.fit(model, X, Y, callbacks=[logger, checkpoint, *callbacks], **arguments)
    finally:
        logger.csv_file.close()
    return model.get_weights()


def test_every_hook_may_change_the_working_directory(home, elsewhere, tmp_path):
    others = {folder: contents(folder) for folder in elsewhere}
    with pytest.raises(Killed):
        train(Wanders(elsewhere, kill_at=9))
    os.chdir(home)
    wanders = Wanders(elsewhere)
    weights = train(wanders)
    assert {folder: contents(folder) for folder in elsewhere} == others
    assert listing(home / "runs") == [at(step).folder_name for step in (17, 18)]
    assert wanders.used >= {"on_train_begin", "on_save", "on_restore", "get_state", "on_boundary"}

    (tmp_path / "reference").mkdir()
    os.chdir(tmp_path / "reference")
    for one, other in zip(weights, train(), strict=True):
        np.testing.assert_array_equal(one, other)
    rows = Path(home, "log.csv").read_text()
    assert rows == Path("log.csv").read_text()


def test_a_run_goes_back_where_it_was_started(home, elsewhere):
    others = {folder: contents(folder) for folder in elsewhere}

    class GoesBack(Wanders):
        went = False

        def on_check(self, step):
            self.wander("on_check")
            if step == 6 and not self.went:
                self.went = True
                return kp.Rewind(at(4))
            return None

    train(GoesBack(elsewhere))
    assert {folder: contents(folder) for folder in elsewhere} == others
    rows = Path(home, "log.csv").read_text().split()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2"]


def test_messages_show_the_folder_as_it_was_given(home, capsys):
    train()
    train()
    assert "the run in runs is finished" in capsys.readouterr().out
    assert kp.CheckpointStore("runs").label == "runs"


@once
def test_a_store_stays_where_it_was_made(home, elsewhere):
    store = CheckpointFolder("runs")
    others = contents(elsewhere[0])
    os.chdir(elsewhere[0])
    with store.lock():
        for step in (1, 2, 3):
            store.write(at(step), {}, tensors(some_arrays(step + 10)))
            store.prune(Retention(1))
    store.discard_after(at(2))
    assert contents(elsewhere[0]) == others
    assert store.directory == home / "runs"
    assert store.entries() == []


def test_features_are_stored_where_their_path_led(home, elsewhere):
    """A layer runs Python code of its own, after the path was given."""

    class WanderingLayer(keras.layers.Layer):
        def call(self, x):
            os.chdir(elsewhere[0])
            return x

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), WanderingLayer()])
    model.add(keras.layers.Dense(1))
    model.trainable = False
    os.chdir(home)
    kp.cache_features(model, model.layers[1], X, path="features.npy", verbose=0)
    assert Path.cwd() == elsewhere[0]
    names = ["features.npy", "features.npy.json"]
    assert sorted(path.name for path in home.glob("features*")) == names
    assert not list(elsewhere[0].glob("features*"))
