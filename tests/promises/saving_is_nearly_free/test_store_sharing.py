"""Saving is nearly free: unchanged tensors are linked, and each checkpoint stands on its own."""

import errno
import os
import shutil
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_support import assert_same, at, tensors

from keras_patterns.storage import CheckpointFolder, Position, Retention, Tensor

pytestmark = pytest.mark.once

KEYS = ("a", "b", "c", "d")
BIG = 2 << 20
RETENTIONS = st.builds(
    Retention,
    keep_last=st.integers(1, 3),
    keep_best=st.none() | st.integers(1, 2),
    keep_every_steps=st.none() | st.integers(2, 5),
)
WRITES = st.tuples(
    st.just("write"), st.sets(st.sampled_from(KEYS), max_size=2), st.sampled_from([1, 1, 0])
)
DELETES = st.tuples(st.just("delete"), st.integers(0, 9), st.none())
RESTARTS = st.tuples(st.just("restart"), st.none(), st.none())
PRUNES = st.tuples(st.just("prune"), RETENTIONS, st.none())


def inodes(entry):
    return {path.stat().st_ino for path in entry.folder.glob("*.safetensors")}


def new_bytes(entry):
    """What was written for it, and not linked."""
    files = [path.stat() for path in entry.folder.glob("*.safetensors")]
    return sum(file.st_size for file in files if file.st_nlink == 1)


def complete(store):
    return [entry for entry in store.entries() if entry.position.phase == 1]


def check(store, expected):
    """Each reads back its own."""
    entries = store.entries()
    assert {entry.position for entry in entries} <= expected.keys()
    for entry in entries:
        checkpoint = store.read(entry)
        assert checkpoint.document == {"step": entry.position.step}
        assert_same(checkpoint.tensors, expected[entry.position])


def two_apart(entries):
    """Whether some two of them have no file in common."""
    return any(inodes(one).isdisjoint(inodes(two)) for one, two in combinations(entries, 2))


def check_alone(store, expected):
    """Each still reads when all others are deleted."""
    for entry in store.entries():
        with tempfile.TemporaryDirectory(dir=store.directory) as copy:
            folder = Path(copy, "alone")
            shutil.copytree(store.directory, folder, copy_function=os.link, ignore=_ignore)
            for other in CheckpointFolder(folder).entries():
                if other.position != entry.position:
                    shutil.rmtree(other.folder)
            (left,) = CheckpointFolder(folder).entries()
            assert_same(CheckpointFolder(folder).read(left).tensors, expected[entry.position])


def _ignore(_, names):
    return [
        name for name in names if not name.startswith(("run-", "manifest", "stable", "tensors"))
    ]


@settings(max_examples=80, deadline=None)
@given(st.lists(WRITES | WRITES | PRUNES | DELETES | RESTARTS, max_size=20), st.randoms())
def test_any_history_of_writes_prunes_deletions_and_restarts(operations, random):
    with tempfile.TemporaryDirectory() as directory:
        store, arrays, expected = CheckpointFolder(directory), {"frozen": np.ones(3)}, {}
        for step, (kind, what, phase) in enumerate(operations, 1):
            before = complete(store)
            if kind == "write":
                arrays = arrays | {key: np.full(3, float(step)) for key in what}
                position = Position(1, step, phase)
                score = {"monitor": "loss", "mode": "min", "value": random.random()}
                entry = store.write(position, {"step": step}, tensors(arrays), score=score)
                expected[position] = arrays
                assert store.latest() == entry
                assert not before or two_apart([entry, before[-1]])
            elif kind == "prune":
                store.prune(what)
                assert complete(store)[-1:] == before[-1:]
                if two_apart(before) and len(complete(store)) > 1:
                    assert two_apart(complete(store))
            elif kind == "delete" and store.entries():
                shutil.rmtree(store.entries()[what % len(store.entries())].folder)
            else:
                store = CheckpointFolder(directory)
            check(store, expected)
        check_alone(store, expected)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sets(st.sampled_from(KEYS)), min_size=10, max_size=14), st.booleans())
def test_a_large_frozen_tensor_is_written_at_most_four_times(changes, restart):
    with tempfile.TemporaryDirectory() as directory:
        store = CheckpointFolder(directory)
        arrays = {"backbone": np.ones(BIG, np.uint8)} | dict.fromkeys(KEYS, np.zeros(3))
        written = 0
        for step, change in enumerate(changes, 1):
            arrays = arrays | {key: np.full(3, float(step)) for key in change}
            written += new_bytes(store.write(at(step), {}, tensors(arrays)))
            store.prune(Retention(2))
            store = CheckpointFolder(directory) if restart else store
        assert written < 4.5 * BIG
        assert_same(store.newest_sound()[0].tensors, arrays)


