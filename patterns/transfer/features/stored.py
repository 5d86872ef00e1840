"""Features in a `.npy` file, with a small JSON file beside it that says what they were computed
from.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import xxhash
from filelock import FileLock, Timeout

from ..._util.messages import listed
from ..._util.paths import bound_path
from ..._util.schema import Count, Digest, Fields, checked
from ...optimizers.where import variable_paths
from ...state.snapshot import copy_values, is_seed
from ...state.variables import find_variables
from ...storage import StoreError, StoreInUseError, SystemRefusalError
from ...storage.files import dtype_named
from ...storage.lock import check_lock_file
from ...storage.plain_files import (
    NotAFileError,
    is_there,
    make_folder,
    open_plain,
    sync_folder,
    write_durably,
)

Json = dict[str, Any]
Digests = dict[str, list[str]]

_FORMAT = "keras-patterns features 1"
_ANEW = "Give another `path`, or delete the file, and the features are computed anew."
_AS_IT_WAS = "The file is as it was."
_READ_BYTES = 1 << 22
# Of the description: a line for each weight.
_MOST_BYTES = 1 << 26
_NAMED = 3


class _Array(Fields, frozen=True):
    shape: list[Count]
    dtype: str
    digest: Digest


class _Description(Fields, frozen=True):
    format: str
    at: str
    weights: dict[str, tuple[str, Digest]]
    x: dict[str, _Array | None]
    shape: list[Count]
    dtype: str
    bytes: Count
    digest: Digest


def weight_digests(model: keras.Model, part: keras.Model) -> Digests:
    """The path in the model and a digest of each weight of a part, by the place in the part."""
    weights = {
        key: variable
        for key, variable in find_variables(part).of("weight").items()
        if not is_seed(variable)
    }
    paths = variable_paths(model)
    return {
        key: [
            paths.get(id(weights[key]), weights[key].path),
            xxhash.xxh3_128_hexdigest(np.ascontiguousarray(value).view(np.uint8).data),
        ]
        for key, value in copy_values(weights).items()
    }


def changed_weights(before: Digests, now: Digests) -> list[str]:
    """The paths of the weights that differ, or are in one of the two only."""
    old, new = ({place: digest for place, (_, digest) in rows.items()} for rows in (before, now))
    return [
        path for place, (path, _) in {**before, **now}.items() if old.get(place) != new.get(place)
    ]


def path_of_features(caller: str, path: Any) -> Path:
    """The path of a file of features, checked."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{caller}: `path` must be the name of a .npy file. Received: {path!r}.")
    if Path(path).suffix != ".npy":
        raise ValueError(
            f"{caller}: `path` must end in .npy, as what is stored there is. Received: "
            f"{str(path)!r}."
        )
    return bound_path(path)


def is_stored(path: Path) -> bool:
    """Tells whether there is a file already; StoreError if the system does not say."""
    return is_there(path)


def write(
    path: Path,
    about: Json,
    shape: tuple[int, ...],
    dtype: np.dtype,
    batches: Callable[[], Iterable[np.ndarray]],
) -> None:
    """Computes features into a new file, whole or not at all; if another process has done so
    meanwhile, nothing.

    The file is written, not mapped: on a full disk, writing to a map ends the process.

    Args:
        path: Where.
        about: What the features are computed from, as JSON.
        shape: Of all of them.
        dtype: Theirs.
        batches: Gives the rows of the file in order.

    Raises:
        kp.StoreError: If the system refuses. What was there is as it was.
    """
    try:
        with _writing(path) as partial:
            if not is_stored(path):
                _check_beside(path)
                _write(path, partial, about, shape, dtype, batches())
    except OSError as error:
        raise SystemRefusalError(
            path, "write the features", error, "Nothing was left behind."
        ) from error


