"""The demo with two epochs and two kills, which are real; and that a changed byte is seen."""

import copy
import dataclasses

import numpy as np
import pytest

from keras_patterns.backends import current
from keras_patterns.cli import demo
from keras_patterns.cli.demo import kill_steps, training
from keras_patterns.cli.demo.comparison import Outcome, compare, parts, summary
from keras_patterns.cli.demo.processes import (
    TrainingFailedError,
    find_rate,
    select,
    train_in_process,
)
from keras_patterns.storage.parts import plain_parts

RATE, NAN_AT = 0.01, 52


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def outcomes(runs):
    """A run that was left alone, and one that was killed around its NaN and after it, and
    resumed."""
    name = current().name
    reference = Outcome.read(
        runs / "reference", [train_in_process(runs / "reference", RATE, 2, name)]
    )
    processes = [
        train_in_process(runs / "killed", RATE, 2, name, step) for step in (NAN_AT, 70, np.inf)
    ]
    return reference, Outcome.read(runs / "killed", processes)


def test_the_killed_run_was_killed_and_is_equal(outcomes):
    reference, killed = outcomes
    assert [process.killed for process in reference.processes] == [False]
    assert [process.killed for process in killed.processes] == [True, True, False]
    first, second, third = killed.processes
    assert 45 < first.last < 70  # before the NaN was found, while the run went back, or after it
    assert 1 < second.first <= NAN_AT  # it went on, and not from the start
    assert 70 <= second.last < 90
    assert third.first in (
        45 + 1,
        60 + 1,
    )  # the checkpoint of step 60 is written beside the training, and may not be there yet
    assert third.last == reference.processes[0].last == 90
    table, differences = compare(*outcomes)
    assert differences == []
    assert "NOT" not in table
    assert table.splitlines()[-1].split()[-1] == "yes"


def test_both_runs_found_the_broken_image(outcomes):
    for outcome in outcomes:
        assert outcome.not_finite == [NAN_AT]
        (finding,) = outcome.callback("NonFiniteGuard")["findings"]
        assert finding["cause"] == f"x is not finite in example {training.BROKEN_IMAGE}"
        assert [event["kind"] for event in outcome.history["events"]] == ["rolled back"]
        skipped = plain_parts(outcome.checkpoint.document)["data"]["skipped"]
        assert skipped["numbers"] == [NAN_AT - 1]
        assert skipped["examples"] == [training.BROKEN_IMAGE]
        assert np.isfinite(outcome.predictions).all()


def test_the_table_covers_all_of_both_checkpoints(outcomes):
    for outcome in outcomes:
        found = parts(outcome)
        tensors = {key for part in found.values() for key in part.tensors} - {"predictions"}
        assert tensors == set(outcome.checkpoint.tensors)
        values = {key for part in found.values() for key in part.values}
        document = plain_parts(outcome.checkpoint.document)
        callbacks = {name for name, state in document["callbacks"].items() if state}
        assert values == document.keys() - {"callbacks", "resumes"} | callbacks
        assert {
            f"callback {name}"
            for name in ("RunHistory", "EarlyStopping", "NonFiniteGuard", "StepCounter")
        } <= set(found)


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("variables/layers/2/kernel", "weights"),
        ("variables/layers/3/moving_mean", "weights"),
        ("seed", "seeds"),
        ("slot", "optimizer"),
        ("variables/loss_tracker/total", "running metrics"),
        ("random/python/words", "random states"),
    ],
)
def test_a_changed_byte_is_not_equal(outcomes, key, row):
    reference, killed = outcomes
    names = {"seed": "generator/state", "slot": "momentums["}
    key = next(name for name in killed.checkpoint.tensors if names.get(key, key) in name)
    changed = killed.checkpoint.tensors[key].copy()
    changed.reshape(-1).view(np.uint8)[0] ^= 1
    checkpoint = dataclasses.replace(
        killed.checkpoint, tensors={**killed.checkpoint.tensors, key: changed}
    )
    assert_not_equal(reference, dataclasses.replace(killed, checkpoint=checkpoint), key, row)


@pytest.mark.parametrize(
    ("part", "change", "place"),
    [
        ("RunHistory", {"epoch": [0, 2]}, "RunHistory/epoch/1"),
        ("EarlyStopping", {"wait": 7}, "EarlyStopping/wait"),
        ("NonFiniteGuard", {"seeks": 3}, "NonFiniteGuard/seeks"),
        ("StepCounter", {"step": 91}, "StepCounter/step"),
    ],
)
def test_a_changed_callback_is_not_equal(outcomes, part, change, place):
    reference, killed = outcomes
    changed = with_callback(killed, part, change)
    assert_not_equal(reference, changed, place, f"callback {part}")


def test_a_changed_prediction_is_not_equal(outcomes):
    reference, killed = outcomes
    changed = np.nextafter(killed.predictions, np.float32(2))
    assert_not_equal(
        reference, dataclasses.replace(killed, predictions=changed), "predictions", "predictions"
    )


