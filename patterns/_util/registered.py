"""Classes that Keras saves with a model."""

from __future__ import annotations

from typing import TypeVar

import keras

_Class = TypeVar("_Class", bound=type)


def registered(cls: _Class) -> _Class:
    """Registers a class with Keras under this package's name, by which a saved model finds it
    again.
    """
    return keras.saving.register_keras_serializable("keras_patterns")(cls)
