"""kp.memorize: its verdict, its training, its interruptions, its file."""

import json
import os
import signal

import keras
import numpy as np
import pytest
from killers import KillAt, Killed, Sender
from models import runnable

import keras_patterns as kp
from keras_patterns.state.variables import find_variables
from keras_patterns.testing import assert_same_state
from keras_patterns.testing.comparison import run_state

X = np.linspace(-1, 1, 9).reshape(-1, 1)
SHORT = {"total_steps": 12, "steps_per_epoch": 4, "batch_size": 4, "seed": 0, "verbose": 0}


def line(rate=0.1, **arguments):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate, momentum=0.5), "mse", **arguments)
    return model


def values(model):
    return {
        key: one.numpy() for key, one in find_variables(model).of("weight", "optimizer").items()
    }


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


def test_a_table_that_can_be_learnt_is_certified():
    model = line()
    report = kp.memorize(model, X, 3 * X - 1, 1e-3, seed=0, verbose=0)
    assert report.within
    assert report.outside == 0
    assert "Memorised: the largest error over all 9 examples is " in repr(report)
    errors = np.abs(model.predict(X, verbose=0) - (3 * X - 1))
    assert report.largest_error == pytest.approx(errors.max(), abs=1e-6)
    assert report.mean_error == pytest.approx(errors.mean(), abs=1e-6)
    assert report.history.history["largest_error"][-1] == report.largest_error
    assert report.steps == report.history.epoch_end_steps[-1] < 20_000
    assert [event["kind"] for event in report.history.events] == ["stopped"]


def test_noise_falls_short_by_what_it_is():
    """A line through noise: the errors, and the worst of them, come from paper."""
    noise = np.random.default_rng(0).normal(size=(40, 1))
    x = np.linspace(-1, 1, 40).reshape(-1, 1)
    report = kp.memorize(
        line(), x, noise, 1e-3, batch_size=40, total_steps=400, epochs=4, seed=0, verbose=0
    )
    errors = np.abs(np.polyval(np.polyfit(x[:, 0], noise[:, 0], 1), x) - noise)[:, 0]
    assert not report.within
    assert report.largest_error == pytest.approx(errors.max(), rel=1e-3)
    assert report.outside == np.sum(errors > 1e-3)
    assert report.steps == 400
    assert [one.example for one in report.worst] == np.argsort(-errors)[:5].tolist()
    worst = report.worst[0]
    assert worst.place == f"y[{worst.example}, 0]"
    assert worst.inputs == x[worst.example].tolist()
    assert worst.target == noise[worst.example, 0]
    assert abs(worst.output - worst.target) == pytest.approx(worst.error)
    said = repr(report)
    assert said.startswith("Fell short: the largest error over all 40 examples is ")
    assert f"{report.largest_error / 1e-3:.3g} times the tolerance of 0.001; 40 examples" in said


def test_a_relative_tolerance_is_a_fraction_of_the_range():
    y = 1000 * X
    model = line(0.0)
    model.set_weights([np.full((1, 1), 990.0), np.zeros(1)])
    report = kp.memorize(model, X, y, 0.02, relative=True, epochs=1, seed=0, verbose=0)
    assert report.within
    assert report.largest_error == pytest.approx(10 / 2000, rel=1e-5)


def test_classes_are_compared_by_a_function():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss)
    labels = (X[:, 0] > 0.1).astype("int32")
    wrong = {"error": lambda y, p: p.argmax(1) != y}
    report = kp.memorize(model, X, labels, 0, **wrong, seed=0, verbose=0)
    assert report.within
    short = kp.memorize(model, X, 1 - labels, 0, **wrong, total_steps=1, epochs=1, verbose=0)
    assert (short.largest_error, short.outside) == (1.0, 9)
    assert short.worst[0].place == "y[0]"


def test_outputs_that_are_not_finite_end_it():
    report = kp.memorize(line(1e30), X, X, 1.0, total_steps=50, epochs=10, seed=0, verbose=0)
    assert not report.within
    assert report.largest_error == np.inf
    assert report.steps < 50
    assert report.history.events[-1]["text"] == "an output is not finite"


