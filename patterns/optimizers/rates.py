"""The optimizers of a model that have a learning rate of their own."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from .. import _keras
from ..schedules import Scaled
from ..state.variables import find_variables


def with_rates(model: keras.Model) -> dict[str, keras.optimizers.Optimizer]:
    """The optimizers with a rate of their own, by their places; those without a weight to move are
    left out.
    """
    places = find_variables(model).optimizers
    inner = {
        place: one
        for place, one in places.items()
        if not any(other.startswith(f"{place}/") for other in places)
    }
    # A MultiOptimizer may hold one that no weight falls to.
    used = {
        place: one for place, one in inner.items() if one.built and _keras.trained_variables(one)
    }
    return used or inner


def steps_made(optimizer: keras.optimizers.Optimizer) -> int:
    """The counter that a schedule of the rate gets."""
    return int(ops.convert_to_numpy(_keras.steps_of(optimizer).value))


class ScaledRates:
    """The rates of a model, to be made smaller during a run.

    A rate that is a variable is multiplied where it stands, and goes into checkpoints as it is. A
    schedule, or a function, is replaced by its product with a factor, which is compiled into the
    step.

    Args:
        model: A built model, with the rates that the script gave.
    """

    def __init__(self, model: keras.Model) -> None:
        self._rates = [
            (optimizer, _keras.get_rate(optimizer)) for optimizer in with_rates(model).values()
        ]

    def scale(self, now: float, in_all: float) -> bool:
        """Multiplies the rates.

        Args:
            now: By what those rates are multiplied that stand in variables.
            in_all: By what the script's schedules are.

        Returns:
            Whether the step must be compiled anew.
        """
        scheduled = False
        for optimizer, rate in self._rates:
            if isinstance(rate, keras.Variable):
                rate.assign(ops.multiply(rate, ops.cast(now, rate.dtype)))
            else:
                _keras.put_rate(optimizer, _product(rate, in_all))
                scheduled = True
        return scheduled


def _product(rate: Any, factor: float) -> Any:
    if factor == 1.0:
        return rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return Scaled(rate, factor)
    return lambda: rate() * factor
