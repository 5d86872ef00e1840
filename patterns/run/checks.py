"""Checks of a model and of the arguments of `model.fit`, before anything is trained."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any

import keras

from keras_patterns.backends import current

from .. import _keras
from .._util.arguments import whole_number
from .._util.messages import say
from ..state.compiled import check_compiled
from ..state.variables import find_variables, has_own_step
from .open_plan import OpenPlan, Plan, is_open
from .plan import StepPlan


def check_model(where: str, model: keras.Model, obeys_limits: bool = False) -> None:
    """Raises if a model cannot be trained by a driver.

    Args:
        where: Who asks, for the message.
        model: What was given.
        obeys_limits: Whether the plan will be cut by `limited`. Defaults to False.

    Raises:
        TypeError: If it is no model.
        ValueError: If it is not compiled, or wants what its backend or the plan cannot give.
    """
    check_compiled(where, model)
    check_not_frozen(where, model)
    if model.steps_per_execution > 1 and not current().fuses_steps:
        raise ValueError(
            f"{where}: {model.name!r} was compiled with "
            f"steps_per_execution={model.steps_per_execution}; this backend runs one."
        )
    # Keras's own step leaves them alone, such as that of a backbone that was compiled by itself.
    if has_own_step(model) and not current().carries_attribute_optimizers:
        _check_optimizers(where, model)
    if not obeys_limits:
        _check_limits(where)
    _keras.forget_initial_epoch(model)


def _check_optimizers(where: str, model: keras.Model) -> None:
    others = [
        place for place in find_variables(model).optimizers if place.split("/")[0] != "optimizer"
    ]
    if others:
        raise ValueError(
            f"{where}: {model.name!r} keeps an optimizer of its own at {others[0]!r}, whose state "
            "this backend does not carry from step to step. Give compile() one "
            "keras.optimizers.MultiOptimizer that holds them all."
        )


def check_processes(where: str, model: keras.Model) -> None:
    """Raises if other processes train too, or the model is spread in a way that is not served."""
    blocker = current().spread_blocker(model)
    if blocker:
        raise ValueError(f"{where}: {blocker}")


def check_batch_sizes(name: str, sizes: Iterable[int]) -> None:
    """Raises if a batch cannot be spread evenly over the devices of this process.

    Args:
        name: What the batches are of, for the message.
        sizes: Of the batches, in examples, as far as they are known.
    """
    parts = current().batch_parts()
    wrong = sorted(size for size in set(sizes) if size % parts)
    if wrong:
        raise ValueError(
            f"{name} has batches of {', '.join(map(str, wrong))} examples, which {parts} devices "
            f"cannot share evenly. Give a batch size that {parts} divides, and so many examples "
            "that no smaller batch is left over, or unset keras.distribution."
        )


def check_not_frozen(where: str, model: keras.Model) -> None:
    """Raises if nothing of a model can be trained, as far as that is known before it is built."""
    if model.built:
        is_frozen = bool(model.weights) and not model.trainable_variables
    else:
        is_frozen = not model.trainable
    if is_frozen:
        raise ValueError(
            f"{where}: all of {model.name!r} is frozen, so there is nothing to train. kp.unfreeze "
            "a part of it first; model.evaluate tells its loss."
        )


def _check_limits(where: str) -> None:
    for limit in ("max_epochs", "max_steps_per_epoch"):
        if getattr(keras.config, limit)() is not None:
            raise ValueError(
                f"{where}: keras.config.{limit}() is {getattr(keras.config, limit)()}, which would "
                "cut epochs behind the plan's "
                f"back. Unset it (the environment variable KERAS_{limit.upper()}), and ask for "
                "fewer steps instead."
            )


def limited(plan: Plan, verbose: int | str) -> Plan:
    """A plan within `keras.config.max_epochs` and `max_steps_per_epoch`, which people set to try a
    script out (environment variables `KERAS_MAX_EPOCHS` and `KERAS_MAX_STEPS_PER_EPOCH`).
    """
    if is_open(plan):
        length = keras.config.max_steps_per_epoch()
        if length is None:
            epochs = min(plan.epochs, keras.config.max_epochs() or plan.epochs)
            return plan if epochs == plan.epochs else OpenPlan(epochs)
        plan = StepPlan(length * plan.epochs, length)
    epochs = min(plan.epochs, keras.config.max_epochs() or plan.epochs)
    length = min(plan.steps_per_epoch, keras.config.max_steps_per_epoch() or plan.steps_per_epoch)
    if (epochs, length) == (plan.epochs, plan.steps_per_epoch):
        return plan
    total = sum(min(plan.steps_in(epoch), length) for epoch in range(epochs))
    say(
        f"trying out: {epochs} of {plan.epochs} epochs of {length} of {plan.steps_per_epoch} "
        "steps, because of keras.config.max_epochs() or max_steps_per_epoch().",
        verbose=verbose,
        level=logging.WARNING,
    )
    return StepPlan(total, length)


def check_epochs(where: str, epochs: Any, initial_epoch: Any, steps_per_epoch: Any) -> int:
    """Returns the first epoch, or raises for what `model.fit` takes and a plan cannot say."""
    if epochs is not None and whole_number(where, "epochs", epochs, least=-sys.maxsize) < 1:
        raise ValueError(
            f"{where}: epochs={epochs} trains nothing. model.fit returns an empty History then; "
            "leave the call out instead."
        )
    if steps_per_epoch is not None and (
        whole_number(where, "steps_per_epoch", steps_per_epoch, least=-sys.maxsize) < 1
    ):
        raise ValueError(
            f"{where}: steps_per_epoch must be at least 1. Received: {steps_per_epoch}. A run has "
            "a number of steps; leave it out where an epoch is a pass over the data."
        )
    return whole_number(where, "initial_epoch", initial_epoch, least=0)


def flat_callbacks(where: str, callbacks: Any) -> list[keras.callbacks.Callback]:
    """The callbacks in any structure, as a list.

    Raises:
        TypeError: If one is no callback.
    """
    flat = [] if callbacks is None else keras.tree.flatten(callbacks)
    for one in flat:
        if isinstance(one, type) or not hasattr(one, "on_train_begin"):
            raise TypeError(
                f"{where}: `callbacks` must be keras.callbacks.Callback objects. Received: {one!r}."
            )
        if isinstance(one, keras.callbacks.CallbackList):
            raise TypeError(
                f"{where}: `callbacks` must be a list of callbacks, since the run makes a "
                "CallbackList of its own. Received: a keras.callbacks.CallbackList. Give those "
                "that it was made of."
            )
    return flat
