"""A run of `kp.fit` or `kp.Run` as its hooks see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from ..checkpoint.identity import describe_optimizers
from ..state import find_variables
from ..storage import Position
from .checkpoints import Checkpoints
from .driver import Driver
from .history import RunHistory
from .hooks import Hook
from .open_plan import is_open, known_steps


class DrivenRun:
    """The `RunView` of a run that has a driver.

    Args:
        driver: Of the run.
    """

    can_replay = True

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @property
    def model(self) -> keras.Model:
        """The model in training."""
        return self._driver.model

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self._driver.cursor.step

    @property
    def total_steps(self) -> int | None:
        """Of the plan; None while it is not known."""
        return known_steps(self._driver.plan)

    @property
    def history(self) -> RunHistory:
        """The History of the run."""
        return self._driver.callbacks.history

    @property
    def origin(self) -> Position | None:
        """The checkpoint at which this process took the run up."""
        return self._driver.origin

    @property
    def has_checkpoints(self) -> bool:
        """True if there is a `kp.Checkpoint`."""
        return self._driver.checkpoints.exist

    @property
    def has_validation(self) -> bool:
        """True if there is data to validate on."""
        return self._driver.validation.exists

    @property
    def plans_saves(self) -> bool:
        """True if every run of the script saves at the same steps."""
        return self._driver.checkpoints.plans_saves

    @property
    def has_open_bar(self) -> bool:
        """True if a progress bar stands open inside an epoch."""
        return self._driver.callbacks.has_open_bar

    @property
    def position(self) -> Position:
        """Where the state after this step is found, once it is saved."""
        return self._driver.checkpoints.position(self.step)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The run by the word of the script, as plain values."""
        checkpoints, plan = self._driver.checkpoints, self._driver.plan
        if isinstance(checkpoints, Checkpoints):
            return checkpoints.identity.as_json()
        return {
            "total_steps": known_steps(plan),
            "steps_per_epoch": None if is_open(plan) else plan.steps_per_epoch,
            "optimizers": describe_optimizers(find_variables(self.model).optimizers),
        }

    @property
    def folder(self) -> Path | None:
        """Where it is saved; None if it is not."""
        checkpoints = self._driver.checkpoints
        return (
            checkpoints.checkpoint.store.directory if isinstance(checkpoints, Checkpoints) else None
        )

    def end_epoch(self, hook: Hook, epoch: int, logs: Mapping[str, Any]) -> None:
        """Asks a hook at the end of an epoch."""
        boundary = self._driver.boundary(epoch, lambda: logs)
        self._driver.take_requests(hook, hook.on_boundary(boundary))

    def rewind_blocker(self) -> str | None:
        """Why the run cannot go back to an earlier step; None if it can."""
        if not self.has_checkpoints:
            return "there is no kp.Checkpoint among the callbacks"
        return self._driver.rewind_blocker()

    def recompile_step(self) -> None:
        """Compiles the step anew."""
        self._driver.engine.forget_compiled()

    def restore_weights(self, position: Position) -> None:
        """Puts `model.weights` back from a checkpoint of this run."""
        checkpoints = self._driver.checkpoints
        if not isinstance(checkpoints, Checkpoints):
            raise ValueError("The run has no kp.Checkpoint, and so no weights to put back.")
        checkpoints.restore_weights(position)

    def batch_number(self, step: int) -> int:
        """Which batch of the data the step after `step` ones trains on."""
        return self._driver.data.skipped.number_of(step)

    def batch(self, number: int) -> tuple[Any, ...]:
        """A batch of the data by its number."""
        return self._driver.data.source.batch(number)

    def examples(self, number: int) -> tuple[int, ...]:
        """Which examples a batch holds, by their place in the arrays."""
        return self._driver.data.examples(number)

    def leave_out(self, number: int, examples: Sequence[int]) -> None:
        """Leaves a batch out from here on, and later ones that hold one of some examples."""
        self._driver.data.leave_out(number, examples)
