"""Saving and resuming in plain `model.fit`, at the ends of epochs."""

from __future__ import annotations

from typing import Any, Protocol

import keras

from .. import _keras
from .._util.messages import say
from ..checkpoint.contents import Record, restore_variables, restore_weights, set_by_script
from ..checkpoint.identity import Identity, ResumeRefusedError, describe_optimizers
from ..checkpoint.reading import SoundCheckpoint
from ..checkpoint.store import CheckpointStore
from ..state.randomness import get_random_state, set_random_state
from ..state.snapshot import Snapshot
from ..state.variables import find_variables
from ..storage import Position, Tensor

_DATA = {"kind": "model.fit, which keeps the order of its data to itself"}


class SavesEpochs(Protocol):
    """What an `EpochRun` asks of its `kp.Checkpoint`."""

    store: CheckpointStore
    resume: str

    def begin(self, step: int, due: bool = False) -> None:
        """Counts from a step."""

    def find(self) -> SoundCheckpoint | None:
        """The newest sound checkpoint."""

    def is_due(self, step: int, at_epoch_end: bool = False) -> bool:
        """Whether to save."""

    def wait(self) -> None:
        """Waits for the writer."""

    def save(
        self,
        position: Position,
        document: dict[str, Any],
        tensors: list[Tensor],
        logs: dict[str, Any] | None,
    ) -> None:
        """Writes, or hands over to the writer."""

    def close(self) -> None:
        """Ends the writer."""


class EpochRun:
    """A run of `model.fit` as its `kp.Checkpoint` sees it.

    Args:
        checkpoint: Which saves.
        model: The model in training.
        epochs: As given to `model.fit`.
    """

    def __init__(self, checkpoint: SavesEpochs, model: keras.Model, epochs: int) -> None:
        self._checkpoint, self._model = checkpoint, model
        self._snapshot: Snapshot | None = None
        self._history: dict[str, Any] = {"history": {}, "epoch": []}
        self._random: dict[str, Any] | None = None
        self._step = self._batch = self._saved = 0
        self._run, self._epochs = 1, epochs
        self._identity = Identity(
            epochs, 1, 0, _DATA, describe_optimizers(find_variables(model).optimizers), {}
        )

    def begin(self) -> None:
        """In `on_train_begin`: puts the newest checkpoint back, and makes `fit` begin at the epoch
        after it.
        """
        self._checkpoint.begin(0)
        found = self._checkpoint.find()
        if found is None:
            return
        self._run = found.position.run
        folder = self._checkpoint.store.directory
        if self._checkpoint.resume != "auto":
            self._run += 1
            if self._checkpoint.resume == "weights":
                restore_weights(self._model, found.record)
            return
        record = found.record
        if record.identity.data != _DATA:
            raise ResumeRefusedError(
                f"The run in {folder} was saved by kp.fit, and only kp.fit can go on with it; this "
                "is model.fit."
            )
        for line in restore_variables(self._model, record, set_by_script(record, self._identity)):
            say(f"{line}.")
        self._step = self._saved = found.position.step
        self._history, self._random = record.callbacks["History"], record.random
        epoch = len(self._history["epoch"])
        say(
            f"going on from epoch {epoch + 1}, after step {self._step:,}: the newest checkpoint in "
            f"{folder}{found.fell_back}."
        )
        self._checkpoint.begin(self._step)
        _keras.begin_at_epoch(self._model, epoch)

    def begin_epoch(self) -> None:
        """In `on_epoch_begin`: what every callback's `on_train_begin`, and `fit` itself, had to do
        first.
        """
        if self._random is not None:
            _keras.forget_initial_epoch(self._model)
            vars(self._model.history).update(self._history)
            set_random_state(self._random)
            self._random = None

    def begin_batch(self, batch: int) -> None:
        """In `on_train_batch_begin`: counts."""
        self._batch = batch

    def end_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """In `on_epoch_end`: saves, if it is due."""
        self._step += self._batch + self._model.steps_per_execution
        history = self._history["history"]
        # History comes after the user's callbacks, so it does not have this epoch yet.
        self._history = {
            "history": {name: [*history.get(name, []), value] for name, value in logs.items()},
            "epoch": [*self._history["epoch"], epoch],
        }
        # Before `fit` ends, where an optimizer with EMA overwrites the weights.
        last = epoch + 1 == self._epochs or self._model.stop_training
        if last or self._checkpoint.is_due(self._step, at_epoch_end=True):
            self._save(logs)

    def end(self, logs: dict[str, Any]) -> None:
        """In `on_train_end`: saves what a callback after this one stopped without warning."""
        self.begin_epoch()
        if self._step != self._saved:
            self._save(logs)
        self._checkpoint.close()

    def _save(self, logs: dict[str, Any]) -> None:
        self._snapshot = self._snapshot or Snapshot(self._model)
        self._checkpoint.save(
            Position(self._run, self._step), *self._record(self._snapshot).pack(), logs
        )
        # Nobody tells a callback that model.fit was left by an exception, so nothing may be left to
        # a thread.
        self._checkpoint.wait()
        self._saved = self._step

    def _record(self, snapshot: Snapshot) -> Record:
        # First of all: an optimizer that has built itself since has places that only this finds.
        variables = snapshot.take()
        places = snapshot.places
        return Record(
            identity=self._identity,
            begun=self._checkpoint.resume,
            variables=variables,
            roles=places.roles,
            paths=snapshot.paths,
            built_on=places.built_on(),
            first_steps=places.first_steps(),
            frozen=snapshot.frozen,
            callbacks={"History": self._history},
            random=get_random_state(),
        )
