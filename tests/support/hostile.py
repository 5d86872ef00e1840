"""Folders of checkpoints that nobody wrote in good faith: real ones, changed in any place, with
their checksums made valid again.
"""

import contextlib
import copy
import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import note
from hypothesis import strategies as st
from store_support import fields_of, sign

import keras_patterns as kp
from keras_patterns.storage import Tensor
from keras_patterns.storage.files import TensorRow, encode_all, read_file, write_file

EXPECTED = (kp.StoreError, kp.StateMismatchError, kp.ResumeRefusedError)
# Of the processor; whoever waits for something that never comes uses none.
SECONDS = 10
_SECONDS_OF_WAITING = 120


_NAMES_OF_PARTS = ["", "../x", "\ud800", "position", "$array", "$dict", "extra", "begun"]


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


_NUMBERS = [0, 1, -1, 2, 624, 625, 5000, 2**31, 2**32, 2**53, 2**63, 2**64, 10**9, 10**17]
_NUMBERS += [10**18, -(10**18), 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")]
_TEXTS = ["", "a", "..", "../../x", "/etc/passwd", "a\0b", "\ud800", "\x1b[2J", "9" * 4000, "%s"]
_TEXTS += ["../../../outside/run-1", "min", "weight", "save", "MT19937", "PCG64", "float32"]
_MARKS = [{"$array": "none"}, {"$array": 1}, {"$scalar": "random/python/words"}, {"$float": "1"}]
_MARKS += [{"$float": "nan"}, {"$tuple": [1, 2]}, {"$tuple": 3}, {"$bytes": "zz"}, {"$new": 1}]
_MARKS += [{"$dict": [[{"a": 1}, 2]]}, {"$dict": [[1, 2], [1, 3]]}]
_MARKS += [{"$array": "random/python/words"}]
_PLAIN = [None, True, False, [], {}, [[]], {"": 0}, [0] * 5000, ["../../x", 24, 1], [1, 3, 1]]
_PLAIN += [[9, 3, 1], [1, 10**17, 1], nested(30), nested(150), nested(3000)]
ODD = [*_NUMBERS, *_TEXTS, *_MARKS, *_PLAIN]
_ARRAYS = [
    np.zeros(0, np.uint32),
    np.zeros((), np.int64),
    np.zeros(2, np.int64),
    np.full(624, 2**32 - 1, np.uint32),
    np.full(625, 2**32 - 1, np.uint32),
    np.full(625, 624, np.uint32),
    np.full(5056, 255, np.uint8),
    np.zeros(5056, np.uint8),
    np.full((4, 3), np.nan, np.float32),
    np.array(2**40),
    np.array(-1, np.int32),
    np.zeros((2, 2), complex),
    np.ones(3, bool),
]


def ways(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of a JSON value."""
    yield way
    if isinstance(value, dict | list) and len(way) < 20:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in items if len(value) < 1000 else list(items)[:3]:
            yield from ways(part, (*way, name))


def at(value: Any, way: tuple[Any, ...]) -> Any:
    for name in way:
        value = value[name]
    return value


_CHANGES = ["odd", "odd", "odd", "gone", "new", "other"]
# What is changed, how, and into what; the numbers are taken modulo what there is.
changes = st.lists(
    st.tuples(st.integers(0, 9999), st.sampled_from(_CHANGES), st.integers(0, 9999)),
    min_size=1,
    max_size=3,
)


def changed_fields(fields: dict[str, Any], drawn: list[tuple[int, str, int]]) -> dict[str, Any]:
    """The fields of a manifest with some parts replaced, gone, new or exchanged."""
    with without_limits():
        fields = copy.deepcopy(fields)
        for place, change, choice in drawn:
            everywhere = list(ways(fields))[1:]
            if not everywhere:
                break
            way = everywhere[place % len(everywhere)]
            note(f"{way} {change} {choice}: {ODD[choice % len(ODD)]!r:.60}")
            inside, name = at(fields, way[:-1]), way[-1]
            if change == "odd":
                inside[name] = copy.deepcopy(ODD[choice % len(ODD)])
            elif change == "gone":
                del inside[name]
            elif change == "new" and isinstance(inside, dict):
                inside[_NAMES_OF_PARTS[choice % len(_NAMES_OF_PARTS)]] = inside[name]
            else:
                inside[name] = copy.deepcopy(at(fields, everywhere[choice % len(everywhere)]))
    return fields


@contextlib.contextmanager
def without_limits() -> Iterator[None]:
    """Lets the test itself make what is deep and long."""
    limit, digits = sys.getrecursionlimit(), sys.get_int_max_str_digits()
    sys.setrecursionlimit(50_000)
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        sys.set_int_max_str_digits(digits)


def changed_arrays(
    arrays: dict[str, np.ndarray], drawn: list[tuple[int, str, int]]
) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint with some of them replaced, gone, or under another key."""
    arrays = dict(arrays)
    for place, change, choice in drawn:
        key = sorted(arrays)[place % len(arrays)]
        array = arrays.pop(key)
        note(f"{key} {change} {choice}")
        if change == "odd":
            arrays[key] = _ARRAYS[choice % len(_ARRAYS)]
        elif change == "other":
            words = np.frombuffer(np.random.default_rng(choice).bytes(array.nbytes), np.uint8)
            arrays[key] = (words % 2 if array.dtype == bool else words).view(array.dtype)
            arrays[key] = arrays[key].reshape(array.shape)
        elif change == "new":
            arrays[["variables/x", "unknown/x", key + "'"][choice % 3]] = array
    return arrays


class Base:
    """A checkpoint to be changed.

    Args:
        folder: Of the checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.fields = fields_of(folder)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.arrays: dict[str, np.ndarray] = {}
        for name, row in self.fields["files"].items():
            rows = {
                key: TensorRow(**{**one, "shape": tuple(one["shape"])})
                for key, one in self.fields["tensors"].items()
                if one["file"] == name
            }
            file_row = kp.storage.files.FileRow(**row)
            self.arrays |= read_file(folder / name, file_row, rows)

    def __repr__(self) -> str:
        return f"{self.name} of format {self.fields['format']}"

    def write(self, directory: Path, fields: dict[str, Any] | bytes | None = None) -> Path:
        """Writes the checkpoint, with other fields in its manifest."""
        folder = directory / self.name
        folder.mkdir(parents=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        if fields is not None:
            text = fields if isinstance(fields, bytes) else signed(fields)
            (folder / "manifest.json").write_bytes(text)
        return folder

    def write_arrays(self, directory: Path, arrays: dict[str, np.ndarray]) -> Path:
        """Writes the checkpoint with other arrays, in one file."""
        folder = directory / self.name
        folder.mkdir(parents=True)
        stored = encode_all(Tensor(key, array) for key, array in arrays.items())
        row = write_file(folder / "tensors-1.safetensors", stored.values())
        rows = {key: one.row("tensors-1.safetensors")._asdict() for key, one in stored.items()}
        files = {"tensors-1.safetensors": row._asdict()}
        (folder / "manifest.json").write_bytes(
            signed({**self.fields, "files": files, "tensors": rows})
        )
        return folder


def signed(fields: dict[str, Any]) -> bytes:
    """A manifest with these fields and a right checksum."""
    with without_limits():
        return sign(json.dumps(fields))


# Events of the interpreter while a hostile folder is open. A hook can never be taken off again.
_SEEN: list[tuple[str, Any]] | None = None
_NAMES = ("open", "os.", "shutil.")


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _SEEN is not None and event.startswith(_NAMES) and arguments:
        _SEEN.extend((event, one) for one in arguments[:2] if isinstance(one, str | bytes))


sys.addaudithook(_hear)


@contextlib.contextmanager
def watched(outside: Path, seconds: int = SECONDS) -> Iterator[None]:
    """Fails if anything in a folder is opened, changed, or looked for by what runs inside, if
    anything in it is another one afterwards, or if it takes too long.

    Args:
        outside: The folder.
        seconds: Of the processor, the longest that it may take. Defaults to ten.
    """
    global _SEEN
    before = contents(outside)
    previous = [signal.signal(one, _too_long) for one in (signal.SIGALRM, signal.SIGPROF)]
    signal.alarm(_SECONDS_OF_WAITING)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    _SEEN = []
    try:
        yield
    finally:
        seen, _SEEN = _SEEN, None
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for one, handler in zip((signal.SIGALRM, signal.SIGPROF), previous, strict=True):
            signal.signal(one, handler)
    assert contents(outside) == before
    touched = [(event, path) for event, path in seen if str(outside) in os.fsdecode(path)]
    assert not touched


def _too_long(*_: Any) -> None:
    raise AssertionError("it takes too long")


def contents(folder: Path) -> dict[str, Any]:
    """Everything in a folder: the bytes, and when each was changed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[str(path)] = (status.st_mode, status.st_mtime_ns, data)
    return found


def survives(run: Callable[[], Any], *more: type[Exception]) -> bool:
    """True if it succeeds, False if it ends in one of the errors that a hostile folder may end
    in, or one of `more`; any other error is let through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            run()
        except (*EXPECTED, *more):
            return False
    return True


def look(directory: Path) -> None:
    """Everything that reads a folder and needs no model. None of it may keep another from the
    rest.
    """
    store = kp.CheckpointStore(directory)
    for entry in store.entries():
        repr((entry.score, entry.candidate, entry.position))
    for run in (
        store.steps,
        store.latest,
        store.best,
        store.verify,
        store.find,
        store.read_extra,
        lambda: [store.read(entry) for entry in reversed(store.entries())],
        lambda: store.export(directory / "weights.safetensors"),
    ):
        survives(run)
    (directory / "weights.safetensors").unlink(missing_ok=True)


def clear(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