def read(path: Path, about: Json, is_first: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Maps a file of features, after each of its bytes was checked.

    Args:
        path: Where.
        about: What the features must have been computed from.
        is_first: Says whether the first rows are those that the model gives now. That shows what
            weights do not: another activation, another layer without weights to cut behind.

    Raises:
        kp.StoreError: If they were computed from something else, or are not what was written. The
            file is as it was.
    """
    try:
        found = _description(path)
        with open_plain(path, any_folder=True) as file:
            _check_bytes(file, found)
            features = _mapped(file, found)
        lines = _differences(found, about)
    except NotAFileError as error:
        raise StoreError(path, f"cannot be read as features ({error.strerror})", _ANEW) from error
    except OSError as error:
        raise SystemRefusalError(path, "read the features", error, _AS_IT_WAS) from error
    except (ValueError, TypeError) as error:
        raise StoreError(path, f"cannot be read as features ({error})", _ANEW) from error
    if not lines and not is_first(features):
        lines = ["the model, as it is now, gives other features for the first examples"]
    if lines:
        lines += (
            [f"at is {about['at']!r}, it was {found['at']!r}"] if found["at"] != about["at"] else []
        )
        raise StoreError(
            path, f"holds features of something else:\n  {chr(10).join(lines)}\n", _ANEW
        )
    return features


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Holds a file for one writer; gives the name under which it writes, where a killed one's half
    file is cleared away.
    """
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.partial")
    try:
        lock = path.with_name(f".{path.name}.lock")
        check_lock_file(lock)
        with FileLock(lock, timeout=0):
            try:
                partial.unlink(missing_ok=True)
                _beside(partial).unlink(missing_ok=True)
                yield partial
            finally:
                partial.unlink(missing_ok=True)
                _beside(partial).unlink(missing_ok=True)
    except Timeout:
        raise StoreInUseError(
            path,
            "another process computes these features",
            "Wait until it ends, or give another `path`.",
        ) from None


def _write(
    path: Path,
    partial: Path,
    about: Json,
    shape: tuple[int, ...],
    dtype: np.dtype,
    batches: Iterable[np.ndarray],
) -> None:
    digest = xxhash.xxh3_128()

    def parts() -> Iterator[memoryview]:
        with memoryview(_header(shape, dtype)) as header:
            digest.update(header)
            yield header
        for batch in batches:
            data = np.asarray(batch, dtype, order="C").reshape(-1).view(np.uint8).data
            digest.update(data)
            yield data

    write_durably(partial, parts())
    found = {
        **about,
        "shape": shape,
        "dtype": dtype.name,
        "bytes": partial.stat().st_size,
        "digest": digest.hexdigest(),
    }
    write_durably(_beside(partial), [json.dumps({"format": _FORMAT, **found}, indent=1).encode()])
    # A description without features is written over; features without one would be in the way.
    os.replace(_beside(partial), _beside(path))
    sync_folder(path.parent)
    os.replace(partial, path)
    sync_folder(path.parent)


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer,
        {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
    )
    return buffer.getvalue()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _check_beside(path: Path) -> None:
    """Raises if writing the description would cost a file of somebody else's."""
    if is_stored(_beside(path)):
        try:
            _description(path)
        except (ValueError, NotAFileError) as error:
            mend = "Give another `path`, or move that file away."
            raise StoreError(
                _beside(path), "there is a file already that does not describe features", mend
            ) from error


def _description(path: Path) -> Json:
    beside = _beside(path)
    try:
        with open_plain(beside, any_folder=True) as file:
            text = file.read(_MOST_BYTES)
    except FileNotFoundError:
        raise ValueError(
            f"there is no {beside.name} beside it that says what they were computed from"
        ) from None
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ValueError(f"{beside.name} does not describe features")
    checked(found, _Description, beside.name)
    return found


def _check_bytes(file: FileIO, found: Json) -> None:
    size = os.fstat(file.fileno()).st_size
    if size != found["bytes"]:
        raise ValueError(f"it has {size:,} bytes instead of {found['bytes']:,}")
    digest = xxhash.xxh3_128()
    while data := file.read(_READ_BYTES):
        digest.update(data)
    if digest.hexdigest() != found["digest"]:
        raise ValueError("its bytes are not those that were written")


def _mapped(file: FileIO, found: Json) -> np.ndarray:
    """The array in an open file, as its description says that it lies there."""
    file.seek(0)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("it is another version of .npy")
    shape, is_fortran, stored = np.lib.format.read_array_header_1_0(file)
    dtype = dtype_named(found["dtype"])
    said = (tuple(found["shape"]), False, np.dtype(np.lib.format.dtype_to_descr(dtype)))
    begin = file.tell()
    size = begin + math.prod(shape) * dtype.itemsize
    if (shape, is_fortran, stored) != said or size != found["bytes"]:
        raise ValueError("its header is not what was written")
    return np.memmap(file, stored, "r", begin, shape).view(dtype)


def _differences(found: Json, about: Json) -> list[str]:
    changed = changed_weights(found["weights"], about["weights"])
    lines = [f"weights have changed: {listed(changed, _NAMED)}"] if changed else []
    for place in sorted(found["x"].keys() | about["x"].keys()):
        before, now = found["x"].get(place), about["x"].get(place)
        if before != now:
            lines.append(f"{place} is {_shown(now)}, it was {_shown(before)}")
    return lines


def _shown(array: Json | None) -> str:
    return (
        "None"
        if array is None
        else f"{array['dtype']} of shape {tuple(array['shape'])}, digest {array['digest'][:8]}"
    )
