"""The curves of runs as the page draws them: thinned, with no spike lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..._util.metrics import direction
from .reading import RunFacts

_RATE = "learning_rate"
# On the whole page: some two megabytes of numbers.
_MOST_POINTS = 100_000
# Of one series: more than a screen has columns.
_MOST_OF_SERIES = 4_000
_LEAST_OF_SERIES = 100
_MOST_CHARTS = 60
# Of the values of a series that are not finite.
_MOST_ODD = 200


@dataclass
class Series:
    """Values against the step.

    Attributes:
        run: The index of its run on the page.
        kind: `"training"`, `"running"` (inside epochs), `"validation"`, `"rate"` or `"momentum"`.
        at, values: Rising steps, and a number each, which need not be finite.
    """

    run: int
    kind: str
    at: np.ndarray
    values: np.ndarray


@dataclass
class Chart:
    """A metric of all runs.

    Attributes:
        title: Its name.
        series: Those that have values.
        best: The best value of each run that has one: run, step, value, and of which kind.
    """

    title: str
    series: list[Series] = field(default_factory=list)
    best: list[dict[str, Any]] = field(default_factory=list)


def metric_charts(runs: Sequence[RunFacts]) -> tuple[list[Chart], list[str]]:
    """A chart for each metric that a run has logged, and what of them is left out, in words."""
    read = [_metrics(index, run) for index, run in enumerate(runs)]
    charts: dict[str, Chart] = {}
    left_out: dict[str, None] = {}
    for found, words in read:
        left_out.update(dict.fromkeys(words))
        for name, series in found.items():
            chart = charts.setdefault(name, Chart(name))
            chart.series += series
            if best := _best(name, series):
                chart.best.append(best)
    words = list(left_out)
    ordered = sorted(charts.values(), key=lambda chart: chart.title != "loss")
    if more := ordered[_MOST_CHARTS:]:
        words.append(f"{len(more)} more metrics, of {len(ordered)}")
    return ordered[:_MOST_CHARTS], words


def rate_charts(runs: Sequence[RunFacts]) -> list[Chart]:
    """Learning rate and momentum at the ends of epochs."""
    charts = []
    for title, kind, name in (
        ("learning rate", "rate", "learning_rates"),
        ("momentum", "momentum", "momentums"),
    ):
        series = [
            _series(
                index, kind, zip(run.history["epoch_end_steps"], run.history[name], strict=False)
            )
            for index, run in enumerate(runs)
            if run.history and any(value is not None for value in run.history[name])
        ]
        if series:
            charts.append(Chart(title, series))
    return charts


def as_json(charts: Sequence[Chart]) -> tuple[list[dict[str, Any]], list[str]]:
    """Charts for the page, and what was thinned, in words."""
    count = sum(len(chart.series) for chart in charts)
    most = max(_LEAST_OF_SERIES, min(_MOST_OF_SERIES, _MOST_POINTS // max(1, count)))
    longest, made = 0, []
    for chart in charts:
        longest = max([longest, *(len(series.at) for series in chart.series)])
        made.append(
            {
                "title": chart.title,
                "series": [_thinned(series, most) for series in chart.series],
                "best": chart.best,
            }
        )
    words = (
        f"Of series with more than {most:,} values (the longest has {longest:,}), the lowest and "
        f"the highest value of each of {most // 2:,} equal stretches are drawn: no spike is lost."
    )
    return made, [words] if longest > most else []


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """The places of the values that stay: of each of `most // 2` equal stretches the lowest and the
    highest, of all the first and the last, and one that is not finite for each stretch that has
    such.

    Args:
        values: Of a series.
        most: How many may stay before any are left out.

    Example:

    >>> thin(np.array([0.0, 9.0, 1.0, 2.0, -5.0, 3.0]), 4).tolist()
    [0, 1, 4, 5]
    """
    count = len(values)
    if count <= most:
        return np.arange(count)
    stretch = math.ceil(count / (most // 2))
    padded = np.full(math.ceil(count / stretch) * stretch, np.nan)
    padded[:count] = np.where(np.isfinite(values), values, np.nan)
    rows = padded.reshape(-1, stretch)
    starts = np.arange(len(rows)) * stretch
    some = np.isfinite(rows).any(1)
    lowest = starts + np.where(np.isfinite(rows), rows, np.inf).argmin(1)
    highest = starts + np.where(np.isfinite(rows), rows, -np.inf).argmax(1)
    odd = ~np.isfinite(rows)
    odd.reshape(-1)[count:] = False
    gaps = (starts + odd.argmax(1))[odd.any(1)]
    return np.unique(np.concatenate([[0, count - 1], lowest[some], highest[some], gaps]))


def short(value: float) -> float | None:
    """A number with six digits; None if it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _thinned(series: Series, most: int) -> dict[str, Any]:
    kept = thin(series.values, most)
    odd = np.flatnonzero(~np.isfinite(series.values))[:_MOST_ODD]
    return {
        "run": series.run,
        "kind": series.kind,
        "x": series.at[kept].tolist(),
        "y": [short(value) for value in series.values[kept].tolist()],
        "odd": [[series.at[one].item(), repr(float(series.values[one]))] for one in odd],
    }


