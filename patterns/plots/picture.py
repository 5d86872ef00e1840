"""Draws the course of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .._util.plots import given_or_new_axes
from .curves import Curve, Event, MetricHistory, read_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRAINING = {"color": "#2166ac", "linewidth": 1.8, "marker": "o", "markersize": 3.5}
_RUNNING = {"color": "#6baed6", "linewidth": 0.8}
_VALIDATION = {"color": "#d95f02", "linewidth": 1.8, "marker": "o", "markersize": 3.5}
_INSIDE = {
    "color": "#d95f02",
    "linestyle": "",
    "marker": "o",
    "markersize": 3,
    "markerfacecolor": "white",
}
_GAP = {"color": "#d95f02", "alpha": 0.13, "linewidth": 0}
_BEST = {
    "color": "#ffd92f",
    "marker": "*",
    "markersize": 14,
    "markeredgecolor": "#7f2704",
    "linestyle": "",
}
_RATE = {"color": "#7570b3", "linewidth": 1.3, "linestyle": ":", "marker": ".", "markersize": 4}
_NOT_FINITE = {
    "color": "#a50f15",
    "linestyle": "",
    "marker": "x",
    "markersize": 6,
    "clip_on": False,
}
_RESUMED = {"color": "0.45", "linewidth": 0.9, "linestyle": "--"}
_STOPPED = {"color": "#cb181d", "linewidth": 1.5, "linestyle": "-"}
_ROLLED_BACK = {"color": "#e7298a", "linewidth": 1.5, "linestyle": "-."}
_OTHERWISE = {"color": "#1b9e77", "linewidth": 1.3, "linestyle": "-."}
_KINDS = {"stopped": _STOPPED, "rolled back": _ROLLED_BACK}

_MARKERS = 40  # of a line at most: more make a caterpillar of it
_DECADES = 100  # a greater span needs a logarithmic axis
_LISTED = 8  # events in words
_COLUMNS = 115
_LINE_INCHES = 0.17
_ROOM_LINES = 3  # of the legend, for which a new figure has room


def plot_history(
    history: keras.callbacks.History | Mapping[str, Sequence[Any]],
    metric: str = "loss",
    mode: str = "auto",
    validation_freq: int | Collection[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws the learning curves of a run, and what happened on the way.

    Of a History of `kp.fit` it shows, against optimizer steps: the metric in training and in
    validation, at the ends of epochs and inside them (`log_every_steps=`, `validate_every_steps=`),
    the generalization gap between the two, the best step, the learning rate at the ends of epochs,
    where and why the run was stopped or rolled back, and from where it went on in another process.
    Of a History of `model.fit` it shows what there is of that, against epochs, counted from 1.
    Values that are not finite leave gaps, with crosses below. An axis is logarithmic if the loss
    rises to more than 100 times its first value, or if the rates span more than two decades.

    Args:
        history: What `kp.fit` or `model.fit` returned; or the dict of lists in it.
        metric: The name of a metric of one number, with or without `val_`. Defaults to `"loss"`.
        mode: Whether less (`"min"`) or more (`"max"`) of it is better. Defaults to `"auto"`: by its
            name; if that does not say, no best step is marked, and the legend says so.
        validation_freq: In which epochs it was validated, as in `fit`. Defaults to None: in each,
            or where there are fewer values, in every second, third, ... one, as many as there are;
            the legend then says so.
        ax: The matplotlib axes to draw in; the legend stands below them. Defaults to None: those of
            a new figure, which a notebook shows.

    Returns:
        The axes: `.figure.savefig(path)` writes the picture to a file, and `.set_yscale("log")`
        makes the scale logarithmic.

    Raises:
        TypeError: If `history` is something else.
        ValueError: If there is no such metric, or it is one of several numbers; the message names
            those that there are. If it cannot be known in which epochs it was validated.
        ImportError: If matplotlib is missing.

    Example:

    >>> import keras_patterns as kp
    >>> axes = kp.plot_history({"loss": [0.9, 0.5, 0.2], "val_loss": [0.9, 0.6, 0.7]})
    >>> [text.get_text() for text in axes.texts]
    ['best val_loss 0.6 at epoch 2']
    """
    shown = read_metric(history, metric, mode, validation_freq)
    axes: Any = given_or_new_axes("kp.plot_history", ax, (9.6, 5))
    _draw_curves(axes, shown)
    _set_up_axes(axes, shown)
    handles = axes.get_legend_handles_labels()[0] + _draw_rates(axes, shown)
    _mark_events(axes, shown)
    _mark_best(axes, shown)
    events = _described_events(shown)
    _legend(axes, handles, events)
    if ax is None and events:
        lines = len(handles) + sum(words.count("\n") + 1 for _, words in events)
        axes.figure.set_figheight(5 + _LINE_INCHES * (lines - _ROOM_LINES))
    return axes


