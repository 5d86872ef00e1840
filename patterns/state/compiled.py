"""The check that a model can be trained at all."""

from __future__ import annotations

from typing import Any

from .. import _keras


def check_compiled(caller: str, model: Any) -> None:
    """Raises unless `model` is a compiled Keras model.

    Args:
        caller: The function that was called, for the message.
        model: What was given.

    Raises:
        TypeError: If it is no model.
        ValueError: If it is not compiled.
    """
    if not _keras.has_trainer(model):
        raise TypeError(
            f"{caller}: the first argument must be a Keras model; received {type(model).__name__}."
        )
    if not model.compiled:
        raise ValueError(
            f"{caller}: {model.name!r} is not compiled. Call model.compile(optimizer, loss) first."
        )
