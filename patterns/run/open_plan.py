"""The plan of a run over data whose length nobody knows before their first pass has ended."""

from __future__ import annotations

from typing import TypeAlias

from .plan import StepPlan

# More steps than any run has; Keras's loop counts as far.
_ENDLESS = 2**53


class OpenPlan:
    """A plan of some passes over data whose length is learnt when the first one has ended.

    It stands for a `StepPlan`: while it is open, that of one epoch without end; then that of as
    many epochs as passes, each as long as the first pass.

    Args:
        epochs: Passes over the data.

    Example:

    >>> plan = OpenPlan(epochs=3)
    >>> plan.is_open, plan.locate(7)
    (True, (0, 7))
    >>> plan.learn(10)
    >>> plan.is_open, plan.total_steps, plan.locate(17)
    (False, 30, (1, 7))
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.is_open = True
        self._plan = StepPlan(_ENDLESS, _ENDLESS)

    def learn(self, steps: int) -> None:
        """Fixes the plan: a pass has so many steps."""
        self._plan = StepPlan(steps * self.epochs, steps, self.epochs)
        self.is_open = False

    @property
    def total_steps(self) -> int:
        """Of the plan that it stands for."""
        return self._plan.total_steps

    @property
    def steps_per_epoch(self) -> int:
        """Of the plan that it stands for."""
        return self._plan.steps_per_epoch

    def end_of(self, epoch: int) -> int:
        """The number of steps done when `epoch` is over."""
        return self._plan.end_of(0 if self.is_open else epoch)

    def steps_in(self, epoch: int) -> int:
        """The number of steps of `epoch`; of a later one none, while the first is open."""
        return 0 if self.is_open and epoch else self._plan.steps_in(epoch)

    def locate(self, step: int) -> tuple[int, int]:
        """The epoch that `step` belongs to, and its place in that epoch."""
        return self._plan.locate(step)


Plan: TypeAlias = StepPlan | OpenPlan


def is_open(plan: Plan) -> bool:
    """True while the number of steps is not known."""
    return isinstance(plan, OpenPlan) and plan.is_open


def known_steps(plan: Plan) -> int | None:
    """The number of steps; None while it is not known."""
    return None if is_open(plan) else plan.total_steps
