"""`kp.MemorizationReport`: how far a model is from a table, to be read, and kept in a file."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import keras
import numpy as np
import xxhash

from .._util.paths import bound_path
from .._util.schema import Count, Digest, Fields, SchemaError, check_json, checked
from .._util.table import format_table, html_lines, html_table
from ..run.history import RunHistory
from ..state import copy_values, find_variables, is_seed
from ..storage import StoreError, SystemRefusalError
from ..storage.plain_files import NotAFileError, open_plain, sync_folder, write_durably
from .errors import Table

_FORMAT = "keras-patterns memorization 1"
_MOST_BYTES = 1 << 24
_HEADER = ["at", "error", "target", "output", "inputs"]


class _Worst(Fields, frozen=True):
    example: Count
    error: float | None
    place: str
    target: float | None
    output: float | None
    inputs: list[float] | None


class _Array(Fields, frozen=True):
    shape: list[Count]
    dtype: str
    digest: Digest


class _Report(Fields, frozen=True):
    format: Literal["keras-patterns memorization 1"]
    tolerance: float
    relative: bool
    largest_error: float | None
    mean_error: float | None
    examples: Count
    outside: Count
    steps: Count
    lowest_error: float | None
    lowest_step: Count
    worst: list[_Worst]
    data: dict[str, _Array | None]
    weights: Digest


@dataclass(frozen=True)
class WorstExample:
    """An example on which a model is far from its target, as `kp.memorize` reports it.

    Attributes:
        example: Its number in the table, from 0.
        error: Its largest error, in the unit of the tolerance.
        place: The number of the targets at which the error is, such as `"y[17, 0]"`.
        target: That number; None where errors come from a function.
        output: The model's; None there, and where it is not finite.
        inputs: The numbers that the model was given, of one array of at most 16; None otherwise.
    """

    example: int
    error: float
    place: str
    target: float | None
    output: float | None
    inputs: list[float] | None


@dataclass(frozen=True, repr=False)
class MemorizationReport:
    """The outcome of `kp.memorize`: the largest error of a model over all examples of a table.

    Its figures are of the weights that the model has at the end, computed over the whole table.

    Attributes:
        tolerance: The largest error that is allowed.
        relative: Whether errors are fractions of the range of the targets.
        largest_error: Over all examples and outputs; infinity where an output is not finite.
        mean_error: Over all examples, the mean of the largest error of each.
        examples: In the table.
        outside: The number of examples with an error above the tolerance.
        steps: Optimizer steps of the run.
        lowest_error: The lowest that the largest error has been at a check of the run.
        lowest_step: The step of that check; 0 if there was none.
        worst: The examples with the largest errors, the largest first, at most five.
        data: Of each array of the table, its shape, dtype and a digest.
        weights: A digest of the weights.
        history: Of the run, with `"largest_error"` for each epoch; None in a report from a file.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> x = np.linspace(-1, 1, 9).reshape(-1, 1)
    >>> report = kp.memorize(model, x, 2 * x + 1, tolerance=1e-3, seed=0, verbose=0)
    >>> report.save("certificate.json")
    >>> kept = kp.MemorizationReport.load("certificate.json")
    >>> kept.within, kept.is_of(model, x, 2 * x + 1), kept.is_of(model, x, 2 * x)
    (True, True, False)
    """

    tolerance: float
    relative: bool
    largest_error: float
    mean_error: float
    examples: int
    outside: int
    steps: int
    lowest_error: float
    lowest_step: int
    worst: list[WorstExample]
    data: dict[str, Any]
    weights: str
    history: RunHistory | None = field(default=None, compare=False)

    @property
    def within(self) -> bool:
        """True if no error is above the tolerance."""
        return self.largest_error <= self.tolerance

    def is_of(self, model: keras.Model, x: Any, y: Any) -> bool:
        """True if it was computed with these very weights, on this very table.

        Weights are compared bit by bit, and so is an array of up to 16 MiB; of a larger one, 1024
        rows. An optimizer, or a seed, plays no part.

        Args:
            model: As in `kp.memorize`.
            x: As there.
            y: As there.
        """
        data = Table("MemorizationReport.is_of", x, y).describe()
        return self.weights == digest_of_weights(model) and self.data == data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a JSON file, whole or not at all; one that is there is replaced.

        Args:
            path: The file.

        Raises:
            kp.StoreError: If the system refuses. What was there is as it was.
        """
        file = bound_path(path)
        partial = file.with_name(f".{file.name}.partial")
        fields = {name: value for name, value in vars(self).items() if name != "history"}
        fields["worst"] = [asdict(one) for one in self.worst]
        text = json.dumps({"format": _FORMAT, **_without_infinity(fields)}, indent=1)
        try:
            partial.unlink(missing_ok=True)
            write_durably(partial, [text.encode()])
            os.replace(partial, file)
            sync_folder(file.parent)
        except OSError as error:
            kept = "What was there is as it was."
            raise SystemRefusalError(file, "write the report", error, kept) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MemorizationReport:
        """Reads what `save` has written.

        Args:
            path: The file.

        Raises:
            kp.StoreError: If it holds something else, or the system refuses.
        """
        file = bound_path(path)
        mend = "Give the path of a file that MemorizationReport.save has written."
        try:
            with open_plain(file, any_folder=True) as opened:
                found = json.loads(opened.read(_MOST_BYTES))
            check_json(found, file.name)
            checked(found, _Report, file.name)
        except (NotAFileError, SchemaError, ValueError, RecursionError) as error:
            raise StoreError(file, f"is no report of a memorization ({error})", mend) from error
        except OSError as error:
            raise SystemRefusalError(file, "read the report", error, "It is as it was.") from error
        del found["format"]
        worst = [WorstExample(**_with_infinity(one)) for one in found.pop("worst")]
        return cls(**_with_infinity(found), worst=worst)

    def __repr__(self) -> str:
        table = "" if self.within else f"\n{format_table(_HEADER, self._rows)}"
        return self._verdict + table

    def _repr_html_(self) -> str:
        return html_lines(self._verdict) + ("" if self.within else html_table(_HEADER, self._rows))

    @property
    def _verdict(self) -> str:
        unit = " of the range" if self.relative else ""
        error, tolerance = f"{self.largest_error:.3g}", f"{self.tolerance:.3g}"
        where = f"the largest error over all {self.examples:,} examples is {error}{unit}"
        if self.within:
            return f"Memorised: {where}, within the tolerance of {tolerance} ({self._effort})."
        times = f"{self.largest_error / self.tolerance:.3g} times" if self.tolerance else "above"
        outside = "1 example is" if self.outside == 1 else f"{self.outside:,} examples are"
        return (
            f"Fell short: {where}, {times} the tolerance of {tolerance}; {outside} outside it "
            f"({self._effort})."
        )

    @property
    def _rows(self) -> list[list[Any]]:
        return [
            [one.place, f"{one.error:.3g}", _shown(one.target), _shown(one.output), one.inputs]
            for one in self.worst
        ]

    @property
    def _effort(self) -> str:
        said = f"{self.steps:,} steps"
        if self.lowest_step and self.lowest_error < self.largest_error:
            said += f"; it was {self.lowest_error:.3g} after step {self.lowest_step:,}"
        return said


