"""Putting a checkpoint back into a run: at its start, and where it goes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from .._util.messages import say
from ..checkpoint import (
    Cursor,
    Record,
    metric_values,
    restore_variables,
    restore_weights,
)
from ..state import VariableIndex, copy_values, find_variables, put_back
from ..state import callbacks as callback_states
from ..storage import Position
from .callback_list import RunCallbacks
from .carried import CarriedState
from .checkpoints import Checkpoints, NoCheckpoints
from .run_data import RunData
from .start_point import StartPoint
from .trainable import TrainedPart


@dataclass
class Restorer:
    """Brings a run to where a checkpoint was made.

    Attributes:
        model: In training.
        steps_left: Tells how many steps of the plan come after so many.
        trained: The part of the model that is trained.
        data: The batches.
        callbacks: Keras's and hooks.
        skip_validations_to: Passes over the batches that validations have taken.
        checkpoints: Where it is saved.
        carried: The state with which the next step begins.
        tracked: Takes the state of a loop of one's own.
        begin_foreign: Takes note of the state that Keras does not track, given where the variables
            stand if that is known.
        restore_foreign: Puts it back.
        until_end: Closed when the run ends.
    """

    model: keras.Model
    steps_left: Callable[[int], int]
    trained: TrainedPart
    data: RunData
    callbacks: RunCallbacks
    skip_validations_to: Callable[[int], None]
    checkpoints: Checkpoints | NoCheckpoints
    carried: CarriedState
    tracked: Callable[[Mapping[str, Any]], None]
    begin_foreign: Callable[[VariableIndex | None], None]
    restore_foreign: Callable[[Mapping[str, Any]], None]
    until_end: ExitStack
    _script_values: dict[str, np.ndarray] = field(default_factory=dict)

    def begin(self, start: StartPoint, stand_at: Callable[[Cursor], None]) -> None:
        """Starts the callbacks and puts back what the run begins with.

        Args:
            start: Where the run begins.
            stand_at: Is told where it stands, before any hook is.
        """
        record, cursor = start.record, Cursor(start.first_step)
        self.model.stop_training = False
        if record and not start.weights_only:
            cursor = record.cursor
            self.data.take_over(record.data)
        stand_at(cursor)
        self._open_data(cursor)
        self.trained.restore(cursor)
        # The model of a loop of one's own is built by whoever made it, and need not be compiled.
        if self.model.compiled and (record or self.callbacks.want_built_model):
            current().build(self.model, self.data.samples[0])
        if record is None or start.weights_only:
            if record:
                restore_weights(self.model, record)
            self.checkpoints.begin(cursor.step)
            self.callbacks.on_train_begin()
            self.begin_foreign(None)
            self.carried.take_random()
            return
        self.checkpoints.take_over(start.position, record, start.made_with, start.changed)
        self.checkpoints.begin(cursor.step)
        names = callback_states.named(self.callbacks.callbacks)
        self.until_end.enter_context(callback_states.files_go_on(names, record.callbacks))
        self.callbacks.on_train_begin()
        callback_states.cut_files(names, record.callbacks)
        # A walk over the model is most of what this costs, and nothing builds a variable meanwhile.
        index = find_variables(self.model)
        self.begin_foreign(index)
        self._put_back(record, index, rewound=False)
        is_over = cursor.ended or not self.steps_left(cursor.step)
        self.callbacks.history.resumes = [
            *record.resumed_at,
            *([] if is_over and not cursor.todo else [cursor.step]),
        ]

    def rewind(self, position: Position, stand_at: Callable[[Cursor], None]) -> None:
        """Puts everything back to where a checkpoint was made, or the last sound one before it;
        later ones are deleted. Hooks may keep what they know.

        Args:
            position: Of the checkpoint.
            stand_at: Is told where the run stands, before any hook is.
        """
        self.model.stop_training = False
        position, record = self.checkpoints.load_sound(position)
        stand_at(record.cursor)
        self.checkpoints.begin(position.step)
        names = callback_states.named(self.callbacks.callbacks)
        callback_states.cut_files(names, record.callbacks)
        self.trained.restore(record.cursor)
        self._put_back(record, find_variables(self.model), rewound=True)
        self.trained.tell()
        self._open_data(record.cursor)

    def put_back_values(self, record: Record) -> None:
        """Gives all variables the values of a record of this very model."""
        current().sync(self.model)
        put_back(find_variables(self.model).variables, record.values)

    def _open_data(self, cursor: Cursor) -> None:
        self.data.open_at(cursor.step, 0 if cursor.ended else self.steps_left(cursor.step))

    def _put_back(self, record: Record, index: VariableIndex, rewound: bool) -> None:
        kept = self.checkpoints.set_by_script(record)
        index, lines = restore_variables(self.model, record, kept, index)
        for line in lines:
            say(f"{line}.")
        variables = index.variables
        if rewound:
            # What the script has set stays as it set it, whatever has moved it since.
            put_back(variables, self._script_values, kept & self._script_values.keys())
        else:
            own = {key: variables[key] for key in kept if key in variables}
            self._script_values = copy_values(own)
        for name, callback in callback_states.named(self.callbacks.callbacks).items():
            if name in record.callbacks:
                callback_states.set_state(callback, record.callbacks[name])
        self.tracked(record.tracked)
        for hook in self.callbacks.hooks:
            hook.on_restore(rewound)
        self.carried.random = record.random
        self.carried.metrics = metric_values(index, record, kept)
        self.skip_validations_to(record.data["validated"])
        # Last: what draws from these has come to where it was.
        self.restore_foreign(record.held)
