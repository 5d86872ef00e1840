"""Adapters for what only one framework can do, behind one short Protocol. Nothing else in
keras-patterns asks which backend runs.
"""

from __future__ import annotations

if __name__ != "keras_patterns.backends":
    raise ImportError(
        "This folder is the package 'keras_patterns.backends', but it was imported as "
        f"{__name__!r}, which would make "
        "every class twice. Install it (`pip install .` in the project's folder) and `import "
        "keras_patterns.backends`."
    )

import functools
import importlib.util

import keras

from ._held import StateAccess
from .protocol import Backend

__all__ = ["Backend", "StateAccess", "current", "installed"]

_MODULES = {"jax": "_jax", "tensorflow": "_tensorflow", "torch": "_torch"}


@functools.cache
def current() -> Backend:
    """The adapter of the backend that Keras runs on.

    Raises:
        ImportError: If Keras runs on a backend that has no adapter here.
    """
    name = keras.backend.backend()
    if name not in _MODULES:
        raise ImportError(
            f"keras-patterns: the Keras backend is {name!r}; expected one of {sorted(_MODULES)}. "
            "Set the environment variable KERAS_BACKEND before keras is imported."
        )
    return importlib.import_module(f".{_MODULES[name]}", __name__).ADAPTER


def installed() -> list[str]:
    """The names of the backends whose framework is installed here."""
    return [name for name in _MODULES if importlib.util.find_spec(name)]
