"""One hook in plain `model.fit`, where the boundaries are the ends of epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import keras
import numpy as np

from ..state.snapshot import copy_values, put_back
from ..state.variables import find_variables
from ..storage import Position
from .history import add_event
from .requests import Boundary, Pause, Request, Rewind, Save, SetTrainable, Stop, as_requests


class PlainRun:
    """Plain `model.fit` as one hook sees it. The state that it last asked to save is in memory.

    Args:
        hook: Whose methods are called.

    Attributes:
        step: Optimizer steps done since `fit` began.
    """

    total_steps = None
    origin = None
    has_checkpoints = False
    has_validation = False
    plans_saves = True
    can_replay = False
    has_open_bar = False
    settings: Mapping[str, Any] = MappingProxyType({})
    folder = None

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self.step = 0
        self._steps_before_epoch = 0
        self._saved: tuple[dict[str, np.ndarray], dict[str, Any]] | None = None

    @property
    def model(self) -> keras.Model:
        """The model in training."""
        return self._hook.model

    @property
    def history(self) -> keras.callbacks.History:
        """The History of this `fit`."""
        return self.model.history

    @property
    def position(self) -> Position:
        """Of the state in memory, if this step is saved."""
        return Position(1, self.step)

    def start(self) -> None:
        """In `on_train_begin`."""
        self._carry_out(as_requests(self._hook.on_run_start(self), self._hook))

    def begin_epoch(self, epoch: int) -> None:
        """In `on_epoch_begin`."""
        self._steps_before_epoch = self.step

    def begin_batch(self, batch: int) -> None:
        """In `on_train_batch_begin`."""
        self.step = self._steps_before_epoch + batch + self.model.steps_per_execution

    def end_epoch(self, hook: Any, epoch: int, logs: Mapping[str, Any]) -> None:
        """In `on_epoch_end`."""
        hook.on_step_logs(logs)
        requests = as_requests(hook.on_check(self.step), hook, Rewind)
        if not requests:
            validation = {name: logs[name] for name in logs if name.startswith("val_")} or None
            boundary = Boundary(self.model, self.step, epoch, validation, lambda: logs)
            requests = as_requests(hook.on_boundary(boundary), hook)
        self._carry_out(requests)

    def end(self) -> None:
        """In `on_train_end`."""
        self._hook.on_run_end()

    def recompile_step(self) -> None:
        """Compiles the step anew."""
        self.model.make_train_function(force=True)

    def rewind_blocker(self) -> str:
        """Plain `fit` cannot go back in its data."""
        return "model.fit keeps the order of its data to itself"

    def restore_weights(self, position: Position) -> NoReturn:
        """There are no checkpoints."""
        raise _not_here("a checkpoint")

    def batch_number(self, step: int) -> int:
        """The number of a batch is not known."""
        return -1

    def batch(self, number: int) -> NoReturn:
        """Its batches are out of reach."""
        raise _not_here("a batch by its number")

    def examples(self, number: int) -> tuple[int, ...]:
        """Which examples a batch holds is not known."""
        return ()

    def leave_out(self, number: int, examples: Sequence[int]) -> NoReturn:
        """Its batches are out of reach."""
        raise _not_here("leaving a batch out")

    def _carry_out(self, requests: Sequence[Request]) -> None:
        for request in requests:
            match request:
                case Rewind():
                    self._rewind()
                    return
                case Stop(reason):
                    self.model.stop_training = True
                    add_event(self.history, "stopped", self.step, reason)
                case Pause():
                    raise _not_here("a run that goes on where it was left")
                case SetTrainable():
                    raise _not_here("a change of what is trained")
                case Save():
                    held = find_variables(self.model).of("weight", "optimizer")
                    get_state = getattr(self._hook, "get_state", dict)
                    self._saved = copy_values(held), get_state()

    def _rewind(self) -> None:
        if self._saved is None:
            raise ValueError(
                f"{type(self._hook).__name__} asked model.fit to go back, and has saved nothing. "
                "Return kp.Save() from on_run_start first."
            )
        values, state = self._saved
        put_back(find_variables(self.model).of("weight", "optimizer"), values, values)
        if hasattr(self._hook, "set_state"):
            self._hook.set_state(state)
        self._hook.on_restore(rewound=True)


def _not_here(what: str) -> ValueError:
    return ValueError(f"{what} is not to be had in plain model.fit. Train with kp.fit.")
