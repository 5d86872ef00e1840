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
import os
import sys
from typing import TYPE_CHECKING, Any

from ._blocks import Block, BlockProgram, CannotFuseError
from ._gathered import Gathered
from ._held import StateAccess, beside
from ._read_ahead import ReadAhead

if TYPE_CHECKING:
    from .protocol import Backend

__all__ = [
    "Block",
    "BlockProgram",
    "CannotFuseError",
    "Gathered",
    "ReadAhead",
    "StateAccess",
    "beside",
    "current",
    "generator_access",
    "import_keras",
    "installed",
]

_MODULES = {"jax": "_jax", "tensorflow": "_tensorflow", "torch": "_torch"}
# What Keras imports for its backend.
_FRAMEWORKS = {*_MODULES, "jaxlib", "openvino"}


@functools.cache
def current() -> Backend:
    """The adapter of the backend that Keras runs on.

    Raises:
        ImportError: If Keras runs on a backend that has no adapter here.
    """
    import_keras()
    import keras

    name = keras.backend.backend()
    if name not in _MODULES:
        raise ImportError(
            f"keras-patterns: the Keras backend is {name!r}; expected one of {sorted(_MODULES)}. "
            "Set the environment variable KERAS_BACKEND before keras is imported."
        )
    return importlib.import_module(f".{_MODULES[name]}", __name__).ADAPTER


def generator_access(thing: Any) -> StateAccess | None:
    """The way to the state of a random generator of torch, whatever Keras runs on: data for any
    backend may hold one; None of anything else.
    """
    # A folder of this name can be imported, too.
    kind = getattr(sys.modules.get("torch"), "Generator", ())
    if not isinstance(thing, kind):
        return None
    return importlib.import_module("._torch", __name__).ADAPTER.state_access(thing)


def installed() -> list[str]:
    """The names of the backends whose framework is installed here. Nothing is imported."""
    return [name for name in _MODULES if importlib.util.find_spec(name)]


def import_keras() -> None:
    """Imports Keras.

    Raises:
        ImportError: If it is set to a backend that is not there; says which ones are, and how to
            choose one.
    """
    try:
        import keras  # noqa: F401
    except ModuleNotFoundError as error:
        # That of something else says enough itself.
        if error.name is None or error.name.partition(".")[0] not in _FRAMEWORKS:
            raise
        raise ModuleNotFoundError(
            _choice(f"{error.name!r} is not installed"), name=error.name
        ) from error
    except ValueError as error:
        if "backend" not in str(error):
            raise
        raise ImportError(_choice("Keras knows no backend of this name")) from error


def _choice(problem: str) -> str:
    """Says what is wrong with the backend that Keras is set to, and how to choose another one."""
    name = os.environ.get("KERAS_BACKEND")
    asked = f"KERAS_BACKEND={name}" if name else "KERAS_BACKEND is not set"
    there = installed()
    if there:
        way = (
            f"Installed here: {', '.join(there)}. Choose before Python starts, by "
            f'KERAS_BACKEND={there[0]} in the environment or by the entry "backend" of Keras\'s '
            "own keras.json."
        )
    else:
        way = (
            f"None of {', '.join(_MODULES)} is installed here. Install one, such as `pip install "
            "jax`, and choose it before Python starts: KERAS_BACKEND=jax."
        )
    return f"keras-patterns: Keras cannot load its backend: {problem} ({asked}). {way}"
