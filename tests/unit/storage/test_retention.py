"""Which checkpoints stay."""

import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_support import at, listing, some_arrays, tensors

from keras_patterns.storage import Candidate, CheckpointFolder, Position, Retention, Score

pytestmark = pytest.mark.once


def candidates(values, mode="min"):
    return [
        Candidate(at(step), None if value is None else Score("loss", mode, value))
        for step, value in values.items()
    ]


def kept(retention, rows):
    return sorted(position.step for position in retention.kept(rows))


def test_last_best_and_every_are_joined():
    rows = candidates({10: 3.0, 20: 1.0, 30: 2.0, 40: 5.0, 50: 4.0})
    assert kept(Retention(keep_last=2), rows) == [40, 50]
    assert kept(Retention(keep_last=1, keep_best=2), rows) == [20, 30, 50]
    assert kept(Retention(keep_last=1, keep_every_steps=20), rows) == [20, 40, 50]
    assert kept(Retention(keep_last=None), rows) == [10, 20, 30, 40, 50]


def test_best_by_the_mode_of_the_newest_and_only_finite():
    values = {1: float("nan"), 2: float("-inf"), 3: 0.5, 4: 0.7, 5: 0.7, 6: None, 7: float("inf")}
    assert kept(Retention(1, keep_best=1), candidates(values)) == [3, 7]
    assert kept(Retention(1, keep_best=1), candidates(values, "max")) == [4, 7]
    other = [Candidate(at(9), Score("accuracy", "max", 0.1))]
    assert kept(Retention(1, keep_best=2), candidates(values) + other) == [9]


def test_before_a_validation_only_the_newest_stays():
    rows = [Candidate(Position(1, step, phase)) for step in (1, 2) for phase in (0, 1)]
    half = Candidate(Position(1, 3, 0))
    assert Retention(keep_last=None).kept(rows) == {Position(1, 1, 1), Position(1, 2, 1)}
    assert Retention(keep_last=1).kept([*rows, half]) == {Position(1, 2, 1), half.position}


@given(st.sets(st.integers(0, 50), min_size=1), st.integers(1, 5), st.integers(1, 9))
def test_the_newest_always_stays_and_selection_is_stable(steps, last, every):
    rows = candidates(dict.fromkeys(steps, 1.0))
    retention = Retention(last, 1, every)
    chosen = retention.kept(rows)
    assert at(max(steps)) in chosen
    assert {at(step) for step in sorted(steps)[-last:]} <= chosen
    again = retention.kept(row for row in rows if row.position in chosen)
    assert again == chosen


def test_what_a_kept_one_needs_stays_too():
    rows = [
        Candidate(at(1)),
        Candidate(at(2), None, (at(1),)),
        Candidate(at(3)),
        Candidate(at(4), None, (at(2), at(9))),
    ]
    assert kept(Retention(keep_last=1), rows) == [1, 2, 4]
    # Nobody needs it any more.
    assert kept(Retention(keep_last=1), [*rows, Candidate(at(5))]) == [5]


def test_needs_are_written_and_obeyed(tmp_path):
    store = CheckpointFolder(tmp_path)
    for step in range(1, 6):
        store.write(at(step), {}, tensors(some_arrays(step)), needs=[at(2)] if 2 < step < 5 else ())
        CheckpointFolder(tmp_path).prune(Retention(keep_last=1))
        # Two that share no file stay in any case.
        assert (2 in store.steps()) == (1 < step < 5)
    assert CheckpointFolder(tmp_path).at(5).manifest.needs == ()


def test_what_was_saved_after_a_checkpoint_can_be_discarded(tmp_path):
    store = CheckpointFolder(tmp_path)
    for step in (1, 2, 3, 4):
        store.write(at(step), {}, tensors(some_arrays(step)))
    (tmp_path / at(3).folder_name / "mine.txt").write_text("a person's own")
    store.discard_after(at(2))
    assert store.steps() == [1, 2]
    (aside,) = tmp_path.glob("abandoned-*/mine.txt")
    assert aside.read_text() == "a person's own"
    assert all(report.problem is None for report in store.verify())
    store.write(at(3), {"another": "way"}, tensors(some_arrays(3)))
    assert store.steps() == [1, 2, 3]


