"""Rows of a run reach a tracker once, each, whatever happens to the run or to the tracker."""

import shutil
import threading

import keras
import numpy as np
import pytest
from killers import KillAt, Killed, Sender

import keras_patterns as kp
from keras_patterns.testing import assert_restores
from keras_patterns.trackers.rows import RowReader

pytestmark = pytest.mark.once
CHECKPOINT_EVERY = 4


class Kept:
    """A tracker in memory, which keeps runs by their ids and can be out of order."""

    def __init__(self, takes_back=False, tells=True):
        self.runs, self.statuses, self.settings, self.opened = {}, [], [], 0
        self.is_down = False
        self.takes_back, self.tells = takes_back, tells

    def open(self, run):
        self._check()
        self.opened += 1
        self.settings.append(dict(run.settings))
        self.rows = self.runs.setdefault(run.id, [])
        return (self.rows[-1].step if self.rows else -1) if self.tells else None

    def send(self, rows):
        self._check()
        assert rows
        self.rows += rows

    def rewind(self, step):
        if self.takes_back:
            self.rows[:] = [row for row in self.rows if row.step <= step]
        return self.takes_back

    def close(self, status):
        self.statuses.append(status)

    def _check(self):
        assert threading.current_thread() is not threading.main_thread()
        if self.is_down:
            raise OSError("no space left")

    @property
    def only(self):
        (rows,) = self.runs.values()
        steps = [row.step for row in rows]
        assert steps == sorted(set(steps)), "each step once"
        return rows


