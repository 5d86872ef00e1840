"""The direction of a search beside that of the metric that it goes by."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from .._util.metrics import direction
from .._util.warn import warn
from .errors import TuningError

__all__ = ["check_direction", "direction", "warn_of_direction"]


def check_direction(use: str, monitor: str, maximizes: bool) -> None:
    """Raises TuningError if the name of a metric says that it is better in the other direction.

    Args:
        use: The use that the search makes of the metric, the beginning of a sentence.
        monitor: The metric.
        maximizes: Whether the search looks for more.
    """
    if direction(monitor) == ("min" if maximizes else "max"):
        raise TuningError(
            f"kp.tune: {use} {monitor!r}, and direction= says that "
            f"{'more' if maximizes else 'less'} of it is better. Give monitor= and direction= that "
            "belong together. The trial is kept."
        )


def warn_of_direction(
    histories: Iterable[keras.callbacks.History], value: float, maximizes: bool
) -> None:
    """Warns of a value that is a metric of its runs, which is better in the other direction."""
    logs = [log for one in histories for log in one.history.items()]
    names = sorted({name for name, values in logs if value in values})
    if {direction(name) for name in names} == {"min" if maximizes else "max"}:
        more, less = ("less", "more") if maximizes else ("more", "less")
        right = "minimize" if maximizes else "maximize"
        warn(
            f"kp.tune: the objective has returned {names[0]!r} of its run, of which {more} is "
            f"better, and the search looks for {less}. Give direction={right!r}, or return another "
            "value."
        )
