"""The demo's part on transfer learning: a run that is killed between its stages, and the table of
the ways.
"""

import dataclasses

import keras
import numpy as np
import pytest

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.cli.demo import few_examples, transfer
from keras_patterns.cli.demo.comparison import Outcome, compare, journey

ACCURACIES = {(n, way): [0.1 * n, 0.2, 0.15 * n] for n in (2, 4) for way in few_examples.WAYS}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """The net before its pretraining."""
    path = tmp_path_factory.mktemp("backbone") / "backbone.keras"
    transfer.make_model().save(path)
    return path


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, backbone):
    """A run that was left alone, and one that was killed after the first stage, and went on."""
    runs, name = tmp_path_factory.mktemp("runs"), current().name
    reference = Outcome.read(
        runs / "reference", [few_examples.train_in_process(runs / "reference", backbone, name)]
    )
    processes = [
        few_examples.train_in_process(runs / "killed", backbone, name, step)
        for step in (31, np.inf)
    ]
    return reference, Outcome.read(runs / "killed", processes)


def test_the_run_was_killed_after_the_first_stage_and_is_equal(outcomes):
    reference, killed = outcomes
    first, second = killed.processes
    assert first.killed
    assert not second.killed
    assert 31 <= first.last < 60
    assert second.first in (
        1,
        16,
        31,
        46,
    )  # a checkpoint is written beside the training, and may not be there yet
    assert second.last == transfer.STEPS
    assert [(event["kind"], event["step"]) for event in killed.history["events"]] == [
        ("thawed", 30),
        ("thawed", 60),
    ]
    table, differences = compare(reference, killed)
    assert differences == []
    assert "NOT" not in table
    assert "callback GradualUnfreeze" in table
    rows = journey(reference, killed, few_examples.stage_rows).splitlines()
    assert next(row for row in rows if row.startswith("thawed after step")).split()[3:] == [
        "30,",
        "60",
        "30,",
        "60",
    ]
    assert len(killed.predictions) == 396


@pytest.mark.parametrize("equal", [True, False])
def test_the_part_tells_whether_the_runs_are_equal(outcomes, equal, monkeypatch, capsys, tmp_path):
    reference, killed = outcomes
    if not equal:
        killed = dataclasses.replace(killed, predictions=killed.predictions + 1)
    results = iter([reference, killed])
    monkeypatch.setattr(few_examples, "pretrain", lambda *arguments: None)
    monkeypatch.setattr(few_examples, "train_in_process", lambda *arguments: killed.processes[0])
    monkeypatch.setattr(few_examples, "measure", lambda *arguments: ACCURACIES)
    monkeypatch.setattr(few_examples.Outcome, "read", lambda *arguments: next(results))
    assert few_examples.show(tmp_path, tmp_path / "few.png", current().name, seeds=3) == equal
    out = capsys.readouterr().out
    assert ("EQUAL, bit for bit." in out) == equal
    assert ("NOT EQUAL in 1 places. The first: predictions: " in out) != equal
    assert out.endswith(few_examples.table(ACCURACIES) + "\n")
    assert (tmp_path / "few.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_has_medians():
    rows = few_examples.table(ACCURACIES).splitlines()
    assert rows[2].split() == ["2", "120", *["0.200"] * 3]
    assert rows[3].split() == ["4", "120", *["0.400"] * 3]


def test_each_way_is_measured(backbone, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(transfer, "STEPS", 4)
    monkeypatch.setattr(transfer, "STAGES", {2: "block*"})
    sender = type("Sender", (), {"send": staticmethod(told.append)})
    few_examples.measure_here(str(backbone), [2], 1, sender)
    assert [key for key, _ in told] == [(2, way) for way in few_examples.WAYS]
    assert all(0 <= accuracy <= 1 for _, accuracy in told)


def test_the_kill_comes_soon_after_a_stage():
    assert {few_examples.kill_step() for _ in range(500)} == set(range(31, 46))


def test_the_digits_are_disjoint():
    parts = transfer.new_digits()
    assert [len(x) for x, _ in parts] == [len(y) for _, y in parts] == [400, 100, 396]
    assert all(set(y) == set(range(5)) for _, y in parts)
    x, y = transfer.draw_examples(3, seed=1)
    assert x.shape == (15, 12, 12, 1)
    assert list(np.bincount(y)) == [3] * 5
    assert len(np.unique(x, axis=0)) == 15
    assert all((parts[0][0] == one).all((1, 2, 3)).any() for one in x)


def test_a_net_is_pretrained_and_given_a_head(tmp_path, capfd):
    transfer.pretrain(tmp_path / "backbone.keras", steps=2)
    model = transfer.with_new_head(tmp_path / "backbone.keras")
    saved = keras.models.load_model(tmp_path / "backbone.keras")
    for layer in model.layers[:-1]:
        for one, other in zip(
            layer.get_weights(), saved.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    rows = kp.trainable_table(model).rows
    assert [row.trained for row in rows] == [0] * 6 + [325]
