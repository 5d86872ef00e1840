"""The manifest: readable JSON that vouches for every byte of a checkpoint, its own included."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from xxhash import xxh3_128_hexdigest as digest

from .errors import DamagedCheckpointError, NewerFormatError
from .files import FileRow, TensorRow, dtype_named, read_bytes

FORMAT = 2
_READ_FORMATS = (1, 2)
MANIFEST = "manifest.json"
# Only such names are read, linked or deleted: none of them can point outside its folder. Format 1
# said `still`.
FILE_NAME = re.compile(r"(?:tensors|stable|still)-[1-9][0-9]{0,8}\.safetensors")
_FOLDER_NAME = re.compile(r"run-([1-9][0-9]*)-step-([0-9]{9,18})(-validating)?")
# Every format begins so, with the checksum of all other bytes of the file: it tells a damaged
# manifest from one of a newer format.
_HEAD = b'{\n"checksum": "'
_CHECKSUM_DIGITS = 32


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
        whole = all(type(part) is int for part in position)
        if whole and cls.parse(cls(*position).folder_name) == position:
            return cls(*position)
        raise ValueError(
            f"A position has run >= 1, step >= 0 and phase 0 or 1, all integers, not {position!r}."
        )

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

    def dump(self) -> bytes:
        """The bytes of the file."""
        fields = {
            "format": FORMAT,
            "position": self.position._asdict(),
            "created": self.created,
            "made_with": self.made_with,
            "score": self.score and self.score._asdict(),
            "needs": self.needs,
            "document": self.document,
            "files": {name: row._asdict() for name, row in self.files.items()},
            "tensors": {key: row._asdict() for key, row in self.tensors.items()},
        }
        lines = ",\n".join(f'"{name}": {_table(value)}' for name, value in fields.items())
        rest = f'",\n{lines}\n}}\n'.encode()
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
            position = Position(**fields["position"])
            _check(position == Position.parse(folder.name), f"it is that of {position.folder_name}")
            manifest = cls(
                position,
                _mapping(fields["document"]),
                {key: _tensor_row(**row) for key, row in fields["tensors"].items()},
                {_file_name(name): _file_row(**row) for name, row in fields["files"].items()},
                score_of(fields["score"]),
                _mapping(fields["made_with"]),
                str(fields["created"]),
                tuple(Position.checked(Position(*needed)) for needed in fields.get("needs", ())),
            )
            lost = {row.file for row in manifest.tensors.values()} - manifest.files.keys()
            _check(not lost, f"tensors lie in {sorted(lost)[:3]}, which are not among its files")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedCheckpointError(
                folder, MANIFEST, f"a field is not as it must be ({error})"
            ) from error
        return manifest


def as_json(value: Any, name: str) -> Any:
    """A copy of `value` as it will be read back from JSON; TypeError if JSON cannot say it."""
    try:
        return json.loads(json.dumps(value), object_pairs_hook=_without_duplicates)
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
            return Score(monitor, mode, float(value))
    raise ValueError(
        f"A score is {{'monitor': name, 'mode': 'min' or 'max', 'value': number}}, not "
        f"{_brief(fields)}."
    )


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
    data = read_bytes(folder / MANIFEST).tobytes()
    begin = len(_HEAD)
    end = len(_HEAD) + _CHECKSUM_DIGITS
    if not data.startswith(_HEAD) or digest(data[:begin] + data[end:]).encode() != data[begin:end]:
        raise DamagedCheckpointError(folder, MANIFEST, "its bytes are not what was written")
    try:
        fields = json.loads(data, object_pairs_hook=_without_duplicates)
        found = fields["format"]
    except (ValueError, KeyError, RecursionError) as error:
        raise DamagedCheckpointError(folder, MANIFEST, f"it is not a manifest ({error})") from error
    if found not in _READ_FORMATS:
        what = f"the checkpoint has format {found!r}, this keras-patterns reads up to {FORMAT}"
        raise NewerFormatError(folder / MANIFEST, what, "Upgrade keras-patterns.")
    return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(fields := dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return fields


def _brief(value: Any) -> str:
    return f"{value!r:.80}"


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _mapping(value: Any) -> dict[str, Any]:
    _check(isinstance(value, dict), f"an object is expected, not {_brief(value)}")
    return value


def _size(value: Any) -> int:
    _check(type(value) is int and value >= 0, f"a size is expected, not {_brief(value)}")
    return value


def _text(value: Any) -> str:
    _check(isinstance(value, str), f"a text is expected, not {_brief(value)}")
    return value


def _file_name(name: str) -> str:
    _check(
        bool(FILE_NAME.fullmatch(name)), f"{_brief(name)} is not the name of a file of a checkpoint"
    )
    return name


def _tensor_row(path: Any, shape: Any, dtype: Any, file: Any, checksum: Any) -> TensorRow:
    dtype_named(dtype)
    return TensorRow(_text(path), tuple(map(_size, shape)), dtype, _text(file), _text(checksum))


def _file_row(bytes: Any, header_checksum: Any) -> FileRow:
    return FileRow(_size(bytes), _text(header_checksum))
