"""Nothing lost: links, pipes, sockets, devices and folders under every name that is opened in a
folder. Nothing outside is read, written or looked for, and nothing is waited for.
"""

import json
import os
import socket
import stat

import keras
import numpy as np
import pytest
from hostile import survives, watched
from store_support import a_document, at, fields_of, sign, some_arrays, tensors

import keras_patterns as kp
from keras_patterns.storage import CheckpointFolder, StoreError, StoreInUseError

pytestmark = pytest.mark.once

NEWEST = "run-1-step-000000003"
IN_CHECKPOINT = ("manifest.json", "tensors-1.safetensors", "stable-1.safetensors")


def link(path, outside):
    path.symlink_to(outside / "secret")


def link_to_folder(path, outside):
    path.symlink_to(outside / "folder")


def dangling_link(path, outside):
    path.symlink_to(outside / "none")


def hard_link(path, outside):
    path.hardlink_to(outside / "secret")


def pipe(path, outside):
    os.mkfifo(path)


def unix_socket(path, outside):
    # The name of a socket must be short.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def device(path, outside):
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this user may not make devices")


def folder(path, outside):
    path.mkdir()
    (path / "file").write_text("in the way")


KINDS = [link, link_to_folder, dangling_link, hard_link, pipe, unix_socket, device, folder]
each_kind = pytest.mark.parametrize("plant", KINDS, ids=lambda plant: plant.__name__)


@pytest.fixture
def outside(tmp_path):
    place = tmp_path / "outside"
    (place / "folder").mkdir(parents=True)
    (place / "secret").write_bytes(b"secret")
    (place / "folder" / "secret").write_bytes(b"secret")
    return place


@pytest.fixture
def store(tmp_path):
    """Three checkpoints; the newest has a file of each kind."""
    made = CheckpointFolder(tmp_path / "run")
    for step in (1, 2, 3):
        save(made, step)
    return CheckpointFolder(tmp_path / "run")


def save(store, step):
    arrays = some_arrays(1) | {"moving": np.ones(step)}
    return store.write(at(step), a_document(step=step), tensors(arrays))


def use(store, step=4):
    """Reads all there is, saves, and removes what is old."""
    for run in (
        store.verify,
        store.newest_sound,
        store.best,
        lambda: [store.read(entry) for entry in store.entries()],
        lambda: save(store, step),
        lambda: store.prune(kp.storage.Retention(keep_last=1)),
        lambda: store.discard_after(at(1)),
    ):
        survives(run)


def replaced(path, plant, outside):
    """Puts something else in the place of a file or folder, which is moved away."""
    if os.path.lexists(path):
        path.rename(path.with_name(f"moved-{path.name}"))
    plant(path, outside)


@each_kind
@pytest.mark.parametrize("name", IN_CHECKPOINT)
def test_in_the_place_of_a_file_of_a_checkpoint(store, outside, name, plant):
    replaced(store.directory / NEWEST / name, plant, outside)
    with watched(outside):
        problems = [report.problem for report in store.verify()]
        assert problems[:2] == [None, None]
        assert name in str(problems[2])
        assert store.newest_sound()[0].position == at(2)
        use(store)


@each_kind
def test_in_the_place_of_a_checkpoint(store, outside, plant):
    replaced(store.directory / NEWEST, plant, outside)
    with watched(outside):
        entry = kp.storage.Entry(at(3), store.directory / NEWEST)
        with pytest.raises(StoreError):
            store.read(entry)
        assert [report.problem for report in store.verify()][:2] == [None, None]
        use(store)
        survives(lambda: save(store, 3))


def test_a_checkpoint_that_is_a_link_to_a_sound_one_is_not_read(store, outside):
    made = store.directory / NEWEST
    made.rename(outside / NEWEST)
    made.symlink_to(outside / NEWEST)
    with watched(outside), pytest.raises(StoreError, match="not a file of its own"):
        store.read(kp.storage.Entry(at(3), made))


@each_kind
def test_in_the_place_of_the_note_of_who_writes(store, outside, plant):
    plant(store.directory / ".lock-holder.json", outside)
    with watched(outside):
        # A folder is not replaced: it may be somebody's.
        assert survives(lambda: save(store, 4)) == (plant is not folder)
        use(store, 5)