def certify(
    model: keras.Model,
    table: Table,
    *,
    tolerance: float,
    relative: bool,
    size: int,
    history: RunHistory,
    steps: int,
) -> MemorizationReport:
    """The report on a model as it is now."""
    errors = table.errors(model, size)
    checks = dict(
        zip(history.epoch_end_steps, history.history.get("largest_error", []), strict=False)
    )
    lowest = min(checks, key=lambda step: checks[step], default=0)
    return MemorizationReport(
        tolerance=tolerance,
        relative=relative,
        largest_error=float(errors.max()),
        mean_error=float(errors.mean()),
        examples=table.examples,
        outside=int(np.sum(errors > tolerance)),
        steps=steps,
        lowest_error=float(checks.get(lowest, math.inf)),
        lowest_step=lowest,
        worst=[WorstExample(**one) for one in table.worst(model, errors, size)],
        data=table.describe(),
        weights=digest_of_weights(model),
        history=history,
    )


def digest_of_weights(model: keras.Model) -> str:
    """A digest of the weights by their places; seeds are none."""
    weights = find_variables(model).of("weight")
    values = copy_values({key: one for key, one in weights.items() if not is_seed(one)})
    whole = xxhash.xxh3_128()
    for key in sorted(values):
        whole.update(f"{key} {values[key].dtype} {values[key].shape}".encode())
        whole.update(np.ascontiguousarray(values[key]).reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


_ERRORS = ("error", "largest_error", "mean_error", "lowest_error")


def _without_infinity(value: Any) -> Any:
    """JSON has no infinity: None stands for it."""
    if isinstance(value, dict):
        return {name: _without_infinity(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_infinity(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_infinity(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: math.inf if value is None and name in _ERRORS else value
        for name, value in fields.items()
    }


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
