"""Makes checkpoints of a run, and puts one back."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .. import _keras
from .._util.messages import say
from ..checkpoint.contents import Record, callback_state, restore_variables, set_by_script
from ..checkpoint.identity import Identity, note_left
from ..state import callbacks as callback_states
from ..state.randomness import get_random_state
from ..state.snapshot import Snapshot, copy_values, put_back
from ..state.variables import find_variables
from ..storage import DamagedCheckpointError, Entry, Position
from .checkpoint import Checkpoint
from .hooks import DrivenCallback

if TYPE_CHECKING:
    from .boundaries import AtBoundaries
    from .run import Run

_VALIDATION_PENDING, _COMPLETE = 0, 1


class Saver:
    """The checkpoints of one run.

    Args:
        checkpoint: Says when, and writes.
        model: The model in training.
        identity: Of this run.
        run: The ordinal of this run in its folder.
        begun: How this run began: one of the values of `Checkpoint(resume=)`.
    """

    def __init__(
        self, checkpoint: Checkpoint, model: keras.Model, identity: Identity, run: int, begun: str
    ) -> None:
        self.checkpoint, self._model = checkpoint, model
        self._identity, self._run, self._begun = identity, run, begun
        self._snapshot: Snapshot | None = None
        self._saved: Position | None = None
        self._script_values: dict[str, np.ndarray] = {}

    def __enter__(self) -> Saver:
        self.checkpoint.driven = True
        self.checkpoint.begin(0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.checkpoint.driven = False
        note_left(find_variables(self._model).optimizers, self._identity.optimizers)
        self.checkpoint.close()
        try:
            self.checkpoint.wait()
        except Exception as failure:
            # What ends the run already must not hide that a save failed too, nor be hidden by it.
            if error is None:
                raise
            say(f"the last checkpoint could not be written: {failure}")

    def save(
        self,
        run: AtBoundaries,
        pending: dict[str, Any] | None = None,
        logs: dict[str, Any] | None = None,
        validates: bool = False,
        planned: bool = False,
        callbacks: dict[str, Any] | None = None,
    ) -> None:
        """Saves the state after `run.step` steps.

        Args:
            run: The run, between two steps.
            pending: The training metrics of an epoch whose validation and `on_epoch_end` are still
                to come.
            logs: The metrics of an epoch that is complete.
            validates: Whether a validation inside an epoch is still to come.
            planned: Whether every run of the script is saved here.
            callbacks: The states of the callbacks, if they have moved on since. Defaults to None:
                those that they have now.
        """
        position = Position(
            self._run,
            run.step,
            _VALIDATION_PENDING if validates or pending is not None else _COMPLETE,
        )
        if position == self._saved:
            return
        _keras.finish_batch_ends(run.callbacks)
        # The buffers are free only after the last checkpoint is on disk.
        self.checkpoint.wait()
        variables = self._take(run)
        if planned:
            for callback in run.callbacks.driven:
                callback.saved(position)
        document, tensors = self._record(run, variables, pending, validates, callbacks).pack()
        needs = {needed for callback in run.callbacks.driven for needed in callback.needs()} - {
            position
        }
        self.checkpoint.save(position, document, tensors, logs, needs)
        self._saved = position

    def position(self, step: int) -> Position:
        """Where the state after `step` steps is saved, once all that belongs to the step is
        done."""
        return Position(self._run, step, _COMPLETE)

    def read(self, position: Position) -> Record:
        """Reads a checkpoint of this run, once what was handed over is on disk."""
        self.checkpoint.wait()
        store = self.checkpoint.store
        sound = store.read(Entry(position, store.directory / position.folder_name))
        return Record.unpack(sound.document, sound.tensors)

    def _read_sound(self, position: Position) -> tuple[Position, Record]:
        entries = self.checkpoint.store.entries()
        earlier = [
            entry.position
            for entry in entries
            if entry.position.run == self._run and entry.position < position
        ]
        for candidate in [position, *reversed(earlier)]:
            try:
                return candidate, self.read(candidate)
            except DamagedCheckpointError as error:
                damage = error
                say(f"{error} Going back further.")
        raise damage

    def restore_weights(self, position: Position) -> None:
        """Puts `model.weights` back from a checkpoint of this run; seeds and recurrent states
        stay."""
        record, own = self.read(position), {id(weight) for weight in self._model.weights}
        weights = {
            key: variable
            for key, variable in find_variables(self._model).of("weight").items()
            if id(variable) in own
        }
        put_back(weights, record.variables, weights)

    def go_back(self, run: Run, position: Position) -> tuple[Position, Record, list[str]]:
        """Puts variables and callback states back from a checkpoint, or the last sound one before
        it; discards those after it.
        """
        position, record = self._read_sound(position)
        self.checkpoint.store.discard_after(position)
        self._saved = position
        self.checkpoint.begin(position.step, record.save_due)
        callbacks = callback_states.named(run.callbacks.callbacks)
        callback_states.cut_files(callbacks, record.callbacks)
        run.shape(record)
        kept = set_by_script(record, self._identity)
        lines = restore_variables(run.model, record, kept)
        # What the script has set stays as it set it, whatever has moved it since.
        put_back(
            find_variables(run.model).of("optimizer"),
            self._script_values,
            kept & self._script_values.keys(),
        )
        for name, callback in callbacks.items():
            state = record.callbacks.get(name)
            if isinstance(callback, DrivenCallback):
                callback.rolled_back(state, position)
            elif state is not None:
                callback_states.set_state(callback, state)
        return position, record, lines

    def forget_variables(self) -> None:
        """The variables of the model have changed: the next save looks for them anew."""
        self._snapshot = None

    def raise_failure(self) -> None:
        """Raises what went wrong in a save in the background, if anything did."""
        if self.checkpoint.failed:
            self.checkpoint.wait()

    def finish(self, run: AtBoundaries) -> None:
        """Saves the end of a run, if it is not saved yet, and waits until it is on disk."""
        self.save(run, logs=run.last_logs)
        self.checkpoint.wait()

    def put_back(self, run: Run, position: Position, record: Record) -> list[str]:
        """Starts the callbacks of a run that goes on, and puts back variables and callback states.

        Metrics and random states are the run's to put back, in its first step.

        Returns:
            What could not be put back because the script changed, a line each.
        """
        self._saved = position
        self.checkpoint.begin(position.step, record.save_due)
        callbacks, states = callback_states.named(run.callbacks.callbacks), record.callbacks
        run.until_end.enter_context(callback_states.files_go_on(callbacks, states))
        run.callbacks.start_run()
        kept = set_by_script(record, self._identity)
        lines = restore_variables(run.model, record, kept)
        variables = find_variables(run.model).variables
        self._script_values = copy_values({key: variables[key] for key in kept if key in variables})
        for name in callbacks.keys() & states.keys():
            callback_states.set_state(callbacks[name], states[name])
        return lines

    def _take(self, run: AtBoundaries) -> dict[str, np.ndarray]:
        """The values of all variables now, if no callback has a fault to find with them."""
        # The first step may have built what was not built before it.
        self._snapshot = self._snapshot or Snapshot(self._model)
        variables = self._snapshot.take()
        for callback in run.callbacks.driven:
            callback.check(variables, self._snapshot.places.roles)
        return variables

    def _record(
        self,
        run: AtBoundaries,
        variables: dict[str, np.ndarray],
        pending: dict[str, Any] | None,
        validates: bool,
        callbacks: dict[str, Any] | None,
    ) -> Record:
        assert self._snapshot
        places = self._snapshot.places
        return Record(
            identity=self._identity,
            begun=self._begun,
            variables=variables,
            roles=places.roles,
            paths=self._snapshot.paths,
            built_on=places.built_on(),
            first_steps=places.first_steps(),
            frozen=self._snapshot.frozen,
            callbacks=callback_state(run.callbacks.callbacks) if callbacks is None else callbacks,
            random=get_random_state(),
            source={"random": run.source.random_state}
            if hasattr(run.source, "random_state")
            else {},
            resumes=run.callbacks.history.resumes,
            skipped=run.skipped.state,
            logs=pending,
            validates=validates,
            save_due=(validates or pending is not None)
            and self.checkpoint.is_due_by_steps(run.step),
            stopped=run.stopped,
            validated=run.validation.taken if run.validation else 0,
        )
