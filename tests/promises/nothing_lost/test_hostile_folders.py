"""Nothing lost, and nothing done: a folder from a stranger ends in an error that says so, or is
read; never in another error, a crash, a wait, or a look outside of it.
"""


import keras
import numpy as np
import pytest
from hostile import Base, changed_arrays, changed_fields, changes, clear, look, survives, watched
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

import keras_patterns as kp
from keras_patterns.backends import current

TOTAL = 9
X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
FEW = settings(max_examples=200, deadline=None, derandomize=True, database=None)
SOME = settings(max_examples=40, deadline=None, derandomize=True, database=None)
MANY = settings(max_examples=3000, deadline=None, database=None)


class Counts(keras.callbacks.Callback):
    """A person's own callback, which believes its state."""

    seen = 0

    def on_epoch_end(self, epoch, logs=None):
        self.seen += 1

    def get_state(self):
        return {"seen": self.seen, "last": (self.seen, np.arange(3))}

    def set_state(self, state):
        self.seen = state["seen"] + 0


def make_model():
    layers = [keras.layers.Dense(3, name="body"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def go_on(folder, log, total_steps=TOTAL):
    """Begins the run in a folder, or goes on with it."""
    logger = keras.callbacks.CSVLogger(str(log))
    callbacks = [
        Counts(),
        kp.EarlyStopping("loss", rule=kp.Patience(50) | kp.GeneralizationLoss(1e9)),
        kp.NonFiniteGuard(),
        kp.GradualUnfreeze({3: "body"}, verbose=0),
        keras.callbacks.EarlyStopping("loss", patience=50, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss", patience=50),
        logger,
        kp.Checkpoint(folder, every_steps=2, keep_last=3, monitor="loss", background=False),
    ]
    plan = {"batch_size": 8, "total_steps": total_steps, "steps_per_epoch": 3, "seed": 0}
    try:
        kp.fit(make_model(), X, Y, **plan, verbose=0, callbacks=callbacks)
    finally:
        # Keras closes it in `on_train_end` only.
        if logger.csv_file is not None:
            logger.csv_file.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The checkpoints of a finished run."""
    folder = tmp_path_factory.mktemp("run")
    go_on(folder / "checkpoints", folder / "log.csv")
    return [Base(entry.folder) for entry in kp.CheckpointStore(folder / "checkpoints").entries()]


@pytest.fixture(scope="module")
def bases(run):
    """The newest checkpoints of runs of both formats."""
    old = ROOT / "tests" / "support" / "format_1" / current().name
    folders = [folder for case in sorted(old.iterdir()) for folder in case.glob("checkpoints/*")]
    return [run[-1], run[-1], *map(Base, folders)]


@pytest.fixture(scope="module")
def model():
    model = make_model()
    model.fit(X, Y, verbose=0)
    return model


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A folder, and one outside of it with what a stranger would be after."""
    place = tmp_path_factory.mktemp("scene")
    (place / "outside").mkdir()
    (place / "outside" / "secret").write_bytes(b"secret")
    go_on(place / "outside" / "checkpoints", place / "log.csv", total_steps=6)
    return place


def draw_folder(data, bases, directory):
    """Writes a checkpoint, changed in its manifest or its arrays."""
    base = data.draw(st.sampled_from(bases))
    drawn = data.draw(changes)
    clear(directory)
    if data.draw(st.integers(0, 3)):
        base.write(directory, changed_fields(base.fields, drawn))
    else:
        base.write_arrays(directory, changed_arrays(base.arrays, drawn))


def check_looking(scene, bases, data):
    directory = scene / "hostile"
    draw_folder(data, bases, directory)
    with watched(scene / "outside"):
        look(directory)


def check_going_on(scene, run, model, data):
    directory = scene / "hostile"
    # Most of a finished run, for which nothing is compiled.
    draw_folder(data, [run[-1]] * 4 + [run[-2]], directory)
    (scene / "log.csv").write_text("epoch,loss\n0,1.0\n")
    state = np.random.get_state()
    with watched(scene / "outside"):
        survives(lambda: kp.CheckpointStore(directory).restore(model))
        survives(lambda: go_on(directory, scene / "log.csv"))
    # Whatever was put back can be drawn from.
    np.random.normal(size=700)
    np.random.set_state(state)


@pytest.mark.once
@FEW
@given(data=st.data())
def test_a_hostile_checkpoint_is_looked_at_without_harm(scene, bases, data):
    check_looking(scene, bases, data)


@SOME
@given(data=st.data())
def test_a_run_begins_at_a_hostile_checkpoint_without_harm(scene, run, model, data):
    check_going_on(scene, run, model, data)


@pytest.mark.fuzz
@MANY
@given(data=st.data())
def test_thousands_of_hostile_checkpoints_are_looked_at(scene, bases, data):
    check_looking(scene, bases, data)


@pytest.mark.fuzz
@settings(MANY, max_examples=1000)
@given(data=st.data())
def test_a_thousand_runs_begin_at_hostile_checkpoints(scene, run, model, data):
    check_going_on(scene, run, model, data)
