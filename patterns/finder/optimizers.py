"""The optimizers of a model that have a rate of their own, and setting it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from .. import _keras
from ..schedules.base import whole_steps
from ..state.tree import find_variables


class TabulatedRate(keras.optimizers.schedules.LearningRateSchedule):
    """The rates of a sweep, one for each step since it began; computed in the compiled step.

    Args:
        rates: Of shape `(steps,)`. After the last step the last one stays.
        begun: The step at which the sweep begins.
    """

    def __init__(self, rates: np.ndarray, begun: int) -> None:
        self._rates, self._begun = rates.astype("float32"), begun

    def __call__(self, step: Any) -> Any:
        """The rate at a step of the optimizer."""
        index = ops.clip(whole_steps(step) - self._begun, 0, len(self._rates) - 1)
        return ops.take(ops.convert_to_tensor(self._rates), index)

    def get_config(self) -> dict[str, Any]:
        """What stands in for a rate for a while is not saved."""
        return {}


def with_rates(model: keras.Model) -> dict[keras.optimizers.Optimizer, float]:
    """The optimizers that move a weight, and the rate of each over the highest of them."""
    places = find_variables(model).optimizers
    inner = {place: one for place, one in places.items() if not any(other.startswith(f"{place}/") for other in places)}
    # A MultiOptimizer may hold one that no weight falls to.
    used = [one for one in inner.values() if one.built and _keras.trained_variables(one)] or list(inner.values())
    rates = [float(ops.convert_to_numpy(one.learning_rate)) for one in used]
    highest = max(rates, default=0.0)
    return {one: rate / highest if highest else 1.0 for one, rate in zip(used, rates, strict=True)}


def set_rate(model: keras.Model, rate: float) -> None:
    """Makes `rate` the highest rate of the model's optimizers; the others keep their ratio to it."""
    for optimizer, share in with_rates(model).items():
        _keras.set_constant_rate(optimizer, rate * share)
    # A schedule is compiled into the step.
    model.train_function = None


@contextmanager
def swept(model: keras.Model, rates: np.ndarray) -> Iterator[keras.Variable]:
    """Has the optimizers go through the rates, and gives back what they had.

    Yields:
        The counter of the steps that the sweep has made, plus those before it.
    """
    shares = with_rates(model)
    before = {optimizer: _keras.get_rate(optimizer) for optimizer in shares}
    try:
        for optimizer, share in shares.items():
            begun = int(ops.convert_to_numpy(_keras.steps_of(optimizer).value))
            _keras.put_rate(optimizer, TabulatedRate(rates * share, begun))
        yield _keras.steps_of(next(iter(shares)))
    finally:
        for optimizer, rate in before.items():
            _keras.put_rate(optimizer, rate)
