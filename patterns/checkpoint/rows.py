"""The table of a selection, and which of its rows is the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._util.metrics import Mode
from .._util.table import format_table, html_lines, html_table


@dataclass(frozen=True)
class SelectionRow:
    """A checkpoint, as `kp.select_checkpoint` found it.

    Attributes:
        step: After how many optimizer steps it was taken.
        values: What `model.evaluate` returned, by name; empty if the checkpoint cannot be read.
        problem: Why it cannot; empty if it can.
    """

    step: int
    values: dict[str, float] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class CheckpointSelection:
    """The table of `kp.select_checkpoint`; `print` shows it.

    Attributes:
        metric: By which the checkpoints were compared.
        mode: `"min"` if less of it is better, `"max"` if more is.
        rows: One for each step, in order; those that could not be read included.
        best: The row of the best one, whose weights the model has.
        ways: With `fuse`, the ways in which checkpoints were evaluated, as dicts: `"step"` of the
            first one, `"way"`, and `"why"`.
    """

    metric: str
    mode: Mode
    rows: tuple[SelectionRow, ...]
    best: SelectionRow
    ways: tuple[dict[str, Any], ...] = ()

    @property
    def best_step(self) -> int:
        """The step of the best one."""
        return self.best.step

    def __str__(self) -> str:
        return "\n".join([format_table(*self._table), *self._lines])

    def _repr_html_(self) -> str:
        return html_table(*self._table) + html_lines(*self._lines)

    @property
    def _table(self) -> tuple[list[str], list[list[Any]]]:
        names = list(dict.fromkeys(name for row in self.rows for name in row.values))
        columns = [_format_column([row.values.get(name) for row in self.rows]) for name in names]
        cells = [
            [row.step, *values, self._mark(row)]
            for row, *values in zip(self.rows, *columns, strict=True)
        ]
        return ["step", *names, ""], cells

    @property
    def _lines(self) -> list[str]:
        how = "lowest" if self.mode == "min" else "highest"
        return [
            *(f"Step {row.step:,} was left out. {row.problem}" for row in self.rows if row.problem),
            f"Step {self.best_step:,} has the {how} {self.metric}.",
        ]

    def _mark(self, row: SelectionRow) -> str:
        marks = {
            "best": row is self.best,
            "newest": row is self.rows[-1],
            "left out": bool(row.problem),
        }
        return ", ".join(mark for mark, holds in marks.items() if holds)


def best_row(rows: Iterable[SelectionRow], metric: str, mode: Mode) -> SelectionRow | None:
    """The row with the best finite value, and of equal ones the earliest; None if no value is
    finite.

    Args:
        rows: In the order of their steps.
        metric: A name in their values; a row that lacks it does not count.
        mode: Whether less of it is better, or more.

    Example:

    >>> rows = [SelectionRow(step, {"loss": loss}) for step, loss in ((10, 0.5), (20, 0.3), (30,
    ...     float("nan")), (40, 0.3))]
    >>> best_row(rows, "loss", "min").step
    20
    """
    sign = 1.0 if mode == "min" else -1.0
    finite = [row for row in rows if math.isfinite(row.values.get(metric, math.nan))]
    return min(finite, key=lambda row: sign * row.values[metric], default=None)


def _format_column(column: Sequence[float | None]) -> list[str]:
    """Writes numbers with decimals that stand below each other, where that shows enough of each."""
    sizes = [abs(value) for value in column if value is not None and math.isfinite(value)]
    form = ".4f" if all(0.01 <= size < 1e4 or size == 0 for size in sizes) else ".5g"
    return ["" if value is None else f"{value:{form}}" for value in column]
