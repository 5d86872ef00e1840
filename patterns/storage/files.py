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
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import ml_dtypes
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
_NUMBERS = [
    np.dtype(kind)
    for kind in (*map(np.dtype, "?bhilqBHILQefdgFDG"), *vars(ml_dtypes).values())
    if isinstance(kind, np.dtype) or (isinstance(kind, type) and issubclass(kind, np.generic))
]
# The dtypes that an array in a checkpoint may have, by name: those that a processor counts with.
_DTYPES = {dtype.name: dtype.newbyteorder("<") for dtype in _NUMBERS}
# Not through a link, not waiting for the other end of a pipe, not for a child process.
_PLAINLY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))
# Small tensors are gathered before they go to the system, large ones pass through without a copy.
_BUFFER_BYTES = 1 << 20
# What is larger is read and checked by several threads, as they are free.
_PIECE_BYTES = 8 << 20
_THREADS = min(4, os.cpu_count() or 1)
# Makes the views that are read back aligned for every dtype.
_ALIGNMENT = 64
# A folder that cannot be opened or synchronised at all (Windows, some network file systems).
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES}


_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")


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
    if name not in _DTYPES:
        raise TypeError(f"{name!r:.60} names no dtype of numbers")
    return _DTYPES[name]


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


def is_tensor_key(key: Any) -> bool:
    """Tells whether a tensor can have that name: any text of Unicode but the reserved word of
    safetensors for what is no tensor.
    """
    if not isinstance(key, str) or key in ("", "__metadata__"):
        return False
    try:
        return bool(key.encode())
    except UnicodeEncodeError:
        return False


def encode_all(tensors: Iterable[Tensor]) -> dict[str, EncodedTensor]:
    """Encodes the tensors of a checkpoint, by key; ValueError if two have the same."""
    stored: dict[str, EncodedTensor] = {}
    for tensor in tensors:
        key = tensor.key
        if not is_tensor_key(key) or key in stored:
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


@contextmanager
def open_plain(path: Path, *, any_folder: bool = False) -> Iterator[FileIO]:
    """Opens a file to be read, if it is one: no link, folder, pipe, socket or device. Nothing is
    waited for.

    Args:
        path: the file.
        any_folder: whether its folder may be a link. Defaults to False.

    Raises:
        NotAFileError: it is something else.
        OSError: there is none, or the system refuses.
    """
    by_folder = os.open in os.supports_dir_fd and not any_folder
    try:
        # A device may do something when it is opened.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise NotAFileError(path)
        folder = os.open(path.parent, os.O_DIRECTORY | _PLAINLY) if by_folder else None
        try:
            descriptor = os.open(path.name if by_folder else path, _PLAINLY, dir_fd=folder)
        finally:
            if folder is not None:
                os.close(folder)
    except OSError as error:
        if says_no_file(error) and not isinstance(error, FileNotFoundError):
            raise NotAFileError(path) from error
        raise
    with FileIO(descriptor) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFileError(path)
        yield file


NOT_A_FILE = "it is a link or a device, not a file of its own"


class NotAFileError(OSError):
    """In the place of a file is something else."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ELOOP, NOT_A_FILE, str(path))


def create_plain(path: Path, data: bytes) -> None:
    """Makes a small file anew: whatever has the name loses it, and is not written to."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAINLY, 0o666)
    with open(descriptor, "wb") as file:
        file.write(data)


def read_bytes(path: Path, size: int | None = None, most: int = sys.maxsize) -> np.ndarray:
    """The bytes of a plain file of the checkpoint `path.parent`.

    Args:
        path: the file.
        size: of the file, as it must be; nothing is read of one of another size. Defaults to any.
        most: the largest size that it may have. Defaults to any.

    Raises:
        DamagedCheckpointError: there is no such file.
        SystemRefusalError: the system does not let it be read, which says nothing about its bytes.
    """
    try:
        with open_plain(path) as file:
            found = os.fstat(file.fileno()).st_size
            if size is not None and found != size:
                raise _damaged(path, f"it has {found} bytes instead of {size}")
            if found > most:
                raise _damaged(path, f"it has {found:,} bytes, and may have {most:,}")
            _check_memory(found)
            data = np.empty(found, np.uint8)
            filled = _fill(data, file)
            if filled != found:
                raise _damaged(path, f"it has {filled} bytes instead of {found}")
            return data
    except FileNotFoundError as error:
        raise _damaged(path, "the file is missing") from error
    except NotAFileError as error:
        raise _damaged(path, NOT_A_FILE) from error
    except (OSError, MemoryError) as error:
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
        SystemRefusalError: as `read_bytes`.
    """
    data = read_bytes(path, row.bytes)
    end = 8 + int.from_bytes(data[:8].tobytes(), "little")
    if end > data.nbytes or digest(data[:end].data) != row.header_checksum:
        raise _damaged(path, "its header is not what was written")
    try:
        parts = _parts(json.loads(data[8:end].tobytes()), tensors, data[end:])
        arrays = {key: _array(part, tensors[key]) for key, part in parts.items()}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise _damaged(path, f"it does not hold the tensors of the manifest ({error})") from error
    checksums = _by_threads(lambda part: digest(part.data), parts.values(), data.nbytes)
    if wrong := [
        key for key, found in zip(parts, checksums, strict=True) if found != tensors[key].checksum
    ]:
        names = ", ".join(map(repr, wrong))
        raise _damaged(path, f"the bytes of tensor {names} are not what was written", wrong)
    return arrays


def _fill(data: np.ndarray, file: FileIO) -> int:
    """Reads a file into an array, a large one by several threads; returns how many bytes there
    were.
    """
    if data.nbytes <= _PIECE_BYTES or not hasattr(os, "preadv"):
        return _read_on(data, lambda rest, filled: file.readinto(rest))
    starts = range(0, data.nbytes, _PIECE_BYTES)

    def read(start: int) -> int:
        piece = data[start : start + _PIECE_BYTES]
        return _read_on(
            piece, lambda rest, filled: os.preadv(file.fileno(), [rest], start + filled)
        )

    return sum(_by_threads(read, starts, data.nbytes))


def _read_on(data: np.ndarray, read: Callable[[memoryview, int], int | None]) -> int:
    """Fills an array by calls that each read a part only, of a large file; and nothing at its
    end.
    """
    filled = 0
    while count := read(data[filled:].data, filled):
        filled += count
    return filled


def _by_threads(
    work: Callable[[_Part], _Answer], parts: Iterable[_Part], size: int
) -> list[_Answer]:
    """The answers for all parts, in their order; of `size` bytes that are worth it, at once."""
    if size > _PIECE_BYTES:
        # No thread can be started at a limit of the system, nor when Python ends.
        with suppress(RuntimeError), ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(work, parts))
    return list(map(work, parts))


def _damaged(path: Path, what: str, tensors: Sequence[str] = ()) -> DamagedCheckpointError:
    return DamagedCheckpointError(path.parent, path.name, what, tensors)


def _check_memory(size: int) -> None:
    """Raises before a system that lends more memory than it has ends the process for it."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not known here
        return
    if size > memory:
        raise MemoryError(f"it has {size:,} bytes, and this machine a memory of {memory:,}")


def _array(part: np.ndarray, row: TensorRow) -> np.ndarray:
    array = part.view(dtype_named(row.dtype)).reshape(row.shape)
    if array.dtype == bool and part.max(initial=0) > 1:
        raise ValueError("a byte of a bool is neither 0 nor 1")
    return array


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
