"""Parts of the package that are loaded when they are needed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

# Their classes are registered with Keras, which finds them by that in a saved model.
_REGISTERED = "keras_patterns.optimizers"
# What is loaded on the way there; inside of these, the rest must wait.
_ON_THE_WAY = ("_keras", "schedules", "select", "state")


class _Loader:
    """Stands among the finders of modules until Keras is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _followed_by_ours(  # type: ignore[assignment,method-assign]
                spec.loader.exec_module
            )
        return spec


def _followed_by_ours(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        execute(module)
        if not any(f"keras_patterns.{name}" in sys.modules for name in _ON_THE_WAY):
            load_registered()

    return exec_module


def register_with_keras() -> None:
    """Sees to it that a saved model finds our classes whenever the package and Keras are both
    imported, in either order. Without Keras, nothing is loaded.
    """
    if "keras" in sys.modules:
        load_registered()
    else:
        sys.meta_path.insert(0, _Loader())


def load_registered() -> None:
    """Loads all classes that are registered with Keras."""
    importlib.import_module(_REGISTERED)
