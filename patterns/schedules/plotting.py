"""A picture of a schedule."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .. import _keras
from .._util.arguments import whole_number
from .base import value_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 1_000


def plot(schedule: Any, steps: int, momentum: Any = None) -> Figure:
    """Draws the rate, and the momentum where there is one, over the steps.

    Args:
        schedule: A schedule; or an optimizer, whose rate is drawn, and its momentum if that has a
            schedule as well.
        steps: How many steps to draw, from 0 on.
        momentum: A schedule of the momentum. Defaults to None: that of the optimizer.

    Returns:
        The figure, which a notebook shows. `figure.savefig(path)` writes it to a file.

    Raises:
        TypeError: If `schedule` has no rate.
        ImportError: If matplotlib is missing.

    Example:

    >>> import keras_patterns as kp
    >>> figure = kp.schedules.plot(kp.schedules.OneCycle(0.1, 100), 100,
    ...     momentum=kp.schedules.OneCycleMomentum(100))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['learning rate', 'momentum']
    """
    from matplotlib.figure import Figure

    steps = whole_number("plot", "steps", steps)
    rate = schedule
    if isinstance(schedule, keras.optimizers.Optimizer):
        optimizer = getattr(schedule, "inner_optimizer", schedule)
        rate = _keras.get_rate(optimizer)
        rate = float(rate.numpy()) if isinstance(rate, keras.Variable) else rate
        momentum = getattr(optimizer, "momentum_schedule", None) if momentum is None else momentum
    if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule | Real):
        raise TypeError(
            "plot: `schedule` must be a LearningRateSchedule or an optimizer. Received: "
            f"{schedule!r}."
        )
    lines = [("learning rate", rate)] + ([("momentum", momentum)] if momentum is not None else [])
    figure = Figure(figsize=(8, 3 * len(lines)), layout="constrained", dpi=100)
    at = np.unique(np.linspace(0, steps - 1, min(steps, _POINTS)).round().astype(int))
    for axes, (name, line) in zip(
        figure.subplots(len(lines), 1, sharex=True, squeeze=False).flat, lines, strict=True
    ):
        # One at a time: Keras's own schedules take no array of steps.
        axes.plot(
            at,
            [float(keras.ops.convert_to_numpy(value_of(line, int(step)))) for step in at],
            linewidth=1.6,
        )
        axes.set_ylabel(name)
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[-1].set_xlabel("optimizer step")
    return figure
