"""A picture of a schedule."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .. import _keras
from .._util.arguments import whole_number
from .._util.plots import given_or_new_axes
from .base import value_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 1_000


@_keras.quiet_arrays()
def plot(schedule: Any, steps: int, momentum: Any = None, ax: Axes | None = None) -> Axes:
    """Draws the rate over the steps, and the momentum, where there is one, on a second axis.

    Args:
        schedule: A schedule; or an optimizer, whose rate is drawn, and its momentum if that has a
            schedule as well.
        steps: How many steps to draw, from 0 on.
        momentum: A schedule of the momentum. Defaults to None: that of the optimizer.
        ax: The matplotlib axes to draw in. Defaults to None: those of a new figure, which a
            notebook shows.

    Returns:
        The axes of the rate; `.figure.savefig(path)` writes the picture to a file.

    Raises:
        TypeError: If `schedule` has no rate.
        ImportError: If matplotlib is missing.

    Example:

    >>> import keras_patterns as kp
    >>> axes = kp.schedules.plot(kp.schedules.OneCycle(0.1, 100), 100,
    ...     momentum=kp.schedules.OneCycleMomentum(100))
    >>> [one.get_ylabel() for one in axes.figure.axes]
    ['learning rate', 'momentum']
    """
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
    axes = given_or_new_axes("kp.schedules.plot", ax, (8, 3.5))
    at = np.unique(np.linspace(0, steps - 1, min(steps, _POINTS)).round().astype(int))
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("optimizer step")
    _draw(axes, at, rate, "learning rate", "C0")
    if momentum is not None:
        second = axes.twinx()
        second.spines[["top", "left"]].set_visible(False)
        _draw(second, at, momentum, "momentum", "C1")
    return axes


def _draw(axes: Axes, at: np.ndarray, schedule: Any, name: str, color: str) -> None:
    # One at a time: Keras's own schedules take no array of steps.
    values = [float(keras.ops.convert_to_numpy(value_of(schedule, int(step)))) for step in at]
    axes.plot(at, values, color=color, linewidth=1.6)
    axes.set_ylabel(name, color=color)
    axes.tick_params(axis="y", colors=color)
