"""Nothing lost: no space, no rights, another writer: what was there stays."""

import contextlib
import errno
import os
import resource
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from store_support import assert_same, at, listing, python, some_arrays, tensors

from keras_patterns.storage import CheckpointFolder, Retention, StoreError, StoreInUseError

pytestmark = pytest.mark.once

CALLS = ("mkdir", "fsync", "rename", "open", "listdir", "unlink")


@pytest.fixture
def full_disk(tmp_path):
    """A folder with room for 1 MiB, and a context in which a write finds no more."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path]).returncode == 0:
        yield tmp_path, contextlib.nullcontext
        subprocess.run(["umount", tmp_path], check=True)
    else:
        # Nobody may mount here: the limit on the size of a file refuses in the same way.
        yield tmp_path, _limited_files


@contextlib.contextmanager
def _limited_files():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def refused(store, step, arrays):
    before = {path: path.stat().st_mtime_ns for path in store.directory.glob("run-*/*")}
    with pytest.raises(StoreError) as error:
        store.write(at(step), {}, tensors(arrays))
    assert {path: path.stat().st_mtime_ns for path in store.directory.glob("run-*/*")} == before
    assert not [name for name in listing(store.directory) if name.startswith(".")]
    return str(error.value)


@pytest.mark.parametrize("limit", ["disk", "file"])
def test_a_full_disk_is_said_and_harms_nothing(full_disk, limit):
    directory, small = full_disk[0], full_disk[1] if limit == "disk" else _limited_files
    store = CheckpointFolder(directory)
    store.write(at(1), {}, tensors(some_arrays(1)))
    with small():
        text = refused(store, 2, {"large": np.ones(1 << 18)})
    assert text.startswith(f"{directory / at(2).folder_name}: cannot write the checkpoint (")
    assert "Free some space there, keep fewer checkpoints, or choose another folder." in text
    assert text.endswith("The checkpoints that were there before are untouched.")
    assert_same(store.newest_sound()[0].tensors, some_arrays(1))
    store.write(at(2), {}, tensors(some_arrays(2)))
    assert_same(store.newest_sound()[0].tensors, some_arrays(2))


AS_NOBODY = """
import os, sys
import numpy as np
from keras_patterns.storage import CheckpointFolder, Position, Tensor, StoreError
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
store = CheckpointFolder(sys.argv[1])
try:
    store.write(Position(1, 2), {}, [Tensor("a", np.ones(3))])
except StoreError as error:
    print(error)
