"""The finding of a guard, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from msgspec import Meta

from .._util.errors import NonFiniteError
from .._util.schema import MOST, Count, checked
from ..storage import Position


@dataclass(frozen=True)
class NonFiniteFinding:
    """A step after which something was not finite.

    Attributes:
        step: How many steps were done then; the first is 1.
        batch: The number of its batch in the order of the data, from 0; -1 if that is not known.
        cause: What was found, for people.
        variable: The place in the model of the first variable that was not finite after the step;
            empty if all were.
        examples: Which examples the batch held, by their place in the arrays; empty if that is not
            known.
        scaled: Whether the rate was lowered after it.
    """

    step: Count
    batch: Annotated[int, Meta(ge=-1, le=MOST)]
    cause: str
    variable: str = ""
    examples: tuple[Count, ...] = ()
    scaled: bool = True

    def as_json(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {**asdict(self), "examples": list(self.examples)}

    def __str__(self) -> str:
        # A cause in the data names the examples.
        examples = "" if " in example " in self.cause else _listed(self.examples)
        where = f" (batch {self.batch:,} of the data{examples})" if self.batch >= 0 else ""
        text = f"step {self.step:,}{where}: {self.cause}"
        return text + (
            f"; the first variable that it left not finite is {self.variable}"
            if self.variable
            else ""
        )


def not_finite(message: str, findings: Sequence[NonFiniteFinding]) -> NonFiniteError:
    """The error that ends a run, with its findings."""
    return NonFiniteError(message, [finding.as_json() for finding in findings])


def checked_state(state: Mapping[str, Any], now: Position | None) -> dict[str, Any]:
    """The state of a guard that was read from a checkpoint, with findings as such.

    Args:
        state: Of `NonFiniteGuard.get_state`.
        now: Where the run stands; None if there is no run.

    Raises:
        ValueError: If it is no such state.
    """
    return {
        "findings": checked(state["findings"], list[NonFiniteFinding], "findings"),
        "seeks": checked(state["seeks"], Count | None, "seeks"),
        "point": Position.in_state(state["point"], now),
    }


def _listed(examples: Sequence[int], most: int = 6) -> str:
    if not examples:
        return ""
    more = f" and {len(examples) - most} more" if len(examples) > most else ""
    return f": examples {', '.join(map(str, examples[:most]))}{more}"
