"""The pictures of the demo: the learning curve, with the NaN, the kills, the best step and the
cycle; accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ... import _keras
from ...guard import NonFiniteGuard
from .comparison import Outcome
from .training import STEPS_PER_EPOCH

_LEFT_ALONE = {"color": "#9ecae1", "linewidth": 5}
_KILLED = {"color": "#08306b", "linewidth": 1.4}
_CONTINUED = {"color": "#238b45", "linewidth": 1.6}
_KILL = "#cb181d"
_NAN = "#a63603"
_WAYS = ("0.35", "#3182bd", "#e6550d")
_BEST = {
    "color": "#ffd92f",
    "marker": "*",
    "markersize": 14,
    "markeredgecolor": "#7f2704",
    "linestyle": "",
}


def draw(
    path: Path,
    reference: Outcome,
    killed: Outcome,
    optimizer: Any,
    continued: Outcome | None = None,
    longer: Any = None,
) -> None:
    """Writes a PNG: losses, learning rate and momentum against the step.

    Args:
        path: The file.
        reference: The run that was left alone.
        killed: The run that was killed and resumed.
        optimizer: With which both were trained.
        continued: The second run after it continued on another backend. Defaults to None.
        longer: The optimizer of that, whose cycle is longer. Defaults to None.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(9.6, 6.6), layout="constrained", dpi=100)
    axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    losses, rates = axes
    momenta = rates.twinx()
    end = killed.checkpoint.position.step
    _losses(losses, reference, "left alone", _LEFT_ALONE)
    _losses(losses, killed, "killed and resumed", _KILLED)
    _schedules(rates, momenta, optimizer, range(end), killed, _KILLED)
    if continued:
        _losses(losses, continued, f"continued on {continued.backend}", _CONTINUED, since=end)
        _schedules(
            rates,
            momenta,
            longer,
            range(end, continued.checkpoint.position.step),
            continued,
            _CONTINUED,
        )
    _mark_kills(axes, killed)
    _mark_rollbacks(axes, continued or killed)
    losses.set_title(
        f"Handwritten digits on {reference.backend}: a run that was killed, over the same run left "
        "alone"
    )
    losses.set(yscale="log", ylabel="loss (cross-entropy, nats)")
    losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    losses.yaxis.set_major_formatter("{x:g}")
    losses.minorticks_off()
    rates.set(ylim=(0, None), ylabel="learning rate", xlabel="optimizer step")
    momenta.set_ylabel("momentum (dashed)")
    losses.plot([], [], "o", color="0.4", markersize=4, label="at validation")
    _mark_best(losses, killed)
    # Below the axes, where it covers nothing.
    losses.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.02),
        ncols=5 if continued is None else 3,
        frameon=False,
        fontsize=9,
    )
    for one in axes:
        one.grid(alpha=0.25, which="both", linewidth=0.5)
    for one in (*axes, momenta):
        one.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, pil_kwargs={"optimize": True})


def draw_accuracies(
    path: Path,
    accuracies: Mapping[tuple[int, str], Sequence[float]],
    ways: Sequence[str],
    images: int,
    backend: str,
) -> None:
    """Writes a PNG: the accuracy on the test images against the examples per class.

    Args:
        path: The file.
        accuracies: Of all seeds, by examples per class and way.
        ways: In the order of the legend.
        images: How many there are to test on.
        backend: On which they were trained.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=100)
    axes = figure.subplots()
    examples = list(dict.fromkeys(per_class for per_class, _ in accuracies))
    for way, color in zip(ways, _WAYS, strict=True):
        seeds = [accuracies[per_class, way] for per_class in examples]
        axes.plot(examples, [np.median(one) for one in seeds], "o-", color=color, label=way)
        axes.fill_between(
            examples,
            [min(one) for one in seeds],
            [max(one) for one in seeds],
            color=color,
            alpha=0.15,
            linewidth=0,
        )
    axes.axhline(0.2, color="0.5", linewidth=1, linestyle=":", label="by chance")
    axes.set_title(f"Digits 5 to 9, a net pretrained on 0 to 4 or not ({backend})", fontsize=11)
    axes.set(xscale="log", xticks=examples, ylim=(0, 1))
    axes.set(
        xlabel="examples per class",
        ylabel=f"accuracy on {images} other images\nmedian and range of the seeds",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, pil_kwargs={"optimize": True})


def _losses(axes: Any, run: Outcome, name: str, style: dict[str, Any], since: int = 0) -> None:
    """Draws a run from a step on, and what leads to it."""
    history = run.history["history"]
    epochs = [(epoch + 1) * STEPS_PER_EPOCH for epoch in run.history["epoch"]]
    running = {row["step"]: row["loss"] for row in run.history["step_logs"]} | dict(
        zip(epochs, history["loss"], strict=True)
    )
    axes.plot(
        *zip(*sorted(point for point in running.items() if point[0] >= since), strict=True),
        alpha=0.55,
        **style,
    )
    first = sum(step < since for step in epochs)
    axes.plot(
        epochs[first:], history["val_loss"][first:], marker="o", markersize=4, label=name, **style
    )


def _schedules(
    rates: Any, momenta: Any, optimizer: Any, steps: range, run: Outcome, style: dict[str, Any]
) -> None:
    """Draws what the optimizer computes in its steps; the guard has made the rate smaller."""
    at = np.array(steps, "int32")
    factor = NonFiniteGuard().rate_factor ** np.searchsorted(run.not_finite, at, side="right")
    rates.plot(at, factor * keras.ops.convert_to_numpy(_keras.get_rate(optimizer)(at)), **style)
    momenta.plot(
        at, keras.ops.convert_to_numpy(optimizer.momentum_schedule(at)), linestyle="--", **style
    )


def _mark_kills(axes: Any, run: Outcome) -> None:
    losses, _ = axes
    for killed, resumed in run.kills:
        for one in axes:
            one.axvspan(resumed, killed, color=_KILL, alpha=0.12, linewidth=0)
            one.axvline(killed, color=_KILL, linewidth=1.2, linestyle="--")
        _note(
            losses, killed, f"SIGKILL in step {killed}\nwent on from {resumed}", _KILL, 0.98, "top"
        )


def _mark_rollbacks(axes: Any, run: Outcome) -> None:
    for step in run.not_finite:
        for one in axes:
            one.axvline(step, color=_NAN, linewidth=1.2, linestyle="-.")
        # Below, where a first kill in one of the next epochs has no words.
        _note(
            axes[0],
            step,
            f"NaN in step {step}:\nrolled back, then\nat half the rate",
            _NAN,
            0.02,
            "bottom",
        )


def _note(axes: Any, step: int, text: str, color: str, height: float, side: str) -> None:
    placing = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": side}
    axes.annotate(text, (step, height), (6, 0), fontsize=9, color=color, **placing)


def _mark_best(axes: Any, run: Outcome) -> None:
    stopping = run.callback("EarlyStopping")
    stopped = f"; stopped early in step {stopping['stopped_step']}" if stopping["reason"] else ""
    axes.plot(
        stopping["best_step"],
        stopping["best"],
        label=f"best, in step {stopping['best_step']}{stopped}",
        zorder=4,
        **_BEST,
    )
