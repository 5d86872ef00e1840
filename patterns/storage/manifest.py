"""The manifest: readable JSON that vouches for every byte of a checkpoint, its own included."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta
from xxhash import xxh3_128_hexdigest as digest

from .._util.schema import (
    MOST,
    Count,
    Digest,
    Fields,
    SchemaError,
    check_json,
    checked,
    require,
    shown,
    table,
)
from .errors import DamagedCheckpointError, NewerFormatError
from .files import FileRow, TensorRow, dtype_named, is_tensor_key
from .plain_files import read_bytes

FORMAT = 2
_READ_FORMATS = (1, 2)
MANIFEST = "manifest.json"
# Only such names are read, linked or deleted: none of them can point outside its folder. Format 1
# said `still`.
_FILE_PATTERN = r"(?:tensors|stable|still)-[1-9][0-9]{0,8}\.safetensors"
FILE_NAME = re.compile(_FILE_PATTERN)
FileName = Annotated[str, Meta(pattern=rf"\A{_FILE_PATTERN}\Z")]
_FOLDER_NAME = re.compile(r"run-([1-9][0-9]{0,17})-step-([0-9]{9,18})(-validating)?")
# Every format begins so, with the checksum of all other bytes of the file: it tells a damaged
# manifest from one of a newer format.
_HEAD = b'{\n"checksum": "'
_CHECKSUM_DIGITS = 32
# Far more than a million variables and a million logged steps need.
_MOST_BYTES = 1 << 28


class Position(NamedTuple):
    """The place in the training at which a checkpoint was taken; later is larger.

    Args:
        run: ordinal of the run in its folder, from 1.
        step: optimizer steps done.
        phase: 0 before the validation that follows the step, 1 when all of the step is done.
    """

    run: int
    step: int
    phase: int = 1

    @property
    def folder_name(self) -> str:
        """The name of its folder."""
        return f"run-{self.run}-step-{self.step:09d}{'' if self.phase else '-validating'}"

    @classmethod
    def checked(cls, position: Position) -> Position:
        """The same position; ValueError if there is no such position."""
        if cls.is_valid(position):
            return cls(*position)
        raise ValueError(
            f"A position has run >= 1, step >= 0 and phase 0 or 1, all integers, not {position!r}."
        )

    @classmethod
    def in_state(cls, value: Any, now: Position | None) -> Position | None:
        """The position that a saved state names, or None if it names none.

        Args:
            value: three numbers, or None.
            now: where the run stands; None if there is no run.

        Raises:
            SchemaError: it is not that of a checkpoint that this run has made by now.
        """
        if value is None:
            return None
        found = cls(*checked(value, tuple[int, int, int], "the position of a checkpoint"))
        is_own = now is None or (found.run == now.run and found <= now)
        said = f"{shown(list(found))} is no checkpoint that this run has made"
        require(cls.is_valid(found) and is_own, "the position of a checkpoint", said)
        return found

    @classmethod
    def is_valid(cls, position: Sequence[Any]) -> bool:
        """Tells whether three values are a position."""
        whole = len(position) == 3 and all(type(part) is int for part in position)
        return whole and cls.parse(cls(*position).folder_name) == tuple(position)

    @classmethod
    def parse(cls, folder_name: str) -> Position | None:
        """The position whose folder has that name, if there is one."""
        if not (match := _FOLDER_NAME.fullmatch(folder_name)):
            return None
        position = cls(int(match[1]), int(match[2]), 0 if match[3] else 1)
        return position if position.folder_name == folder_name else None


class Score(NamedTuple):
    """The metric by which a checkpoint is better than another.

    Args:
        monitor: name of the metric.
        mode: "min" or "max".
        value: its value; one that is not finite is never the best.
    """

    monitor: str
    mode: str
    value: float


@dataclass(frozen=True)
class Manifest:
    """The description of a checkpoint that lies in its folder."""

    position: Position
    document: dict[str, Any]
    tensors: dict[str, TensorRow] = field(default_factory=dict)
    files: dict[str, FileRow] = field(default_factory=dict)
    score: Score | None = None
    made_with: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    needs: tuple[Position, ...] = ()

    def __post_init__(self) -> None:
        """Checks what a writer gives, as a reader does: SchemaError."""
        check_needs(self.position, self.needs)
        checked(self.made_with, _MadeWith, "made_with")

    def dump(self) -> bytes:
        """The bytes of the file."""
        fields = {
            "format": FORMAT,
            "position": self.position._asdict(),
            "created": self.created,
            "made_with": self.made_with,
            "score": self.score and _score_fields(self.score),
            "needs": self.needs,
            "document": self.document,
            "files": {name: row._asdict() for name, row in self.files.items()},
            "tensors": {key: row._asdict() for key, row in self.tensors.items()},
        }
        lines = ",\n".join(f'"{name}": {_table(value)}' for name, value in fields.items())
        rest = f'",\n{lines}\n}}\n'.encode()
        if len(rest) + 2 * len(_HEAD) + _CHECKSUM_DIGITS > _MOST_BYTES:
            raise ValueError(
                f"The manifest of a checkpoint would have {len(rest):,} bytes, and may have "
                f"{_MOST_BYTES:,}. Give large state as arrays, or keep fewer logs."
            )
        return _HEAD + digest(_HEAD + rest).encode() + rest

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Reads and checks the manifest of a checkpoint.

        Raises:
            DamagedCheckpointError: there is none, or it is not what was written.
            NewerFormatError: it is sound, and of a format that this library does not know.
        """
        fields = _read_fields(folder)
        try:
            return _checked_manifest(fields, folder.name)
        except SchemaError as error:
            raise DamagedCheckpointError(
                folder, MANIFEST, f"a field is not as it must be ({error})"
            ) from error