def _metrics(index: int, run: RunFacts) -> tuple[dict[str, list[Series]], list[str]]:
    """The series of each metric of a run, and what of them cannot be drawn, in words."""
    if not run.history:
        return {}, []
    points, left_out = _points(run)
    found: dict[str, list[Series]] = {}
    for kind in ("running", "training", "validation"):
        for (name, one), rows in points.items():
            if one != kind or not rows:
                continue
            if any(isinstance(value, list | dict | str) for value in rows.values()):
                left_out.append(f"{name} is no single number at each step")
            else:
                found.setdefault(name, []).append(_series(index, kind, sorted(rows.items())))
    return found, left_out


def _points(run: RunFacts) -> tuple[dict[tuple[str, str], dict[int, Any]], list[str]]:
    """The values by step of each metric and kind, and what has no place, in words."""
    points: dict[tuple[str, str], dict[int, Any]] = {}
    left_out = []
    ends = _epoch_ends(run)
    for row in run.history["validations"]:
        for name, value in row.items():
            if name != "step":
                key = (name.removeprefix("val_"), "validation")
                points.setdefault(key, {})[row["step"]] = value
    for name, values in run.history["history"].items():
        place = name.removeprefix("val_"), "validation" if name.startswith("val_") else "training"
        if len(values) == len(ends) and name != _RATE:
            points[place] = {**dict(zip(ends, values, strict=True)), **points.get(place, {})}
        elif values and name != _RATE and place not in points:
            left_out.append(f"{name} has {len(values)} values in {len(ends)} epochs")
    for row in run.history["step_logs"]:
        for name, value in row.items():
            if name != "step":
                points.setdefault((name, "running"), {})[row["step"]] = value
    for (name, kind), rows in points.items():
        if kind == "running":
            rows.update(points.get((name, "training"), {}))
    return points, left_out


def _epoch_ends(run: RunFacts) -> list[int]:
    """The steps at the ends of epochs. Those of plain `model.fit`, which notes none, are all of one
    length.
    """
    count = len(run.history["epoch"])
    return run.history["epoch_end_steps"] or [
        run.step * (epoch + 1) // count for epoch in range(count)
    ]


def _series(run: int, kind: str, points: Iterable[tuple[int, Any]]) -> Series:
    rows = {step: _number(value) for step, value in points if value is not None}
    return Series(run, kind, np.array([*rows], np.int64), np.array([*rows.values()], float))


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        return math.nan


def _best(name: str, series: Sequence[Series]) -> dict[str, Any] | None:
    """The first of the best values: of the validation where there is one, else of the training."""
    mode = direction(name)
    by_kind: Mapping[str, Series] = {one.kind: one for one in series}
    chosen = by_kind.get("validation", by_kind.get("training"))
    if mode is None or chosen is None or not np.isfinite(chosen.values).any():
        return None
    sign = 1.0 if mode == "min" else -1.0
    values = np.where(np.isfinite(chosen.values), sign * chosen.values, np.inf)
    place = int(np.argmin(values))
    return {
        "run": chosen.run,
        "x": int(chosen.at[place]),
        "y": float(chosen.values[place]),
        "kind": chosen.kind,
    }
