"""When a run has boundaries, and what is done at each: a function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from .._util.steps import next_multiple
from ..checkpoint.cursor import Duty
from .hooks import Hook
from .open_plan import Plan


class Validates(Protocol):
    """When a run is validated."""

    def is_due(self, epoch: int, step: int) -> bool: ...

    def next_step(self, step: int) -> float: ...


class Saves(Protocol):
    """When a run is saved."""

    @property
    def next_step(self) -> float: ...

    def is_planned(self, step: int, ends_epoch: bool) -> bool: ...


class Timeline:
    """The boundaries of a run.

    Args:
        plan: How many steps, in epochs of how many.
        validation: When it is validated.
        checkpoints: When it is saved.
        hooks: Each may want boundaries of its own.
        log_every: At multiples of how many steps the running metrics are kept, if at all.
    """

    def __init__(
        self,
        plan: Plan,
        validation: Validates,
        checkpoints: Saves,
        hooks: Sequence[Hook],
        log_every: int | None,
    ) -> None:
        self.plan = plan
        self._validation = validation
        self._checkpoints = checkpoints
        self._hooks = hooks
        self._log_every = log_every
        self._next_log = math.inf
        self._next_validation = math.inf

    def begin(self, step: int) -> None:
        """Counts from a step."""
        self._next_log = next_multiple(step, self._log_every)
        self._next_validation = self._validation.next_step(step)

    def next_boundary(self, step: int) -> float:
        """The first step after `step` at which something is due; epochs end by themselves."""
        wanted = [_wanted(hook, step) for hook in self._hooks]
        return min(self._next_log, self._next_validation, self._checkpoints.next_step, *wanted)

    def epoch_that_ends(self, step: int) -> int:
        """The epoch, from 0, whose last step makes `step` ones."""
        return self.plan.locate(step - 1)[0]

    def duties(self, step: int, epoch: int | None) -> tuple[Duty, ...]:
        """The duties of the boundary after `step` steps.

        Args:
            step: Which may lie behind a multiple of something, where several steps are run in one.
            epoch: The epoch that ends there, from 0; None inside one.
        """
        if epoch is None:
            due = {
                Duty.LOG: step >= self._next_log,
                Duty.VALIDATE: step >= self._next_validation,
                Duty.HOOKS: True,
            }
        else:
            due = {
                Duty.VALIDATE: self._validation.is_due(epoch, step),
                Duty.CLOSE_EPOCH: True,
            }
        due[Duty.SAVE] = self.plans_save(step, epoch is not None)
        return tuple(duty for duty, is_due in due.items() if is_due)

    def plans_save(self, step: int, ends_epoch: bool) -> bool:
        """True if every run of the script is saved after `step` steps."""
        # Steps that are trained again one by one come by other places than those that run together.
        if self.runs_single_steps:
            return False
        return self._checkpoints.is_planned(step, ends_epoch)

    @property
    def runs_single_steps(self) -> bool:
        """True if a hook wants each step to be run by itself."""
        return any(hook.single_steps for hook in self._hooks)


def _wanted(hook: Hook, step: int) -> float:
    """The next boundary that a hook wants; infinity for none."""
    wanted = hook.next_boundary(step)
    if wanted is None:
        return math.inf
    if not wanted > step:
        raise ValueError(
            f"{type(hook).__name__}.next_boundary({step}) must be a later step, or None. Received: "
            f"{wanted!r}."
        )
    return wanted
