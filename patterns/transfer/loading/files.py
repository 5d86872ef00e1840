"""Files of weights: what is in them, read without running anything and only as far as it is
used."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from ..._util.schema import checked
from ...storage import SystemRefusalError
from ...storage.export import NAMES
from .matching import Loadable

# What a `.keras` file calls its weights.
_WEIGHTS = "model.weights.h5"
# Keras stores them as they are; what grows far beyond that when it is read is no file of Keras's.
_MOST_EXPANSION = 100
_READ_BYTES = 1 << 22
_NOTHING = "Nothing was loaded."
_DAMAGES = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    safetensors.SafetensorError,
)

_DTYPES = {
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "BOOL": bool,
}
_KINDS = {"F": "float", "I": "int", "U": "uint"}


@contextmanager
def open_keras(caller: str, path: Path) -> Iterator[list[Loadable]]:
    """The weights in a `.keras` file. The model in it is not made."""
    with _reading_errors(caller, path), zipfile.ZipFile(path) as archive:
        info = archive.getinfo(_WEIGHTS)
        if info.file_size > _MOST_EXPANSION * max(info.compress_size, 1):
            raise ValueError(f"its {_WEIGHTS} claims to be {info.file_size:,} bytes")
        content = io.BytesIO(archive.read(info))
    with _open_groups(caller, path, content) as entries:
        yield entries


@contextmanager
def open_h5(caller: str, path: Path) -> Iterator[list[Loadable]]:
    """The weights in a `.weights.h5` file."""
    with _open_groups(caller, path, path) as entries:
        yield entries


@contextmanager
def open_safetensors(caller: str, path: Path) -> Iterator[list[Loadable]]:
    """The tensors in a `.safetensors` file: by place, and by the names that kp.CheckpointStore has
    written with them, if it has or a key has a number; else by path.
    """
    with _reading_errors(caller, path):
        file = safetensors.safe_open(path, "numpy")
        keys = sorted(key for key in file.keys() if not key.endswith("seed_generator/state"))  # noqa: SIM118 - it is no mapping
        metadata = file.metadata() or {}
        places = "step" in metadata or any(
            token.isdigit() for key in keys for token in key.split("/")
        )
        names = checked(json.loads(metadata.get(NAMES, "{}")), dict[str, str], NAMES)
        entries = []
        for key in keys:
            place = tuple(key.split("/"))
            named = (tuple(names[key].split("/")),) if names.get(key) else ()
            slices = file.get_slice(key)
            shape = tuple(slices.get_shape())
            dtype = _dtype(slices.get_dtype())

            def read(key: str = key) -> np.ndarray:
                with _reading_errors(caller, path):
                    return file.get_tensor(key)

            entries.append(Loadable(key, named if places else (place,), place, shape, dtype, read))
    yield entries


@contextmanager
def _open_groups(caller: str, path: Path, content: Any) -> Iterator[list[Loadable]]:
    import h5py

    with _reading_errors(caller, path):
        file = h5py.File(content, "r")
    with file:
        with _reading_errors(caller, path):
            names, arrays = _visit(file, h5py)
            entries = [_entry(caller, path, place, names, array) for place, array in arrays.items()]
        yield entries


def _visit(file: Any, h5py: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """The name of each layer by its group, and the arrays by theirs. Links that lead elsewhere are
    not followed.
    """
    names: dict[str, str] = {}
    arrays: dict[str, Any] = {}

    def note(place: str, item: Any) -> None:
        group, _, last = place.rpartition("/")
        if (
            isinstance(item, h5py.Group)
            and last == "vars"
            and isinstance(item.attrs.get("name"), str)
        ):
            names[group] = item.attrs["name"]
        elif (
            isinstance(item, h5py.Dataset)
            and (group == "vars" or group.endswith("/vars"))
            and not place.startswith("optimizer/")
        ):
            if item.external or item.is_virtual:
                raise ValueError(f"{place!r} lies in another file")
            arrays[place] = item

    file.visititems(note)
    return names, arrays


def _entry(caller: str, path: Path, place: str, names: dict[str, str], array: Any) -> Loadable:
    *tokens, _, number = place.split("/")
    groups = ["/".join(tokens[: count + 1]) for count in range(len(tokens))]
    known = not groups or groups[-1] in names
    layers = [names[group] for group in groups if group in names]
    dtype = np.dtype(ml_dtypes.bfloat16) if array.attrs.get("dtype") == "bfloat16" else array.dtype

    def read() -> np.ndarray:
        with _reading_errors(caller, path):
            return np.asarray(array[()]).view(dtype)

    # Files of early Keras call a model's layers otherwise.
    place = re.sub("(^|/)_layer_checkpoint_dependencies/", r"\1layers/", place)
    label = "/".join([*layers, number]) if known else place
    return Loadable(
        label,
        ((*layers, number),) if known else (),
        tuple(place.split("/")),
        tuple(array.shape),
        dtype,
        read,
    )


def _dtype(code: str) -> np.dtype:
    with suppress(TypeError):
        return np.dtype(_DTYPES.get(code) or f"{_KINDS[code[0]]}{code[1:]}")
    raise ValueError(f"it holds a tensor of dtype {code}")


def _refusal(path: Path, error: Exception) -> OSError | None:
    """The answer of the system, where it is the system that does not let a file be read; the
    libraries that read it do not always hand that on.
    """
    # A damaged file can lead a library to a place that no file has.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return OSError(error.errno, os.strerror(error.errno))
    try:
        with open(path, "rb", buffering=0) as file:
            while file.read(_READ_BYTES):
                pass
    except OSError as refusal:
        return refusal
    return None


@contextmanager
def _reading_errors(caller: str, path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGES as error:
        if refusal := _refusal(path, error):
            raise SystemRefusalError(path, "read the file", refusal, _NOTHING) from error
        raise ValueError(
            f"{caller}: {str(path)!r} cannot be read: {error}. It is damaged, cut off, or another "
            "kind of file than its name says; nothing was loaded."
        ) from error