class _PositionFields(Fields, frozen=True):
    run: Annotated[int, Meta(ge=1, le=MOST)]
    step: Count
    phase: Literal[0, 1]


class _ScoreFields(Fields, frozen=True):
    monitor: str
    mode: Literal["min", "max"]
    # JSON has no number for what is not finite. Release 0.1 wrote it as Python does.
    value: float | Literal["nan", "inf", "-inf"]


class _FileFields(Fields, frozen=True):
    bytes: Count
    header_checksum: Digest


class _TensorFields(Fields, frozen=True):
    path: str
    shape: list[Count]
    dtype: str
    file: str
    checksum: Digest


class _MadeWith(msgspec.Struct):
    """The part that is read; the rest is for people."""

    keras_patterns: str = ""
    keras: str = ""
    backend: str = ""
    processes: list[dict[str, Any]] = []


class _AnyFormat(msgspec.Struct):
    """The part of a manifest that every format has."""

    format: Count


class _ManifestFields(Fields, frozen=True):
    checksum: Digest
    format: int
    position: _PositionFields
    created: str
    made_with: dict[str, Any]
    score: _ScoreFields | None
    document: dict[str, Any]
    files: dict[str, Any]
    tensors: dict[str, Any]
    # The first checkpoints of format 1 had none.
    needs: list[tuple[int, int, int]] = msgspec.field(default_factory=list)


def _checked_manifest(fields: dict[str, Any], folder_name: str) -> Manifest:
    found = checked(fields, _ManifestFields, "manifest")
    for name, value in fields.items():
        if name != "score":
            check_json(value, name)
    position = Position(**msgspec.structs.asdict(found.position))
    said = f"it is that of {position.folder_name}"
    require(position == Position.parse(folder_name), "position", said)
    files = table(found.files, _FileFields, "files", FileName)
    tensors = table(found.tensors, _TensorFields, "tensors")
    return Manifest(
        position,
        found.document,
        _tensor_rows(tensors, files),
        {name: FileRow(row.bytes, row.header_checksum) for name, row in files.items()},
        found.score and Score(found.score.monitor, found.score.mode, float(found.score.value)),
        found.made_with,
        found.created,
        tuple(Position(*one) for one in found.needs),
    )


