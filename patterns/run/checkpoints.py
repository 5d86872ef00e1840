"""The checkpoints of one run: made, read again, and discarded where the run goes back."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import keras

from keras_patterns.backends import current

from .._util.messages import say
from ..checkpoint import Cursor, lines_of_averages, set_by_script
from ..checkpoint.capture import Recorder, versions
from ..checkpoint.contents import Record, callback_state
from ..checkpoint.identity import Identity, remember_final_config
from ..state import VariableRecord, find_variables, put_back
from ..storage import (
    DamagedCheckpointError,
    Entry,
    MissingCheckpointError,
    Position,
    StoreError,
)
from .callback_list import RunCallbacks
from .checkpoint import Checkpoint
from .hooks import Hook
from .requests import Rewind, Saving, as_requests

_BEFORE_VALIDATION, _COMPLETE = 0, 1


class NoCheckpoints:
    """A run that is not saved."""

    exist = False
    folder = Path()
    handle_signals = False
    has_failed = False
    next_step = math.inf
    next_time = math.inf
    plans_saves = False

    def __enter__(self) -> NoCheckpoints:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def position(self, step: int) -> Position:
        """Where the state would be."""
        return Position(1, step)

    def begin(self, step: int) -> None:
        """Nothing is counted."""

    def is_of_the_best(self, logs: Mapping[str, Any], is_validated: bool, ends_epoch: bool) -> bool:
        """None are kept."""
        return False

    def take_over(
        self,
        position: Position,
        record: Record,
        made_with: Mapping[str, Any],
        changed: Sequence[str],
    ) -> None:
        """There is no run to go on with."""

    def load_sound(self, position: Position) -> tuple[Position, Record]:
        """Raises: nothing was saved."""
        raise ValueError("A run without a kp.Checkpoint cannot go back to one.")

    def set_by_script(self, record: Record) -> set[str]:
        """No checkpoint says otherwise."""
        return set()

    def raise_failure(self) -> None:
        """Nothing can fail."""

    def is_planned(self, step: int, ends_epoch: bool) -> bool:
        """Never."""
        return False

    def save(
        self,
        callbacks: RunCallbacks,
        cursor: Cursor,
        more: dict[str, Any],
        is_planned: bool,
        score: Mapping[str, Any] | None,
    ) -> None:
        """Nothing is saved."""

    def capture(
        self, callbacks: RunCallbacks, cursor: Cursor, more: Callable[[], dict[str, Any]]
    ) -> None:
        """No signal is handled."""

    def save_captured(self, callbacks: RunCallbacks, record: Record) -> None:
        """Nothing is saved."""

    def learn_plan(self, total_steps: int, steps_per_epoch: int) -> None:
        """No checkpoint says it."""

    def remember_finished(self, model: keras.Model, total: int) -> None:
        """A run without a folder can be begun as often as one likes."""

    def wait(self) -> None:
        """There is nothing to wait for."""

    def forget_variables(self) -> None:
        """None are known."""


class Checkpoints:
    """The checkpoints of a run.

    Args:
        checkpoint: Says when, and writes.
        model: The model in training.
        identity: Of this run.
        number: The ordinal of this run in its folder.
        start_mode: How this run began: one of the values of `Checkpoint(resume=)`.
    """

    exist = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: keras.Model,
        identity: Identity,
        number: int,
        start_mode: str,
    ) -> None:
        self.checkpoint = checkpoint
        self._model = model
        self._number = number
        self._recorder = Recorder(model, identity, start_mode)
        self._saved: Position | None = None
        self._kept: dict[str, Any] = {}
        self._before: list[dict[str, Any]] = []
        self._beginning: dict[str, Any] = {"first_step": 0, "changed": []}
        self._versions = versions()
        self._began = time.monotonic()

    @property
    def identity(self) -> Identity:
        """Of this run."""
        return self._recorder.identity

    def learn_plan(self, total_steps: int, steps_per_epoch: int) -> None:
        """Takes note of what is known now."""
        self._recorder.identity = replace(
            self.identity, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )

    def __enter__(self) -> Checkpoints:
        self.checkpoint.is_driven = True
        self.checkpoint.begin(0)
        self.checkpoint.take_over_scores(None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.checkpoint.is_driven = False
        # An error in a step leaves the values with JAX's trainer.
        with suppress(Exception) if error else nullcontext():
            current().sync(self._model)
            remember_final_config(find_variables(self._model).optimizers, self.identity.optimizers)
        self.checkpoint.close()
        try:
            self.checkpoint.wait()
        except Exception as failure:
            # An error that ends the run must not hide that a save failed too, nor be hidden by it.
            if error is None:
                raise
            say(f"the last checkpoint could not be written: {failure}")

    @property
    def folder(self) -> Path:
        """The folder of the run, as it was given."""
        return Path(self.checkpoint.store.label)

    @property
    def handle_signals(self) -> bool:
        """True if a signal saves the run before it ends."""
        return self.checkpoint.on_signal

    @property
    def has_failed(self) -> bool:
        """True if a save in the background went wrong."""
        return self.checkpoint.failed

    @property
    def next_step(self) -> float:
        """The next step at which the run is to be saved."""
        return self.checkpoint.next_step

    @property
    def next_time(self) -> float:
        """The time, on the monotonic clock, at which it is."""
        return self.checkpoint.next_time

    @property
    def plans_saves(self) -> bool:
        """True if every run of the script saves at the same steps, whatever the clock says."""
        return self.checkpoint.every_steps is not None or self.checkpoint.every_seconds is None

    def is_planned(self, step: int, ends_epoch: bool) -> bool:
        """True if the state after `step` steps is saved in every run of the script."""
        return self.checkpoint.is_planned(step, ends_epoch)

    def position(self, step: int) -> Position:
        """Where the state after `step` steps is found, once all that belongs to it is done."""
        return Position(self._number, step, _COMPLETE)

    def begin(self, step: int) -> None:
        """Counts from a step: the start of a run, or a checkpoint."""
        self.checkpoint.begin(step)

    def is_of_the_best(self, logs: Mapping[str, Any], is_validated: bool, ends_epoch: bool) -> bool:
        """True if the state with these metrics is to be saved for its score."""
        return self.checkpoint.is_of_the_best(logs, is_validated, ends_epoch)

    def take_over(
        self,
        position: Position,
        record: Record,
        made_with: Mapping[str, Any],
        changed: Sequence[str],
    ) -> None:
        """Goes on with the run of a checkpoint, which other processes have made; `changed` says
        what is different from here on.
        """
        self._saved = position
        self.checkpoint.take_over_scores(self._saved)
        self._before = list(made_with.get("processes", []))
        self._beginning = {"first_step": position.step, "changed": list(changed)}
        self._kept = {"unknown": record.unknown, "unknown_tensors": record.unknown_tensors}

    def save(
        self,
        callbacks: RunCallbacks,
        cursor: Cursor,
        more: dict[str, Any],
        is_planned: bool,
        score: Mapping[str, Any] | None,
    ) -> Rewind | None:
        """Saves the state where a run stands, unless a hook asks to go back instead.

        Args:
            callbacks: Of the run, between two steps.
            cursor: Where it stands.
            more: The other fields of the record.
            is_planned: Whether every run of the script is saved here.
            score: The metrics by which it is scored; None if there are none.
        """
        position = self._position_of(cursor)
        if position == self._saved:
            return None
        variables = self._copy(callbacks)
        rewind = _ask(callbacks.hooks, Saving(position, is_planned, variables))
        if rewind is None:
            self._write(self._record(callbacks, cursor, variables, more), callbacks, score)
        return rewind

    def capture(
        self, callbacks: RunCallbacks, cursor: Cursor, more: Callable[[], dict[str, Any]]
    ) -> Record | None:
        """The state where a run stands, to be written later if a signal comes; good until the next
        one. None where no signal is handled.
        """
        if not self.handle_signals:
            return None
        return self._record(callbacks, cursor, self._copy(callbacks), more())

    def save_captured(self, callbacks: RunCallbacks, record: Record) -> Rewind | None:
        """Saves a record that was captured before, unless a hook asks to go back instead."""
        position = self._position_of(record.cursor)
        if position == self._saved:
            return None
        rewind = _ask(callbacks.hooks, Saving(position, False, record.variables))
        if rewind is None:
            self._write(record, callbacks, score=None)
        return rewind

    def _write(
        self, record: Record, callbacks: RunCallbacks, score: Mapping[str, Any] | None
    ) -> None:
        position = self._position_of(record.cursor)
        hooks = callbacks.hooks
        needs = {one for hook in hooks for one in hook.required_checkpoints()} - {position}
        made_with = self._made_with(record.cursor.step)
        settled = settled_step(position, hooks)

        def tell_hooks() -> None:
            for hook in hooks:
                hook.on_published(position, settled)

        self.checkpoint.save(position, *record.pack(), score, needs, made_with, tell_hooks)
        self._saved = position

    def raise_failure(self) -> None:
        """Raises what went wrong in a save in the background, if anything did."""
        if self.checkpoint.failed:
            self.checkpoint.wait()

    def remember_finished(self, model: keras.Model, total: int) -> None:
        """Remembers that this process has come to the end of the run, and says how its weights are
        to differ from those of the checkpoints.
        """
        for line in lines_of_averages(find_variables(model)):
            say(f"in the checkpoints, {line}.")
        self.checkpoint.remember_finished(model, total)

    def wait(self) -> None:
        """Waits until what was handed over is on disk."""
        self.checkpoint.wait()

    def forget_variables(self) -> None:
        """The variables of the model have changed: the next save looks for them anew."""
        self._recorder.forget_variables()

    def set_by_script(self, record: Record) -> set[str]:
        """The keys of the variables that the script sets otherwise than it did when a checkpoint
        was made.
        """
        return set_by_script(record, self.identity)

    def load_sound(self, position: Position) -> tuple[Position, Record]:
        """Reads a checkpoint of this run, or the last sound one before it; deletes those after.

        Raises:
            DamagedCheckpointError, MissingCheckpointError: If none is sound.
            SystemRefusalError: If the system does not let one be read; none is deleted then.
            ValueError: If it is a checkpoint of another run.
        """
        if position.run != self._number:
            raise ValueError(
                f"A run goes back to checkpoints of its own, which is run {self._number} of "
                f"{self.folder}. Received: {position!r}."
            )
        store = self.checkpoint.store
        self.checkpoint.wait()
        earlier = [entry.position for entry in store.entries() if entry.position < position]
        own = [one for one in earlier if one.run == self._number]
        damage: StoreError
        for candidate in [position, *reversed(own)]:
            try:
                record = self._read(candidate)
            except (DamagedCheckpointError, MissingCheckpointError) as error:
                damage = error
                say(f"{error} Going back further.")
                continue
            store.discard_after(candidate)
            self._saved = candidate
            self.checkpoint.take_over_scores(self._saved)
            return candidate, record
        raise damage

    def restore_weights(self, position: Position) -> None:
        """Puts `model.weights` back from a checkpoint of this run; seeds and recurrent states
        stay.
        """
        self.checkpoint.wait()
        record = self._read(position)
        own = {id(weight) for weight in self._model.weights}
        weights = {
            key: variable
            for key, variable in find_variables(self._model).of("weight").items()
            if id(variable) in own
        }
        put_back(weights, record.values, weights)

    def _position_of(self, cursor: Cursor) -> Position:
        return Position(self._number, cursor.step, _BEFORE_VALIDATION if cursor.todo else _COMPLETE)

    def _read(self, position: Position) -> Record:
        store = self.checkpoint.store
        sound = store.read(Entry(position, store.directory / position.folder_name))
        return Record.unpack(sound)

    def _copy(self, callbacks: RunCallbacks) -> dict[str, VariableRecord]:
        callbacks.finish_batch_ends()
        # The buffers are free only after the last checkpoint is on disk.
        self.checkpoint.wait()
        return self._recorder.copy_variables()

    def _record(
        self,
        callbacks: RunCallbacks,
        cursor: Cursor,
        variables: dict[str, VariableRecord],
        more: dict[str, Any],
    ) -> Record:
        return self._recorder.record(
            cursor,
            variables,
            callbacks=callback_state(callbacks.callbacks),
            **self._kept,
            **more,
        )

    def _made_with(self, step: int) -> dict[str, Any]:
        """Versions, and the processes that trained the run, this one last."""
        this_process = {
            "host": platform.node(),
            "backend": f"{current().name} {current().version}",
            "device": current().device(),
            **self._beginning,
            "last_step": step,
            "seconds": round(time.monotonic() - self._began, 3),
        }
        return {**self._versions, "processes": [*self._before, this_process]}


def settled_step(position: Position, hooks: Iterable[Hook]) -> int:
    """The step up to which all is done in a checkpoint and in those that hooks may go back to."""
    targets = [target for hook in hooks if (target := hook.rewind_target())]
    first = min([position, *targets])
    return first.step if first.phase == _COMPLETE else first.step - 1


def _ask(hooks: Sequence[Hook], saving: Saving) -> Rewind | None:
    """Asks hooks before a checkpoint is written."""
    for hook in hooks:
        for request in as_requests(hook.on_save(saving), hook, Rewind):
            if isinstance(request, Rewind):
                return request
    return None
