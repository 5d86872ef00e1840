"""The validation loss after the same number of examples, over sizes of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from ..optimizers.rates import ScaledRates, with_rates
from ..state import preserved
from .batch_size_rows import Rows

RateRule = Literal["kept", "linear", "sqrt"]
# The size at which no rule changes the rate: Keras's default.
USUAL_SIZE = 32


@dataclass(frozen=True)
class SizeLoss:
    """The validation loss after training at one batch size.

    Attributes:
        size: Examples in a batch.
        losses: Of each seed, of shape `(seeds,)`.
        rate_factor: By what the learning rate was multiplied.
    """

    size: int
    losses: np.ndarray
    rate_factor: float

    @property
    def is_finite(self) -> bool:
        """True if each run ended with a finite loss."""
        return bool(np.isfinite(self.losses).all())

    @property
    def mean(self) -> float:
        """Over the seeds; infinite if one of them ended without a finite loss."""
        return float(self.losses.mean()) if self.is_finite else math.inf

    @property
    def spread(self) -> float:
        """The standard deviation of one run; 0 if there is but one, or no finite mean."""
        return float(self.losses.std(ddof=1)) if len(self.losses) > 1 and self.is_finite else 0.0


@dataclass(frozen=True)
class LossPlan:
    """The training that each size gets.

    Attributes:
        train, validation: The examples of each.
        examples: On how many a run trains, repeated passes counted.
        seeds: Runs of each size, which differ in the order of the examples.
        rule: What happens to the learning rate.
        seed: Of the first order.
    """

    train: Rows
    validation: Rows
    examples: int
    seeds: int
    rule: RateRule
    seed: int


def measure_losses(
    model: keras.Model, plan: LossPlan, sizes: Sequence[int]
) -> tuple[SizeLoss, ...]:
    """Trains at each size from the weights of now, on the same number of examples, and validates.

    Args:
        model: With its train function, inside `preserved`.
        plan: How.
        sizes: The batch sizes, the smallest first.
    """
    # The most that all sizes can do in whole steps.
    examples = max(1, plan.examples // sizes[-1]) * sizes[-1]
    found = []
    for size in sizes:
        factor = {"kept": 1.0, "linear": size / USUAL_SIZE, "sqrt": (size / USUAL_SIZE) ** 0.5}
        losses = []
        for seed in range(plan.seeds):
            rng = np.random.default_rng((plan.seed, seed))
            with preserved(model), _rates_times(model, factor[plan.rule]):
                _train(model, plan.train, size, examples // size, rng)
                losses.append(_validated(model, plan.validation, sizes[-1]))
        found.append(SizeLoss(size, np.array(losses), factor[plan.rule]))
    return tuple(found)


@contextmanager
def _rates_times(model: keras.Model, factor: float) -> Iterator[None]:
    """Within it, inside `preserved`, the learning rates are multiplied."""
    before = {id(one): (one, _keras.get_rate(one)) for one in with_rates(model).values()}
    if ScaledRates(model).scale(factor, factor):
        _keras.recompile_step(model)
        model.make_train_function()
    try:
        yield
    finally:
        for optimizer, rate in before.values():
            _keras.put_rate(optimizer, rate)


def _train(model: keras.Model, rows: Rows, size: int, steps: int, rng: np.random.Generator) -> None:
    batches = [rows.step_batch_at(places) for places in _orders(rows.examples, size, steps, rng)]
    model.reset_metrics()
    with closing(current().feed(iter(batches), batches[:1], False, model)) as data:
        current().run_function(model, model.train_function, data, steps)
    current().sync(model)


def _orders(examples: int, size: int, steps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The places of the examples of each batch: one pass after the other, each in a new order."""
    passes = -(-size * steps // examples)
    order = np.concatenate([rng.permutation(examples) for _ in range(passes)])
    return iter(order[: size * steps].reshape(steps, size))


def _validated(model: keras.Model, rows: Rows, size: int) -> float:
    x, y, weight = rows.data
    how = {"batch_size": size, "verbose": 0, "return_dict": True}
    logs: Any = model.evaluate(x, y, sample_weight=weight, **how)
    return float(logs["loss"])
