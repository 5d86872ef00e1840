"""Checks of how a model is to be trained: learning rates, penalties, dropout, decays."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from .. import _keras
from ..optimizers.rates import rates_of, with_rates
from ..state.preservation import preserved
from .examined import Examined
from .finding import Finding, Severity

# Layers that drop their inputs themselves.
_DROPPING = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
# A schedule whose first steps are worth no more than a few at its highest rate is over at once.
_FIRST_STEPS, _FEW_OF_THEM = 200, 0.05
# The same of all steps of a training.
_FEW_OF_ALL = 0.03


def check_regularisation(examined: Examined) -> Iterator[Finding]:
    """Dropout, penalties and decays that leave nothing to learn."""
    yield from _dropout(examined.model)
    yield from _penalties(examined)
    for optimizer in _optimizers(examined.model):
        decay = getattr(optimizer, "weight_decay", None)
        if isinstance(decay, int | float) and decay >= 0.5:
            yield _too_much(
                f"The optimizer has a weight decay of {decay:g}.",
                {"decay": float(decay)},
                "Use 0.01 or less.",
            )


def check_rates(examined: Examined) -> Iterator[Finding]:
    """Learning rates below zero, or zero, or soon zero, or rising until the end."""
    yield from _schedulers(examined)
    for optimizer in _optimizers(examined.model):
        rate = float(np.asarray(keras.ops.convert_to_numpy(optimizer.learning_rate)))
        constant = isinstance(_keras.get_rate(optimizer), keras.Variable)
        yield from _never_moves(optimizer, examined.total_steps)
        if rate < 0:
            yield Finding(
                "negated_loss",
                "error",
                f"The learning rate is {rate:g}: each step climbs the loss.",
                {"rate": rate},
                "Give a rate above 0.",
            )
        elif rate == 0 and constant:
            yield Finding(
                "lr_low", "error", "The learning rate is 0.", {"rate": rate}, "Give one above 0."
            )
        elif not constant:
            yield from _still_rising(optimizer, examined.total_steps or 0)
            steps = min(_FIRST_STEPS, examined.total_steps or _FIRST_STEPS)
            yield from _soon_over(rates_of(optimizer, steps), 1, _FEW_OF_THEM)
            every = (examined.total_steps or 0) // _FIRST_STEPS
            if every > 1:
                rates = rates_of(optimizer, _FIRST_STEPS, every)
                yield from _soon_over(rates, every, _FEW_OF_ALL)


def _never_moves(optimizer: keras.optimizers.Optimizer, steps: int | None) -> Iterator[Finding]:
    """An optimizer that gathers the gradients of more batches than there are."""
    gathered = optimizer.gradient_accumulation_steps or 1
    if steps and gathered > steps:
        yield Finding(
            "lr_low",
            "error",
            f"The optimizer gathers the gradients of {gathered} batches before it moves the "
            f"weights, and the training has {steps}.",
            {"batches": gathered, "steps": steps},
            "Lower gradient_accumulation_steps, or train for longer.",
        )


def _still_rising(optimizer: keras.optimizers.Optimizer, steps: int) -> Iterator[Finding]:
    """A schedule that rises to the end of the training: a warm-up that does not end."""
    count = min(steps, _FIRST_STEPS)
    rates = rates_of(optimizer, count, steps // max(1, count))
    if count < 20 or rates != sorted(rates) or rates[-1] < 5 * rates[count // 10]:
        return
    yield Finding(
        "lr_high",
        "warning",
        f"The rate of the schedule rises until the training ends, from {rates[0]:.2g} to "
        f"{rates[-1]:.2g}: a warm-up that does not stop, or is longer than the training.",
        {"first": rates[0], "last": rates[-1], "steps": steps},
        "End the rise after a tenth of the steps: with min(1, step / warmup).",
    )


def _schedulers(examined: Examined) -> Iterator[Finding]:
    """A `LearningRateScheduler` whose rate is next to nothing for most of the epochs."""
    optimizer, epochs = getattr(examined.model, "optimizer", None), examined.epochs
    for callback in examined.callbacks if optimizer and epochs >= 4 else ():
        if not isinstance(callback, keras.callbacks.LearningRateScheduler):
            continue
        with preserved(examined.model):
            rates = _rates_by_epoch(copy.deepcopy(callback.schedule), optimizer, epochs)
        if rates and min(rates) >= 0 and 0 < np.median(rates) < 1e-3 * max(rates):
            fallen = next(n for n, rate in enumerate(rates) if rate < 1e-3 * max(rates))
            yield Finding(
                "lr_low",
                "warning",
                f"From epoch {fallen + 1} of {epochs} on, the LearningRateScheduler gives less "
                f"than a thousandth of its highest rate, {max(rates):.2g}.",
                {"epoch": fallen + 1, "highest": max(rates), "last": rates[-1]},
                "The rate that its function is given is that of the epoch before: multiply it by "
                "one factor, or give the rate of each epoch from the first one's.",
            )


def _rates_by_epoch(
    schedule: Callable[..., Any], optimizer: keras.optimizers.Optimizer, epochs: int
) -> list[float]:
    """The rates that a scheduler would give; none if its function cannot be asked."""
    rate, rates = float(np.asarray(keras.ops.convert_to_numpy(optimizer.learning_rate))), []
    try:
        takes_rate = len(inspect.signature(schedule).parameters) > 1
        for epoch in range(epochs):
            rate = float(schedule(epoch, rate) if takes_rate else schedule(epoch))
            rates.append(rate)
    except Exception:
        return []
    return rates


def _soon_over(rates: list[float], every: int, few: float) -> Iterator[Finding]:
    """A schedule that falls at once; one that is still rising is not over."""
    peak = max(rates)
    worth = sum(rates) / peak if peak > 0 else 0.0
    is_over = worth < few * len(rates)
    if is_over and min(rates) >= 0 and rates.index(peak) < len(rates) // 2:
        yield Finding(
            "lr_low",
            "warning",
            f"The next {every * len(rates)} steps of the schedule move the weights no further than "
            f"{every * worth:.1f} at its highest rate, {peak:.2g}, would.",
            {"steps at the highest rate": every * worth, "highest": peak, "last": rates[-1]},
            "Give the schedule its length in steps, not in epochs.",
        )


def _dropout(model: keras.Model) -> Iterator[Finding]:
    for layer in _keras.all_layers(model):
        names = ["rate"] if "Dropout" in type(layer).__name__ else []
        names += ["dropout", "recurrent_dropout"] if isinstance(layer, _DROPPING) else []
        rate = max((one for name in names if (one := _rate(layer, name)) is not None), default=0.0)
        if rate > 0.6:
            yield _too_much(
                f"A dropout layer drops {rate:.0%} of its inputs.",
                {"rate": rate},
                "Use a rate of 0.1 to 0.5.",
            )


def _rate(layer: keras.Layer, name: str) -> float | None:
    rate = getattr(layer, name, None)
    return float(rate) if isinstance(rate, int | float) else None


def _penalties(examined: Examined) -> Iterator[Finding]:
    loss = examined.gradients[0] if examined.gradients else 0.0
    penalty = _penalty(examined.model) if examined.gradients else 0.0
    if penalty > 0 and penalty > 2 * abs(loss - penalty):
        yield _too_much(
            f"The penalties on the weights are {penalty:.3g}, and the loss without them is "
            f"{loss - penalty:.3g}.",
            {"penalty": penalty, "loss": loss - penalty},
            "Divide the factors of the regularizers by 100.",
            "warning" if penalty > 10 * abs(loss - penalty) else "note",
        )
    paid, left = _activity_penalty(examined), abs(loss - penalty)
    if paid > 2 * abs(left - paid) > 0:
        yield _too_much(
            f"The penalties on what layers give are {paid:.3g}, and the loss without them is "
            f"{left - paid:.3g}: silence gains more than right answers would.",
            {"penalty": paid, "loss": left - paid},
            "Divide the factors of the activity regularizers by 100.",
        )
    added, rest = examined.added_loss - penalty - paid, abs(loss - penalty - paid)
    if loss and added > 20 * abs(rest - added) > 0:
        yield _too_much(
            f"The losses that layers add are {added:.3g}, and the loss of the outputs is "
            f"{rest - added:.3g}: hardly anything is left for the answers.",
            {"added": added, "loss": rest - added},
            "Give them a smaller factor.",
        )


def _optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    return list(with_rates(model).values()) if getattr(model, "optimizer", None) else []


def _penalty(model: keras.Model) -> float:
    """The penalties on the weights as they are."""
    found = 0.0
    for variable in model.trainable_variables:
        regularizer = getattr(variable, "regularizer", None)
        if regularizer is not None:
            found += float(np.asarray(keras.ops.convert_to_numpy(regularizer(variable.value))))
    return found


def _activity_penalty(examined: Examined) -> float:
    """The penalties on what layers give, which Keras divides by the number of examples."""
    found = 0.0
    for view in examined.views:
        regularizer = view.layer.activity_regularizer
        if regularizer is not None:
            value = regularizer(keras.ops.convert_to_tensor(view.output))
            found += float(np.asarray(keras.ops.convert_to_numpy(value))) / len(view.output)
    return found


def _too_much(
    message: str, evidence: dict[str, float], remedy: str, severity: Severity = "warning"
) -> Finding:
    return Finding("over_regularised", severity, message, evidence, remedy)
