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
from .finding import Finding, shown
from .observed import rms, without_noise
from .outputs import is_binary
from .overfit_report import Attempt, LayerRow, OverfitReport

_CALLER = "kp.overfit_batch"
STEPS = 60
# Factors of the rate that are tried, in this order, where the given rate does not do.
_LOWER, _HIGHER = (0.1, 0.01), (10.0, 100.0, 1000.0)
# Of the loss at the start, less what no model can go below.
_MEMORISED, _LEARNT, _STOOD_STILL = 0.95, 0.1, 0.08
# A gain over the given rate by which another one is said to be better.
_GAIN_LOWER, _GAIN_AFTER_EXPLOSION, _GAIN_HIGHER = 0.1, 0.002, 0.08
# Of a step, relative to the weights, in each layer.
HEALTHY_UPDATES = (4e-4, 0.16)
_NO_STEP, _USUAL_UPDATE = 0.01 * HEALTHY_UPDATES[0], 0.01


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
        for factor in _others(attempts[0], max(trial.updates.values(), default=0.0)):
            attempts.append(trial.attempt(factor))
            if _is_better(attempts[0], attempts[-1]):
                break
        is_usual = not without and all(map(_has_variable_rate, with_rates(model).values()))
        examined.step_function = model.train_function if is_usual else None
    rows = _layer_rows(examined, trial.updates)
    return _report(tuple(attempts), rows, gradients, tuple(without))


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
        return Attempt(factor, rate, found, *_judged(found, self._floor))

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
    """The loss of outputs that equal the targets: with soft targets it is not 0."""
    floors = [
        one.loss_of(one.y, one.y.reshape(one.pred.shape).astype("float32"))
        for one in examined.outputs
        if one.family in ("poisson", "binary", "categorical")
        and not one.from_logits
        and one.y.size == one.pred.size
        and not is_binary(one.y)
    ]
    return float(sum(floor for floor in floors if math.isfinite(floor)))


