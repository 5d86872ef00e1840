"""The learning curve of the demo, with the kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .comparison import Outcome

_LEFT_ALONE = {"color": "#9ecae1", "linewidth": 5}
_KILLED = {"color": "#08306b", "linewidth": 1.4}
_CONTINUED = {"color": "#238b45", "linewidth": 1.6}
_KILL = "#cb181d"


def draw(path: Path, reference: Outcome, killed: Outcome, steps_per_epoch: int, continued: Outcome | None = None) -> None:
    """Writes a PNG: losses and learning rate against the step.

    Args:
        path: The file.
        reference: The run that was left alone.
        killed: The run that was killed and resumed.
        steps_per_epoch: How many steps lie between two validations.
        continued: The second run after it went on on another backend. Defaults to None.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(9.6, 6), layout="constrained", dpi=100)
    losses, rates = axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _curves(axes, reference, steps_per_epoch, "left alone", _LEFT_ALONE)
    _curves(axes, killed, steps_per_epoch, "killed and resumed", _KILLED)
    if continued:
        end = killed.checkpoint.position.step
        _curves(axes, continued, steps_per_epoch, f"going on on {continued.backend}", _CONTINUED, since=end)
    _mark_kills(axes, killed)
    losses.set_title(f"Handwritten digits on {reference.backend}: a run that was killed, over the same run left alone")
    losses.set(yscale="log", ylabel="loss (cross-entropy, nats)")
    losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    losses.yaxis.set_major_formatter("{x:g}")
    losses.minorticks_off()
    rates.set(ylim=(0, None), ylabel="learning rate", xlabel="optimizer step")
    losses.plot([], [], "o", color="0.4", markersize=4, label="at validation")
    # Below the axes, where it covers nothing.
    losses.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=5, frameon=False, fontsize=9)
    for one in axes:
        one.grid(alpha=0.25, which="both", linewidth=0.5)
        one.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, pil_kwargs={"optimize": True})


def _curves(axes: Any, run: Outcome, steps_per_epoch: int, name: str, style: dict[str, Any], since: int = 0) -> None:
    """Draws a run from a step on, and what leads to it."""
    losses, rates = axes
    history = run.history["history"]
    epochs = [(epoch + 1) * steps_per_epoch for epoch in run.history["epoch"]]
    running = {row["step"]: row["loss"] for row in run.history["steps"]} | dict(zip(epochs, history["loss"], strict=True))
    losses.plot(*zip(*sorted(point for point in running.items() if point[0] >= since), strict=True), alpha=0.55, **style)
    first = sum(step < since for step in epochs)
    losses.plot(epochs[first:], history["val_loss"][first:], marker="o", markersize=4, label=name, **style)
    rates.step(epochs[first:], history["learning_rate"][first:], where="pre", **style)


def _mark_kills(axes: Any, run: Outcome) -> None:
    losses, _ = axes
    for killed, resumed in run.kills:
        for one in axes:
            one.axvspan(resumed, killed, color=_KILL, alpha=0.12, linewidth=0)
            one.axvline(killed, color=_KILL, linewidth=1.2, linestyle="--")
        where = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top"}
        text = f"SIGKILL in step {killed}\nwent on from {resumed}"
        losses.annotate(text, (killed, 0.98), (6, 0), fontsize=9, color=_KILL, **where)
