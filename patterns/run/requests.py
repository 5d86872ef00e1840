"""Requests of hooks, and what they see of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import keras

from keras_patterns.backends import current

from ..state.snapshot import VariableRecord
from ..storage import Position


@dataclass(frozen=True)
class Rewind:
    """Asks a run, from a `kp.Hook`, to go on from an earlier checkpoint of it; later ones are
    deleted.

    Attributes:
        position: Of the checkpoint, as `run.position` gave it when it was saved. If it is damaged,
            the run goes on from the last sound one before it.
    """

    position: Position


@dataclass(frozen=True)
class Stop:
    """Asks a run, from a `kp.Hook`, to end here. Inside an epoch, the epoch ends here too.

    Attributes:
        reason: For people.
    """

    reason: str = ""


@dataclass(frozen=True)
class SetTrainable:
    """Asks a run, from a `kp.Hook`, to change what is trained from the next step on, or something
    else that is compiled into it.

    Attributes:
        change: Is given the model, and sets `trainable` of its layers and variables, or another
            attribute. The step is compiled anew.
    """

    change: Callable[[keras.Model], None]


@dataclass(frozen=True)
class Save:
    """Asks a run, from a `kp.Hook`, for a checkpoint here, once all else of a boundary is done."""


@dataclass(frozen=True)
class Pause:
    """Saves the run here and leaves it with `RunPaused`, once everything else of this boundary is
    done. The same call goes on with it as if it had not been left. Needs a `kp.Checkpoint`.
    """


Request: TypeAlias = Rewind | Stop | SetTrainable | Save | Pause
Requests: TypeAlias = "Request | Sequence[Request] | None"


def as_requests(
    given: Requests, hook: object, *allowed: type, has_checkpoints: bool = True
) -> list[Request]:
    """The requests that a hook returned, as a list.

    Args:
        given: The return value of the hook's method.
        hook: The hook, for messages.
        *allowed: The requests that can be carried out there. Defaults to all.
        has_checkpoints: Whether the run has a `kp.Checkpoint`. Defaults to True.

    Raises:
        TypeError: If it returned something else.
        ValueError: If it asked for what needs checkpoints, and the run has none.
    """
    requests = [] if given is None else list(given) if isinstance(given, Sequence) else [given]
    allowed = allowed or (Rewind, Stop, SetTrainable, Save, Pause)
    for request in requests:
        if not isinstance(request, allowed):
            names = ", ".join(f"kp.{kind.__name__}" for kind in allowed)
            raise TypeError(
                f"{type(hook).__name__} returned {request!r} to the run; expected {names}, a list "
                "of these, or None."
            )
        if isinstance(request, Save | Rewind | Pause) and not has_checkpoints:
            raise ValueError(
                f"{type(hook).__name__} asked for kp.{type(request).__name__}, and the run has no "
                "checkpoints. Give it a kp.Checkpoint."
            )
    return requests


class Boundary:
    """A place between two steps, as hooks see it.

    Attributes:
        step: Optimizer steps done.
        epoch: The epoch that ends here, from 0; None inside an epoch.
        validation: The metrics of the validation at this step, `val_` before their names; None if
            there was none.
    """

    def __init__(
        self,
        model: keras.Model,
        step: int,
        epoch: int | None,
        validation: Mapping[str, Any] | None,
        read_logs: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._model = model
        self.step = step
        self.epoch = epoch
        self.validation = validation
        self._read_logs = read_logs

    @cached_property
    def model(self) -> keras.Model:
        """The model in training, whose variables have their newest values."""
        current().sync(self._model)
        return self._model

    @cached_property
    def logs(self) -> dict[str, Any]:
        """The metrics of the epoch so far, and those of the validation. Inside an epoch, reading
        them waits for the device.
        """
        return {**self._read_logs(), **(self.validation or {})}


@dataclass(frozen=True)
class Saving:
    """A checkpoint that is about to be written.

    Attributes:
        position: Where it will be found.
        is_planned: Whether every run of the script is saved here, be it killed or not.
        variables: The values that go into it, by the variables' keys. They are overwritten later.
    """

    position: Position
    is_planned: bool
    variables: Mapping[str, VariableRecord]


class RunView(Protocol):
    """A run as its hooks see it, in `kp.fit`, in a `kp.Run` and in plain `model.fit`.

    Attributes:
        model: In training.
        step: Optimizer steps done, at a boundary.
        total_steps: Of its plan; None in plain `model.fit`, and in the first pass over data whose
            length is learnt there.
        history: Of the run.
        origin: The checkpoint at which this process took the run up; None if it began here.
    """

    @property
    def model(self) -> keras.Model: ...

    @property
    def step(self) -> int: ...

    @property
    def total_steps(self) -> int | None: ...

    @property
    def history(self) -> keras.callbacks.History: ...

    @property
    def origin(self) -> Position | None: ...

    @property
    def has_checkpoints(self) -> bool:
        """True if there is a `kp.Checkpoint`."""

    @property
    def has_validation(self) -> bool:
        """True if there is data to validate on."""

    @property
    def plans_saves(self) -> bool:
        """True if every run of the script saves at the same steps, whatever the clock says."""

    @property
    def has_open_bar(self) -> bool:
        """True if a progress bar stands open inside an epoch, below which messages begin."""

    @property
    def position(self) -> Position:
        """Where the state after this step is found, once it is saved."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The run by the word of the script, as plain values. Its plan, seed and data, the settings
        of optimizers and callbacks.
        """

    @property
    def folder(self) -> Path | None:
        """Where it is saved; None if it is not."""

    def end_epoch(self, hook: Any, epoch: int, logs: Mapping[str, Any]) -> None:
        """Asks a hook at the end of an epoch."""

    @property
    def can_replay(self) -> bool:
        """True if it knows its batches by their numbers. Not so in plain `model.fit`."""

    def rewind_blocker(self) -> str | None:
        """Why the run cannot go back to an earlier step; None if it can."""

    def recompile_step(self) -> None:
        """Compiles the step anew, since what is compiled into it has changed. Outside a step
        only: in `on_run_start`, `on_restore` and `on_run_end`.
        """

    def restore_weights(self, position: Position) -> None:
        """Puts `model.weights` back from a checkpoint of this run."""

    def batch_number(self, step: int) -> int:
        """Which batch of the data the step after `step` ones trains on."""

    def batch(self, number: int) -> tuple[Any, ...]:
        """A batch of the data by its number. Only where the run can rewind."""

    def examples(self, number: int) -> tuple[int, ...]:
        """Which examples a batch holds, by their place in the arrays; empty where not known."""

    def leave_out(self, number: int, examples: Sequence[int]) -> None:
        """Leaves a batch out from here on, and all later ones that hold one of some examples."""
