"""Engines run steps, and come back with a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from .requests import Rewind, SetTrainable


@dataclass(frozen=True)
class Continue:
    """There are steps left, and nothing stands in their way."""


@dataclass(frozen=True)
class Done:
    """The run is over, by its plan or because something has stopped it."""


@dataclass(frozen=True)
class Interrupted:
    """A signal asked the run to end; its state is saved."""


# `Rewind` and `SetTrainable` cannot be carried out inside a step.
Verdict: TypeAlias = Continue | Done | Interrupted | Rewind | SetTrainable

CONTINUE, DONE, INTERRUPTED = Continue(), Done(), Interrupted()


class Engine(Protocol):
    """One way to run the steps between boundaries, as the driver sees it.

    It calls the driver's `at_step` where `is_due` says, and hands verdicts that cannot be carried
    out inside a step to whoever started it, for `Driver.carry_out`.
    """

    def metrics(self) -> dict[str, Any]:
        """The metrics of the epoch so far; waits for the device."""

    def open_epoch(self, epoch: int) -> None:
        """An epoch that has begun in another process, or before a rollback, is taken up inside."""

    def forget_compiled(self) -> None:
        """Compiles the step anew."""
