"""A search at one moment, as people see it: its trials as texts, and all of it in a line."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._util.table import format_table, html_table
from .._util.text import short, visible
from .result import STATES, TuneResult
from .trial import PLANNED, TAKEN_OVER


@dataclass(frozen=True)
class Overview:
    """A search at one moment.

    Attributes:
        header: The columns.
        rows: The trials that are shown, by number, as texts.
        best: The row of the best trial; None if none is shown.
        summary: All of it in a line.
    """

    header: list[str]
    rows: list[list[str]]
    best: int | None
    summary: str

    def __repr__(self) -> str:
        return f"{format_table(self.header, self.rows)}\n{self.summary}"

    def _repr_html_(self) -> str:
        return f"{html_table(self.header, self.rows)}<p>{html.escape(self.summary)}</p>"


class Watched:
    """The trials of a search, read from its storage, and from the folders of those in progress:
    whoever has them.

    Args:
        result: The search.
        monitor: The metric that is reported.
        planned: How many trials there are to be; None if nobody knows.
    """

    def __init__(self, result: TuneResult, monitor: str, planned: int | None) -> None:
        self._result, self._monitor, self._planned = result, monitor, planned
        self._steps: dict[int, int] = {}

    def look(self, most: int) -> Overview:
        """The search now.

        Args:
            most: How many trials are to be shown: those in progress, the best, and the newest.
        """
        trials = self._result.study.get_trials(deepcopy=False)
        sign = -1 if self._result.study.direction.name == "MAXIMIZE" else 1
        complete = [one for one in trials if one.state.name == "COMPLETE"]
        best = min(complete, key=lambda one: sign * one.value, default=None)
        shown = _of_interest(trials, best, most)
        columns = [(name, cells) for name, cells in self._columns(shown) if any(cells)]
        return Overview(
            [name for name, _ in columns],
            [list(row) for row in zip(*(cells for _, cells in columns), strict=True)],
            shown.index(best) if best in shown else None,
            self._summary(trials, best, len(trials) - len(shown)),
        )

    def _columns(self, shown: Sequence[Any]) -> list[tuple[str, list[str]]]:
        """The columns, some of which may be empty."""
        parts = [self._result.trial_of(one) for one in shown]
        groups = sorted({name for part in parts for name in part.group})
        names = sorted({name for one in shown for name in one.params})
        better = max if self._result.study.direction.name == "MAXIMIZE" else min

        def best_of(trial: Any) -> float | None:
            if trial.state.name == "COMPLETE":
                return float(trial.value)
            return better(trial.intermediate_values.values(), default=None)

        return [
            ("trial", [str(one.number) for one in shown]),
            *((name, [_text(part.group.get(name)) for part in parts]) for name in groups),
            ("from", [_text(part.parent) for part in parts]),
            ("state", [_state_of(one) for one in shown]),
            ("steps", [self._steps_of(one) for one in shown]),
            (self._monitor, [_text(_newest(one)) for one in shown]),
            ("best", [_text(best_of(one)) for one in shown]),
            *((name, [_text(one.params.get(name)) for one in shown]) for name in names),
        ]

    def _steps_of(self, trial: Any) -> str:
        """Steps done, of how many."""
        done = self._steps.get(trial.number)
        if done is None:
            # What is reported is not always saved, nor the other way round.
            saved = self._result.trial_of(trial).step
            done = max([saved, *trial.intermediate_values])
            if trial.state.is_finished():
                self._steps[trial.number] = done
        planned = trial.user_attrs.get(PLANNED)
        if planned is None:
            return f"{done:,}" if done else ""
        return f"{done:,}/{planned:,}"

    def _summary(self, trials: Sequence[Any], best: Any, hidden: int) -> str:
        ended = sum(one.state.is_finished() for one in trials)
        running = sum(one.state.name == "RUNNING" for one in trials)
        parts = [f"{ended:,}{'' if self._planned is None else f' of {self._planned:,}'} ended"]
        if running:
            parts.append(f"{running:,} running")
        if best is not None:
            parts.append(f"the best is trial {best.number} with {best.value:.6g}")
        if hidden:
            parts.append(f"{hidden:,} not shown")
        return " - ".join(parts)


def _of_interest(trials: Sequence[Any], best: Any, most: int) -> list[Any]:
    """Those in progress, the best, and the newest of the others, by number."""
    order = sorted(trials, key=lambda one: (one.state.is_finished(), one is not best, -one.number))
    return sorted(order[: max(most, 1)], key=lambda one: one.number)


def _state_of(trial: Any) -> str:
    if trial.state.name == "RUNNING" and TAKEN_OVER in trial.user_attrs:
        return "taken over"
    return STATES.get(trial.state.name, trial.state.name.lower())


def _newest(trial: Any) -> float | None:
    reports = trial.intermediate_values
    return reports[max(reports)] if reports else None


def _text(value: Any) -> str:
    return "" if value is None else visible(short(value))
