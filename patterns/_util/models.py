"""Checks of models, made where they are given."""

from __future__ import annotations

from typing import Any

import keras


def check_built(
    caller: str, model: Any, *, needed: str = "weights", compiled: bool = False
) -> None:
    """Raises unless `model` is a built Keras model, and compiled if it must be.

    Args:
        caller: The function that was called, for the message.
        model: What was given.
        needed: What the model lacks as long as it is not built. Defaults to `"weights"`.
        compiled: Whether it must be compiled. Defaults to False.

    Raises:
        TypeError: If it is no model.
        ValueError: If it is not built, or not compiled.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{caller}: `model` must be a Keras model. Received: {type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"{caller}: {model.name!r} is not built, so it has no {needed} yet. Call it on a batch "
            "first."
        )
    if compiled and not model.compiled:
        raise ValueError(
            f"{caller}: {model.name!r} is not compiled. Call model.compile(optimizer, loss) first."
        )