def with_callback(outcome, name, change):
    """The outcome with another state of a callback."""
    document = copy.deepcopy(outcome.checkpoint.document)
    document["callbacks"]["content"][name].update(change)
    checkpoint = dataclasses.replace(outcome.checkpoint, document=document)
    return dataclasses.replace(outcome, checkpoint=checkpoint)


def assert_not_equal(reference, killed, place, row):
    table, differences = compare(reference, killed)
    assert [difference.place for difference in differences] == [place]
    unequal = [line for line in table.splitlines() if line.endswith("NOT EQUAL")]
    assert len(unequal) == 2
    assert unequal[0].startswith(row)
    assert unequal[1].startswith("together")


def test_the_summary_counts_kills_and_steps(outcomes):
    _, killed = outcomes
    *table, _, last_line = summary(*outcomes).splitlines()
    rows = {line[:26].strip(): line[26:].split() for line in table[2:]}
    (first, resumed), (second, again) = killed.kills
    assert rows["kills (SIGKILL)"] == ["0", "2"]
    assert rows["steps planned"] == rows["steps made"] == ["90", "90"]
    assert rows["killed in step"] == [f"{first},", str(second)]
    assert rows["steps lost by kills"] == ["0", str(first - resumed + second - again)]
    assert rows["NaN found in step"] == ["52", "52"]
    assert last_line == "Early stopping saw no reason to stop before the end."
    assert rows["best step, put back"][0] in ("45", "90")


def test_the_summary_says_why_it_stopped(outcomes):
    reference, killed = outcomes
    reason = {"reason": "no improvement for 10 epochs"}
    text = summary(reference, with_callback(killed, "EarlyStopping", reason))
    assert text.endswith("\n\nStopped early: no improvement for 10 epochs.")


@pytest.mark.parametrize(("equal", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_and_the_last_lines(outcomes, equal, code, monkeypatch, capsys, tmp_path):
    reference, killed = outcomes
    if not equal:
        killed = dataclasses.replace(killed, predictions=killed.predictions + 1)
    results = iter([reference, killed])
    monkeypatch.setattr(demo, "select", lambda *arguments: print("the table of the checkpoints"))
    monkeypatch.setattr(demo, "train_in_process", lambda *arguments: None)
    monkeypatch.setattr(demo, "find_rate", lambda *arguments: RATE)
    monkeypatch.setattr(demo, "_live_and_die", lambda *arguments: [])
    monkeypatch.setattr(demo.few_examples, "show", lambda *arguments: True)
    monkeypatch.setattr(demo, "installed", lambda: [current().name])
    monkeypatch.setattr(demo.Outcome, "read", lambda *arguments: next(results))
    assert demo.run(tmp_path / "out", epochs=2, kills=1) == code
    out = capsys.readouterr().out
    assert ("EQUAL, bit for bit." in out) == equal
    assert ("NOT EQUAL in 1 places. The first: predictions: " in out) != equal
    assert "nox -s demo -- jax torch" in out
    assert "the table of the checkpoints" in out
    pictures = list((tmp_path / "out").iterdir())
    assert [picture.name for picture in pictures] == [f"learning-curve-{current().name}.png"]
    assert pictures[0].read_bytes().startswith(b"\x89PNG")


def test_kills_fall_into_the_middle_of_epochs():
    for _ in range(50):
        steps = kill_steps(epochs=20, kills=2)
        assert [step // 45 for step in steps] == [6, 13]
        assert all(11 <= step % 45 <= 33 for step in steps)


def test_a_process_that_fails_is_an_error(tmp_path, capfd):
    (tmp_path / "run").write_text("a file, where a folder is needed")
    with pytest.raises(TrainingFailedError, match="ended with exit code 1"):
        train_in_process(tmp_path / "run", RATE, 1, current().name)
    assert "Traceback" in capfd.readouterr().err
    assert (tmp_path / "run").read_text() == "a file, where a folder is needed"


def test_the_rate_is_found_and_drawn(tmp_path, capfd):
    rate = find_rate(tmp_path / "rates.png", current().name)
    assert 1e-4 < rate < 0.1
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert "LearningRateSweep: " in capfd.readouterr().out


@pytest.mark.usefixtures("outcomes")
def test_the_best_checkpoint_is_shown_against_the_last(runs, capfd):
    select(runs / "reference", current().name)
    out = capfd.readouterr().out
    steps = [line.split()[0] for line in out.splitlines()[2:6]]
    assert steps == ["0", "45", "60", "90"]
    assert out.count("best") == 2
    assert "the last, of step 90: loss " in out


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainingFailedError, match="needs sklearn and matplotlib"):
        demo.run()


def test_the_script_has_an_epoch_of_45_steps():
    parts = training.load_digits()
    assert [len(x) for x, _ in parts] == [len(y) for _, y in parts] == [1_440, 180, 177]
    assert len(parts[0][0]) == training.BATCH_SIZE * training.STEPS_PER_EPOCH
    x, y = training.noisy_copies(*parts[0])
    assert len(x) == len(y) == training.EPOCHS * 1_440
    assert np.isnan(x).sum() == np.isnan(x[training.BROKEN_IMAGE]).sum() == 1
