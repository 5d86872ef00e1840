"""The curves and events of one metric, read from a History and placed on the axis."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import keras
import numpy as np

from .._util.arguments import check_choice, whole_number
from .._util.metrics import direction
from ..run.history_state import KEPT

_RATE = "learning_rate"
_CALLER = "kp.plot_history"


class Curve(NamedTuple):
    """Values along the axis; what is not finite is NaN."""

    at: np.ndarray
    values: np.ndarray

    def __bool__(self) -> bool:
        return self.at.size > 0

    @property
    def finite(self) -> np.ndarray:
        """A mask of the values that are numbers."""
        return np.isfinite(self.values)


class Best(NamedTuple):
    """The best value: of the validation where there is one, of the training otherwise."""

    name: str
    at: float
    value: float


class Event(NamedTuple):
    """A change in the course of a run; `at` is None where it has no place on the axis."""

    kind: str
    at: float | None
    step: int
    text: str


@dataclass(frozen=True)
class MetricHistory:
    """The course of one metric, read from a History.

    Attributes:
        metric: Its name, without `val_`.
        unit: Of the axis: `"step"` or `"epoch"`.
        training: At the ends of epochs.
        running: Inside epochs, and at their ends: the mean since the epoch began.
        validation: At the ends of epochs.
        inside: Validations inside epochs.
        every: Every how many epochs the validation is taken to have been, where the History does
            not say; otherwise None.
        rate: The learning rate, at the ends of epochs.
        mode: Whether less or more is better; None if nobody knows.
        events: In the order of their steps.
        resumes: Where other processes went on.
    """

    metric: str
    unit: str
    training: Curve
    running: Curve
    validation: Curve
    inside: Curve
    every: int | None
    rate: Curve
    mode: str | None
    events: list[Event]
    resumes: list[float]

    @property
    def best(self) -> Best | None:
        """The first of the best values."""
        validated = self.validation or self.inside
        curves = [self.validation, self.inside] if validated else [self.training]
        at, values = (np.concatenate(part) for part in zip(*curves, strict=True))
        if self.mode is None or not np.isfinite(values).any():
            return None
        extreme = np.nanmin(values) if self.mode == "min" else np.nanmax(values)
        return Best(
            f"val_{self.metric}" if validated else self.metric, at[values == extreme].min(), extreme
        )

    @property
    def gap(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The places where both curves have a value, and the values of the training and of the
        validation there.
        """
        _, left, right = np.intersect1d(self.training.at, self.validation.at, return_indices=True)
        training, validation = self.training.values[left], self.validation.values[right]
        return self.training.at[left], training, validation


def read_metric(
    history: Any, metric: str, mode: str, validation_freq: int | Collection[int] | None
) -> MetricHistory:
    """Reads a History; the arguments are those of `kp.plot_history`."""
    check_choice(_CALLER, "mode", mode, ("auto", "min", "max"))
    lists = _metric_lists(history)
    kept: dict[str, Any] = {name: list(getattr(history, name, ())) for name in (*KEPT, "resumes")}
    if not isinstance(metric, str):
        raise TypeError(
            f"{_CALLER}: `metric` must be the name of one metric. Received: {metric!r}."
        )
    name = metric.removeprefix("val_")
    _check_metric(name, lists, kept["step_logs"] + kept["validations"])
    epochs = list(getattr(history, "epoch", ())) or list(
        range(max(map(len, lists.values()), default=0))
    )
    by_steps = len(kept["epoch_end_steps"]) == len(epochs) > 0 or (
        hasattr(history, "epoch_end_steps") and not epochs
    )
    ends = np.array([epoch + 1 for epoch in epochs], float)
    ends = _curve_at_ends("ends", kept["epoch_end_steps"], ends).values if by_steps else ends
    training = _curve_at_ends(name, lists.get(name, []), ends)
    validated = _curve_by_steps(kept["validations"], f"val_{name}")
    every = None
    if by_steps and len(validated.at):
        at_end = np.isin(validated.at, ends)
        validation, inside = (
            Curve(validated.at[chosen], validated.values[chosen]) for chosen in (at_end, ~at_end)
        )
    else:
        values = lists.get(f"val_{name}", [])
        chosen, every = _validated_epochs(f"val_{name}", len(values), epochs, validation_freq)
        validation = _curve(ends[chosen], values)
        inside = _curve([], [])
    place = _AxisPlace(
        by_steps, epochs[0] if epochs else 0, (getattr(history, "params", None) or {}).get("steps")
    )
    rows = {row["step"]: row[name] for row in kept["step_logs"] if name in row}
    if rows:
        rows |= dict(zip(training.at, training.values, strict=True))
    return MetricHistory(
        metric=name,
        unit="step" if by_steps else "epoch",
        training=training,
        running=_curve(sorted(rows), [rows[step] for step in sorted(rows)]),
        validation=validation,
        inside=inside,
        every=every,
        rate=_rate_curve(kept["learning_rates"], lists.get(_RATE, []), ends),
        mode=direction(name) if mode == "auto" else mode,
        events=sorted(
            (Event(e["kind"], place(e["step"]), e["step"], e["text"]) for e in kept["events"]),
            key=lambda e: e.step,
        ),
        resumes=[float(step) for step in kept["resumes"]] if by_steps else [],
    )


