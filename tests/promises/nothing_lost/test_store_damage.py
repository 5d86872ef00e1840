"""Nothing lost: every flipped byte is found, and no manifest leads astray."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_support import HEAD, assert_same, at, fields_of, sign, some_arrays, tensors
from xxhash import xxh3_128_hexdigest

from keras_patterns.storage import (
    CheckpointFolder,
    DamagedCheckpointError,
    NewerFormatError,
    plain_files,
)

pytestmark = pytest.mark.once


@pytest.fixture(scope="module", params=[plain_files._PIECE_BYTES, 64], ids=["whole", "by threads"])
def store(tmp_path_factory, request):
    """One tensor moves, so that the newest has a linked file and one of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_files, "_PIECE_BYTES", request.param)
        patch.setattr(plain_files, "_cores", lambda: 2)
        yield written(tmp_path_factory)


def written(tmp_path_factory):
    store = CheckpointFolder(tmp_path_factory.mktemp("flip"))
    for step in range(1, 6):
        store.write(at(step), {"step": step}, tensors(some_arrays(1) | {"moving": np.ones(step)}))
    return CheckpointFolder(store.directory)


def spans(path):
    data = path.read_bytes()
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:body])
    return {
        key: range(*(body + offset for offset in row["data_offsets"]))
        for key, row in header.items()
    }


def expect_fall_back(store, path, text=""):
    newest = store.latest()
    checkpoint, (damage,) = store.newest_sound()
    assert checkpoint.position == at(4)
    assert checkpoint.document == {"step": 4}
    assert_same(checkpoint.tensors, some_arrays(1) | {"moving": np.ones(4)})
    assert (damage.folder, damage.file) == (newest.folder, path.name)
    assert str(path) in str(damage)
    assert text in str(damage)
    problems = {report.entry: report.problem for report in store.verify()}
    assert str(problems[newest]) == str(damage)
    assert problems[store.entries()[-2]] is None
    return damage


def test_the_newest_has_files_of_each_kind(store):
    names = sorted(os.listdir(store.latest().folder))
    assert names == ["manifest.json", "stable-1.safetensors", "tensors-1.safetensors"]
    assert (store.latest().folder / "stable-1.safetensors").stat().st_nlink == 2


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_is_found_and_named(store, data):
    path = data.draw(st.sampled_from(sorted(store.latest().folder.iterdir())))
    place = data.draw(st.integers(0, path.stat().st_size - 1))
    flip = data.draw(st.integers(1, 255))
    before = path.read_bytes()
    hit = []
    if path.name != "manifest.json":
        hit = [key for key, span in spans(path).items() if place in span]
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(bytes([before[place] ^ flip]))
    try:
        damage = expect_fall_back(store, path, f"the bytes of tensor {hit[0]!r}" if hit else "")
        assert list(damage.tensors) == hit
    finally:
        path.write_bytes(before)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_truncated_or_longer_or_missing_file_is_found_and_named(store, data):
    path = data.draw(st.sampled_from(sorted(store.latest().folder.iterdir())))
    before = path.read_bytes()
    size = data.draw(st.integers(0, len(before) + 20).filter(lambda size: size != len(before)))
    missing = data.draw(st.booleans())
    if missing:
        path.rename(store.directory / "moved")
    else:
        os.truncate(path, size)
    try:
        text = f"it has {size} bytes instead of {len(before)}"
        is_manifest = path.name == "manifest.json"
        expect_fall_back(store, path, "is missing" if missing else "" if is_manifest else text)
    finally:
        if missing:
            (store.directory / "moved").rename(path)
        else:
            path.write_bytes(before)


def test_every_damaged_tensor_of_a_file_is_named(tmp_path):
    entry = CheckpointFolder(tmp_path).write(at(1), {}, tensors(some_arrays(1)))
    path = entry.folder / "tensors-1.safetensors"
    body = bytearray(path.read_bytes())
    for key in ("model/kernel", "model/counts"):
        body[spans(path)[key].start] ^= 1
    path.write_bytes(body)
    with pytest.raises(DamagedCheckpointError, match="put this one back from a copy") as error:
        CheckpointFolder(tmp_path).read(entry)
    assert set(error.value.tensors) == {"model/kernel", "model/counts"}


