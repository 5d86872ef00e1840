"""Nothing lost: whatever file of whatever checkpoint is damaged before a resume, each later
checkpoint is sound.
"""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from store_support import assert_same, at, listing, tensors

import keras_patterns as kp
from keras_patterns.storage import CheckpointFolder, Retention

once = pytest.mark.once
LARGE = 2 << 20


def frozen_and_moving(step):
    """Tensors of a run: two that stay, one of them large, and one that moves."""
    return {
        "frozen": np.arange(9.0),
        "large": np.arange(LARGE // 8, dtype=np.int64),
        "moving": np.full(5, float(step)),
    }


def save(store, steps, retention, scores=None):
    with store.lock():
        for step in steps:
            score = {"monitor": "loss", "mode": "min", "value": (scores or {}).get(step, 9.0)}
            arrays = frozen_and_moving(step)
            store.write(at(step), {"step": step}, tensors(arrays), score=score)
            store.prune(retention)


def copied(directory, target):
    """A copy in which two names of one file are two names of one file."""
    known = {}
    for folder in directory.iterdir():
        if folder.is_dir():
            (target / folder.name).mkdir(parents=True)
            for path in folder.iterdir():
                to = target / folder.name / path.name
                if (number := path.stat().st_ino) in known:
                    os.link(known[number], to)
                else:
                    to.write_bytes(path.read_bytes())
                    known[number] = to
    return target


def rewrite(path, change):
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def flipped(place):
    def change(content):
        content[int(place * (len(content) - 1))] ^= 1

    return lambda path: rewrite(path, change)


def replaced(path):
    path.unlink()
    others = sorted(path.parent.parent.glob(f"*/{path.name}"))
    # Of another step: sound in itself, but not what belongs there.
    path.write_bytes(others[0].read_bytes() if others else b"another file")


DAMAGES = {
    "first byte": flipped(0),
    "byte in the middle": flipped(0.5),
    "last byte": flipped(1),
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: rewrite(path, lambda content: content.extend(b"more")),
    "deleted": Path.unlink,
    "replaced by that of another checkpoint": replaced,
}
# In the ordinary run; the others with `nox -s syscalls`.
SAMPLE = ("byte in the middle", "cut off", "deleted", "replaced by that of another checkpoint")
KINDS = [
    kind if kind in SAMPLE else pytest.param(kind, marks=pytest.mark.syscalls) for kind in DAMAGES
]
FILES = ("manifest.json", "stable-1.safetensors", "stable-2.safetensors", "tensors-1.safetensors")
STEPS = (4, 5, 6, 7)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Four checkpoints, of which every other one shares its files."""
    store = CheckpointFolder(tmp_path_factory.mktemp("grown"))
    save(store, range(1, 8), Retention(4))
    assert listing(store.directory) == [at(step).folder_name for step in STEPS]
    assert sorted(os.listdir(store.latest().folder)) == sorted(FILES)
    assert store.latest().folder.joinpath("stable-1.safetensors").stat().st_nlink == 2
    return store.directory


@once
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_checkpoint_after_a_damage_is_sound(tmp_path, grown, file, step, kind):
    directory = copied(grown, tmp_path / "copy")
    path = directory / at(step).folder_name / file
    DAMAGES[kind](path)
    store = CheckpointFolder(directory)
    newest, damaged = store.newest_sound()
    # Where the file is shared, two checkpoints are damaged, and they are not neighbours.
    assert newest.position == at(7 if step in (4, 6) or not damaged else 6)
    save(store, range(newest.position.step + 1, 13), Retention(4))
    sound = [
        one.entry.position.step for one in CheckpointFolder(directory).verify() if not one.problem
    ]
    assert [one for one in sound if one > newest.position.step][-4:] == [9, 10, 11, 12]
    assert all(one > 7 for one in sound[-4:])
    newest, damaged = CheckpointFolder(directory).newest_sound()
    assert not damaged
    assert_same(newest.tensors, frozen_and_moving(12))


@once
def test_a_sound_file_is_still_linked_beside_a_damaged_one(tmp_path, grown):
    directory = copied(grown, tmp_path / "copy")
    flipped(1)(directory / at(6).folder_name / "stable-2.safetensors")
    save(CheckpointFolder(directory), [8], Retention(4))
    links = {path.name: path.stat().st_nlink for path in (directory / at(8).folder_name).iterdir()}
    assert links["stable-1.safetensors"] > 1
    assert links["stable-2.safetensors"] == 1


@once
def test_a_file_is_read_once_before_it_is_linked_again_and_again(tmp_path, grown, monkeypatch):
    directory = copied(grown, tmp_path / "copy")
    store, read = CheckpointFolder(directory), []
    opened = os.open

    def noted(path, *arguments, **options):
        if str(path).endswith("stable-1.safetensors"):
            read.append(path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", noted)
    save(store, range(8, 20), Retention(4))
    # Two copies take turns, and prune reads what the retention ranks.
    assert 2 <= len(read) <= 6
    first = len(read)
    save(store, range(20, 30), Retention(4))
    assert len(read) == first


@once
def test_a_damaged_best_one_does_not_cost_the_next_best(tmp_path):
    scores = {1: 2.0, 2: 1.0, 3: 3.0}
    save(CheckpointFolder(tmp_path), (1, 2, 3), Retention(2, keep_best=2), scores)
    flipped(1)(tmp_path / at(2).folder_name / "tensors-1.safetensors")
    store = CheckpointFolder(tmp_path)
    save(store, (4, 5, 6, 7), Retention(2, keep_best=1))
    sound = [report.entry.position.step for report in store.verify() if not report.problem]
    assert sound == [1, 6, 7]
    assert store.best().position == at(2)
    assert at(2).folder_name in listing(tmp_path)


@once
def test_damaged_new_ones_do_not_cost_the_sound_old_ones(tmp_path):
    save(CheckpointFolder(tmp_path), range(1, 6), Retention(5))
    for step in (3, 4):
        flipped(1)(tmp_path / at(step).folder_name / "tensors-1.safetensors")
    store = CheckpointFolder(tmp_path)
    store.prune(Retention(3))
    sound = [report.entry.position.step for report in store.verify() if not report.problem]
    assert sound == [1, 2, 5]


def partly_frozen():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(64, name="body"), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    kp.freeze(model, "body")
    return model


def train(total_steps):
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    model = partly_frozen()
    checkpoint = kp.Checkpoint("runs", every_steps=4, keep_last=4)
    steps = {"total_steps": total_steps, "steps_per_epoch": 4}
    kp.fit(model, x, x[:, :1], **steps, batch_size=8, seed=0, verbose=0, callbacks=[checkpoint])
    return model.get_weights()


def test_a_damaged_frozen_part_is_not_linked_into_what_a_run_saves_later():
    train(24)
    flipped(1)(Path("runs", at(20).folder_name, "stable-1.safetensors"))
    train(28)
    problems = {
        report.entry.position.step: report.problem for report in kp.CheckpointStore("runs").verify()
    }
    assert problems[28] is None
    assert problems[20]
    kp.CheckpointStore("runs").restore(partly_frozen(), 28)


@pytest.mark.parametrize("step", [16, 20, 24])
@pytest.mark.parametrize("file", ["manifest.json", "stable-1.safetensors", "tensors-1.safetensors"])
def test_a_run_beside_a_damaged_file_goes_on_to_the_same_end(file, step, monkeypatch, tmp_path):
    train(24)
    flipped(0.9)(Path("runs", at(step).folder_name, file))
    found = train(36)
    reports = kp.CheckpointStore("runs").verify()
    later = [report for report in reports if report.entry.position.step > 24]
    assert [report.entry.position.step for report in later] == [28, 32, 36]
    assert not any(report.problem for report in later)
    (tmp_path / "reference").mkdir()
    monkeypatch.chdir(tmp_path / "reference")
    for one, other in zip(found, train(36), strict=True):
        np.testing.assert_array_equal(one, other)
