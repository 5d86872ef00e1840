"""Checks of a model before it is trained."""

from __future__ import annotations

import keras

from keras_patterns.backends import current

from .. import _keras
from ..state.variables import find_variables, has_own_step


def check_model(where: str, model: keras.Model) -> None:
    """Raises if a model cannot be trained by a driver.

    Args:
        where: Who asks, for the message.
        model: What was given.

    Raises:
        TypeError: If it is no model.
        ValueError: If it is not compiled, or wants what its backend or the plan cannot give.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{where}: the first argument must be a Keras model; received {type(model).__name__}."
        )
    if not model.compiled:
        raise ValueError(
            f"{where}: {model.name!r} is not compiled. Call model.compile(optimizer, loss) first."
        )
    if model.built and model.weights and not model.trainable_variables:
        raise ValueError(
            f"{where}: all of {model.name!r} is frozen, so there is nothing to train. kp.unfreeze "
            "a part of it first."
        )
    if model.steps_per_execution > 1 and not current().fuses_steps:
        raise ValueError(
            f"{where}: {model.name!r} was compiled with "
            f"steps_per_execution={model.steps_per_execution}; this backend runs one."
        )
    others = [
        place for place in find_variables(model).optimizers if place.split("/")[0] != "optimizer"
    ]
    # Keras's own step leaves them alone, such as that of a backbone that was compiled by itself.
    if others and has_own_step(model) and not current().carries_attribute_optimizers:
        raise ValueError(
            f"{where}: {model.name!r} keeps an optimizer of its own at {others[0]!r}, whose state "
            "this backend does not carry "
            "from step to step. Give compile() one keras.optimizers.MultiOptimizer that holds them "
            "all."
        )
    for limit in ("max_epochs", "max_steps_per_epoch"):
        if getattr(keras.config, limit)() is not None:
            raise ValueError(
                f"{where}: keras.config.{limit}() is {getattr(keras.config, limit)()}, which would "
                "cut epochs behind the plan's "
                f"back. Unset it (the environment variable KERAS_{limit.upper()}), and ask for "
                "fewer steps instead."
            )
    _keras.forget_initial_epoch(model)
