"""Taking the state of a run into a record: the one place that captures."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import keras

from keras_patterns.backends import current

from ..state import Snapshot, VariableIndex, VariableRecord, get_random_state
from .contents import OptimizerRecord, Record
from .cursor import Cursor
from .identity import Identity


class Recorder:
    """Makes records of one model, in buffers that are used again.

    A record's arrays are overwritten by the next one.

    Args:
        model: A built model.
        identity: Of the run that it is part of.
        start_mode: How that run began: one of the values of `Checkpoint(resume=)`.

    Attributes:
        identity: Of the run that it is part of.
    """

    def __init__(self, model: keras.Model, identity: Identity, start_mode: str = "auto") -> None:
        self._model = model
        self.identity = identity
        self._start_mode = start_mode
        self._snapshot: Snapshot | None = None

    def copy_variables(self) -> dict[str, VariableRecord]:
        """Copies all variables, as they are now, to the host."""
        # The first step may have built what was not built before it.
        self._snapshot = self._snapshot or Snapshot(self._model)
        return self._snapshot.take()

    def record(self, cursor: Cursor, variables: dict[str, VariableRecord], **more: Any) -> Record:
        """The record of the state now.

        Args:
            cursor: Where the run stands.
            variables: From `copy_variables`.
            **more: Other fields of `Record`.
        """
        assert self._snapshot
        return Record(
            identity=self.identity,
            start_mode=self._start_mode,
            cursor=cursor,
            variables=variables,
            optimizers=optimizer_records(self._snapshot.index),
            random=get_random_state(),
            **more,
        )

    def forget_variables(self) -> None:
        """The variables of the model have changed: the next record looks for them anew."""
        self._snapshot = None


def optimizer_records(index: VariableIndex) -> dict[str, OptimizerRecord]:
    """The record of each optimizer that a walk over a model found."""
    trained = index.built_on()
    first_steps = index.first_steps()
    return {
        place: OptimizerRecord(
            tuple(trained[place]) if place in trained else None, first_steps.get(place, {})
        )
        for place in index.optimizers
    }


@cache
def _own_version() -> str:
    # Kept, as it is read from a file, and every save asks for it.
    return version("keras-patterns")


def versions() -> dict[str, Any]:
    """The versions that make a checkpoint, and the backend."""
    return {
        "keras_patterns": _own_version(),
        "keras": keras.__version__,
        "backend": current().name,
    }
