"""Killed runs as TensorBoard, W&B (offline) and MLflow (in a database) show them, by their own
readers.
"""

import random
import signal

import keras
import numpy as np
import pytest
import run_tracked
from children import check_end, run
from places import SUPPORT
from tracked_series import READERS, from_tensorboard

import keras_patterns as kp

pytestmark = [
    pytest.mark.trackers,
    # MLflow's models ask SQLAlchemy for it.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
]
SCRIPT = SUPPORT / "run_tracked.py"
ALL = ("tensorboard", "mlflow", "wandb")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    for name, value in {
        "WANDB_MODE": "offline",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }.items():
        monkeypatch.setenv(name, value)


def child(path, *arguments, expect=0):
    # Alone: their threads must not run in what is forked.
    check_end(run(path, *arguments, script=SCRIPT, alone=True), expect)


def killed(path, kills, *arguments):
    for place, count in kills:
        together = [] if place == "published" else ["--together"]
        options = ("--kill", place, count, *together, *arguments)
        child(path, "killed", *ALL, *options, expect=-signal.SIGKILL)
    child(path, "killed", *ALL, "--together", *arguments)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_three_times_has_the_series_of_one_left_alone(tmp_path, seed):
    """Once before a random step, once while a checkpoint is published, once when it is."""
    drawn = random.Random(seed)
    kills = [("step", drawn.randint(8, 20)), ("rename", 2), ("published", drawn.randint(1, 2))]
    drawn.shuffle(kills)
    child(tmp_path, "alone", *ALL)
    killed(tmp_path, kills)
    for name in ALL:
        alone, again = (READERS[name](tmp_path / folder) for folder in ("alone", "killed"))
        assert again == alone, (name, kills)
        assert {len(alone[metric]) for metric in ("loss", "mae")} == {32}
        assert len(alone["val_loss"]) == 12


def test_a_run_that_is_rolled_back_and_killed_has_the_series_of_one_that_is_not_killed(tmp_path):
    child(tmp_path, "alone", *ALL, "--nan", 50)
    killed(tmp_path, [("step", 17), ("step", 19)], "--nan", 50)
    for name in ALL:
        alone, again = (READERS[name](tmp_path / folder) for folder in ("alone", "killed"))
        assert again == alone, name
        assert np.isfinite([value for _, value in alone["loss"]]).all()


def test_a_callback_that_writes_at_once_has_points_twice(tmp_path):
    """The control, by the same reader."""
    child(tmp_path, "killed", "naive", "--kill", "step", 33, expect=-signal.SIGKILL)
    child(tmp_path, "killed", "naive")
    steps = [step for step, _ in from_tensorboard(tmp_path / "killed")["loss"]]
    assert len(steps) > len(set(steps))


def fit(*callbacks, **arguments):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((16, 3))
    given = {"epochs": 2, "seed": 0, "verbose": 0, **arguments}
    return kp.fit(model, x, x[:, 0], callbacks=list(callbacks), **given)


class Odd(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs |= {"top 5 (%)": 0.5, "a//b": 1.0, "größe/µ": 2.0, "nan": np.nan, "inf": np.inf}


def mlflow_run(path):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{path}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("names").experiment_id])
    return found


def test_names_values_settings_and_status_at_mlflow(tmp_path):
    def tracker(**settings):
        return kp.trackers.MLflow("names", f"sqlite:///{tmp_path}/mlflow.db", settings=settings)

    class Stops(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fit(
            Odd(),
            tracker(units=3),
            Stops(),
            kp.Checkpoint(tmp_path / "run", every_steps=1),
            epochs=3,
        )
    # Nothing was saved in the epoch that failed: the first rows come with the next try.
    fit(Odd(), tracker(units=3), kp.Checkpoint(tmp_path / "run"), epochs=3)
    first = mlflow_run(tmp_path)
    assert first.info.status == "FINISHED"
    assert first.data.params["units"] == "3"
    names = {"top 5 _28__25__29_", "a_2f__2f_b", "größe/µ", "nan", "inf", "loss", "kp/step"}
    assert names <= first.data.metrics.keys()
    assert np.isnan(first.data.metrics["nan"])
    fit(Odd(), tracker(units=4), kp.Checkpoint(tmp_path / "run"), epochs=4)
    second = mlflow_run(tmp_path)
    assert second.info.run_id == first.info.run_id
    assert second.data.params["units"] == "3"
    assert second.data.tags["units after step 3"] == "4"
    assert second.data.metrics["kp/step"] == 4


def test_mlflow_that_is_down_ends_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    tracker = kp.trackers.MLflow("names", "http://127.0.0.1:9")
    assert len(fit(tracker, kp.Checkpoint(tmp_path / "run")).history["loss"]) == 2
    assert capsys.readouterr().out.count("MLflow: does not take the curves of this run") == 1


def test_wandb_takes_settings_events_and_a_name(tmp_path, monkeypatch):
    from keras_patterns.trackers.wandb_runs import _records_of

    tracker = kp.trackers.WandB("p", "größe/1", {"units": 3}, {"dir": str(tmp_path)})
    fit(Odd(), keras.callbacks.EarlyStopping("loss", patience=0, min_delta=9), tracker, epochs=9)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    records = list(_records_of(file))
    (begun,) = (one.run for one in records if one.HasField("run"))
    assert begun.display_name == "größe/1"
    assert "units" in {item.key for one in records for item in one.config.update}
    fields = {
        item.key or "/".join(item.nested_key): item.value_json
        for one in records
        for item in one.history.item
    }
    assert fields["events/stopped"] == '"by EarlyStopping"'
    assert fields["nan"] == "NaN"
    assert fields["größe/µ"] == "2"


@pytest.mark.parametrize("name", ALL)
def test_a_run_that_goes_on_at_once_has_each_point_once(tmp_path, name):
    """W&B writes in a process of its own, and its `finish` does not wait for that."""
    folder = tmp_path / "run"
    for total in range(1, 5):
        fit(run_tracked.tracker(name, folder), kp.Checkpoint(folder / "checkpoints"), epochs=total)
        assert [step for step, _ in READERS[name](folder)["loss"]] == [*range(1, total + 1)]


def test_keras_s_own_callback_keeps_working(tmp_path, backend):
    """It imports TensorFlow on every backend."""
    if backend != "tensorflow":
        pytest.skip("it needs TensorFlow")
    own = keras.callbacks.TensorBoard(tmp_path / "keras")
    ours = kp.trackers.TensorBoard(tmp_path / "logs")
    fit(own, ours, kp.Checkpoint(tmp_path / "run"))
    assert own._global_train_batch == 2
    assert from_tensorboard(tmp_path)["loss"]
    fit(keras.callbacks.TensorBoard(tmp_path / "keras"), kp.Checkpoint(tmp_path / "run"), epochs=3)
    assert len(list((tmp_path / "keras" / "train").iterdir())) == 2


def test_a_script_that_leaves_keras_s_callback_for_ours_goes_on(tmp_path, backend):
    if backend != "tensorflow":
        pytest.skip("it needs TensorFlow")
    fit(keras.callbacks.TensorBoard(tmp_path / "keras"), kp.Checkpoint(tmp_path / "run"))
    fit(kp.trackers.TensorBoard(tmp_path / "logs"), kp.Checkpoint(tmp_path / "run"), epochs=3)
    assert [step for step, _ in from_tensorboard(tmp_path)["loss"]] == [1, 2, 3]
