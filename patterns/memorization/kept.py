"""Values of a function in a file that grows by a line with each: a kill loses none.

The first line says what is tabulated. Each other one is a JSON list of a digest and the values of
one call. A line that a kill has cut is cut off when the file is opened again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash
from filelock import FileLock, Timeout

from .._util.schema import Count, Digest, Fields, check_json, checked, require
from ..storage import StoreError, StoreInUseError
from ..storage.errors import refusals
from ..storage.lock import check_lock_file
from ..storage.plain_files import NotAFileError, make_folder, open_plain, sync_folder

_FORMAT = "keras-patterns table 1"
_KEPT = "The values that were computed are in it."
_ANEW = "Give another `path`, or delete the file, and the table is computed anew."


class _Head(Fields, frozen=True):
    format: Literal["keras-patterns table 1"]
    points: Count
    dimensions: Count
    digest: Digest


class KeptValues:
    """The values of the first points of a table, in a file or nowhere.

    Args:
        path: The file. None keeps them in memory alone.
        points: All points, of shape `(points, dimensions)`.

    Attributes:
        values: So far: an array for each point.
    """

    def __init__(self, path: Path | None, points: np.ndarray) -> None:
        self._path = path
        self._points = points
        self._file: FileIO | None = None
        self.values: list[np.ndarray] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within it, the file is this process's, and values can be added."""
        if self._path is None:
            yield
            return
        lock = FileLock(self._path.with_name(f".{self._path.name}.lock"), timeout=0)
        with ExitStack() as until_end:
            with refusals(self._path, "open the table", _KEPT):
                make_folder(self._path.parent)
                check_lock_file(Path(lock.lock_file))
                try:
                    until_end.enter_context(lock)
                except Timeout:
                    raise StoreInUseError(
                        self._path,
                        "another process computes this table",
                        "Wait until it ends, or give another `path`.",
                    ) from None
                end = self._read(self._path)
                # Unbuffered: what was written is the system's, whatever happens to this process.
                file = open(self._path, "r+b" if end else "wb", buffering=0)  # noqa: SIM115
                self._file = until_end.enter_context(file)
                file.truncate(end)
                file.seek(end)
                if not end:
                    self._write(self._head())
                    sync_folder(self._path.parent)
            yield
            with refusals(self._path, "write the table", _KEPT):
                os.fsync(file.fileno())

    def add(self, values: list[np.ndarray]) -> None:
        """Keeps the values of the next points."""
        if self._path is not None:
            with refusals(self._path, "write the table", _KEPT):
                self._write(b"".join(map(_line, values)))
        self.values += values

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def _head(self) -> bytes:
        count, dimensions = self._points.shape
        digest = xxhash.xxh3_128_hexdigest(self._points.tobytes())
        fields = {"format": _FORMAT, "points": count, "dimensions": dimensions, "digest": digest}
        return json.dumps(fields).encode() + b"\n"

    def _read(self, path: Path) -> int:
        """Reads the values that are there; returns the bytes that they take."""
        try:
            with open_plain(path, any_folder=True) as file:
                *lines, rest = file.read().split(b"\n")
            if not lines:
                require(self._head().startswith(rest), "the first line", "it is not one of a table")
                return 0
            self._check_head(lines[0])
            self.values = [
                _value(line, f"line {number + 2}") for number, line in enumerate(lines[1:])
            ]
            require(
                len(self.values) <= len(self._points), "it", "there are more values than points"
            )
            require(len({one.shape for one in self.values}) < 2, "it", "values of several shapes")
            return sum(len(line) + 1 for line in lines)
        except FileNotFoundError:
            return 0
        except (NotAFileError, ValueError, RecursionError) as error:
            raise StoreError(path, f"is no table of these points ({error})", _ANEW) from error

    def _check_head(self, line: bytes) -> None:
        head = json.loads(line)
        check_json(head, "the first line")
        checked(head, _Head, "the first line")
        require(
            line + b"\n" == self._head(),
            "the first line",
            f"it is of {head['points']:,} other points of {head['dimensions']} dimensions",
        )


def _line(value: np.ndarray) -> bytes:
    text = json.dumps(value.tolist())
    return f'["{xxhash.xxh3_128_hexdigest(text.encode())}", {text}]\n'.encode()


def _value(line: bytes, place: str) -> np.ndarray:
    found = json.loads(line)
    check_json(found, place)
    require(isinstance(found, list) and len(found) == 2, place, "expected a digest and a value")
    value = np.array(found[1], "float64")
    require(_line(value) == line + b"\n", place, "it is not what was written")
    return value