def test_a_frozen_backbone_of_small_tensors_is_linked_after_four_saves(tmp_path):
    store = CheckpointFolder(tmp_path)
    arrays = {f"layer/{i}": np.full(1000, float(i)) for i in range(50)}
    sizes = []
    for step in range(1, 9):
        entry = store.write(at(step), {}, tensors(arrays | {"head": np.full(3, float(step))}))
        sizes.append(new_bytes(entry))
        store.prune(Retention(3))
    assert min(sizes[:4]) > 400_000
    assert max(sizes[4:]) < 1000


def test_a_thawed_layer_leaves_the_large_others_linked(tmp_path):
    store = CheckpointFolder(tmp_path)
    arrays = {f"layer/{i}": np.full(BIG, i, np.uint8) for i in range(3)}
    for step in range(1, 9):
        head = {"head": np.full(3, float(step))}
        if step > 6:
            head["layer/2"] = np.full(BIG, step, np.uint8)
        entry = store.write(at(step), {}, tensors(arrays | head))
    assert BIG < new_bytes(entry) < 1.1 * BIG


def test_validating_and_complete_of_one_step_share_and_leave_the_one_before_apart(tmp_path):
    store = CheckpointFolder(tmp_path)
    arrays = {"backbone": np.ones(BIG, np.uint8)}
    for step in range(1, 9):
        head = {"head": np.full(3, float(step))}
        half = store.write(Position(1, step, 0), {}, tensors(arrays | head))
        full = store.write(Position(1, step, 1), {}, tensors(arrays | head))
        for entry in complete(store)[-2:-1]:
            assert inodes(entry).isdisjoint(inodes(half) | inodes(full))
        assert step < 5 or new_bytes(full) < 1000
        store.prune(Retention(2))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV])
def test_without_hard_links_the_bytes_are_written(tmp_path, monkeypatch, number):
    def no_links(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    store, arrays = CheckpointFolder(tmp_path), {"a": np.ones(3)}
    for step in range(1, 7):
        store.write(at(step), {"step": step}, tensors(arrays | {"b": np.ones(step)}))
    assert all(path.stat().st_nlink == 1 for path in tmp_path.glob("*/*.safetensors"))
    check(store, {at(step): arrays | {"b": np.ones(step)} for step in range(1, 7)})


def test_a_file_known_to_be_damaged_is_not_linked_again(tmp_path):
    store, arrays = CheckpointFolder(tmp_path), {"a": np.ones(3)}
    for step in range(1, 7):
        store.write(at(step), {"step": step}, tensors(arrays))
    shared = tmp_path / at(6).folder_name / "tensors-1.safetensors"
    assert shared.stat().st_nlink == 3
    with open(shared, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    store = CheckpointFolder(tmp_path)
    assert store.newest_sound()[0].position == at(5)
    for step in (6, 7, 8):
        store.write(at(step), {"step": step}, tensors(arrays))
    assert [store.read(entry).position.step for entry in store.entries()[-4:]] == [5, 6, 7, 8]
    assert inodes(store.entries()[-1]).isdisjoint(inodes(store.entries()[-2]))


def test_a_renamed_layer_is_still_the_same_tensor(tmp_path):
    store, arrays = CheckpointFolder(tmp_path), {"a": np.ones(3)}
    for step in (1, 2, 3):
        path = f"sequential_{step}/dense/kernel"
        entry = store.write(at(step), {}, [Tensor("a", arrays["a"], path)])
    assert new_bytes(entry) == 0
    assert store.entries()[-1].manifest.tensors["a"].path == "sequential_3/dense/kernel"


def saves(directory, steps, scores):
    store = CheckpointFolder(directory)
    for step in steps:
        score = {"monitor": "loss", "mode": "min", "value": scores.get(step, 9.0)}
        store.write(at(step), {}, tensors({"frozen": np.ones(3)}), score=score)
    return store


def test_a_second_copy_stays_when_last_and_best_share_their_files(tmp_path):
    store = saves(tmp_path, (1, 2, 3), scores={1: 0.0})
    assert store.prune(Retention(1, keep_best=1)) == []
    saves(tmp_path, [4], {})
    assert [entry.position.step for entry in store.prune(Retention(1, keep_best=1))] == [2, 3]


def test_when_the_two_newest_share_a_file_it_is_not_linked_again(tmp_path):
    store = saves(tmp_path, (1, 2, 3), {})
    shutil.rmtree(tmp_path / at(2).folder_name)
    saves(tmp_path, [4], {})
    one, two, three = map(inodes, store.entries())
    assert one == two
    assert two.isdisjoint(three)
