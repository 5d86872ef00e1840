"""Event files for TensorBoard: a run is one series in a folder of its own."""

import shutil
import signal

import keras
import numpy as np
import pytest
from children import check_end, run
from places import SUPPORT
from tensorboardX.proto.event_pb2 import Event, SessionLog

import keras_patterns as kp
from keras_patterns.trackers.event_files import _EventFiles, _files, _read, _records
from keras_patterns.trackers.protocol import Row, RunEvent, TrackedRun

SCRIPT = SUPPORT / "run_tracked.py"
RUN = TrackedRun("20261127-120000-0a1b2c3d", "a/b größer", {"rate": 0.1})


def shown(folder):
    """What TensorBoard shows of a run: each mark drops what comes from its step on."""
    points = []
    for file in _files(folder):
        for record in _records(file):
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                points = [point for point in points if point[0] < event.step]
            points += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return [point for point in points if "/" not in point[1]]


def child(path, *arguments, expect=0):
    check_end(run(path, *arguments, script=SCRIPT), expect)


def only_run(folder):
    (found,) = (one for one in (folder / "logs").iterdir() if one.name != "naive")
    return found


def test_a_run_that_is_killed_has_the_series_of_one_left_alone(tmp_path):
    """Before a step, and once a checkpoint is on disk. A callback that writes at once has points
    twice.
    """
    # An epoch ends at step 30, and the newest checkpoint is that of step 28 at most.
    for kill in (("step", 32, "--together"), ("published", 2)):
        options = ("tensorboard", "naive", "--kill", *kill)
        child(tmp_path, "killed", *options, expect=-signal.SIGKILL)
    child(tmp_path, "killed", "tensorboard", "naive")
    child(tmp_path, "alone", "tensorboard", "naive")
    killed, alone = (shown(only_run(tmp_path / name)) for name in ("killed", "alone"))
    assert killed == alone
    assert {tag for _, tag, _ in alone} == {"loss", "mae", "val_loss", "val_mae", "learning_rate"}
    steps = [step for step, tag, _ in alone if tag == "loss"]
    assert steps == sorted(set(steps) | {15, 30, 45, 60})
    assert len(_files(only_run(tmp_path / "killed"))) > 1
    naive = [step for step, _, _ in shown(tmp_path / "killed" / "logs" / "naive")]
    assert len(naive) > len(set(naive)) == 4


@pytest.fixture
def files(tmp_path):
    made = _EventFiles(tmp_path)
    made.open(RUN)
    yield made
    made.close("KILLED")


def row(step, **metrics):
    return Row(step, float(step), metrics or {"loss": 1 / step})


@pytest.mark.once
def test_what_was_written_is_read(files, tmp_path):
    assert files.open(RUN) == -1
    events = (RunEvent("stopped", "enough"),)
    files.send([row(1), Row(2, 2.0, {"a": float("nan"), "é/ü": float("-inf")}, events)])
    files.close("KILLED")
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"a_b_größer-{RUN.id}"
    last, settings = _read(folder)
    assert last == 2
    assert "| rate | 0.1 |" in settings
    tags = [
        value.tag
        for record in _records(_files(folder)[0])
        for value in Event.FromString(record).summary.value
    ]
    assert tags == ["loss", "settings/text_summary", "a", "é/ü", "events/stopped/text_summary"]
    assert _EventFiles(tmp_path).open(RUN) == 2


@pytest.mark.once
def test_settings_are_written_once_and_when_they_change(files, tmp_path):
    files.send([row(1)])
    for settings in (RUN.settings, {"rate": 0.2}):
        again = _EventFiles(tmp_path)
        again.open(TrackedRun(RUN.id, "another name", settings))
        again.send([row(again._last + 1)])
        again.close("FINISHED")
    (folder,) = tmp_path.iterdir()
    texts = [
        value.tensor.string_val[0].decode()
        for file in _files(folder)
        for record in _records(file)
        for value in Event.FromString(record).summary.value
        if value.tag.startswith("settings")
    ]
    assert len(texts) == 2
    assert "0.1" in texts[0]
    assert "0.2" in texts[1]


