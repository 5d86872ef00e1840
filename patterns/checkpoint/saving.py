"""Saving a model by hand, outside a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from .. import _keras
from .._util.arguments import whole_number
from .._util.metrics import resolve_mode
from .._util.models import check_built
from ..state import find_variables
from ..storage import CheckpointFolder, Entry, Position
from .capture import Recorder, versions
from .cursor import Cursor
from .identity import Identity, describe_optimizers

_CALLER = "CheckpointStore.save"
_DATA = {"kind": "a loop of one's own, which keeps the order of its data to itself"}


@_keras.quiet_arrays()
def save_model(
    folder: CheckpointFolder,
    model: keras.Model,
    step: int,
    score: tuple[str, float] | None,
    extra: Mapping[str, Any] | None,
) -> Entry:
    """Saves a model; the arguments are those of `kp.CheckpointStore.save`."""
    check_built(_CALLER, model)
    step = whole_number(_CALLER, "step", step, least=0)
    optimizers = describe_optimizers(find_variables(model).optimizers)
    recorder = Recorder(model, Identity(step, max(step, 1), 0, _DATA, optimizers))
    record = recorder.record(
        Cursor(step), recorder.copy_variables(), tracked={"extra": dict(extra or {})}
    )
    run = max((entry.position.run for entry in folder.entries()), default=1)
    return folder.write(
        Position(run, step), *record.pack(), score=_score(score), made_with=versions()
    )


def _score(given: tuple[str, float] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    monitor, value = given
    mode = resolve_mode(_CALLER, monitor, "auto")
    return {"monitor": monitor, "mode": mode, "value": float(value)}