def arguments(case):
    return {
        name: value() if callable(value) else value
        for name, value in case.arguments.items()
        if not name.startswith("valid")
    }


# Each with another state that a check could move: seeds, recurrent state, averages.
STATEFUL = ("unseeded dropout", "stateful recurrent", "dictionaries", "moving average")


@pytest.mark.parametrize("case", runnable(STATEFUL))
def test_it_trains_as_fit_does_to_the_bit(case):
    """The checks leave no trace in the training, but for their figure in the History."""

    def end(memorize):
        keras.utils.set_random_seed(5)
        model, how = case.make_model(), {**arguments(case), "seed": 0, "verbose": 0}
        if not memorize:
            return run_state(model, kp.fit(model, **how))
        far = {"error": lambda y, p: np.full(len(keras.tree.flatten(y)[0]), 9.0)}
        report = kp.memorize(model, how.pop("x"), how.pop("y"), 1.0, **far, **how)
        assert set(report.history.history.pop("largest_error")) == {9.0}
        return run_state(model, report.history)

    assert_same_state(end(memorize=False), end(memorize=True))


class Interrupt(keras.callbacks.Callback):
    """Sends Ctrl-C in the step after `at` ones."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if self.left == -1:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("ends", "error", "steps"),
    [(Interrupt, KeyboardInterrupt, 6), (KillAt, Killed, 5)],
)
def test_it_ends_at_its_last_whole_step(ends, error, steps):
    """In the middle of an epoch, by Ctrl-C and by an error of a callback."""
    keras.utils.set_random_seed(1)
    model, twin = line(), line()
    twin.set_weights(model.get_weights())
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(error):
        kp.memorize(model, X, X, 0, callbacks=[ends(5)], **SHORT)
    assert signal.getsignal(signal.SIGINT) is before
    kp.fit(twin, X, X, **{**SHORT, "total_steps": steps, "steps_per_epoch": steps})
    assert_equal(values(twin), values(model))
    # It is fit to be trained further.
    model.fit(X, X, verbose=0)


def test_a_checkpoint_takes_ctrl_c_and_the_run_goes_on():
    how = {**SHORT, "tolerance": 0}
    with pytest.raises(kp.RunInterrupted):
        kp.memorize(
            line(), X, X, callbacks=[kp.Checkpoint("run"), Sender("step", 5, ["int"])], **how
        )
    keras.utils.clear_session(free_memory=False)
    report = kp.memorize(
        line(), X, X, callbacks=[kp.Checkpoint("run"), Sender("step", 99, ["int"])], **how
    )
    assert report.history.resumes == [6]


def test_steps_in_blocks_are_the_same():

    def end(fuse):
        keras.utils.set_random_seed(3)
        model = line()
        how = {**SHORT, "total_steps": 60, "steps_per_epoch": 20, "fuse": fuse}
        return model, kp.memorize(model, X, X**2, 1e-9, **how)

    (one, first), (other, second) = end(False), end(True)
    assert_equal(values(one), values(other))
    assert first == second


def test_a_model_that_is_built_by_its_first_batch():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    assert kp.memorize(model, X, 3 * X, 1e-3, seed=0, verbose=0).within


def test_a_killed_run_goes_on_and_ends_in_the_same_report():
    def run(folder, *callbacks):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(2)
        saved = [kp.Checkpoint(folder, every_steps=3)]
        return kp.memorize(line(), X, 2 * X, 1e-2, callbacks=[*saved, *callbacks], **SHORT)

    whole = run("whole")
    with pytest.raises(Killed):
        run("killed", KillAt(7))
    for _ in ("goes on", "is finished"):
        again = run("killed", KillAt(99))
        assert again == whole
        assert again.history.history == whole.history.history


def test_other_callbacks_see_the_largest_error():
    stopping = kp.EarlyStopping("largest_error", patience=2, verbose=0)
    report = kp.memorize(
        line(0.0), X, X, 0, callbacks=stopping, total_steps=50, epochs=50, seed=0, verbose=0
    )
    assert report.steps == 3


def test_a_certificate_passes_through_its_file():
    model = line(0.0)
    report = kp.memorize(model, X, X, 1e-3, **SHORT)
    report.save("report.json")
    report.save("report.json")
    kept = kp.MemorizationReport.load("report.json")
    assert kept == report
    assert kept.history is None
    assert kept.is_of(model, X, X)
    assert not kept.is_of(model, X, 2 * X)
    model.set_weights([one + 1 for one in model.get_weights()])
    assert not kept.is_of(model, X, X)
    assert os.listdir() == ["report.json"]


def test_infinity_passes_through_the_file():
    model = line()
    model.set_weights([np.full((1, 1), np.inf), np.zeros(1)])
    report = kp.memorize(model, X, X, 1.0, total_steps=1, epochs=1, seed=0, verbose=0)
    report.save("report.json")
    assert kp.MemorizationReport.load("report.json") == report
    assert report.worst[0].output is None


@pytest.mark.parametrize(
    "change",
    [
        {"format": "keras-patterns memorization 9"},
        {"examples": -1},
        {"largest_error": "0.1"},
        {"worst": [{"example": 0}]},
        {"surplus": 1},
        {"tolerance": None},
    ],
)
def test_a_file_of_something_else_is_refused(change):
    kp.memorize(line(0.0), X, X, 1e-3, **SHORT).save("report.json")
    with open("report.json", encoding="utf-8") as file:
        found = json.load(file)
    with open("report.json", "w", encoding="utf-8") as file:
        json.dump({**found, **change}, file)
    with pytest.raises(kp.StoreError, match=r"report.json: is no report of a memorization \("):
        kp.MemorizationReport.load("report.json")


def test_what_is_no_file_is_refused():
    with pytest.raises(kp.StoreError, match="cannot read the report"):
        kp.MemorizationReport.load("nowhere.json")
    with pytest.raises(kp.StoreError, match="cannot write the report"):
        kp.memorize(line(0.0), X, X, 1e-3, **SHORT).save("no/folder/report.json")


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"tolerance": -1}, ValueError, "`tolerance` must be finite, at least 0"),
        ({"tolerance": "small"}, TypeError, "`tolerance` must be a number"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"validation_split": 0.2}, ValueError, "`validation_split` has no place here"),
        ({"validation_data": (X, X)}, ValueError, "`validation_data` has no place here"),
        ({"y": X[:5]}, ValueError, "must hold the same number of examples"),
        ({"y": np.where(X > 0.9, np.nan, X)}, ValueError, "`y` is not finite in 1 of 9 examples"),
        ({"y": np.ones((9, 2))}, ValueError, r"`y` has the shape \(None, 2\), and the output"),
        ({"y": (X, X)}, ValueError, "has 1 outputs, and `y` 2 arrays"),
        ({"y": np.array(["a"] * 9)}, TypeError, "`y` must hold real numbers"),
        ({"y": np.ones(9), "relative": True}, ValueError, "`y` is 1.0 everywhere"),
        ({"error": lambda y, p: abs(y - p).mean()}, ValueError, r"an array of shape \(9, \.\.\.\)"),
        ({"error": lambda y, p: (y - p).T}, ValueError, r"float64 of shape \(1, 9\)"),
        ({"error": lambda y, p: y - p - 9}, ValueError, "an error below 0 would be within each"),
        ({"x": range(9)}, TypeError, "`x` is no array"),
        ({"model": None}, TypeError, "must be a Keras model"),
    ],
)
def test_arguments_are_checked_before_anything_is_trained(changed, error, said):
    how = {"model": line(), "x": X, "y": X, "tolerance": 1.0, **changed}
    with pytest.raises(error, match=said):
        kp.memorize(**how)
    if how["model"]:
        assert int(how["model"].optimizer.iterations) == 0


def test_a_function_that_is_tabulated_may_give_tensors():
    """Those of a model have a gradient on PyTorch."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])

    def function(points):
        return keras.ops.square(model(points))

    _, y = kp.tabulate(function, [(0, 3)], 4, batch_size=3, verbose=0)
    assert y.tolist() == [[0], [1], [4], [9]]
    _, y = kp.tabulate(lambda point: keras.ops.sum(point), [(0, 3)], 4, verbose=0)
    assert y.tolist() == [0, 1, 2, 3]