class _AxisPlace(NamedTuple):
    """The map from steps to places on the axis."""

    by_steps: bool
    first_epoch: int
    epoch_steps: int | None

    def __call__(self, step: int) -> float | None:
        if self.by_steps:
            return float(step)
        return self.first_epoch + step / self.epoch_steps if self.epoch_steps else None


def _metric_lists(history: Any) -> Mapping[str, Sequence[Any]]:
    lists = history.history if isinstance(history, keras.callbacks.History) else history
    if not isinstance(lists, Mapping) or not all(
        isinstance(values, Sequence | np.ndarray) for values in lists.values()
    ):
        raise TypeError(
            f"{_CALLER}: `history` must be a History, or its dict of lists. Received: "
            f"{reprlib.repr(history)}."
        )
    return lists


def _is_number(value: Any) -> bool:
    """False for all else that a callback adds to the logs of an epoch, such as a text."""
    return isinstance(value, Real) or getattr(value, "ndim", None) == 0


def _check_metric(
    name: str, lists: Mapping[str, Sequence[Any]], rows: list[dict[str, Any]]
) -> None:
    """Raises if there is no such metric, or one of several numbers."""
    values: dict[str, Any] = {
        key: value for row in rows for key, value in row.items() if key != "step"
    }
    values |= {key: series[0] for key, series in lists.items() if len(series)}
    metrics = sorted(
        {key.removeprefix("val_") for key, value in values.items() if _is_number(value)} - {_RATE}
    )
    has = (
        f"It has {', '.join(map(repr, metrics))}"
        if metrics
        else "It has no metric of one number; was anything trained?"
    )
    if not {name, f"val_{name}"} & set(values):
        raise ValueError(f"{_CALLER}: the history has no metric {name!r}. {has}.")
    if name not in metrics:
        shape = np.shape(values[name if name in values else f"val_{name}"])
        raise ValueError(
            f"{_CALLER}: the metric {name!r} is no number, but of shape {shape} at each epoch. "
            f"{has}."
        )


def _curve(at: Any, values: Sequence[Any]) -> Curve:
    numbers = np.array([np.nan if value is None else value for value in values], float)
    return Curve(np.array(at, float), np.where(np.isfinite(numbers), numbers, np.nan))


def _curve_by_steps(rows: Sequence[Mapping[str, Any]], name: str) -> Curve:
    found = {row["step"]: row[name] for row in rows if name in row}
    return _curve(list(found), list(found.values()))


def _curve_at_ends(name: str, values: Sequence[Any], ends: np.ndarray) -> Curve:
    if len(values) not in (0, len(ends)):
        raise ValueError(
            f"{_CALLER}: {name!r} has {len(values)} values in {len(ends)} epochs; at which ones "
            "does not show."
        )
    return _curve(ends[: len(values)], values)


def _rate_curve(rates: Sequence[Any], logged: Sequence[Any], ends: np.ndarray) -> Curve:
    """The rates that `kp.fit` keeps; where it found none, those that Keras's callbacks log."""
    kept = _curve_at_ends("rates", rates, ends)
    return kept if kept.finite.any() else _curve_at_ends(_RATE, logged, ends)


def _validated_epochs(
    name: str, count: int, epochs: Sequence[int], frequency: int | Collection[int] | None
) -> tuple[list[int], int | None]:
    """The indices of the epochs that ended with a validation; and the frequency, where it had to be
    guessed.
    """
    if frequency is None:
        if count in (0, len(epochs)):
            return list(range(count)), None
        guesses = [
            every for every in range(2, epochs[-1] + 2) if len(_due_epochs(epochs, every)) == count
        ]
        if len({tuple(_due_epochs(epochs, every)) for every in guesses}) == 1:
            return _due_epochs(epochs, guesses[0]), guesses[0]
    elif not isinstance(frequency, Collection):
        frequency = whole_number(_CALLER, "validation_freq", frequency)
    chosen = [] if frequency is None else _due_epochs(epochs, frequency)
    if len(chosen) == count:
        return chosen, None
    raise ValueError(
        f"{_CALLER}: {name!r} has {count} values in {len(epochs)} epochs. Say in which ones it was "
        "validated: validation_freq= as in `fit`, or a list of epochs, counted from 1. Received: "
        f"{frequency!r}."
    )


def _due_epochs(epochs: Sequence[int], frequency: int | Collection[int]) -> list[int]:
    due = [
        epoch + 1 in frequency
        if isinstance(frequency, Collection)
        else (epoch + 1) % frequency == 0
        for epoch in epochs
    ]
    return [index for index, is_due in enumerate(due) if is_due]
