"""The learning curve of the demo, with the kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .comparison import Outcome

_LEFT_ALONE, _KILLED, _CONTINUED, _KILL = "#9ecae1", "#08306b", "#238b45", "#cb181d"


def draw(
    path: Path, reference: Outcome, killed: Outcome, steps_per_epoch: int, title: str, continued: Outcome | None = None
) -> None:
    """Writes a PNG: losses and learning rate against the step.

    Args:
        path: The file.
        reference: The run that was left alone.
        killed: The run that was killed and resumed.
        steps_per_epoch: How many steps lie between two validations.
        title: What was trained, and where.
        continued: The second run after it went on on another backend. Defaults to None.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.2), layout="constrained", dpi=120)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    end = killed.checkpoint.position.step
    if continued:
        _curves(
            losses, rates, continued, steps_per_epoch, "continued on another backend", color=_CONTINUED, linewidth=1.6, since=end
        )
    _curves(losses, rates, reference, steps_per_epoch, "left alone", color=_LEFT_ALONE, linewidth=5)
    _curves(losses, rates, killed, steps_per_epoch, "killed and resumed", color=_KILLED, linewidth=1.4)
    for axes in (losses, rates):
        _mark_kills(axes, killed)
    _name_kills(losses, killed)
    losses.set(yscale="log", ylabel="loss (cross-entropy, nats)", title=title)
    rates.set(yscale="log", ylabel="learning rate", xlabel="optimizer step")
    losses.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3, frameon=False, fontsize=9)
    for axes in (losses, rates):
        axes.grid(alpha=0.25, which="both", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _curves(losses: Any, rates: Any, run: Outcome, steps_per_epoch: int, name: str, since: int = 0, **style: Any) -> None:
    history, running = run.history["history"], [row for row in run.history["steps"] if row["step"] > since]
    epochs = [(epoch + 1) * steps_per_epoch for epoch in run.history["epoch"]]
    first = next((index for index, step in enumerate(epochs) if step >= since), 0) if since else 0
    label = f"training, {name}"
    losses.plot([row["step"] for row in running], [row["loss"] for row in running], alpha=0.55, label=label, **style)
    losses.plot(epochs[first:], history["val_loss"][first:], marker="o", markersize=4, label=f"validation, {name}", **style)
    rates.step(epochs[first:], history["learning_rate"][first:], where="pre", **style)


def _mark_kills(axes: Any, run: Outcome) -> None:
    for step, resumed in run.kills:
        axes.axvspan(resumed, step, color=_KILL, alpha=0.12, linewidth=0)
        axes.axvline(step, color=_KILL, linewidth=1.2, linestyle="--")


def _name_kills(axes: Any, run: Outcome) -> None:
    for step, resumed in run.kills:
        axes.annotate(
            f"SIGKILL in step {step}\nwent on from {resumed}",
            (step, 0.98),
            (6, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=9,
            color=_KILL,
        )
