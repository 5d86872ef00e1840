"""Results beside a run's checkpoints, as plain JSON: a sweep of rates, a diagnosis, a search."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

from .._util.paths import bound_path
from .._util.schema import Count, Fields, SchemaError, check_json, checked
from .errors import StoreError, refusals
from .plain_files import is_there, make_folder, open_plain, replace_durably

_MOST_BYTES = 1 << 26
_KEPT = "What was there before is untouched."
# JSON has no number for what is not finite.
Number = float | Literal["nan", "inf", "-inf"]

_Result = TypeVar("_Result", bound="ResultFile")


class ResultFile(Fields, frozen=True, kw_only=True):
    """The base of what is written by a `save(folder)`.

    Attributes:
        created: When, in ISO 8601.
        format: Of the file.
    """

    file: ClassVar[str]
    created: str = msgspec.field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds")
    )
    format: Literal[1] = 1


class Suggestion(Fields, frozen=True):
    """The rate of a rule, and the rates between which noise leaves it."""

    rule: str
    rate: float
    low: float
    high: float


class SweepFile(ResultFile, frozen=True, kw_only=True):
    """A sweep of the learning rate: `kp.LearningRateSweep`, and what it suggests.

    Attributes:
        rates, losses, smoothed: Of each step.
        suggestions: Of the rules that are sure.
        unsure: The reasons of the others, by rule.
        cycle: The lowest and the highest rate for a cycle; None where nothing can be read off.
        doubt: Why nothing can be; empty if something can.
    """

    file: ClassVar[str] = "sweep.json"
    rates: list[float]
    losses: list[Number]
    smoothed: list[Number]
    steps: Count
    ended: str
    smoothing: float
    optimizers: list[str]
    suggestions: list[Suggestion]
    unsure: dict[str, str]
    cycle: tuple[float, float] | None
    doubt: str

    def __post_init__(self) -> None:
        """Checks what is read: SchemaError there."""
        if not len(self.rates) == len(self.losses) == len(self.smoothed):
            raise ValueError("expected as many losses, and smoothed ones, as rates")


class ObservationRow(Fields, frozen=True):
    """An observation of a diagnosis."""

    kind: str
    message: str
    evidence: dict[str, Number]
    remedy: str
    caution: str


class DiagnosisFile(ResultFile, frozen=True, kw_only=True):
    """A diagnosis of learning curves: `kp.Diagnosis`."""

    file: ClassVar[str] = "diagnosis.json"
    metric: str
    observations: list[ObservationRow]
    doubt: str


class TrialRow(Fields, frozen=True):
    """A trial of a search, as `kp.TrialResult` has it."""

    number: Count
    state: str
    value: Number | None
    params: dict[str, Any]
    error: str | None


class SearchFile(ResultFile, frozen=True, kw_only=True):
    """A search: `kp.TuneResult`, with its trials."""

    file: ClassVar[str] = "search.json"
    name: str
    monitor: str
    direction: Literal["minimize", "maximize"]
    trials: list[TrialRow]


def numbers(values: Iterable[float]) -> list[Number]:
    """Numbers as a result file has them.

    Example:

    >>> numbers([0.5, float("inf")])
    [0.5, 'inf']
    """
    return [value if math.isfinite(value) else repr(value) for value in map(float, values)]  # type: ignore[misc]


def as_parameter(value: Any) -> Any:
    """A parameter of a trial as a result file has it: a text, a whole number or another, True,
    False or None; of anything else its text.
    """
    if isinstance(value, float):
        return numbers([value])[0]
    return value if isinstance(value, str | int | None) else str(value)


def write_result(directory: str | os.PathLike[str], result: ResultFile) -> Path:
    """Writes a result into a folder, in the place of an older one of its kind.

    Args:
        directory: The folder; made if it does not exist.
        result: Of one of the kinds above.

    Returns:
        The file.

    Raises:
        StoreError: If another file has its name, or the system refuses.
    """
    path = bound_path(directory) / result.file
    if is_there(path):
        try:
            read_result(path.parent, type(result))
        except SchemaError as error:
            what = f"a file of this name is there that is no such result ({error})"
            mend = "Move it away, or give another folder. It was not changed."
            raise StoreError(path, what, mend) from error
    text = json.dumps(msgspec.to_builtins(result), indent=1, allow_nan=False)
    with refusals(path.parent, "write to the folder", _KEPT):
        make_folder(path.parent)
        replace_durably(path, f"{text}\n".encode())
    return path


def read_result(directory: Path, kind: type[_Result]) -> _Result | None:
    """Reads the result of a kind in a folder; None if there is none.

    Raises:
        SchemaError: If the file is not such a result.
    """
    path = directory / kind.file
    try:
        with open_plain(path, any_folder=True) as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SchemaError(f"{kind.file}: it cannot be read ({error})") from error
    if len(data) > _MOST_BYTES:
        raise SchemaError(f"{kind.file}: it has more than {_MOST_BYTES:,} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{kind.file}: it is no JSON ({error})") from error
    check_json(value, kind.file)
    return checked(value, kind, kind.file)
