"""Nothing lost: a folder from a stranger ends in an error that says so, or is read; never in
another error, a crash, a wait, or a look outside of it.
"""

import copy
import random

import keras
import numpy as np
import pytest
from hostile import (
    EXPECTED,
    Base,
    at,
    changed_arrays,
    changed_fields,
    changes,
    clear,
    look,
    survives,
    watched,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.state import get_random_state, set_random_state

TOTAL = 9
X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
FEW = settings(max_examples=200, deadline=None, derandomize=True, database=None)
# What is drawn has no backend.
COUNT = 40 if current().name == "jax" else 15
SOME = settings(max_examples=COUNT, deadline=None, derandomize=True, database=None)
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
        kp.EarlyStopping("loss", rule=kp.Patience(50) | kp.SuccessiveRises(50)),
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
    # A run that trains compiles its step, and again for each rollback of the guard: weights may
    # be anything that floats can be.
    with watched(scene / "outside", seconds=100):
        survives(lambda: kp.CheckpointStore(directory).restore(model))
        survives(lambda: go_on(directory, scene / "log.csv"), kp.NonFiniteError)
    # Whatever was put back can be drawn from.
    np.random.normal(size=700)
    np.random.set_state(state)


def check_using(scene, run, model, data):
    directory = scene / "hostile"
    draw_folder(data, [run[-1]], directory)
    store = kp.CheckpointStore(directory)
    with watched(scene / "outside"):
        for use in (
            lambda: store.restore(model),
            lambda: store.restore(model, store.steps()[-1], weights_only=True),
            lambda: kp.warm_start(store, model),
            lambda: kp.warm_start(store, model, optimizer="keep"),
            lambda: kp.load_pretrained(model, directory),
        ):
            survives(use)
        # Their own errors where a weight, or every loss, is not finite.
        survives(lambda: kp.average_checkpoints(store, model), ValueError)
        survives(lambda: kp.select_checkpoint(store, model, (X, Y), verbose=0), ValueError)


@pytest.mark.once
@FEW
@given(data=st.data())
def test_a_hostile_checkpoint_is_looked_at_without_harm(scene, bases, data):
    check_looking(scene, bases, data)


@SOME
@given(data=st.data())
def test_a_run_begins_at_a_hostile_checkpoint_without_harm(scene, run, model, data):
    check_going_on(scene, run, model, data)


@SOME
@given(data=st.data())
def test_a_model_is_made_of_a_hostile_checkpoint_without_harm(scene, run, model, data):
    check_using(scene, run, model, data)


@pytest.mark.fuzz
@settings(MANY, max_examples=1000)
@given(data=st.data())
def test_a_thousand_models_are_made_of_hostile_checkpoints(scene, run, model, data):
    check_using(scene, run, model, data)


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


def of_section(name, *way):
    return ("document", name, "content", *way)


# A way in the manifest, what stands there, and what is said of it.
NAMED = {
    "numpy's index": (
        of_section("random", "numpy", "state", "pos"),
        10**9,
        "random.numpy.state.pos: expected `int` <= 624, received 1000000000",
    ),
    "numpy's generator": (
        of_section("random", "numpy", "bit_generator"),
        "Own",
        "'Own' is not one of NumPy's own generators",
    ),
    "the array of another state": (
        of_section("random", "python", "words"),
        {"$array": "random/numpy/state/key"},
        r"random.python.words: expected uint32 of shape \(625,\), received uint32 of shape \(624",
    ),
    "a checkpoint outside": (
        of_section("callbacks", "EarlyStopping", "checkpoint"),
        ["../../outside/checkpoints/run-1", 6, 1],
        r"position of a checkpoint\[0\]: expected `int`",
    ),
    "a checkpoint of another run": (
        of_section("callbacks", "EarlyStopping", "checkpoint"),
        [2, 6, 1],
        r"\[2, 6, 1\] is no checkpoint that this run has made",
    ),
    "a later checkpoint": (
        of_section("callbacks", "EarlyStopping", "checkpoint"),
        [1, 10, 1],
        r"\[1, 10, 1\] is no checkpoint that this run has made",
    ),
    "a guard's checkpoint outside": (
        of_section("callbacks", "NonFiniteGuard", "point"),
        ["../../outside/checkpoints/run-1", 6, 1],
        r"position of a checkpoint\[0\]: expected `int`",
    ),
    "needs of another run": (("needs",), [[2, 6, 1]], "is no earlier checkpoint of run 1"),
    "another step": (of_section("cursor", "step"), 8, "expected the step of the checkpoint, 9"),
    "duties of no boundary": (of_section("cursor", "todo"), ["save"], "is left to do, which"),
    "a rule's state": (
        of_section("callbacks", "EarlyStopping", "rule", "parts", 0, "best"),
        "low",
        "EarlyStopping in the checkpoint cannot be put back: SchemaError: rule.best: expected",
    ),
    "a state of Keras's callback": (
        of_section("callbacks", "ReduceLROnPlateau", "wait"),
        "1",
        "ReduceLROnPlateau in the checkpoint cannot be put back: SchemaError: wait: expected `int`",
    ),
    "weights of another model": (
        of_section("callbacks", "EarlyStopping#2", "best_weights"),
        [],
        "best_weights: their number or shapes are not those of the model",
    ),
    "a person's callback": (
        of_section("callbacks", "Counts", "seen"),
        None,
        "Counts in the checkpoint cannot be put back: TypeError",
    ),
    "a History's attribute": (
        of_section("callbacks", "RunHistory", "on_train_end"),
        1,
        "RunHistory: it has no 'on_train_end'",
    ),
    "an event": (
        of_section("callbacks", "RunHistory", "events"),
        [{"kind": "stopped"}],
        r"RunHistory.events\[0\]: object missing required field",
    ),
    "a role": (of_section("variables", "layers/0/kernel"), "w", r"variables\['layers/0/kernel'\]"),
    "a seed": (of_section("identity", "seed"), -1, "identity.seed: expected `int` >= 0"),
    "a batch that is left out": (
        of_section("data", "skipped", "numbers"),
        [10**30],
        r"data.skipped.numbers\[0\]: expected `int` <= 999999999999999999",
    ),
    "two equal trained": (
        of_section("optimizers", "optimizer", "trained"),
        ["layers/0/kernel", "layers/0/kernel"],
        r"optimizers\['optimizer'\].trained: a variable stands twice",
    ),
}


@pytest.mark.parametrize("case", NAMED)
def test_the_place_that_is_not_as_it_must_be_is_named(scene, run, case):
    way, value, text = NAMED[case]
    fields = copy.deepcopy(run[-1].fields)
    at(fields, way[:-1])[way[-1]] = value
    clear(scene / "hostile")
    run[-1].write(scene / "hostile", fields)
    (scene / "log.csv").write_text("epoch,loss\n" + "0,1.0\n" * 99)
    with watched(scene / "outside"), pytest.raises(EXPECTED, match=text):
        go_on(scene / "hostile", scene / "log.csv")


# What stands in the place of a part of a state that a loop of one's own has tracked.
ODD_STATES = [None, 1, "a", [], {}, {"value": 1}, {"value": {"$array": "random/python/words"}}]


@pytest.mark.once
@pytest.mark.parametrize("odd", ODD_STATES, ids=repr)
@pytest.mark.parametrize("name", ["variable", "tree", "object", "logged"])
def test_an_odd_state_of_a_loop_of_one_s_own_is_named(tmp_path, scene, name, odd):
    def loop():
        model = make_model()
        variable = keras.Variable(np.ones(2, "float32"))
        tree = {"a": keras.ops.ones(2)}
        counts = Counts()
        plan, data = kp.StepPlan(4, 4), (X, Y)
        checkpoint = kp.Checkpoint(tmp_path, every_steps=3, background=False)
        with kp.Run(model, plan=plan, data=data, seed=0, checkpoint=checkpoint) as run:
            run.track(variable=variable, object=counts, tree=(lambda: tree, tree.update))
            for _ in run.steps():
                counts.seen += 1
                variable.assign_add([1, 1])
                tree["a"] = tree["a"] + 1
                run.log({"loss": 1.0})

    loop()
    (base,) = [
        Base(one.folder) for one in kp.CheckpointStore(tmp_path).entries() if one.position.step == 3
    ]
    fields = copy.deepcopy(base.fields)
    tracked = at(fields, of_section("tracked"))
    tracked[name] = odd
    clear(tmp_path)
    base.write(tmp_path, fields)
    with watched(scene / "outside"), pytest.raises(EXPECTED, match=name):
        loop()


def test_a_random_state_that_is_none_changes_nothing():
    state = get_random_state()
    before = random.getstate()
    state["numpy"]["state"]["pos"] = 5000
    random.random()
    now = random.getstate()
    with pytest.raises(kp.StateMismatchError, match=r"numpy\.state\.pos"):
        set_random_state(state)
    assert random.getstate() == now != before


def test_a_state_that_leaves_every_batch_out_ends(scene, run):
    fields = copy.deepcopy(run[-2].fields)
    skipped = at(fields, of_section("data", "skipped"))
    skipped.update(examples=list(range(len(X))), numbers=[], known=0)
    clear(scene / "hostile")
    run[-2].write(scene / "hostile", fields)
    with watched(scene / "outside"), pytest.raises(kp.KerasPatternsError):
        go_on(scene / "hostile", scene / "log.csv")
