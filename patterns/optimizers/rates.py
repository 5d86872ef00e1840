"""The learning rates of a model's optimizers: found, set, swept and made smaller."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from .. import _keras
from .._util.steps import whole_steps
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


@_keras.quiet_arrays()
def steps_made(optimizer: keras.optimizers.Optimizer) -> int:
    """The counter that a schedule of the rate gets."""
    return int(ops.convert_to_numpy(_keras.steps_of(optimizer).value))


def rates_of(optimizer: keras.optimizers.Optimizer, steps: int, every: int = 1) -> list[float]:
    """The rates of the next steps, or of every n-th of them."""
    rate = _keras.get_rate(optimizer)
    if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return [_number(optimizer.learning_rate)] * steps
    start = steps_made(optimizer)
    return [_number(rate(start + every * step)) for step in range(steps)]


def _number(value: Any) -> float:
    return float(np.asarray(ops.convert_to_numpy(value)))


def set_rate(model: keras.Model, rate: float, among: Collection[str] = ()) -> None:
    """Makes `rate` the highest rate of the model's optimizers; the others keep their ratio to it.

    Args:
        model: A compiled model.
        rate: To be set.
        among: The places of the optimizers that count. Defaults to all.
    """
    optimizers = with_rates(model)
    chosen = {place: one for place, one in optimizers.items() if place in among} or optimizers
    for place, ratio in _ratios(chosen).items():
        _keras.set_constant_rate(chosen[place], rate * ratio)
    # A schedule is compiled into the step.
    _keras.recompile_step(model)


@contextmanager
def swept(optimizers: dict[str, keras.optimizers.Optimizer], rates: np.ndarray) -> Iterator[None]:
    """Within it, the optimizers go through the rates; after it they have their own again."""
    ratios = _ratios(optimizers)
    before = {place: _keras.get_rate(one) for place, one in optimizers.items()}
    try:
        for place, one in optimizers.items():
            _keras.put_rate(one, TabulatedRate(rates * ratios[place], steps_made(one)))
        yield
    finally:
        for place, rate in before.items():
            _keras.put_rate(optimizers[place], rate)


class TabulatedRate(keras.optimizers.schedules.LearningRateSchedule):
    """The rates of a sweep, one for each step since it began; computed in the compiled step.

    Args:
        rates: Of shape `(steps,)`. After the last step the last one stays.
        start_step: The step at which the sweep begins.
    """

    def __init__(self, rates: np.ndarray, start_step: int) -> None:
        self._rates, self._start_step = rates.astype("float32"), start_step

    def __call__(self, step: Any) -> Any:
        """The rate at a step of the optimizer."""
        index = ops.clip(whole_steps(step) - self._start_step, 0, len(self._rates) - 1)
        return ops.take(ops.convert_to_tensor(self._rates), index)

    def get_config(self) -> dict[str, Any]:
        """Nothing: it is not saved."""
        return {}


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


@_keras.quiet_arrays()
def _ratios(optimizers: dict[str, keras.optimizers.Optimizer]) -> dict[str, float]:
    """The rate of each over the highest.

    Raises:
        ValueError: Some are 0 and some are not: nothing times a rate would ever move the weights of
            the former.
    """
    rates = {
        place: float(ops.convert_to_numpy(one.learning_rate)) for place, one in optimizers.items()
    }
    highest = max(rates.values())
    if not highest:
        return dict.fromkeys(rates, 1.0)
    still = [place for place, rate in rates.items() if not rate]
    if still:
        raise ValueError(
            f"The rate at {still[0]!r} is 0 at this step, and others are not, so the ratio that it "
            "is to keep "
            "is not known. Give it a constant rate, or a schedule that does not begin at 0."
        )
    return {place: rate / highest for place, rate in rates.items()}


def _product(rate: Any, factor: float) -> Any:
    if factor == 1.0:
        return rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return Scaled(rate, factor)
    return lambda: rate() * factor
