"""Saving and resuming plain `model.fit`, at the ends of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import keras

from .. import _keras
from .._util.messages import say
from ..checkpoint import (
    Cursor,
    Record,
    restore_variables,
    restore_weights,
    set_by_script,
)
from ..checkpoint.capture import Recorder
from ..checkpoint.identity import Identity, ResumeRefusedError, changes, describe_optimizers
from ..checkpoint.model_settings import describe_model
from ..checkpoint.reading import SoundCheckpoint, not_finite_lines
from ..checkpoint.store import CheckpointStore
from ..state import find_variables, putting_back, set_random_state
from ..storage import Position, Tensor
from .history_state import checked_history

_DATA = {"kind": "model.fit, which keeps the order of its data to itself"}
_HISTORY = "RunHistory"


class SavesEpochs(Protocol):
    """The `kp.Checkpoint` that saves."""

    store: CheckpointStore
    resume: str

    def begin(self, step: int) -> None:
        """Counts from a step."""

    def find(self) -> SoundCheckpoint | None:
        """The newest sound checkpoint."""

    def is_due(self, step: int, ends_epoch: bool) -> bool:
        """True if it is time to save."""

    def is_of_the_best(self, logs: Mapping[str, Any], is_validated: bool, ends_epoch: bool) -> bool:
        """True if the state with these metrics is to be saved for its score."""

    def take_over_scores(self, newest: Position | None) -> None:
        """Begins with the scores of a run's checkpoints; None for a new run."""

    def check_not_finished(self, caller: str, model: keras.Model, total: int) -> None:
        """Raises if this process has finished a run of the model in the folder."""

    def remember_finished(self, model: keras.Model, total: int) -> None:
        """Remembers that it has."""

    def wait(self) -> None:
        """Waits for the writer."""

    def save(
        self,
        position: Position,
        document: dict[str, Any],
        tensors: list[Tensor],
        logs: Mapping[str, Any] | None,
    ) -> None:
        """Writes, or hands over to the writer."""

    def close(self) -> None:
        """Ends the writer."""


class PlainSaves:
    """A run of `model.fit` as its `kp.Checkpoint` sees it.

    Args:
        checkpoint: Which saves.
        model: The model in training.
        epochs: As given to `model.fit`.
    """

    def __init__(self, checkpoint: SavesEpochs, model: keras.Model, epochs: int) -> None:
        self._checkpoint = checkpoint
        self._model = model
        self._epochs = epochs
        optimizers = describe_optimizers(find_variables(model).optimizers)
        settings = describe_model(model)
        self._identity = Identity(epochs, 1, 0, _DATA, optimizers, model=settings)
        self._recorder = Recorder(model, self._identity, checkpoint.resume)
        self._position = Position(1, 0)
        self._saved: Position | None = None
        self._batch = 0
        self._history: dict[str, Any] = {"history": {}, "epoch": []}
        self._random: dict[str, Any] | None = None

    def begin(self) -> None:
        """In `on_train_begin`: puts the newest checkpoint back, and makes `fit` begin at the epoch
        after it.
        """
        self._checkpoint.begin(0)
        self._checkpoint.take_over_scores(None)
        found = self._checkpoint.find()
        if found is None:
            return
        if self._checkpoint.resume == "auto":
            self._resume(found)
            return
        self._position = Position(found.position.run + 1, 0)
        if self._checkpoint.resume == "weights":
            restore_weights(self._model, found.record)

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
        step = self._position.step + self._batch + self._model.steps_per_execution
        self._position = self._position._replace(step=step)
        history = self._history["history"]
        # History comes after the user's callbacks, so it does not have this epoch yet.
        self._history = {
            "history": {name: [*history.get(name, []), value] for name, value in logs.items()},
            "epoch": [*self._history["epoch"], epoch],
        }
        # Before `fit` ends, where an optimizer with EMA overwrites the weights.
        last = epoch + 1 == self._epochs or self._model.stop_training
        is_validated = any(name.startswith("val_") for name in logs)
        is_best = self._checkpoint.is_of_the_best(logs, is_validated, ends_epoch=True)
        if last or is_best or self._checkpoint.is_due(step, ends_epoch=True):
            self._save(logs)

    def end(self, logs: dict[str, Any]) -> None:
        """In `on_train_end`: saves what a callback after this one stopped without warning."""
        self.begin_epoch()
        if self._position.step:
            self._save(logs)
        self._checkpoint.close()
        self._checkpoint.remember_finished(self._model, self._epochs)

    def _resume(self, found: SoundCheckpoint) -> None:
        record, folder = found.record, self._checkpoint.store.label
        self._checkpoint.check_not_finished("model.fit", self._model, self._epochs)
        if record.identity.data != _DATA:
            raise ResumeRefusedError(
                f"The run in {folder} was saved by kp.fit, and only kp.fit can go on with it; this "
                "is model.fit."
            )
        for line in not_finite_lines(self._checkpoint.store, found.position, record):
            say(line)
        kept = set_by_script(record, self._identity)
        _, lines = restore_variables(self._model, record, kept)
        # Its number of steps is that of the epochs, which `fit` is told anew each time.
        saved = replace(record.identity, total_steps=None)
        for line in (*changes(saved, self._identity), *lines):
            say(f"{line}.")
        self._position = self._saved = found.position
        self._checkpoint.take_over_scores(found.position)
        with putting_back(_HISTORY):
            history = checked_history(record.callbacks[_HISTORY])
            self._history = {name: history[name] for name in self._history}
        self._random = record.random
        epoch, step = len(self._history["epoch"]), found.position.step
        say(
            f"going on from epoch {epoch + 1}, after step {step:,}: the newest checkpoint in "
            f"{folder}{found.fell_back}."
        )
        self._checkpoint.begin(step)
        _keras.begin_at_epoch(self._model, epoch)

    def _save(self, logs: dict[str, Any]) -> None:
        if self._position == self._saved:
            return
        # First of all: an optimizer that has built itself since has places that only this finds.
        variables = self._recorder.copy_variables()
        record: Record = self._recorder.record(
            Cursor(self._position.step), variables, callbacks={_HISTORY: self._history}
        )
        self._checkpoint.save(self._position, *record.pack(), logs)
        # Nobody tells a callback that model.fit was left by an exception, so nothing may be left
        # to a thread.
        self._checkpoint.wait()
        self._saved = self._position
