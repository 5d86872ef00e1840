"""Arrays in, the same arrays out, through files that any safetensors reader opens."""

import errno
import os
import stat
import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors.numpy import load_file
from store_support import assert_same, at, some_arrays, tensors

from keras_patterns.storage import (
    CheckpointFolder,
    DamagedCheckpointError,
    Position,
    StoreError,
    SystemRefusalError,
    Tensor,
    plain_files,
)

pytestmark = pytest.mark.once

ODD_ARRAYS = {
    "scalar": np.asarray(2.5, np.float32),
    "no rows": np.empty((0, 3), np.int64),
    "bool": np.asarray([True, False, True]),
    "big-endian": np.arange(5, dtype=">i4"),
    "transposed": np.arange(12.0).reshape(3, 4).T,
    "strided": np.arange(12)[::-3],
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
    "read-only": np.broadcast_to(np.float32(1), (2, 2)),
    "bfloat16": np.arange(3).astype(ml_dtypes.bfloat16),
    "float8": np.arange(4).astype(ml_dtypes.float8_e4m3fn).reshape(2, 2),
    "float8 scalar": np.asarray(1, ml_dtypes.float8_e5m2),
    "int4": np.arange(-4, 4).astype(ml_dtypes.int4),
    "complex": np.asarray([1 + 2j], np.complex64),
    "complex128": np.asarray([[1 - 2j]]),
    "nan": np.asarray([np.nan, -0.0, np.inf]),
    "ключ/with \"quotes\"\n": np.ones(1, np.uint8),
}  # fmt: skip
NUMBERS = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
)


def round_trip(directory, arrays):
    store = CheckpointFolder(directory)
    return store.read(store.write(at(1), {}, tensors(arrays))).tensors


@pytest.mark.parametrize("name", ODD_ARRAYS)
def test_an_odd_array_comes_back(tmp_path, name):
    array = ODD_ARRAYS[name]
    assert_same(round_trip(tmp_path, {name: array}), {name: array})


def test_all_together_come_back_in_order(tmp_path):
    found = round_trip(tmp_path, ODD_ARRAYS)
    assert_same(found, ODD_ARRAYS)
    assert list(found) == list(ODD_ARRAYS)
    assert all(array.flags.aligned and array.flags.writeable for array in found.values())


def read_in_pieces(monkeypatch, cores=2):
    monkeypatch.setattr(plain_files, "_PIECE_BYTES", 7)
    monkeypatch.setattr(plain_files, "_cores", lambda: cores)


@pytest.mark.parametrize("cores", [1, 2])
def test_large_files_are_read_in_pieces_by_as_many_threads_as_there_are_cores(
    tmp_path, monkeypatch, cores
):
    in_main = []
    read = os.preadv

    def note(*arguments):
        in_main.append(threading.current_thread() is threading.main_thread())
        return read(*arguments)

    read_in_pieces(monkeypatch, cores)
    monkeypatch.setattr(os, "preadv", note)
    assert_same(round_trip(tmp_path, ODD_ARRAYS), ODD_ARRAYS)
    assert set(in_main) == {cores == 1}


@pytest.mark.parametrize("cores", [1, 2])
def test_a_file_that_ends_while_it_is_read_is_damaged(tmp_path, monkeypatch, cores):
    store = CheckpointFolder(tmp_path)
    entry = store.write(at(1), {}, tensors(ODD_ARRAYS))
    read = os.preadv
    read_in_pieces(monkeypatch, cores)
    monkeypatch.setattr(
        os, "preadv", lambda file, to, begin: read(file, to, begin) if begin < 700 else 0
    )
    with pytest.raises(DamagedCheckpointError, match="it has 700 bytes instead of"):
        store.read(entry)