def _tensor_rows(
    tensors: Mapping[str, _TensorFields], files: Mapping[str, _FileFields]
) -> dict[str, TensorRow]:
    left = {name: row.bytes for name, row in files.items()}
    rows = {}
    for key, row in tensors.items():
        # There may be many: what an error would say is made where there is one.
        if not is_tensor_key(key):
            raise _wrong_tensor(key, "", "it is no name of a tensor")
        if row.file not in files:
            raise _wrong_tensor(key, "", f"{shown(row.file)} is not among its files")
        try:
            size = math.prod(row.shape) * dtype_named(row.dtype).itemsize
        except TypeError as error:
            raise _wrong_tensor(key, ".dtype", str(error)) from None
        left[row.file] -= size
        if left[row.file] < 0:
            what = f"{row.file} is too small to hold its {size:,} bytes"
            raise _wrong_tensor(key, "", what)
        rows[key] = TensorRow(row.path, tuple(row.shape), row.dtype, row.file, row.checksum)
    return rows


def _wrong_tensor(key: str, field: str, what: str) -> SchemaError:
    return SchemaError(f"tensors[{shown(key)}]{field}: {what}")


def check_needs(position: Position, needs: Iterable[Position]) -> None:
    """Raises unless all of `needs` are earlier checkpoints of the run of `position`."""
    for needed in needs:
        is_one = Position.is_valid(needed) and needed.run == position.run and needed < position
        said = f"{shown(list(needed))} is no earlier checkpoint of run {position.run}"
        require(is_one, "needs", said)


def as_json(value: Any, name: str) -> Any:
    """A copy of `value` as it will be read back from JSON; TypeError if JSON cannot say it."""
    try:
        copy = json.loads(json.dumps(value, allow_nan=False), object_pairs_hook=_without_duplicates)
        check_json(copy, name)
        return copy
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"The {name} of a checkpoint must be plain JSON: {error}. Arrays go into the tensors."
        ) from error


def score_of(fields: Mapping[str, Any] | None) -> Score | None:
    """The score that `fields` describe; ValueError if they describe none."""
    match fields:
        case None:
            return None
        case {"monitor": str(monitor), "mode": "min" | "max" as mode, "value": value}:
            with suppress(TypeError, OverflowError):
                return Score(monitor, mode, float(value))
    raise ValueError(
        "A score is {'monitor': name, 'mode': 'min' or 'max', 'value': number}, not "
        f"{shown(fields)}."
    )


def _score_fields(score: Score) -> dict[str, Any]:
    finite = math.isfinite(score.value)
    return {**score._asdict(), "value": score.value if finite else repr(score.value)}


def _table(value: Any) -> str:
    """JSON with a line for each entry of the outermost object: readable, and quick to make."""
    if not isinstance(value, Mapping) or not value:
        return json.dumps(value)
    # A slice of the object's own text: keys are converted by json, not by us.
    return (
        "{\n"
        + ",\n".join("  " + json.dumps({key: entry})[1:-1] for key, entry in value.items())
        + "\n}"
    )


def _read_fields(folder: Path) -> dict[str, Any]:
    data = read_bytes(folder / MANIFEST, most=_MOST_BYTES).tobytes()
    begin = len(_HEAD)
    end = len(_HEAD) + _CHECKSUM_DIGITS
    if not data.startswith(_HEAD) or digest(data[:begin] + data[end:]).encode() != data[begin:end]:
        raise DamagedCheckpointError(folder, MANIFEST, "its bytes are not what was written")
    try:
        fields = json.loads(data, object_pairs_hook=_without_duplicates)
        found = checked(fields, _AnyFormat, "manifest").format
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpointError(folder, MANIFEST, f"it is not a manifest ({error})") from error
    if found not in _READ_FORMATS:
        what = f"the checkpoint has format {found}, this keras-patterns reads up to {FORMAT}"
        raise NewerFormatError(folder / MANIFEST, what, "Upgrade keras-patterns.")
    return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(fields := dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return fields
