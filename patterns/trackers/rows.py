"""The rows of a run, read from its History."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from ..run.history import RunHistory
from .protocol import Row, RunEvent

Flat = dict[str, str | float | int | None]


class RowReader:
    """Reads rows from the History of a run, each with the time at which its step was seen.

    Attributes:
        left_out: The metrics that are no single numbers.
    """

    def __init__(self) -> None:
        self.left_out: set[str] = set()
        self._times: dict[int, float] = {}

    def note_time(self, step: int, now: float) -> None:
        """Notes when a step was done, if that is not known yet."""
        self._times.setdefault(step, now)

    def forget(self, upto: int) -> None:
        """Forgets the times of steps that need not be read again."""
        self._times = {step: at for step, at in self._times.items() if step > upto}

    def read(self, history: RunHistory, after: int, upto: int, now: float) -> list[Row]:
        """The rows of the steps after one, up to another. To be called between two steps.

        Args:
            history: Of the run.
            after: -1 for all.
            upto: The last step.
            now: The time of steps that were not seen in this process.
        """
        metrics: defaultdict[int, dict[str, float]] = defaultdict(dict)
        for row in [*_later(history.step_logs, after), *_later(history.validations, after)]:
            self._take(metrics[row["step"]], row)
        for index in _later_indices(history.epoch_end_steps, after):
            self._take(metrics[history.epoch_end_steps[index]], _epoch(history, index))
        events: defaultdict[int, list[RunEvent]] = defaultdict(list)
        for event in history.events:
            events[event["step"]].append(RunEvent(event["kind"], event["text"]))
        return [
            Row(
                step, self._times.get(step, now), metrics.get(step, {}), tuple(events.get(step, ()))
            )
            for step in sorted(metrics.keys() | events.keys())
            if after < step <= upto
        ]

    def _take(self, metrics: dict[str, float], found: Mapping[str, Any]) -> None:
        for name, value in found.items():
            if isinstance(value, Real):
                metrics[name] = float(value)
            elif value is not None:
                self.left_out.add(name)
        metrics.pop("step", None)


def _later(rows: Sequence[dict[str, Any]], after: int) -> Iterator[dict[str, Any]]:
    for row in reversed(rows):
        if row["step"] <= after:
            return
        yield row


def _later_indices(steps: Sequence[int], after: int) -> Iterator[int]:
    for index in reversed(range(len(steps))):
        if steps[index] <= after:
            return
        yield index


def _epoch(history: RunHistory, index: int) -> dict[str, Any]:
    """The metrics of an epoch. Of those that not every epoch has, those of validations stand among
    these; of the others nobody knows which epochs they belong to.
    """
    ends = len(history.epoch_end_steps)
    own = {"learning_rate": history.learning_rates, "momentum": history.momentums}
    lists = {**own, **history.history}
    return {name: found[index] for name, found in lists.items() if len(found) == ends}


def flat(settings: Mapping[str, Any], prefix: str = "") -> Flat:
    """Settings under dotted names; what is no text and no number becomes its text.

    Example:

    >>> flat({"rate": 0.1, "layers": {"units": [8, 4]}})
    {'rate': 0.1, 'layers.units.0': 8, 'layers.units.1': 4}
    """
    found: Flat = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, list | tuple):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, Mapping):
            found.update(flat(value, f"{name}."))
        else:
            found[name] = value if isinstance(value, str | int | float | None) else str(value)
    return found
