"""Callbacks that `kp.fit` tells more than Keras does, and that work in plain `model.fit` too."""

from __future__ import annotations

from typing import Any, Protocol

import keras


class DrivingRun(Protocol):
    """What a run of `kp.fit` is to its callbacks.

    Attributes:
        step: Optimizer steps done, at a boundary.
    """

    step: int


class DrivenCallback(keras.callbacks.Callback):
    """The base of such callbacks.

    Attributes:
        run: The run of `kp.fit` that it is part of; None in plain `model.fit`.
    """

    run: DrivingRun | None = None
    _before = _counted = 0

    @property
    def step(self) -> int:
        """Optimizer steps done since the run began, at the end of an epoch or of a validation."""
        return self._counted if self.run is None else self.run.step

    def on_step_validation(self, logs: dict[str, Any]) -> None:
        """A validation inside an epoch has ended (`validate_every_steps=`); `logs` are its metrics, `val_` before their names."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Counts from 0, in plain `model.fit`."""
        self._before = self._counted = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, in plain `model.fit`."""
        self._before = self._counted

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, in plain `model.fit`."""
        if self.run is None:
            self._counted = self._before + batch + self.model.steps_per_execution
