"""Tensors in safetensors files: written durably, and read back with every byte checked.

The format is the public one (8 bytes of length, a JSON header, the bytes of the tensors), so any
safetensors reader opens the files. They are not written through that library, since what happens
on the way matters here: which names exist after a kill, the errno of a full disk, the rights of
the file, where each checksum ends, and that nothing is copied or mapped.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 - registers the names of bfloat16, float8_e4m3fn, ... with NumPy
import numpy as np
from xxhash import xxh3_128_hexdigest as digest

from .errors import DamagedCheckpointError, SystemRefusalError, says_no_file

# What `safetensors.numpy` can name. Any other dtype lies in the file as bytes; the manifest has it.
_CODES = {
    "bool": "BOOL",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
}
# Small tensors are gathered before they go to the system, large ones pass through without a copy.
_BUFFER_BYTES = 1 << 20
# Makes the views that are read back aligned for every dtype.
_ALIGNMENT = 64
# A folder that cannot be opened or synchronised at all (Windows, some network file systems).
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES}


@dataclass(frozen=True)
class Tensor:
    """One named array of a checkpoint.

    Args:
        key: its name, unique in the checkpoint.
        array: any shape; bool, integer, float or complex, of NumPy or ml_dtypes.
        path: what Keras shows as its path. Defaults to "".
        stable: whether later checkpoints will most likely hold the same, and are to link it.
            Defaults to False.
    """

    key: str
    array: np.ndarray
    path: str = ""
    stable: bool = False


class TensorRow(NamedTuple):
    """The row of one tensor in the manifest."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    checksum: str


class FileRow(NamedTuple):
    """The row of one safetensors file in the manifest."""

    bytes: int
    header_checksum: str


class EncodedTensor(NamedTuple):
    """A tensor on its way to disk: `data` is flat bytes, little-endian, C order."""

    key: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    checksum: str
    data: np.ndarray
    stable: bool = False

    def row(self, file: str) -> TensorRow:
        """Its row in the manifest when it lies in `file`."""
        return TensorRow(self.path, self.shape, self.dtype, file, self.checksum)


@cache
def dtype_named(name: str) -> np.dtype:
    """The dtype of that name; TypeError if no array of numbers has it."""
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise TypeError(f"{name!r} names no dtype of numbers")
    dtype = np.dtype(name)
    if dtype.hasobject or dtype.itemsize == 0 or dtype.name != name:
        raise TypeError(f"{name!r} names no dtype of numbers")
    return dtype.newbyteorder("<")


def encode(tensor: Tensor) -> EncodedTensor:
    """The form in which it is stored; copies only what is not contiguous or not little-endian."""
    array = np.asarray(tensor.array)
    try:
        dtype = dtype_named(array.dtype.name)
    except TypeError as error:
        raise TypeError(
            f"Tensor {tensor.key!r} has dtype {array.dtype}; a checkpoint stores arrays of "
            "numbers only. Turn it into numbers, or put it into the document as JSON."
        ) from error
    data = np.asarray(array, dtype, order="C").reshape(-1).view(np.uint8)
    return EncodedTensor(
        tensor.key, tensor.path, array.shape, dtype.name, digest(data.data), data, tensor.stable
    )


def encode_all(tensors: Iterable[Tensor]) -> dict[str, EncodedTensor]:
    """Encodes the tensors of a checkpoint, by key; ValueError if two have the same."""
    stored: dict[str, EncodedTensor] = {}
    for tensor in tensors:
        key = tensor.key
        # The reserved word of safetensors for what is no tensor.
        if not isinstance(key, str) or key in ("", "__metadata__") or key in stored:
            raise ValueError(
                f"Each tensor of a checkpoint needs a key of its own, a non-empty text: {key!r}."
            )
        stored[key] = encode(tensor)
    return stored


def write_file(path: Path, tensors: Iterable[EncodedTensor]) -> FileRow:
    """Writes a new safetensors file and waits until it is on disk."""
    ordered = sorted(tensors, key=lambda tensor: -dtype_named(tensor.dtype).itemsize)
    header = _header(ordered)
    write_durably(path, [header, *(tensor.data.data for tensor in ordered)])
    return FileRow(len(header) + sum(tensor.data.nbytes for tensor in ordered), digest(header))