@pytest.mark.parametrize("name", ["keep_last", "keep_best", "keep_every_steps"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_a_wrong_argument_is_refused_where_it_is_given(name, value):
    with pytest.raises(
        (TypeError, ValueError),
        match=rf"Checkpoint: `{name}` must be .*Received: {re.escape(repr(value))}",
    ):
        Retention(**{name: value})


def test_a_whole_number_of_numpy_is_one():
    assert kept(Retention(keep_last=np.int64(2)), candidates(dict.fromkeys((1, 2, 3), 0.0))) == [
        2,
        3,
    ]


def fill(directory, steps, run=1):
    store = CheckpointFolder(directory)
    for step in steps:
        store.write(Position(run, step), {}, tensors(some_arrays(step)))
    return CheckpointFolder(directory)


def steps_of(store):
    return [entry.position.step for entry in store.entries()]


def test_pruned_are_deleted_and_told(tmp_path):
    store = fill(tmp_path, range(1, 6))
    assert [entry.position.step for entry in store.prune(Retention(2))] == [1, 2, 3]
    assert listing(tmp_path) == [at(4).folder_name, at(5).folder_name]
    assert store.steps() == [4, 5]
    assert store.prune(Retention(2)) == []


def test_only_the_newest_run_is_pruned(tmp_path):
    fill(tmp_path, [1, 2, 3])
    store = fill(tmp_path, [1, 2], run=2)
    assert [entry.position for entry in store.prune(Retention(1))] == [(2, 1, 1)]
    assert len(store.entries()) == 4
    assert store.steps() == [2]


def test_the_newest_sound_stays_and_the_damaged_is_left_alone(tmp_path):
    store = fill(tmp_path, range(1, 5))
    for step in (3, 4):
        path = tmp_path / at(step).folder_name / "tensors-1.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    store.prune(Retention(1))
    assert steps_of(store) == [2, 3, 4]
    assert store.newest_sound()[0].position.step == 2


def test_one_that_is_known_to_be_damaged_does_not_count(tmp_path):
    store = fill(tmp_path, range(1, 5))
    os.truncate(tmp_path / at(3).folder_name / "tensors-1.safetensors", 9)
    assert [report.problem is None for report in store.verify()] == [True, True, False, True]
    assert [entry.position.step for entry in store.prune(Retention(2))] == [1]
    assert steps_of(store) == [2, 3, 4]


def test_one_that_was_damaged_after_it_was_written_is_not_trusted(tmp_path):
    store = CheckpointFolder(tmp_path)
    for step in (1, 2):
        entry = store.write(at(step), {}, tensors(some_arrays(step)))
    os.truncate(entry.folder / "tensors-1.safetensors", 9)
    assert store.prune(Retention(1)) == []


def test_nothing_foreign_is_deleted(tmp_path):
    store = fill(tmp_path, range(1, 5))
    (tmp_path / at(1).folder_name / "notes.txt").write_text("mine")
    (tmp_path / "run-1-step-1").mkdir()
    (tmp_path / "run-1-step-0000000001").mkdir()
    (tmp_path / "final.keras").write_text("mine")
    (tmp_path / at(2).folder_name / "manifest.json").unlink()
    assert [entry.position.step for entry in store.prune(Retention(1))] == [3]
    assert sorted(os.listdir(tmp_path / at(1).folder_name)) == [
        "manifest.json", "notes.txt", "tensors-1.safetensors",
    ]  # fmt: skip
    assert listing(tmp_path) == [
        "final.keras", "run-1-step-0000000001", at(1).folder_name, at(2).folder_name,
        at(4).folder_name, "run-1-step-1",
    ]  # fmt: skip


def test_best_of_the_folder(tmp_path):
    store = CheckpointFolder(tmp_path)
    assert store.best() is None
    assert store.latest() is None
    for step, value in {1: 0.2, 2: 0.9, 3: float("nan"), 4: 0.5}.items():
        score = {"monitor": "accuracy", "mode": "max", "value": value}
        store.write(at(step), {}, tensors({"a": np.ones(step)}), score=score)
    assert store.best().position == at(2)
    assert store.best().score == 0.9
    assert store.latest().position == at(4)
