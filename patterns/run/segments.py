"""Cutting what is left of a plan into calls of `model.fit`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .open_plan import Plan


@dataclass(frozen=True)
class Segment:
    """One call of `model.fit`.

    Attributes:
        start: The first step, counted from the start of the run.
        first_epoch: The epoch in which it starts, from 0.
        offset: How many steps of that epoch were done before.
        steps: Steps in each of its epochs.
        epochs: How many epochs; 1 where it starts or ends inside one.
        closes: Whether its last step is the last of an epoch.
        steps_per_execution: Steps that are run in one go; divides `steps`.
    """

    start: int
    first_epoch: int
    offset: int
    steps: int
    epochs: int
    closes: bool
    steps_per_execution: int

    @property
    def stop(self) -> int:
        """The step after its last one."""
        return self.start + self.steps * self.epochs


def segments(plan: Plan, start: int, steps_per_execution: int = 1) -> Iterator[Segment]:
    """The calls of `model.fit` that take a run from step `start` to the end of its plan.

    Keras can go on in one call through epochs of one length. A call of its own is needed after a
    resume inside an epoch, for a last epoch that is shorter, and for the steps at the end of an
    epoch that do not divide by `steps_per_execution`. Where that is more than an epoch has, a whole
    epoch is run in one go.
    """
    steps_per_execution = min(steps_per_execution, plan.steps_per_epoch)
    step = start
    while step < plan.total_steps:
        epoch, offset = plan.locate(step)
        whole = plan.steps_in(epoch) - offset
        fused = whole - whole % steps_per_execution
        together = 1
        if fused == whole and not offset:
            while epoch + together < plan.epochs and plan.steps_in(epoch + together) == whole:
                together += 1
        segment = Segment(
            start=step,
            first_epoch=epoch,
            offset=offset,
            steps=fused or whole,
            epochs=together,
            closes=(fused or whole) == whole,
            steps_per_execution=steps_per_execution if fused else 1,
        )
        yield segment
        step = segment.stop