def a_model():
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def train(folder, *callbacks, y=None, steps=20, **arguments):
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    y = x.sum(1) if y is None else y
    saved = [] if folder is None else [kp.Checkpoint(folder, every_steps=CHECKPOINT_EVERY)]
    given = {"log_every_steps": 1, "batch_size": 4, "epochs": steps // 5, **arguments}
    return kp.fit(
        a_model(),
        x,
        y,
        total_steps=steps,
        seed=0,
        verbose=0,
        callbacks=[*callbacks, *saved],
        **given,
    )


def content(rows):
    return [(row.step, dict(row.metrics), row.events) for row in rows]


def alone(**arguments):
    """The rows of a run that is left alone, without checkpoints."""
    kept = Kept()
    train(None, kp.trackers.Tracking(kept), **arguments)
    return content(kept.only)


def test_all_that_the_history_has_is_sent():
    kept = Kept()
    history = train(None, kp.trackers.Tracking(kept, settings={"dropout": 0.5}))
    rows = {row.step: row.metrics for row in kept.only}
    assert sorted(rows) == list(range(1, 21))
    for row in history.step_logs:
        assert rows[row["step"]]["loss"] == row["loss"]
    for step, loss in zip(history.epoch_end_steps, history.history["loss"], strict=True):
        assert rows[step]["loss"] == loss
        assert rows[step]["learning_rate"] == history.learning_rates[0]
    assert kept.statuses == ["FINISHED"]
    assert kept.settings[0]["dropout"] == 0.5
    assert kept.settings[0]["total_steps"] == 20


@pytest.mark.parametrize(
    ("when", "takes_back", "tells"),
    [("saved", False, True), ("saved", True, False), ("now", True, True)],
)
def test_a_run_that_is_killed_has_the_rows_of_one_left_alone(tmp_path, when, takes_back, tells):
    kept = Kept(takes_back, tells)
    for steps in (3, 9, 7):
        with pytest.raises(Killed):
            train(tmp_path, kp.trackers.Tracking(kept, when), KillAt(steps))
    train(tmp_path, kp.trackers.Tracking(kept, when))
    assert content(kept.only) == alone()
    assert kept.statuses[-1] == "FINISHED"
    assert set(kept.statuses[:-1]) <= {"FAILED"}


def test_rows_wait_for_the_checkpoint_that_holds_them(tmp_path):
    kept = Kept()
    with pytest.raises(Killed):
        train(tmp_path, kp.trackers.Tracking(kept), KillAt(11))
    newest = kp.CheckpointStore(tmp_path).steps()[-1]
    assert newest == 8
    assert kept.only[-1].step <= newest


def test_a_run_that_is_asked_to_stop_was_killed(tmp_path):
    kept = Kept()
    with pytest.raises(kp.RunInterrupted):
        train(tmp_path, kp.trackers.Tracking(kept), Sender("step", 9, ["term"]))
    assert kept.statuses == ["KILLED"]
    train(tmp_path, kp.trackers.Tracking(kept))
    assert content(kept.only) == alone()
    assert kept.statuses == ["KILLED", "FINISHED"]


@pytest.mark.parametrize("when", ["saved", "now"])
def test_rows_of_a_course_that_is_rolled_back_are_not_there(tmp_path, when):
    y = np.random.default_rng(0).normal(size=(40, 3)).astype("float32").sum(1)
    y[17] = np.nan
    kept = Kept(takes_back=when == "now")
    history = train(tmp_path, kp.NonFiniteGuard(), kp.trackers.Tracking(kept, when), y=y)
    rows = {row.step: row for row in kept.only}
    assert all(np.isfinite(row.metrics["loss"]) for row in rows.values())
    assert {row["step"]: row["loss"] for row in history.step_logs}.items() <= {
        step: row.metrics["loss"] for step, row in rows.items()
    }.items()
    (event,) = history.events
    assert [one.kind for one in rows[event["step"]].events] == ["rolled back"]


def test_rows_that_a_hook_goes_back_before_are_not_sent_twice(tmp_path, capsys):
    """A hook that does not say where it may go back to."""

    class GoesBack(kp.Hook):
        gone = first = None

        def on_check(self, step):
            self.first = self.first or (self.run.position if step == 5 else None)
            if step == 15 and not self.gone:
                self.gone = True
                return kp.Rewind(self.first)
            return None

        def on_boundary(self, boundary):
            return kp.Save() if boundary.step == 5 else None

    kept = Kept()
    tracking = kp.trackers.Tracking(kept)

    class Waits(GoesBack):
        def on_check(self, step):
            tracking._courier._thread.submit(lambda: None).result()
            return super().on_check(step)

    train(tmp_path, tracking, Waits())
    assert [row.step for row in kept.only] == list(range(1, 21))
    assert "has rows of this run up to step" in capsys.readouterr().out


def test_a_tracker_that_is_down_is_named_once_and_gets_all_rows_later(tmp_path, capsys):
    kept = Kept()
    kept.is_down = True

    class Mends(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            tracking._courier._thread.submit(lambda: None).result()
            kept.is_down = epoch < 2

    tracking = kp.trackers.Tracking(kept)
    train(tmp_path, tracking, Mends())
    said = capsys.readouterr().out
    assert said.count("OSError: no space left") == 1
    assert said.count("takes the curves again; none is missing") == 1
    assert content(kept.only) == alone()


def test_what_a_tracker_did_not_take_is_sent_when_the_script_is_started_again(tmp_path, capsys):
    kept = Kept()
    kept.is_down = True
    train(tmp_path, kp.trackers.Tracking(kept))
    assert capsys.readouterr().out.count("no space left") == 1
    assert kept.runs == {}
    kept.is_down = False
    train(tmp_path, kp.trackers.Tracking(kept))
    assert content(kept.only) == alone()


def test_a_tracker_that_comes_later_gets_the_whole_run(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, KillAt(11))
    kept = Kept()
    train(tmp_path, kp.trackers.Tracking(kept))
    assert content(kept.only) == alone()


def test_a_tracker_that_has_lost_the_run_gets_the_whole_of_it(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, kp.trackers.Tracking(Kept()), KillAt(11))
    kept = Kept()
    train(tmp_path, kp.trackers.Tracking(kept))
    assert content(kept.only) == alone()


def test_a_copy_beside_its_original_has_a_run_of_its_own(tmp_path, capsys):
    kept = Kept()
    with pytest.raises(Killed):
        train(tmp_path / "first", kp.trackers.Tracking(kept), KillAt(11))
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    train(tmp_path / "copy", kp.trackers.Tracking(kept))
    assert "is a copy of that in" in capsys.readouterr().out
    train(tmp_path / "first", kp.trackers.Tracking(kept))
    first, copy = kept.runs.values()
    assert content(first) == content(copy) == alone()


def test_a_run_that_was_moved_goes_on(tmp_path):
    kept = Kept()
    with pytest.raises(Killed):
        train(tmp_path / "first", kp.trackers.Tracking(kept), KillAt(11))
    (tmp_path / "first").rename(tmp_path / "second")
    train(tmp_path / "second", kp.trackers.Tracking(kept))
    assert content(kept.only) == alone()


@pytest.mark.parametrize("takes_back", [True, False])
def test_a_run_whose_newest_checkpoint_is_lost(tmp_path, takes_back, capsys):
    kept = Kept(takes_back)
    with pytest.raises(Killed):
        train(tmp_path, kp.trackers.Tracking(kept), KillAt(13))
    newest = kp.CheckpointStore(tmp_path).entries()[-1]
    shutil.rmtree(newest.folder)
    train(tmp_path, kp.trackers.Tracking(kept))
    assert content(kept.only) == alone()


def test_a_new_run_in_the_folder_is_a_new_run_of_the_tracker(tmp_path):
    kept = Kept()
    train(tmp_path, kp.trackers.Tracking(kept))
    x = np.ones((8, 3))
    again = kp.Checkpoint(tmp_path, resume="never")
    callbacks = [kp.trackers.Tracking(kept), again]
    kp.fit(a_model(), x, x[:, 0], epochs=1, seed=1, verbose=0, callbacks=callbacks)
    assert len(kept.runs) == 2


def test_a_loop_of_ones_own_is_tracked(tmp_path):
    kept = Kept()
    x = np.ones((32, 3), "float32")
    run = kp.Run(
        a_model(),
        plan=kp.StepPlan(8, 4),
        data=(x, x[:, 0]),
        checkpoint=kp.Checkpoint(tmp_path, every_steps=2),
        callbacks=[kp.trackers.Tracking(kept)],
        seed=0,
    )
    with run:
        for step, _ in run.steps():
            run.log({"loss": float(step)})
    assert [(row.step, row.metrics["loss"]) for row in kept.only] == [(4, 1.5), (8, 5.5)]


def test_an_object_tracks_one_run_after_another(tmp_path):
    kept = Kept()
    tracking = kp.trackers.Tracking(kept)
    train(tmp_path / "a", tracking)
    train(tmp_path / "b", tracking)
    first, second = kept.runs.values()
    assert content(first) == content(second)


def test_an_object_that_is_given_twice_sends_once(tmp_path):
    kept = Kept()
    tracking = kp.trackers.Tracking(kept)
    train(tmp_path, tracking, tracking)
    assert content(kept.only) == alone()


def test_its_state_passes_through_a_checkpoint(tmp_path):
    tracking = kp.trackers.Tracking(Kept(), settings={"dropout": 0.5})
    train(tmp_path, tracking)
    assert_restores(
        tracking, lambda: kp.trackers.Tracking(tracking.tracker, settings={"dropout": 0.5})
    )


def test_the_state_of_another_callback_of_this_name_is_none():
    tracking = kp.trackers.Tracking(Kept())
    tracking.set_state({"_global_train_batch": 3})
    assert tracking.get_state() == {"run_id": "", "sent_step": -1, "folder": ""}


def test_metrics_of_several_numbers_are_named_and_left_out(capsys):
    class Extra(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs |= {"both": [1.0, 2.0], "größe/µ": np.float32(3), "bad": float("inf")}

    kept = Kept()
    train(None, Extra(), kp.trackers.Tracking(kept))
    last = kept.only[-1].metrics
    assert last["größe/µ"] == 3
    assert last["bad"] == float("inf")
    assert "both" not in last
    assert "'both': no single number, and not sent." in capsys.readouterr().out


def test_a_metric_of_some_epochs_has_its_own_steps():
    kept = Kept()
    x = np.ones((8, 3))
    train(None, kp.trackers.Tracking(kept), validation_data=(x, x[:, 0]), validation_freq=2)
    assert [row.step for row in kept.only if "val_loss" in row.metrics] == [10, 20]


def test_rows_are_read_between_two_steps():
    history = train(None)
    read = RowReader().read(history, 7, 12, now=1.0)
    assert [row.step for row in read] == [8, 9, 10, 11, 12]
    assert {row.time for row in read} == {1.0}


def test_plain_fit_is_refused():
    x = np.ones((8, 3))
    with pytest.raises(ValueError, match=r"Tracking needs the steps of kp\.fit"):
        a_model().fit(x, x[:, 0], verbose=0, callbacks=[kp.trackers.Tracking(Kept())])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((object(),), TypeError, "object lacks open, send, rewind, close"),
        ((Kept(), "later"), ValueError, "`when` must be one of 'saved', 'now'"),
        ((Kept(), "now", " "), ValueError, "`name` must be a text or None"),
        ((Kept(), "now", None, [1]), TypeError, "`settings` must be a dict"),
    ],
)
def test_arguments_are_checked(arguments, error, match):
    with pytest.raises(error, match=match):
        kp.trackers.Tracking(*arguments)


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [
        ("TensorBoard", "tensorboardX", "tensorboard"),
        ("WandB", "wandb", "wandb"),
        ("MLflow", "mlflow", "mlflow"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, kind, package, extra):
    monkeypatch.setattr("keras_patterns.trackers.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"{kind} needs {package}.*the extra `{extra}`"):
        getattr(kp.trackers, kind)("somewhere")