def write_durably(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Writes a new file from its parts and waits until it is on disk."""
    with open(path, "xb", buffering=_BUFFER_BYTES) as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path) -> None:
    """Makes a folder, with the parents that are missing, and waits until its name is on disk."""
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    # Also where it was there: whoever made it may have been killed before this.
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on disk, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def is_there(path: Path) -> bool:
    """Tells whether anything has that name; SystemRefusalError where the system does not say, which
    `os.path.lexists` takes for a no.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SystemRefusalError(path, "look for it", error) from error
    return True


def read_bytes(path: Path) -> np.ndarray:
    """The bytes of a regular file of the checkpoint `path.parent`; no link is followed.

    Raises:
        DamagedCheckpointError: there is no such file.
        SystemRefusalError: the system does not let it be read, which says nothing about its bytes.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_plain) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _damaged(path, "it is a link or a device, not a file of its own")
            data = np.empty(status.st_size, np.uint8)
            filled = 0
            # Each read gives a part only, of a large file; none at its end.
            while count := file.readinto(data[filled:].data):
                filled += count
            return data[:filled]
    except FileNotFoundError as error:
        raise _damaged(path, "the file is missing") from error
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and says_no_file(error):
            raise _damaged(path, "it is a link or a device, not a file of its own") from error
        raise SystemRefusalError(path, "read the file", error) from error


def read_file(path: Path, row: FileRow, tensors: Mapping[str, TensorRow]) -> dict[str, np.ndarray]:
    """Reads a safetensors file and checks each byte of it; the arrays share one block of memory.

    Args:
        path: the file; its folder is the checkpoint.
        row: what the manifest says of the file.
        tensors: what the manifest says of the tensors in it, by key.

    Returns:
        The arrays by key.

    Raises:
        DamagedCheckpointError: it is not what the manifest says; names the tensors that differ.
    """
    data = read_bytes(path)
    if data.nbytes != row.bytes:
        raise _damaged(path, f"it has {data.nbytes} bytes instead of {row.bytes}")
    end = 8 + int.from_bytes(data[:8].tobytes(), "little")
    if end > data.nbytes or digest(data[:end].data) != row.header_checksum:
        raise _damaged(path, "its header is not what was written")
    try:
        parts = _parts(json.loads(data[8:end].tobytes()), tensors, data[end:])
        arrays = {key: _array(part, tensors[key]) for key, part in parts.items()}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise _damaged(path, f"it does not hold the tensors of the manifest ({error})") from error
    if wrong := [key for key, part in parts.items() if digest(part.data) != tensors[key].checksum]:
        names = ", ".join(map(repr, wrong))
        raise _damaged(path, f"the bytes of tensor {names} are not what was written", wrong)
    return arrays


def _damaged(path: Path, what: str, tensors: Sequence[str] = ()) -> DamagedCheckpointError:
    return DamagedCheckpointError(path.parent, path.name, what, tensors)


def _open_plain(path: str, flags: int) -> int:
    """Opens a file without following a link, and without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _array(part: np.ndarray, row: TensorRow) -> np.ndarray:
    return part.view(dtype_named(row.dtype)).reshape(row.shape)


def _header(tensors: Iterable[EncodedTensor]) -> bytes:
    fields = {}
    offset = 0
    for tensor in tensors:
        code = _CODES.get(tensor.dtype)
        fields[tensor.key] = {
            "dtype": code or "U8",
            "shape": tensor.shape if code else [tensor.data.nbytes],
            "data_offsets": [offset, offset := offset + tensor.data.nbytes],
        }
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _parts(
    header: Any, tensors: Mapping[str, TensorRow], body: np.ndarray
) -> dict[str, np.ndarray]:
    """The bytes of each tensor; ValueError unless they fill the body with no gap and no overlap."""
    if set(header) != tensors.keys():
        raise ValueError(f"other tensors: {sorted(set(header) ^ tensors.keys())[:3]}")
    parts = {}
    reached = 0
    for key in sorted(tensors, key=lambda key: header[key]["data_offsets"]):
        end = reached + math.prod(tensors[key].shape) * dtype_named(tensors[key].dtype).itemsize
        if header[key]["data_offsets"] != [reached, end]:
            raise ValueError(f"tensor {key!r} is not at {reached}:{end}")
        parts[key] = body[reached:end]
        reached = end
    if reached != body.nbytes:
        raise ValueError(f"{body.nbytes - reached} bytes belong to no tensor")
    return parts