def test_nothing_sound_is_said_and_harms_nothing(tmp_path):
    store = CheckpointFolder(tmp_path)
    assert store.newest_sound() == (None, [])
    for step in (1, 2):
        (tmp_path / at(step).folder_name).mkdir()
    checkpoint, damaged = store.newest_sound()
    assert checkpoint is None
    assert [damage.folder.name for damage in damaged] == [at(2).folder_name, at(1).folder_name]
    assert "manifest.json: damaged checkpoint: the file is missing" in str(damaged[0])
    assert [report.entry.position.step for report in store.verify()] == [1, 2]
    assert store.latest().score is None
    assert store.best() is None


def edited(**changes):
    def edit(fields):
        for place, value in changes.items():
            *way, last = place.split("__")
            inner = fields
            for name in way:
                inner = inner["tensors-1.safetensors" if name == "FILE" else name]
            inner[last] = value

    return edit


def renamed(name):
    def edit(fields):
        fields["files"] = {name: fields["files"].pop("tensors-1.safetensors")}
        fields["tensors"]["a"]["file"] = name

    return edit


def moved(fields, key):
    fields["tensors"] = {key: fields["tensors"].pop("a")}


def deep(levels):
    value = 0
    for _ in range(levels):
        value = [value]
    return value


SCORE = {"monitor": "loss", "mode": "min", "value": 1}
HOSTILE = {
    "parent folder": (
        renamed("../secret.safetensors"),
        "the name '../secret.safetensors' in files",
    ),
    "absolute": (renamed("/etc/passwd"), "the name '/etc/passwd' in files: expected"),
    "backslash": (renamed("..\\tensors-1.safetensors"), "in files: expected `str` matching"),
    "unlisted file": (edited(tensors__a__file="tensors-9.safetensors"), "not among its files"),
    "negative size": (
        edited(tensors__a__shape=[-2]),
        r"tensors\['a'\]\.shape\[0\]: expected `int` >= 0, received -2",
    ),
    "bool size": (edited(tensors__a__shape=[True]), "expected `int`, got `bool`, received True"),
    "text shape": (edited(tensors__a__shape="22"), "expected `array`, got `str`, received '22'"),
    "huge shape": (edited(tensors__a__shape=[2**40, 2**40]), "is too small to hold its"),
    "huge empty": (edited(tensors__a__shape=[0, 2**70]), "expected `int` <= 9999"),
    "many dimensions": (edited(tensors__a__shape=[1] * 99 + [2]), "does not hold the tensors"),
    "narrower dtype": (edited(tensors__a__dtype="float16"), "does not hold the tensors"),
    "object dtype": (edited(tensors__a__dtype="object"), "'object' names no dtype"),
    "record dtype": (edited(tensors__a__dtype="f4,f4"), "'f4,f4' names no dtype"),
    "no dtype": (edited(tensors__a__dtype="float31"), "float31"),
    "dtype that is a list": (edited(tensors__a__dtype=["f4"]), "a field is not as it must be"),
    "other key": (edited(tensors={}), r"other tensors: \['a'\]"),
    "key of no text": (edited(tensors__a__path=None), r"tensors\['a'\]\.path: expected `str`"),
    "reserved key": (lambda fields: moved(fields, "__metadata__"), "it is no name of a tensor"),
    "half a character": (lambda fields: moved(fields, "\ud800"), "it is no name of a tensor"),
    "date": (edited(tensors__a__dtype="datetime64"), "'datetime64' names no dtype"),
    "huge file": (edited(files__FILE__bytes=2**60), "expected `int` <= 9999"),
    "checksum": (
        edited(files__FILE__header_checksum="x"),
        r"header_checksum: expected `str` match",
    ),
    "row missing": (edited(tensors__a={}), "a field is not as it must be"),
    "row of more": (edited(tensors__a__more=1), "a field is not as it must be"),
    "tables missing": (lambda fields: fields.pop("files"), "a field is not as it must be"),
    "list of tensors": (edited(tensors=[]), "a field is not as it must be"),
    "negative bytes": (edited(files={"tensors-1.safetensors": [-1]}), "a field is not as it"),
    "other position": (edited(position__step=2), "it is that of run-1-step-000000002"),
    "no position": (edited(position={"run": "1"}), "a field is not as it must be"),
    "document": (edited(document=[]), r"manifest\.document: expected `object`, got `array`"),
    "score": (
        edited(score={"monitor": "a", "mode": "eval", "value": 1}),
        r"score\.mode: invalid enum value 'eval'",
    ),
    "huge score": (edited(score=SCORE | {"value": 10**400}), r"score\.value: number out of range"),
    "score in words": (edited(score=SCORE | {"value": "low"}), r"score\.value: .* 'low'"),
    "needs another run": (
        edited(needs=[[2, 0, 1]]),
        r"\[2, 0, 1\] is no earlier checkpoint of run 1",
    ),
    "needs itself": (edited(needs=[[1, 1, 1]]), "is no earlier checkpoint of run 1"),
    "needs a path": (edited(needs=[["../../x", 0, 1]]), r"needs\[0\]\[0\]: expected `int`"),
    "needs a huge one": (edited(needs=[[1, -(10**400), 1]]), "is no earlier checkpoint"),
    "deep": (edited(document={"a": deep(101)}), "document: it is nested more than 100 levels"),
    "NaN": (edited(document={"a": float("nan")}), "document: nan is no number of JSON"),
    "backend": (edited(made_with={"backend": []}), r"made_with\.backend: expected `str`"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_manifest_is_refused(tmp_path, case):
    edit, text = HOSTILE[case]
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    store = CheckpointFolder(tmp_path)
    entry = store.write(at(1), {}, tensors({"a": np.ones(2, np.float32)}))
    fields = fields_of(entry.folder)
    edit(fields)
    (entry.folder / "manifest.json").write_bytes(sign(json.dumps(fields)))
    with pytest.raises(DamagedCheckpointError, match=text):
        store.read(entry)
    assert store.newest_sound()[0] is None


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_manifest_keeps_no_other_from_being_read(tmp_path, case):
    store = CheckpointFolder(tmp_path)
    for step in (1, 2, 3):
        score = SCORE | {"value": step}
        store.write(at(step), {}, tensors({"a": np.ones(2, np.float32)}), score=score)
    edit, _ = HOSTILE[case]
    path = tmp_path / at(1).folder_name / "manifest.json"
    fields = fields_of(path.parent)
    edit(fields)
    path.write_bytes(sign(json.dumps(fields)))
    store = CheckpointFolder(tmp_path)
    assert [entry.position.step for entry in store.entries()] == [1, 2, 3]
    assert [entry.score for entry in store.entries()][1:] == [2, 3]
    assert [report.problem is None for report in store.verify()] == [False, True, True]
    assert store.newest_sound()[0].position == at(3)
    assert store.best() is not None


@pytest.mark.parametrize(
    "text",
    [
        '{"format": 1, "format": 1}',
        '{"format": ' + "[" * 100_000,
        '{"format": ' + "9" * 5000 + "}",
        "{}",
        "nonsense",
        '{"format": 1}',
    ],
)
def test_a_signed_text_that_is_no_manifest_is_refused(tmp_path, text):
    folder = tmp_path / at(1).folder_name
    folder.mkdir()
    (folder / "manifest.json").write_bytes(sign(text))
    (report,) = CheckpointFolder(tmp_path).verify()
    assert isinstance(report.problem, DamagedCheckpointError)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    store = CheckpointFolder(tmp_path)
    entry = store.write(at(1), {}, tensors(some_arrays(1)))
    text = json.dumps(fields_of(entry.folder))
    path = entry.folder / "manifest.json"
    path.write_bytes(sign(text))
    assert_same(store.read(entry).tensors, some_arrays(1))
    path.write_bytes(sign(text.replace('"document"', '"score": null, "document"')))
    with pytest.raises(DamagedCheckpointError, match="a key stands twice"):
        store.read(entry)


def test_a_manifest_that_was_put_back_from_a_copy_is_read_anew(tmp_path):
    store = CheckpointFolder(tmp_path)
    entry = store.write(at(1), {}, [], score={"monitor": "loss", "mode": "min", "value": 2})
    assert store.latest().score == 2
    path = entry.folder / "manifest.json"
    fields = fields_of(entry.folder)
    fields["score"]["value"] = 3
    path.unlink()
    path.write_bytes(sign(json.dumps(fields)))
    assert store.latest().score == 3


def test_signing_in_the_tests_is_signing_in_the_store(tmp_path):
    entry = CheckpointFolder(tmp_path).write(at(1), {"a": 1}, tensors(some_arrays(1)))
    data = (entry.folder / "manifest.json").read_bytes()
    assert sign("{" + data[len(HEAD) + 32 + 3 :].decode()) == data


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        b"[]",
        b"{",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, "8"]}}',
        b'{"b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
    ],
)
def test_a_hostile_header_is_refused(tmp_path, header):
    store = CheckpointFolder(tmp_path)
    entry = store.write(at(1), {}, tensors({"a": np.ones(2, np.float32)}))
    head = len(header).to_bytes(8, "little") + header
    (entry.folder / "tensors-1.safetensors").write_bytes(head + bytes(12))
    fields = fields_of(entry.folder)
    row = {"bytes": len(head) + 12, "header_checksum": xxh3_128_hexdigest(head)}
    fields["files"]["tensors-1.safetensors"] = row
    (entry.folder / "manifest.json").write_bytes(sign(json.dumps(fields)))
    with pytest.raises(DamagedCheckpointError, match="does not hold the tensors of the manifest"):
        store.read(entry)


