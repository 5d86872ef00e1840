"""The number of steps of a run, and the epochs in which they are reported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .._util.arguments import whole_number


@dataclass(frozen=True)
class StepPlan:
    """The number of steps of a run, and its cut into virtual epochs.

    A virtual epoch is an interval of reporting: it says nothing about how often the data was passed
    over, and more data later changes nothing in the plan. Every epoch has `steps_per_epoch` steps
    and the last one has what is left. Where the asked number of epochs leaves nothing for the last
    ones (10 steps in 6 epochs), each epoch keeps at least one step, and the epochs before give way:
    2, 2, 2, 2, 1, 1.

    Args:
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: steps of an epoch.
        epochs: number of epochs. Defaults to `None`: as many as it takes, `ceil(total_steps /
            steps_per_epoch)`.

    Raises:
        ValueError: a number is too small, or the three disagree.
        TypeError: a number is not whole.

    Example:

    >>> plan = StepPlan(total_steps=10, steps_per_epoch=4)
    >>> plan.epochs, [plan.steps_in(epoch) for epoch in range(plan.epochs)]
    (3, [4, 4, 2])

    References:
        V. Lakshmanan, S. Robinson, M. Munn, "Machine Learning Design Patterns" (2020), pattern 12,
            Checkpoints: virtual epochs.
    """

    total_steps: int
    steps_per_epoch: int
    epochs: int = None  # type: ignore[assignment]  # an int once the object is made

    def __post_init__(self) -> None:
        total = _set(self, "total_steps", self.total_steps)
        per_epoch = _set(self, "steps_per_epoch", self.steps_per_epoch)
        natural = math.ceil(total / per_epoch)
        epochs = _set(self, "epochs", natural if self.epochs is None else self.epochs)
        _check_epochs(total, epochs)
        if epochs != natural and per_epoch != math.ceil(total / epochs):
            raise ValueError(
                f"StepPlan: {total} steps in epochs of {per_epoch} are {natural} epochs, not "
                f"{epochs}. Pass two of `total_steps`, `steps_per_epoch` and `epochs`: they give "
                "the third."
            )

    @classmethod
    def from_epochs(cls, total_steps: int, epochs: int) -> StepPlan:
        """Return the plan of exactly `total_steps` steps in exactly `epochs` epochs.

        Args:
            total_steps: optimizer steps of the whole run.
            epochs: number of epochs, at most `total_steps`. Each has `ceil(total_steps / epochs)`
                steps and the last one what is left; see the class for the case where nothing is.

        Returns:
            The plan.

        Raises:
            ValueError: a number is too small, or there are more epochs than steps.
            TypeError: a number is not whole.

        Example:

        >>> plan = StepPlan.from_epochs(143_000, epochs=15)
        >>> plan.steps_per_epoch, plan.steps_in(14)
        (9534, 9524)
        """
        total = whole_number("StepPlan.from_epochs", "total_steps", total_steps)
        epochs = whole_number("StepPlan.from_epochs", "epochs", epochs)
        _check_epochs(total, epochs)
        return cls(total, math.ceil(total / epochs), epochs)

    @classmethod
    def from_examples(
        cls, examples: int, batch_size: int, epochs: int, stop_point: float = 1.0
    ) -> StepPlan:
        """Return the plan of `stop_point` passes over the data, in `epochs` virtual epochs.

        The amount of training stays the same when the batch size changes. A pass has `ceil(examples
        / batch_size)` steps, since its last batch holds what is left; the part of a pass at the end
        is rounded up to whole batches.

        Args:
            examples: number of training examples.
            batch_size: examples of a batch.
            epochs: number of virtual epochs.
            stop_point: passes over the data, not necessarily whole; 14.3 means 14.3 passes. Read to
                six decimals. Defaults to `1.0`.

        Returns:
            The plan.

        Raises:
            ValueError: a number is too small or not finite, or there are more epochs than steps.
            TypeError: a count is not a whole number, or `stop_point` is no number.

        Example:

        >>> StepPlan.from_examples(1_000_000, 100, epochs=15, stop_point=14.3).total_steps
        143000
        """
        where = "StepPlan.from_examples"
        examples = whole_number(where, "examples", examples)
        batch_size = whole_number(where, "batch_size", batch_size)
        passes, part = divmod(_passes(where, stop_point), 1)
        total = passes * math.ceil(Fraction(examples, batch_size))
        return cls.from_epochs(total + math.ceil(part * examples / batch_size), epochs)

    @classmethod
    def resolve(
        cls,
        total_steps: int | None = None,
        steps_per_epoch: int | None = None,
        epochs: int | None = None,
        steps_per_pass: int | None = None,
    ) -> StepPlan:
        """Return the plan that the arguments of a call ask for.

        Two of the first three give the third. `epochs` alone, or nothing, means what it means in
        Keras: so many passes over the data, one by default. `steps_per_epoch` alone is one such
        epoch. `total_steps` alone is reported once a pass.

        Args:
            total_steps: optimizer steps of the whole run. Defaults to `None`.
            steps_per_epoch: steps of a virtual epoch. Defaults to `None`.
            epochs: number of virtual epochs. Defaults to `None`.
            steps_per_pass: steps of a pass over the data. Defaults to `None`: not known.

        Returns:
            The plan.

        Raises:
            ValueError: the arguments disagree, or the length of the data is needed and not known.
            TypeError: an argument is not a whole number.

        Example:

        >>> StepPlan.resolve(epochs=3, steps_per_pass=100)
        StepPlan(total_steps=300, steps_per_epoch=100, epochs=3)
        """
        if total_steps is not None:
            if steps_per_epoch is not None:
                return cls(total_steps, steps_per_epoch, epochs)  # type: ignore[arg-type]
            if epochs is not None:
                return cls.from_epochs(total_steps, epochs)
            return cls(total_steps, _known(steps_per_pass, f"total_steps={total_steps}"))
        epochs = whole_number("StepPlan", "epochs", 1 if epochs is None else epochs)
        if steps_per_epoch is None:
            steps_per_epoch = _known(steps_per_pass, f"epochs={epochs}")
        per_epoch = whole_number("StepPlan", "steps_per_epoch", steps_per_epoch)
        return cls(per_epoch * epochs, per_epoch, epochs)

    def end_of(self, epoch: int) -> int:
        """Return the number of steps done when `epoch` (from 0) is over."""
        epoch = whole_number("StepPlan.end_of", "epoch", epoch, least=0)
        if epoch >= self.epochs:
            raise ValueError(
                f"StepPlan.end_of: the plan has {self.epochs} epochs, counted from 0. Received: "
                f"epoch={epoch}."
            )
        left_for_later = self.epochs - 1 - epoch
        return min((epoch + 1) * self.steps_per_epoch, self.total_steps - left_for_later)

    def steps_in(self, epoch: int) -> int:
        """Return the number of steps of `epoch`, counted from 0."""
        return self.end_of(epoch) - (self.end_of(epoch - 1) if epoch else 0)

    def locate(self, step: int) -> tuple[int, int]:
        """Return the epoch that `step` belongs to, and its place in that epoch; all count from 0.

        Args:
            step: from 0 to `total_steps - 1`: the number of steps done before this one.

        Returns:
            `(epoch, step in the epoch)`.

        Raises:
            ValueError: the plan has no such step.
            TypeError: it is not a whole number.

        Example:

        >>> StepPlan(total_steps=10, steps_per_epoch=4).locate(9)
        (2, 1)
        """
        step = whole_number("StepPlan.locate", "step", step, least=0)
        if step >= self.total_steps:
            raise ValueError(
                f"StepPlan.locate: the plan has {self.total_steps} steps, counted from 0. "
                f"Received: step={step}."
            )
        # The first epoch that ends after `step`, by either of the two bounds in `end_of`.
        epoch = max(step // self.steps_per_epoch, step - (self.total_steps - self.epochs))
        return epoch, step - (self.end_of(epoch - 1) if epoch else 0)


def _set(plan: StepPlan, name: str, value: Any) -> int:
    """Check a field and keep it as an `int`."""
    number = whole_number("StepPlan", name, value)
    object.__setattr__(plan, name, number)  # the way a frozen dataclass sets its own fields
    return number


def _check_epochs(total: int, epochs: int) -> None:
    if epochs > total:
        raise ValueError(
            f"StepPlan: {total} steps cannot be cut into {epochs} epochs of at least one step. "
            f"Pass `epochs` of at most {total}, or more `total_steps`."
        )


def _passes(where: str, stop_point: float) -> Fraction:
    """Return the number that was meant: 14.3, where the float is 14.300000000000000710…."""
    if isinstance(stop_point, bool) or not hasattr(stop_point, "__float__"):
        raise TypeError(
            f"{where}: `stop_point` must be a number of passes over the data. "
            f"Received: {stop_point!r} ({type(stop_point).__name__})."
        )
    if not math.isfinite(stop_point) or round(stop_point, 6) <= 0:
        raise ValueError(
            f"{where}: `stop_point` must be a finite number of passes, at least 0.000001. "
            f"Received: {stop_point}."
        )
    return Fraction(float(stop_point)).limit_denominator(1_000_000)


def _known(steps_per_pass: int | None, given: str) -> int:
    if steps_per_pass is None:
        raise ValueError(
            f"StepPlan: with `{given}` alone, an epoch is a pass over the data, and the length of "
            "this data is not known (a generator, or an endless dataset). Pass `steps_per_epoch` "
            "as well."
        )
    return whole_number("StepPlan", "steps_per_pass", steps_per_pass)