@each_kind
def test_a_note_of_who_writes_that_was_planted_while_it_is_held(store, outside, plant):
    note = store.directory / ".lock-holder.json"
    with store.lock():
        note.unlink()
        plant(note, outside)
        with watched(outside), pytest.raises(StoreInUseError, match="not said which it is"):
            CheckpointFolder(store.directory).lock().__enter__()
        note.rename(store.directory / "moved")


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"pid": "1", "host": "a"}', '{"pid": 1, "host": "\\u001b[2J"}', "[" * 99999, ""],
)
def test_a_note_of_who_writes_that_is_none(store, text):
    with store.lock():
        (store.directory / ".lock-holder.json").write_text(text)
        with pytest.raises(StoreInUseError, match="not said which it is"):
            CheckpointFolder(store.directory).lock().__enter__()


@each_kind
def test_in_the_place_of_the_lock(store, outside, plant):
    replaced(store.directory / ".lock", plant, outside)
    with watched(outside):
        with pytest.raises(StoreError, match=r"\.lock: the lock is a link .* delete it"):
            save(store, 4)
        use(store)
    assert [report.problem for report in store.verify()] == [None, None, None]


@each_kind
@pytest.mark.parametrize("name", [".tmp-{}-01234567", ".trash-{}-01234567"])
def test_in_what_a_killed_writer_left(store, outside, name, plant):
    left = store.directory / name.format(NEWEST)
    left.mkdir()
    for inside in IN_CHECKPOINT:
        plant(left / inside, outside)
    plant(store.directory / name.format("run-1-step-000000009"), outside)
    with watched(outside):
        use(store)


@pytest.mark.parametrize("name", IN_CHECKPOINT)
def test_a_file_of_a_tebibyte_is_not_read(store, name):
    os.truncate(store.directory / NEWEST / name, 1 << 40)
    problems = [report.problem for report in store.verify()]
    assert problems[:2] == [None, None]
    assert "1,099,511,627,776 bytes" in str(problems[2]) or "1099511627776 bytes" in str(
        problems[2]
    )
    assert store.newest_sound()[0].position == at(2)
    assert [entry.score for entry in store.entries()] == [None] * 3


def test_a_file_of_a_tebibyte_that_its_manifest_vouches_for_is_not_read(store):
    made = store.directory / NEWEST
    os.truncate(made / "tensors-1.safetensors", 1 << 40)
    fields = fields_of(made)
    fields["files"]["tensors-1.safetensors"]["bytes"] = 1 << 40
    (made / "manifest.json").write_bytes(sign(json.dumps(fields)))
    problems = [report.problem for report in store.verify()]
    assert problems[:2] == [None, None]
    assert "tensors-1.safetensors" in str(problems[2])
    with pytest.raises(StoreError, match=r"1,099,511,627,776 bytes, and this machine"):
        store.newest_sound()


@each_kind
@pytest.mark.parametrize(
    "name", ["f.npy", "f.npy.json", ".f.npy.lock", ".f.npy.partial", ".f.npy.partial.json"]
)
def test_in_the_place_of_a_cache_of_features(tmp_path, outside, name, plant):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="body"), keras.layers.Dense(1)]
    )
    kp.freeze(model, "body")
    x = np.ones((8, 4), "float32")
    caches = tmp_path / "caches"
    caches.mkdir()

    def cache():
        return kp.cache_features(model, "body", x, path=caches / "f.npy", verbose=0)

    if not name.startswith("."):
        cache()
    replaced(caches / name, plant, outside)
    with watched(outside):
        survives(cache)


@each_kind
def test_in_the_place_of_an_export(store, outside, tmp_path, plant):
    path = tmp_path / "weights.safetensors"
    plant(path, outside)
    with watched(outside), pytest.raises(StoreError, match="stays as it is"):
        kp.CheckpointStore(store.directory).export(path)


@pytest.mark.parametrize("use", [kp.Checkpoint, kp.CheckpointStore])
def test_a_path_with_a_nul_is_refused_where_it_is_given(use):
    with pytest.raises(ValueError, match=r"cannot hold the character NUL. Received: 'a\\x00b'"):
        use("a\0b")


def test_an_export_to_a_path_with_a_nul_is_refused(store):
    with pytest.raises(ValueError, match="the character NUL"):
        kp.CheckpointStore(store.directory).export("a\0b")


def test_features_in_a_path_with_a_nul_are_refused():
    layers = [keras.layers.Dense(3, name="body"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    kp.freeze(model, "body")
    with pytest.raises(ValueError, match="the character NUL"):
        kp.cache_features(model, "body", np.ones((8, 4), "float32"), path="a\0b.npy")


def test_weights_in_a_path_with_a_nul_are_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="the character NUL"):
        kp.load_pretrained(model, "a\0b.safetensors")