print(store.newest_sound()[0].position.step)
"""


@pytest.fixture
def readable_by_all():
    """A folder that another user reaches, and may read but not write."""
    with tempfile.TemporaryDirectory() as outer:
        os.chmod(outer, 0o755)
        directory = Path(outer, "store")
        directory.mkdir()
        yield directory
        directory.chmod(0o755)


def test_a_folder_without_write_permission_is_said_and_still_read(readable_by_all):
    store = CheckpointFolder(readable_by_all)
    store.write(at(1), {}, tensors(some_arrays(1)))
    before = listing(readable_by_all)
    readable_by_all.chmod(0o555)
    process = python(AS_NOBODY, readable_by_all)
    said, step = process.communicate(timeout=120)[0].splitlines()
    text = f"{readable_by_all}: cannot write to the folder (Permission denied, EACCES)."
    assert said.startswith(text)
    assert "Give this user the right to write there, or choose another folder." in said
    assert step == "1"
    assert listing(readable_by_all) == before


def test_a_path_through_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("mine")
    store = CheckpointFolder(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match=r"file/store: cannot write to the folder \(Not a dir"):
        store.write(at(1), {}, [])
    with pytest.raises(
        StoreError, match=r"file: cannot list the folder \(Not a directory, ENOTDIR\)"
    ):
        CheckpointFolder(tmp_path / "file").entries()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_whichever_call_fails_the_folder_stays_sound(tmp_path, monkeypatch, call, number):
    """The n-th call of its kind fails, for each n until none is left to fail."""
    store = CheckpointFolder(tmp_path)
    with store.lock():
        for step in range(1, 4):
            store.write(at(step), {}, tensors(some_arrays(1) | {"moving": np.ones(step)}))
        failures = 0
        while True:
            with monkeypatch.context() as patch:
                left = _fail_at(patch, call, failures, number)
                done = _write_and_prune(store, failures + 4)
            assert not any(report.problem for report in store.verify())
            assert store.newest_sound()[0].position.step >= failures + 3
            _write_and_prune(store, failures + 4)
            assert store.newest_sound()[0].position.step == failures + 4
            if not left:
                failures += 1
                continue
            assert done
            assert failures
            break
    with store.lock():
        assert listing(tmp_path) == [at(failures + step).folder_name for step in (3, 4)]


def _write_and_prune(store, step):
    arrays = some_arrays(1) | {"moving": np.ones(step)}
    try:
        store.write(at(step), {}, tensors(arrays))
        store.prune(Retention(2))
    except StoreError as error:
        assert "The checkpoints that were there before are untouched." in str(error)  # noqa: PT017 - either outcome is right
        return False
    return True


def _fail_at(patch, call, after, number):
    """Makes the call after `after` ones fail, once; the answer is empty as soon as it has."""
    import builtins

    module = builtins if call == "open" else os
    real, left = getattr(module, call), [None] * (after + 1)

    def failing(*arguments, **options):
        # Files outside are opened by others than the store.
        if left and (call != "open" or "run-1-step" in str(arguments[0])):
            left.pop()
            if not left:
                raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    patch.setattr(module, call, failing)
    return left


def test_everything_is_on_disk_before_its_name_is(tmp_path, monkeypatch):
    synced, renamed, fsync, rename = [], [], os.fsync, os.rename
    inode = lambda path: os.stat(path).st_ino  # noqa: E731

    def recorded_fsync(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def recorded_rename(source, target):
        renamed.append([list(synced), inode(source), sorted(map(inode, source.iterdir()))])
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    CheckpointFolder(tmp_path).write(at(1), {}, tensors(some_arrays(1)))
    ((before, folder, files),) = renamed
    assert before[0] == inode(tmp_path.parent)
    assert sorted(before[1:-1]) == files
    assert before[-1] == folder
    assert synced[len(before) :] == [inode(tmp_path)]


def test_two_stores_in_one_process_exclude_each_other(tmp_path):
    store, other = CheckpointFolder(tmp_path), CheckpointFolder(tmp_path)
    with store.lock():
        store.write(at(1), {}, tensors(some_arrays(1)))
        text = rf"another run writes its checkpoints there \(process {os.getpid()} on "
        for attempt in (
            lambda: other.lock().__enter__(),
            lambda: store.lock().__enter__(),
            lambda: other.write(at(2), {}, []),
            lambda: other.prune(Retention(1)),
        ):
            with pytest.raises(StoreInUseError, match=text + ".*give this run a folder of its own"):
                attempt()
        assert other.latest().position == at(1)
    other.write(at(2), {}, tensors(some_arrays(2)))
    assert store.steps() == [1, 2]


def test_another_thread_writes_under_the_lock_of_the_run(tmp_path):
    store = CheckpointFolder(tmp_path)
    with store.lock():
        thread = threading.Thread(target=store.write, args=(at(1), {}, tensors(some_arrays(1))))
        thread.start()
        thread.join()
    assert_same(store.newest_sound()[0].tensors, some_arrays(1))


HOLD = """
import sys
import tempfile
from pathlib import Path
from keras_patterns.storage import CheckpointFolder
with CheckpointFolder(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    process = python(HOLD, tmp_path)
    try:
        assert process.stdout.readline() == "held\n"
        store = CheckpointFolder(tmp_path)
        with pytest.raises(StoreInUseError, match=f"process {process.pid} on "):
            store.write(at(1), {}, [])
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    store.write(at(1), {}, [])
    assert store.steps() == [1]


def test_leftovers_of_killed_writers_are_cleared_and_nothing_else(tmp_path):
    ours = [f".tmp-{at(3).folder_name}-0123abcd", f".trash-{at(2).folder_name}-00000000"]
    others = [
        f".tmp-{at(4).folder_name}-0123abcd",  # with a foreign file
        f".tmp-{at(5).folder_name}",
        ".tmp-other-0123abcd",
        f".trash-{at(6).folder_name}-0123abcd",  # with a folder
        f"{at(7).folder_name}-0123abcd",
    ]
    for name in [*ours, *others]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "tensors-1.safetensors").write_text("half")
    (tmp_path / ours[0] / "manifest.json").write_text("{")
    (tmp_path / others[0] / "notes.txt").write_text("mine")
    (tmp_path / others[3] / "stable-1.safetensors").mkdir()
    store = CheckpointFolder(tmp_path)
    assert store.entries() == []
    with store.lock():
        assert listing(tmp_path) == sorted(others)