@pytest.mark.once
@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_record_that_was_cut_off_is_none(files, tmp_path, cut):
    files.send([row(1), row(2)])
    files.close("KILLED")
    (folder,) = tmp_path.iterdir()
    (file,) = _files(folder)
    file.write_bytes(file.read_bytes()[:-cut])
    last, _ = _read(folder)
    again = _EventFiles(tmp_path)
    assert again.open(RUN) == last < 2
    again.send([row(step) for step in (1, 2, 3) if step > last])
    again.close("FINISHED")
    assert [step for step, _, _ in shown(folder)] == [1, 2, 3]


@pytest.mark.once
def test_going_back_drops_what_came_after(files, tmp_path):
    files.send([row(step) for step in range(1, 9)])
    assert files.rewind(5)
    files.send([row(6, loss=7.0)])
    (folder,) = tmp_path.iterdir()
    assert shown(folder)[-2:] == [(5, "loss", pytest.approx(0.2)), (6, "loss", 7.0)]
    assert _read(folder)[0] == 6


@pytest.mark.once
def test_the_files_are_in_order_whatever_the_clock_says(files, tmp_path, monkeypatch):
    files.send([row(1)])
    monkeypatch.setattr("keras_patterns.trackers.event_files.time.time", lambda: 5.0)
    files.rewind(0)
    files.send([row(1, loss=3.0)])
    (folder,) = tmp_path.iterdir()
    assert shown(folder) == [(1, "loss", 3.0)]


def fit(*callbacks):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((16, 3))
    return kp.fit(model, x, x[:, 0], epochs=2, seed=0, verbose=0, callbacks=list(callbacks))


@pytest.mark.once
def test_two_runs_in_one_folder_are_two_runs(tmp_path):
    for name in ("a", "b"):
        fit(kp.trackers.TensorBoard("logs", name="same"), kp.Checkpoint(tmp_path / name))
    assert len(list((tmp_path / "logs").iterdir())) == 2


@pytest.mark.once
def test_two_trackers_of_a_run_have_a_folder_each(tmp_path):
    fit(*(kp.trackers.TensorBoard("logs") for _ in range(2)), kp.Checkpoint("run"))
    first, second = (shown(folder) for folder in (tmp_path / "logs").iterdir())
    assert first == second
    assert first


@pytest.mark.once
def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path, capsys):
    (tmp_path / "logs").write_text("a file")
    history = fit(kp.trackers.TensorBoard("logs"), kp.Checkpoint("run"))
    assert len(history.history["loss"]) == 2
    said = capsys.readouterr().out
    assert said.count("TensorBoard: does not take the curves of this run") == 1
    (tmp_path / "logs").unlink()
    fit(kp.trackers.TensorBoard("logs"), kp.Checkpoint("run"))
    assert [step for step, tag, _ in shown(only_run(tmp_path)) if tag == "loss"] == [1, 2]


@pytest.mark.once
def test_the_logs_elsewhere_have_the_whole_run(tmp_path):
    fit(kp.trackers.TensorBoard("logs"), kp.Checkpoint("run"))
    shutil.rmtree("logs")
    fit(kp.trackers.TensorBoard(tmp_path / "elsewhere"), kp.Checkpoint("run"))
    (folder,) = (tmp_path / "elsewhere").iterdir()
    assert [step for step, tag, _ in shown(folder) if tag == "loss"] == [1, 2]


@pytest.mark.once
def test_each_trial_of_a_search_is_a_run(tmp_path):
    def objective(trial):
        rate = trial.suggest_float("rate", 0.01, 0.1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(rate), "mse")
        x = np.ones((16, 3))
        board = kp.trackers.TensorBoard(tmp_path / "logs", name=f"trial-{trial.number}")
        trial.fit(model, x, x[:, 0], epochs=2, callbacks=[board])

    kp.tune(objective, tmp_path / "search", n_trials=2, monitor="loss", verbose=0)
    names = sorted(folder.name for folder in (tmp_path / "logs").iterdir())
    assert [name.partition("-2")[0] for name in names] == ["trial-0", "trial-1"]
