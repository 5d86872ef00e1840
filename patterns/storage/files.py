"""Tensors in safetensors files: written durably, and read back with every byte checked.

The format is the public one (8 bytes of length, a JSON header, the bytes of the tensors), so any
safetensors reader opens the files. They are not written through that library, since what happens
on the way matters here: which names exist after a kill, the errno of a full disk, the rights of
the file, where each checksum ends, and that nothing is copied or mapped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from xxhash import xxh3_128
from xxhash import xxh3_128_hexdigest as digest

from .plain_files import Arrivals, arriving, damaged, write_durably

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
# Makes the views that are read back aligned for every dtype.
_ALIGNMENT = 64


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


def read_file(path: Path, row: FileRow, tensors: Mapping[str, TensorRow]) -> dict[str, np.ndarray]:
    """Reads a safetensors file and checks each byte of it while the next ones are read; the arrays
    share one block of memory.

    Args:
        path: the file; its folder is the checkpoint.
        row: what the manifest says of the file.
        tensors: what the manifest says of the tensors in it, by key.

    Returns:
        The arrays by key.

    Raises:
        DamagedCheckpointError: it is not what the manifest says; names the tensors that differ.
        SystemRefusalError: as `arriving`.
    """
    try:
        with arriving(path, row.bytes) as found:
            header, begins = _read_header(path, row, found)
            places = _places(header, begins, tensors, found.data.nbytes)
            checksums = {key: _checksum(found.pieces(*place)) for key, place in places.items()}
        parts = {key: found.data[begin:end] for key, (begin, end) in places.items()}
        if wrong := [key for key, one in checksums.items() if one != tensors[key].checksum]:
            names = ", ".join(map(repr, wrong))
            raise damaged(path, f"the bytes of tensor {names} are not what was written", wrong)
        return {key: _array(part, tensors[key]) for key, part in parts.items()}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise damaged(path, f"it does not hold the tensors of the manifest ({error})") from error


def _read_header(path: Path, row: FileRow, found: Arrivals) -> tuple[Any, int]:
    """The header of a file that is being read, and where it ends."""
    data = found.data
    _checksum(found.pieces(0, min(8, data.nbytes)))
    end = 8 + int.from_bytes(data[:8].tobytes(), "little")
    if end > data.nbytes or _checksum(found.pieces(0, end)) != row.header_checksum:
        raise damaged(path, "its header is not what was written")
    return json.loads(data[8:end].tobytes()), end


def _checksum(pieces: Iterable[memoryview]) -> str:
    checksum = xxh3_128()
    for piece in pieces:
        checksum.update(piece)
    return checksum.hexdigest()


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


def _places(
    header: Any, begins: int, tensors: Mapping[str, TensorRow], size: int
) -> dict[str, tuple[int, int]]:
    """Where each tensor begins and ends in a file of some size; ValueError unless they fill it,
    from where they begin, with no gap and no overlap.
    """
    if set(header) != tensors.keys():
        raise ValueError(f"other tensors: {sorted(set(header) ^ tensors.keys())[:3]}")
    places = {}
    reached = begins
    for key in sorted(tensors, key=lambda key: header[key]["data_offsets"]):
        end = reached + math.prod(tensors[key].shape) * dtype_named(tensors[key].dtype).itemsize
        if header[key]["data_offsets"] != [reached - begins, end - begins]:
            raise ValueError(f"tensor {key!r} is not at {reached - begins}:{end - begins}")
        places[key] = (reached, end)
        reached = end
    if reached != size:
        raise ValueError(f"{size - reached} bytes belong to no tensor")
    return places
