"""What of a model is trained, where callbacks change it during a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_patterns.backends import current

from ..optimizers.rebuild import retrain
from ..state.callbacks import named
from .hooks import DrivenCallback


class Shaping:
    """The callbacks of a run that say what is trained.

    Args:
        model: In training.
        callbacks: All callbacks of the run.
        total_steps: Of its plan.
    """

    def __init__(
        self, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback], total_steps: int
    ) -> None:
        self._model, self._total_steps = model, total_steps
        self._driven = {
            name: one for name, one in named(callbacks).items() if isinstance(one, DrivenCallback)
        }
        self._shaping = {
            name: one
            for name, one in self._driven.items()
            if type(one).shapes is not DrivenCallback.shapes
        }

    def begin(self, states: Mapping[str, Any], batch: Any) -> bool:
        """Has the model train what it trained when the callbacks had some states; without any, what
        it is to train at the start.

        Returns:
            Whether any callback has a say in it.
        """
        if not self._shaping:
            return False
        if not self._model.built:
            current().build(self._model, batch)
        for name, callback in self._shaping.items():
            callback.shapes(self._model, states.get(name), self._total_steps)
        retrain(self._model)
        return True

    def next_change(self, step: int) -> float:
        """The first step after `step` at which what is trained changes."""
        return min(
            (callback.next_change(step) for callback in self._shaping.values()), default=math.inf
        )

    def change(self, step: int) -> bool:
        """Changes what is due after `step` steps; returns whether there was anything."""
        changed = [callback.changes(self._model, step) for callback in self._shaping.values()]
        if any(changed):
            retrain(self._model)
            self.tell()
        return any(changed)

    def tell(self) -> None:
        """Tells the callbacks that the variables of the optimizer may be others now."""
        for callback in self._driven.values() if self._shaping else ():
            callback.retrained()
