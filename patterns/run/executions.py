"""`steps_per_execution` for the steps of an epoch that it does not divide."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

_COMPILED = ("train_function", "test_function")


class StepsPerExecution:
    """Runs a model with another `steps_per_execution`, keeping the compiled functions of each, so
    that each compiles once.

    Args:
        model: A compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._functions: dict[int, dict[str, Any]] = {}

    @contextmanager
    def running(self, steps: int) -> Iterator[None]:
        """Within it, the model runs `steps` steps in one go."""
        usual = self._model.steps_per_execution
        if steps == usual:
            yield
            return
        self._swap(usual, steps)
        try:
            yield
        finally:
            self._swap(steps, usual)

    def forget(self) -> None:
        """Compiles everything anew, since what is compiled in has changed."""
        self._functions.clear()
        for name in _COMPILED:
            setattr(self._model, name, None)

    def _swap(self, old: int, new: int) -> None:
        self._functions[old] = {name: getattr(self._model, name) for name in _COMPILED}
        self._model.steps_per_execution = new
        for name in _COMPILED:
            # None makes Keras compile it.
            setattr(self._model, name, self._functions.get(new, {}).get(name))
