"""Callbacks that `kp.fit` tells more than Keras does, and that work in plain `model.fit` too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, Protocol

import keras
import numpy as np

from ..data import BatchSource, Skipped
from ..storage import Position


class DrivingRun(Protocol):
    """What a run of `kp.fit` is to its callbacks.

    Attributes:
        step: Optimizer steps done, at a boundary.
        source: The training data.
        skipped: What is left out of them.
        random: The global random states that the next step is to begin with, at the start of a run
            and after a rollback.
        saves: Whether it has a `kp.Checkpoint`.
        validates: Whether it has data to validate on.
        plans_saves: Whether every run of the script saves at the same steps, whatever the clock
            says.
        origin: Of the checkpoint from which the run goes on; None if it began in this process.
        rewinds: Why it cannot go back to an earlier step; empty if it can.
    """

    step: int
    source: BatchSource
    skipped: Skipped
    random: dict[str, Any]
    origin: Position | None

    @property
    def saves(self) -> bool: ...

    @property
    def validates(self) -> bool: ...

    @property
    def plans_saves(self) -> bool: ...

    @property
    def rewinds(self) -> str: ...

    def save_now(self) -> Position:
        """Makes a checkpoint of the start of the run; returns where it is. To be called in
        `begins`.
        """

    def save_here(self) -> Position:
        """Asks for a checkpoint at this boundary, after every callback has been told; returns where
        it will be.
        """

    def restore_weights(self, position: Position) -> None:
        """Puts `model.weights` back from a checkpoint."""

    def roll_back(self, position: Position) -> NoReturn:
        """Leaves what is going on, and goes on from a checkpoint. Its later ones are discarded."""

    def recompile(self) -> None:
        """Has the step compiled anew, since what is compiled into it has changed."""

    def number_of_batch(self, step: int) -> int:
        """Which batch of the source the step after `step` ones trains on."""


class DrivenCallback(keras.callbacks.Callback):
    """The base of such callbacks. All that it is told beside Keras's hooks, it is told in `kp.fit`
    only.

    Attributes:
        run: The run of `kp.fit` that it is part of; None in plain `model.fit`.
        needs_checkpoint: Whether `kp.fit` cannot do without a `kp.Checkpoint` then.
        only_one: Whether a run of `kp.fit` takes but one of its class.
        single_steps: Whether `steps_per_execution` is to be one for now.
    """

    run: DrivingRun | None = None
    needs_checkpoint = False
    only_one = False
    single_steps = False
    _before = _counted = 0

    @property
    def step(self) -> int:
        """Optimizer steps done since the run began, at the end of an epoch or of a validation."""
        return self._counted if self.run is None else self.run.step

    def shapes(self, model: keras.Model, state: Mapping[str, Any] | None, total_steps: int) -> None:
        """The model is built. Set `trainable` as it was when a checkpoint was made that has
        `state`; None: as at the start.
        """

    def next_change(self, step: int) -> float:
        """After which step after `step` it wants `changes` to be called; infinity for none."""
        return math.inf

    def changes(self, model: keras.Model, step: int) -> bool:
        """`step` steps are done, and no `fit` is going on. Set `trainable` as it is to be from here
        on; True if that is other.
        """
        return False

    def retrained(self) -> None:
        """What is trained has changed, and so have the variables of the optimizer."""

    def begins(self) -> None:
        """The model is built, and what is to be put back is put back; the first step, or the end of
        an epoch, is to follow.
        """

    def note_step(self, step: int, logs: Mapping[str, Any]) -> None:
        """The step that makes `step` ones has been handed to the device; `logs` are on it, and
        reading them waits for it.
        """

    def next_boundary(self, step: int) -> float:
        """Before which step after `step` it wants `at_boundary` to be called; infinity for none."""
        return math.inf

    def at_boundary(self) -> None:
        """`step` steps are done; nothing that is to happen here (log, validation, end of the epoch,
        save) has happened yet.
        """

    def on_step_validation(self, logs: dict[str, Any]) -> None:
        """A validation inside an epoch has ended (`validate_every_steps=`); `logs` are its metrics,
        `val_` before their names.
        """

    def check(self, variables: Mapping[str, np.ndarray], roles: Mapping[str, str]) -> None:
        """A checkpoint is to be made of these values; may roll back instead."""

    def saved(self, position: Position) -> None:
        """A checkpoint is made that every run of the script makes here, be it killed or not; its
        state is taken after this.
        """

    def ends(self) -> None:
        """The run is over, however it ended."""

    def needs(self) -> Iterable[Position]:
        """The checkpoints that must be kept for this one's state to be of use."""
        return ()

    def rolled_back(self, state: dict[str, Any] | None, position: Position) -> None:
        """The run stands where an earlier checkpoint was made; `state` is this callback's in it."""
        if state is not None and hasattr(self, "set_state"):
            self.set_state(state)

    # What Keras calls.

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
