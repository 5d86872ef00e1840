"""`kp.overfit_batch`: a model that can learn at all can memorise one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from .. import _keras
from .._util.arguments import whole_number
from ..optimizers.rates import rates_of, with_rates
from ..state.preservation import preserved
from .architecture import layer_gradients
from .examined import Examined, examine
from .observed import rms, without_noise
from .outputs import is_binary
from .overfit_report import Attempt, LayerRow, OverfitReport
from .verdicts import is_better, judged, other_factors, report_of

_CALLER = "kp.overfit_batch"
STEPS = 60


@_keras.quiet_arrays()
def overfit_batch(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int = 32,
    steps: int = STEPS,
    keep_noise: bool = False,
    loss_key: str = "loss",
) -> OverfitReport:
    """Trains a model on one batch for a few steps, to see that it can learn at all.

    A rate at which it does not is tried again at other rates, at most three: the report says what
    each would do. Dropout and augmentation are off meanwhile. Afterwards everything is as before,
    bit for bit, also if it is interrupted. A model that was not built is built.

    Args:
        model: A compiled model.
        x, y, sample_weight: As in `kp.fit`.
        batch_size: Examples in the batch, if `x` is arrays. Defaults to 32.
        steps: For each rate, at least 10. Defaults to 60.
        keep_noise: Whether layers without weights that draw at random, such as dropout, do so.
            Defaults to False.
        loss_key: The name of the loss among what the model's `train_step` returns. Defaults to
            `"loss"`.

    Returns:
        The report, with `.plot()` and a table of layers.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, the model is not compiled, or its `train_step` returns
            no such loss.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> kp.overfit_batch(model, x, x.sum(1)).verdict
    'memorised'

    References:
        A. Karpathy, "A Recipe for Training Neural Networks", 2019.
    """
    steps = whole_number(_CALLER, "steps", steps, least=10)
    size = whole_number(_CALLER, "batch_size", batch_size)
    examined = examine(_CALLER, model, x, y, sample_weight, None, 0.0)
    return memorise(examined, size, steps, keep_noise, loss_key)


def memorise(
    examined: Examined,
    batch_size: int = 32,
    steps: int = STEPS,
    keep_noise: bool = False,
    loss_key: str = "loss",
) -> OverfitReport:
    """The report for a model that has been looked at; arguments are those of `overfit_batch`.

    Raises:
        ValueError: If the model cannot be trained on the data.
    """
    if not examined.can_be_trained or (examined.seen[0] is None and examined.problem):
        raise ValueError(
            f"{_CALLER}: the model cannot be trained on these data: "
            f"{examined.problem or 'labels or ids are out of range'}. kp.preflight says more."
        )
    model = examined.model
    batch = examined.sample.cut(0, examined.batch_size(batch_size))
    gradients = layer_gradients(examined)
    if not examined.has_gradient:
        return _without_gradient(examined)
    with preserved(model), _keras.quiet_faults(), ExitStack() as stack:
        without = [] if keep_noise else stack.enter_context(without_noise(model))
        stack.enter_context(_keras.batches_as_in_fit(model))
        trial = stack.enter_context(_trial(model, batch, steps, loss_key, _floor(examined)))
        attempts = [trial.attempt(1.0)]
        for factor in other_factors(attempts[0], max(trial.updates.values(), default=0.0)):
            attempts.append(trial.attempt(factor))
            if is_better(attempts[0], attempts[-1]):
                break
        is_usual = not without and all(map(_has_variable_rate, with_rates(model).values()))
        examined.step_function = model.train_function if is_usual else None
    rows = _layer_rows(examined, trial.updates)
    return report_of(tuple(attempts), rows, gradients, tuple(without))


def _without_gradient(examined: Examined) -> OverfitReport:
    """The report where no step would change anything."""
    assert examined.gradients
    rates = [rates_of(one, 1)[0] for one in with_rates(examined.model).values()]
    losses = np.array([examined.gradients[0]])
    attempt = Attempt(1.0, max(rates, default=math.nan), losses, 0.0, "no gradient")
    evidence = "The gradient of the loss is 0 for every weight, so no rate can change it."
    advice = "kp.preflight looks for the cause."
    rows = _layer_rows(examined, {})
    return OverfitReport("no gradient", (attempt,), rows, evidence, advice)


def _layer_rows(examined: Examined, updates: Mapping[int, float]) -> tuple[LayerRow, ...]:
    gradients = layer_gradients(examined)
    return tuple(
        LayerRow(
            view.name,
            gradients.get(view.name, 0.0),
            updates.get(id(view.layer), 0.0),
            view.spread,
            view.dead,
        )
        for view in examined.weighted
    )


class _Trial:
    """Tries rates on one batch, each from the same start.

    Args:
        model: Built, inside `preserved`.
        batch: Inputs, targets, weights.
        steps: For each rate.
        loss_key: Among what the step returns.
        floor: What the loss cannot go below.
        rates: The variables of the rates, with the values that each step is given.
    """

    def __init__(
        self,
        model: keras.Model,
        batch: tuple[Any, Any, Any],
        steps: int,
        loss_key: str,
        floor: float,
        rates: list[tuple[keras.Variable, list[float]]],
    ) -> None:
        self._model = model
        self._batch = batch
        self._steps = steps
        self._loss_key = loss_key
        self._floor = floor
        self._rates = rates
        self.updates: dict[int, float] = {}

    def attempt(self, factor: float) -> Attempt:
        """Trains at the given rates times a factor, and goes back to the start."""
        losses: list[float] = []
        function = self._model.train_function
        with preserved(self._model):
            # One compiled step serves every rate.
            self._model.train_function = function
            before = _weights(self._model) if factor == 1.0 else {}
            for step in range(self._steps):
                for variable, values in self._rates:
                    variable.assign(factor * values[step])
                losses.append(self._step())
                if step == 0 and before:
                    self.updates = _updates(self._model, before)
                if not math.isfinite(losses[-1]):
                    break
            function = self._model.train_function
        self._model.train_function = function
        found = np.array(losses)
        rate = max((factor * values[0] for _, values in self._rates), default=math.nan)
        return Attempt(factor, rate, found, *judged(found, self._floor))

    def _step(self) -> float:
        logs = self._model.train_on_batch(*self._batch, return_dict=True)
        if self._loss_key not in logs:
            raise ValueError(
                f"{_CALLER}: train_step must return {self._loss_key!r}; this one returned "
                f"{sorted(logs)}. Say which of these is the loss: loss_key=."
            )
        return float(np.asarray(logs[self._loss_key]))


@contextmanager
def _trial(
    model: keras.Model,
    batch: tuple[Any, Any, Any],
    steps: int,
    loss_key: str,
    floor: float,
) -> Iterator[_Trial]:
    model.steps_per_execution = 1
    _keras.recompile_step(model)
    with ExitStack() as stack:
        rates = []
        for optimizer in with_rates(model).values():
            values = rates_of(optimizer, steps)
            rates.append((stack.enter_context(_keras.rate_in_variable(optimizer)), values))
        yield _Trial(model, batch, steps, loss_key, floor, rates)


def _has_variable_rate(optimizer: keras.optimizers.Optimizer) -> bool:
    return isinstance(_keras.get_rate(optimizer), keras.Variable)


def _floor(examined: Examined) -> float:
    """The loss of outputs that equal the targets: with soft or smoothed targets it is not 0."""
    floors = [
        one.loss_of(one.y, one.best_outputs())
        for one in examined.outputs
        if one.family in ("poisson", "binary", "categorical")
        and one.y.size == one.pred.size
        and (one.smoothing or not is_binary(one.y))
    ]
    return float(sum(floor for floor in floors if math.isfinite(floor)))


def _weights(model: keras.Model) -> dict[int, np.ndarray]:
    return {
        id(one): np.array(keras.ops.convert_to_numpy(one.value))
        for one in model.trainable_variables
        if len(one.shape) > 1
    }


def _updates(model: keras.Model, before: Mapping[int, np.ndarray]) -> dict[int, float]:
    """The change of the matrices of each layer over their size; weights that start tiny count as
    if they were of the usual size.
    """
    found: dict[int, float] = {}
    now = _weights(model)
    for layer in _keras.observed_layers(model):
        for variable in layer.weights:
            if id(variable) in before:
                old = before[id(variable)].astype("float64")
                fan_in = max(1, old.size // old.shape[-1])
                change = rms(now[id(variable)] - old) / max(rms(old), math.sqrt(1 / fan_in))
                found[id(layer)] = max(found.get(id(layer), 0.0), change)
    return found
