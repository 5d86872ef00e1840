"""The parts of a run, as they are put together when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from .callback_list import RunCallbacks
from .carried import CarriedState
from .checkpoints import Checkpoints, NoCheckpoints
from .foreign import ForeignState, NoForeignState
from .open_plan import Plan
from .restore import Restorer
from .run_data import RunData
from .signals import StopRequests
from .timeline import Timeline
from .validation import NoValidation, Validation


@dataclass(frozen=True)
class Parts:
    """The parts of a run; none is missing, however little is asked for.

    Attributes:
        model: In training.
        plan: How many steps, in epochs of how many.
        data: The batches.
        callbacks: Keras's and hooks.
        validation: How it is validated.
        checkpoints: Where it is saved.
        timeline: When it has boundaries.
        signals: SIGTERM and SIGINT.
        carried: The state with which the next step begins.
        restorer: Puts checkpoints back.
        tracked: Returns what a loop of one's own has given to the run to carry.
        foreign: The state that Keras does not track.
        data_must_last: Whether data that end before the plan does are an error.
    """

    model: keras.Model
    plan: Plan
    data: RunData
    callbacks: RunCallbacks
    validation: Validation | NoValidation
    checkpoints: Checkpoints | NoCheckpoints
    timeline: Timeline
    signals: StopRequests
    carried: CarriedState
    restorer: Restorer
    tracked: Callable[[int], dict[str, Any]]
    foreign: ForeignState | NoForeignState
    data_must_last: bool