def test_a_newer_format_says_so_and_is_not_passed_over(tmp_path):
    store = CheckpointFolder(tmp_path)
    store.write(at(1), {}, tensors(some_arrays(1)))
    entry = store.write(at(2), {}, tensors(some_arrays(2)))
    (entry.folder / "manifest.json").write_bytes(sign('{"format": 7, "more": "than we know"}'))
    text = "format 7, this keras-patterns reads up to 2. Upgrade keras-patterns"
    with pytest.raises(NewerFormatError, match=text):
        store.newest_sound()
    assert text in str(store.verify()[-1].problem)
    with pytest.raises(NewerFormatError):
        store.write(at(2), {}, tensors(some_arrays(2)))


@pytest.mark.parametrize("name", ["tensors-1.safetensors", "manifest.json"])
@pytest.mark.parametrize("kind", ["symlink", "pipe", "folder"])
def test_a_link_a_pipe_or_a_folder_in_place_of_a_file_is_refused(tmp_path, name, kind):
    store = CheckpointFolder(tmp_path / "store")
    entry = store.write(at(1), {}, tensors(some_arrays(1)))
    path = entry.folder / name
    path.rename(tmp_path / "outside")
    if kind == "symlink":
        path.symlink_to(tmp_path / "outside")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(DamagedCheckpointError, match=f"{name}: .* not a file of its own"):
        store.read(entry)


def test_a_link_to_a_folder_is_no_checkpoint(tmp_path):
    store = CheckpointFolder(tmp_path / "store")
    entry = store.write(at(1), {}, tensors(some_arrays(1)))
    entry.folder.rename(tmp_path / "outside")
    entry.folder.symlink_to(tmp_path / "outside")
    assert store.entries() == []
