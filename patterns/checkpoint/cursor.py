"""Where a run stands: its step, and what is left to do there before the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Duty(StrEnum):
    """One thing that is done at a boundary between two steps, in this order.

    LOG: the running metrics are kept. VALIDATE: the model is validated. HOOKS: they are asked,
    inside an epoch. CLOSE_EPOCH: callbacks are told of its end, and hooks are asked there. SAVE: a
    checkpoint is made.
    """

    LOG = "log"
    VALIDATE = "validate"
    HOOKS = "hooks"
    CLOSE_EPOCH = "close_epoch"
    SAVE = "save"


_ORDER = tuple(Duty)


@dataclass(frozen=True)
class Cursor:
    """The place of a run between two steps.

    Attributes:
        step: Optimizer steps done.
        todo: The duties that are left at this boundary, in order.
        logs: The metrics of the epoch that ends here; None inside an epoch.
        ended: Whether the run has ended before its plan did.
    """

    step: int = 0
    todo: tuple[Duty, ...] = ()
    logs: Mapping[str, Any] | None = None
    ended: bool = False

    def done(self) -> Cursor:
        """The cursor once the first duty is done."""
        return replace(self, todo=self.todo[1:])

    def also(self, *duties: Duty) -> Cursor:
        """The cursor with more duties, each in its place."""
        wanted = {*self.todo, *duties}
        return replace(self, todo=tuple(duty for duty in _ORDER if duty in wanted))