def _draw_curves(axes: Any, shown: MetricHistory) -> None:
    if shown.running:
        axes.plot(*shown.running, label="running mean of the epoch", **_RUNNING)
    _draw_line(axes, shown.training, "training", _TRAINING)
    taken = f" (taken to be every {shown.every} epochs)" if shown.every else ""
    _draw_line(axes, shown.validation, f"validation{taken}", _VALIDATION)
    if shown.inside:
        axes.plot(*shown.inside, label="validation inside epochs", **_INSIDE)
    at, training, validation = shown.gap
    both = np.flatnonzero(np.isfinite(training) & np.isfinite(validation))
    if both.size:
        worse, better = (training, validation) if shown.mode == "max" else (validation, training)
        gap = (worse - better)[both[-1]]
        axes.fill_between(
            at,
            training,
            validation,
            label=f"generalization gap, {gap:.3g} at the end",
            zorder=0.5,
            **_GAP,
        )
    curves = (shown.running, shown.training, shown.validation, shown.inside)
    gaps = np.unique(np.concatenate([curve.at[~curve.finite] for curve in curves]))
    if gaps.size:
        axes.plot(
            gaps,
            np.zeros(gaps.size),
            label="not finite",
            transform=axes.get_xaxis_transform(),
            **_NOT_FINITE,
        )
    if shown.mode is None:
        axes.plot([], [], " ", label='no best: say mode="min" or "max"')


def _draw_line(axes: Any, curve: Curve, label: str, style: dict[str, Any]) -> None:
    if not curve:
        return
    finite = np.pad(curve.finite, 1)
    # A line does not show them.
    alone = np.flatnonzero(finite[1:-1] & ~finite[:-2] & ~finite[2:])
    axes.plot(
        *curve,
        label=label,
        markevery=None if curve.at.size <= _MARKERS else alone.tolist(),
        **style,
    )