def _judged(losses: np.ndarray, floor: float) -> tuple[float, str]:
    """The share of the loss that is gone, and the verdict."""
    if not np.isfinite(losses).all():
        return -math.inf, "not finite"
    first, last = float(losses[0]), float(np.median(losses[-5:]))
    room = max(first - floor, 1e-3 * abs(first), 1e-12)
    fall = (first - last) / room
    moves = np.diff(losses)
    rises, swing = float((moves > 0).mean()), float(np.abs(moves[len(moves) // 2 :]).mean()) / room
    if np.ptp(losses) <= 1e-7 * max(abs(first), 1e-12):
        return fall, "no gradient"
    if losses.max() > first + 10 * room:
        return fall, "explodes"
    if fall >= _MEMORISED:
        return fall, "memorised"
    if rises > 0.25 and swing > 0.1:
        return fall, "oscillates"
    if fall < -0.05:
        return fall, "goes up"
    return fall, "learning" if fall >= _LEARNT else "plateaus"


def _others(first: Attempt, update: float) -> tuple[float, ...]:
    """The factors of the rate that could prove it wrong.

    Args:
        first: At the given rate.
        update: The largest change of a layer in the first step, relative to its weights.
    """
    if first.fall >= _LEARNT and update > 2 * HEALTHY_UPDATES[1]:
        return _LOWER[:1]
    if first.verdict in ("not finite", "explodes", "oscillates", "goes up") or _is_restless(first):
        # A rate that is further off is tried at a usual change of the weights.
        usual = _USUAL_UPDATE / update if update > 0 else 1.0
        return (*_LOWER, usual) if usual < _LOWER[-1] else _LOWER
    return _HIGHER if first.fall < _STOOD_STILL else ()


def _is_restless(first: Attempt) -> bool:
    """True if the loss rose above its start, or went far without getting anywhere."""
    size, losses = abs(float(first.losses[0])), first.losses
    went = float(np.abs(np.diff(losses)).sum())
    rose = float(losses.max()) > losses[0] + 0.1 * size
    return first.fall < 0.5 and (rose or went > 2 * size)


def _is_better(first: Attempt, other: Attempt) -> bool:
    """True if the other rate proves the first one wrong."""
    if other.verdict in ("not finite", "explodes"):
        return False
    if other.factor > 1:
        return other.fall - first.fall > _GAIN_HIGHER
    if first.verdict in ("not finite", "explodes"):
        return other.fall > _GAIN_AFTER_EXPLOSION
    if first.fall >= _LEARNT and _mean_fall(other) - _mean_fall(first) > _GAIN_LOWER:
        return True
    return other.fall - max(first.fall, 0.0) > _GAIN_LOWER


def _climbs(one: Attempt) -> bool:
    """True if the loss rises in nearly every step."""
    return len(one.losses) > 5 and float((np.diff(one.losses) > 0).mean()) > 0.9


def _mean_fall(one: Attempt) -> float:
    """The fall of the loss in the mean over all steps."""
    first = float(one.losses[0])
    return (first - float(one.losses.mean())) / max(abs(first), 1e-12)


def _report(
    attempts: tuple[Attempt, ...],
    rows: tuple[LayerRow, ...],
    gradients: Mapping[str, float],
    without: tuple[str, ...],
) -> OverfitReport:
    first = attempts[0]
    better = next((one for one in attempts[1:] if _is_better(first, one)), None)
    findings, advice = [], ""
    updates = [row.update for row in rows if row.update > 0]
    numbers = {"loss": float(first.losses[0]), "fall": first.fall, "rate": first.rate}
    if updates:
        numbers["largest update"] = max(updates)
    if better is not None:
        numbers[f"fall at {better.rate:.1e}"] = better.fall
        kind = "lr_high" if better.factor < 1 else "lr_low"
        advice = f"Use a learning rate of about {better.rate:.1e}; kp.find_learning_rate finds one."
        findings.append(Finding(kind, "warning", _sentence(first, better), numbers, advice))
    elif len(attempts) > 1 and all(_climbs(one) for one in attempts):
        advice = "Look at the sign of the loss, of its weights and of the learning rate."
        findings.append(
            Finding("negated_loss", "error", "The loss rises at every rate.", numbers, advice)
        )
    elif first.fall < _STOOD_STILL and updates and max(updates) < _NO_STEP:
        advice = "Raise the learning rate, or the norm that gradients are clipped to."
        text = f"A step changes no layer by more than {max(updates):.1e} of its weights."
        findings.append(Finding("lr_low", "warning", text, numbers, advice))
    elif first.verdict in ("not finite", "explodes"):
        advice = "Look at the data, the loss and the initial weights: no lower rate helps."
        kind = "non_finite" if first.verdict == "not finite" else "exploding"
        findings.append(Finding(kind, "warning", _sentence(first, None), numbers, advice))
    elif first.verdict in ("no gradient", "plateaus", "goes up"):
        advice = "kp.preflight looks for the cause: no other rate helps."
    elif first.verdict == "memorised":
        advice = "Train on all the data."
    elif first.verdict == "learning":
        advice = "Train for longer: it learns, and has not finished."
    else:
        advice = "Give it more steps, or a rate that falls."
    evidence = _sentence(first, better)
    verdict = first.verdict
    if gradients and not any(gradients.values()):
        verdict = "no gradient"
    if updates and len(attempts) > 1:
        evidence += f" ({shown({'largest update over weight': max(updates)})})"
    return OverfitReport(verdict, attempts, rows, evidence, advice, without, tuple(findings))


def _sentence(first: Attempt, better: Attempt | None) -> str:
    count = len(first.losses)
    text = f"At the rate of {first.rate:.2g} the loss of one batch {_moved(first)} in {count} steps"
    if better is None:
        return f"{text}."
    return f"{text}; at {better.factor:.3g} times the rate it {_moved(better)}."


def _moved(one: Attempt) -> str:
    if not math.isfinite(one.fall):
        return "is not finite"
    if one.verdict == "explodes":
        return f"rises to {np.max(one.losses):.3g}"
    word = "falls" if one.fall >= 0 else "rises"
    return f"{word} by {abs(one.fall):.0%}"


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