def test_they_are_read_without_threads_where_none_can_be_started(tmp_path, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    read_in_pieces(monkeypatch)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert_same(round_trip(tmp_path, ODD_ARRAYS), ODD_ARRAYS)


def test_what_the_system_refuses_a_thread_is_no_damage(tmp_path, monkeypatch):
    store = CheckpointFolder(tmp_path)
    entry = store.write(at(1), {}, tensors(ODD_ARRAYS))
    read_in_pieces(monkeypatch)

    def refuse(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", refuse)
    with pytest.raises(SystemRefusalError, match="Input/output error"):
        store.read(entry)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_array_comes_back(tmp_path_factory, data):
    shapes = npst.array_shapes(min_dims=0, min_side=0, max_dims=4)
    names = st.text(min_size=1).filter(lambda key: key != "__metadata__")
    keys = data.draw(st.lists(names, unique=True, max_size=3))
    arrays = {key: data.draw(npst.arrays(NUMBERS, shapes)) for key in keys}
    assert_same(round_trip(tmp_path_factory.mktemp("any"), arrays), arrays)


def test_no_tensors_at_all(tmp_path):
    assert round_trip(tmp_path, {}) == {}


def test_the_safetensors_library_reads_the_files(tmp_path):
    arrays = some_arrays(3)
    entry = CheckpointFolder(tmp_path).write(at(1), {}, tensors(arrays))
    (path,) = entry.folder.glob("*.safetensors")
    assert_same(load_file(path), arrays)


def test_files_have_the_rights_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        entry = CheckpointFolder(tmp_path).write(at(1), {}, tensors(some_arrays(1)))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in entry.folder.iterdir()} == {0o640}


def test_display_path_position_and_makers_stand_in_the_manifest(tmp_path):
    document = {"plan": {"total_steps": 3}, "loss": [0.1, 1e-30], "name": "Größe"}
    entry = CheckpointFolder(tmp_path).write(
        Position(2, 7, 0),
        document,
        tensors(some_arrays(1)),
        score={"monitor": "val_loss", "mode": "min", "value": np.float32(0.5)},
        made_with={"keras": "3.15.1", "backend": "jax"},
    )
    (found,) = CheckpointFolder(tmp_path).entries()
    assert found == entry
    assert found.position == (2, 7, 0)
    assert found.folder.name == "run-2-step-000000007-validating"
    assert found.manifest.tensors["model/kernel"].path == "path/of/model/kernel"
    assert found.manifest.made_with == {"keras": "3.15.1", "backend": "jax"}
    assert found.score == 0.5
    checkpoint = CheckpointFolder(tmp_path).read(found)
    assert repr(checkpoint.document) == repr(document)
    assert checkpoint.position == found.position


def deep(levels):
    value = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"tensors": [Tensor("a/b", np.asarray([{}]))]}, TypeError, "'a/b' has dtype object"),
        ({"tensors": [Tensor("a/b", np.asarray(["x"]))]}, TypeError, "'a/b' has dtype <U1"),
        ({"tensors": [Tensor("a", np.ones(1))] * 2}, ValueError, "key of its own.*'a'"),
        ({"tensors": [Tensor("__metadata__", np.ones(1))]}, ValueError, "__metadata__"),
        ({"tensors": [Tensor("", np.ones(1))]}, ValueError, "non-empty text: ''"),
        ({"document": {"x": np.ones(1)}}, TypeError, "document .* plain JSON: .*ndarray"),
        ({"document": {1: 0, "1": 0}}, TypeError, "document .* twice"),
        ({"document": {"x": float("nan")}}, TypeError, "document .* plain JSON: .*float"),
        ({"document": {"x": deep(101)}}, TypeError, "document .* more than 100 levels"),
        ({"tensors": [Tensor("\ud800", np.ones(1))]}, ValueError, "key of its own"),
        ({"made_with": {"backend": 3}}, ValueError, r"made_with\.backend: expected `str`"),
        ({"needs": [Position(1, 1)]}, ValueError, "no earlier checkpoint of run 1"),
        ({"needs": [Position(2, 0)]}, ValueError, "no earlier checkpoint of run 1"),
        ({"needs": [Position("../x", 0)]}, ValueError, "no earlier checkpoint of run 1"),
        ({"score": {"monitor": "a", "mode": "min", "value": 10**400}}, ValueError, "A score is"),
        ({"made_with": {"x": {1}}}, TypeError, "made_with .* plain JSON: .*set"),
        ({"position": (0, 1, 1)}, ValueError, r"run >= 1.*\(0, 1, 1\)"),
        ({"position": (1, -1, 1)}, ValueError, "step >= 0"),
        ({"position": (1, 1, 2)}, ValueError, "phase 0 or 1"),
        ({"position": (1, 1.0, 1)}, ValueError, "all integers"),
        ({"score": {"monitor": "a", "mode": "auto", "value": 1}}, ValueError, "'auto'"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(
    tmp_path, arguments, error, text
):
    good = {"position": at(1), "document": {}, "tensors": [], "score": None, "made_with": None}
    with pytest.raises(error, match=text):
        CheckpointFolder(tmp_path / "new").write(**(good | arguments))
    assert not (tmp_path / "new").exists()


def test_the_same_again_is_kept_and_another_content_refused(tmp_path):
    store = CheckpointFolder(tmp_path)
    document = {"loss": 0.5}
    score = {"monitor": "loss", "mode": "min", "value": float("nan")}
    entry = store.write(at(1), document, tensors(some_arrays(1)), score=score)
    before = {path.name: path.read_bytes() for path in entry.folder.iterdir()}
    assert store.write(at(1), document, tensors(some_arrays(1)), score=score) == entry
    others = [({}, some_arrays(1)), (document, some_arrays(2)), (document, {})]
    for other, arrays in others:
        with pytest.raises(StoreError, match=r"run-1-step-000000001: a sound .* other content"):
            store.write(at(1), other, tensors(arrays), score=score)
    assert {path.name: path.read_bytes() for path in entry.folder.iterdir()} == before


def test_a_damaged_one_of_the_same_position_is_set_aside(tmp_path):
    store = CheckpointFolder(tmp_path)
    entry = store.write(at(1), {}, tensors(some_arrays(1)))
    (entry.folder / "manifest.json").write_bytes(b"{}")
    store.write(at(1), {}, tensors(some_arrays(2)))
    assert_same(store.read(entry).tensors, some_arrays(2))
    (aside,) = tmp_path.glob("damaged-run-1-step-000000001-*")
    assert (aside / "manifest.json").read_bytes() == b"{}"
    assert (aside / "tensors-1.safetensors").exists()