def _set_up_axes(axes: Any, shown: MetricHistory) -> None:
    """Scales, names and ticks."""
    from matplotlib.ticker import MaxNLocator

    curves = (shown.training, shown.validation)
    if not any(curve.finite.any() for curve in (*curves, shown.running, shown.inside)):
        axes.set_yticks([])
    for curve in curves:
        values = curve.values[curve.finite]
        # What diverges would press the rest together.
        if (
            shown.mode != "max"
            and values.size
            and values.min() > 0
            and values.max() > _DECADES * values[0]
        ):
            axes.set_yscale("log")
    axes.set(ylabel=shown.metric, xlabel="optimizer step" if shown.unit == "step" else "epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_rates(axes: Any, shown: MetricHistory) -> list[Any]:
    """The second axis; returns what the legend shows of it."""
    values = shown.rate.values[shown.rate.finite]
    if not values.size:
        return []
    rates = axes.twinx()
    _draw_line(rates, shown.rate, "learning rate at ends of epochs", _RATE)
    if values.min() > 0 and values.max() > _DECADES * values.min():
        rates.set_yscale("log")
    else:
        rates.set_ylim(0, values.max() * 1.1 or 1)
        rates.locator_params(axis="y", nbins=5)
        rates.yaxis.set_major_formatter("{x:g}")
    rates.set_ylabel("learning rate", color=_RATE["color"])
    rates.tick_params(axis="y", colors=_RATE["color"])
    rates.spines[["top", "left"]].set_visible(False)
    # The curves lie above it.
    axes.set_zorder(rates.get_zorder() + 1)
    axes.patch.set_visible(False)
    return list(rates.lines)


def _mark_events(axes: Any, shown: MetricHistory) -> None:
    """Vertical lines, with the numbers of the events above the frame."""
    for step in shown.resumes:
        axes.axvline(step, zorder=1.5, **_RESUMED)
    groups: list[tuple[list[int], list[float]]] = []
    low, high = axes.get_xlim()
    for number, event in enumerate(shown.events, 1):
        if event.at is None:
            continue
        axes.axvline(event.at, zorder=1.6, **_style(event))
        if groups and event.at - groups[-1][1][-1] < 0.03 * (high - low):
            groups[-1][0].append(number)
            groups[-1][1].append(event.at)
        else:
            groups.append(([number], [event.at]))
    for numbers, places in groups:
        text = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        _annotate_above(axes, text, float(np.mean(places)), 3, "center")


def _mark_best(axes: Any, shown: MetricHistory) -> None:
    best = shown.best
    if best is None:
        return
    axes.axvline(best.at, color=_BEST["markeredgecolor"], linewidth=0.8, linestyle=":", zorder=1.4)
    axes.plot([best.at], [best.value], zorder=4, **_BEST)
    low, high = axes.get_xlim()
    # From the middle outwards, so that it stays over the axes.
    side = ("left", "center", "right")[min(2, int(3 * (best.at - low) / (high - low)))]
    _annotate_above(
        axes,
        f"best {best.name} {best.value:.4g} at {shown.unit} {best.at:,.0f}",
        best.at,
        16 if shown.events else 3,
        side,
    )


def _annotate_above(axes: Any, text: str, at: float, points: int, side: str) -> None:
    """A text over the frame, placing it covers no curve."""
    placing = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "va": "bottom",
        "ha": side,
    }
    axes.annotate(text, (at, 1.0), (0, points), fontsize=9, parse_math=False, **placing)


def _style(event: Event) -> dict[str, Any]:
    return _KINDS.get(event.kind, _OTHERWISE)


def _described_events(shown: MetricHistory) -> list[tuple[dict[str, Any], str]]:
    """Style and words of what is told below the picture."""
    told = [
        (_style(event), _sentence(number, event)) for number, event in enumerate(shown.events, 1)
    ]
    if len(told) > _LISTED:
        told[_LISTED - 2 : -1] = [({"linestyle": ""}, f"... {len(told) - _LISTED + 1} more ...")]
    if shown.resumes:
        steps = [f"{step:,.0f}" for step in shown.resumes]
        words = (
            f"went on from step{'s'[: len(steps) > 1]} {', '.join(steps)}"
            if len(steps) <= 20
            else f"went on {len(steps)} times"
        )
        told.append((_RESUMED, textwrap.fill(words, _COLUMNS)))
    return told


def _sentence(number: int, event: Event) -> str:
    return textwrap.fill(
        f"{number}  {event.kind} at step {event.step:,}: {event.text}",
        _COLUMNS,
        subsequent_indent="    ",
    )


def _legend(axes: Any, handles: list[Any], events: list[tuple[dict[str, Any], str]]) -> None:
    """The curves, then the events, below the axes, where they cover nothing."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import offset_copy

    lines = [
        Line2D([], [], **(style if style.get("linestyle") else {"color": "none"}))
        for style, _ in events
    ]
    legend = axes.legend(
        [*handles, *lines],
        [*(handle.get_label() for handle in handles), *(words for _, words in events)],
        # Sentences do not go into columns.
        ncols=1 if events else 3,
        columnspacing=1.4,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=offset_copy(axes.transAxes, axes.figure, y=-36, units="points"),
        frameon=False,
    )
    for text in legend.get_texts():
        text.set(fontsize=9, parse_math=False)
