"""The rules of early stopping: pure functions of a state and an observation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .._util.metrics import Mode
from .._util.schema import check_like, checked, require

State = Mapping[str, Any]

# A None in the first state of a rule of this package stands for a number.
_OWN = "keras_patterns."


@dataclass(frozen=True)
class Observation:
    """One value of the monitored metric, for a rule such as `kp.Patience`.

    Attributes:
        value: Of the metric; need not be finite.
        at: When, in the unit of patience: 1, 2, 3, ... for observations, or optimizer steps done.
        training: The metric of the same name without `val_`, which only `kp.ProgressQuotient`
            needs.
        unit: What `at` counts, for the words of a decision.
    """

    value: float
    at: int
    training: float | None = None
    unit: str = "observations"


@dataclass(frozen=True)
class Decision:
    """The answer of a rule such as `kp.Patience` to an observation.

    Attributes:
        stop: Whether to stop.
        reason: Why, in words; empty if not.
    """

    stop: bool = False
    reason: str = ""


GO_ON = Decision()


class Rule(ABC):
    """A rule of early stopping: a value that holds no state, and a pure function from state and
    observation to state and decision.

    Rules combine: `a | b` stops as soon as one of them does, `a & b` at an observation to which
    both say so. A rule of your own is a frozen dataclass of JSON values that derives from this and
    has the two methods `begin` and `observe`.

    Example:

    >>> import keras_patterns as kp
    >>> rule = kp.Patience(2) | kp.GeneralizationLoss(alpha=50)
    >>> state = rule.begin()
    >>> for at, value in enumerate([1.0, 0.8, 0.9, 1.3], start=1):
    ...     state, decision = rule.observe(state, kp.stopping.Observation(value, at), "min")
    >>> decision.stop
    True
    >>> print(decision.reason)  # doctest: +ELLIPSIS
    no improvement on 0.8 for 2 observations, and the generalization loss 62.5 exceeds 50 ...
    """

    # Whether it reads `Observation.training`.
    needs_training = False

    @abstractmethod
    def begin(self) -> State:
        """The state before the first observation: JSON values by name. States are never changed,
        only replaced.
        """

    @abstractmethod
    def observe(self, state: State, observation: Observation, mode: Mode) -> tuple[State, Decision]:
        """The next state, and what the rule says.

        Args:
            state: From `begin`, or from here.
            observation: The next one.
            mode: `"min"` if less is better, `"max"` if more is.

        Raises:
            ValueError: If the rule is not defined for the value or the mode.
        """

    def improves(self, value: float, best: float | None, mode: Mode) -> bool:
        """Tells whether a value is better than the best so far. One that is not finite never is."""
        return improves(value, best, mode)

    def check(self, mode: Mode) -> None:  # noqa: B027  most rules are defined for both
        """Raises a ValueError if the rule is not defined for a mode."""

    def check_state(self, state: Any) -> None:
        """Raises a ValueError unless a state that was read from a checkpoint has the names that
        `begin` gives, and numbers where that has numbers.
        """
        check_like(state, self.begin(), "rule", type(self).__module__.startswith(_OWN))

    @property
    def kind(self) -> str:
        """The names of its rules; a state goes on under a rule of the same kind."""
        return type(self).__name__

    def get_config(self) -> dict[str, Any]:
        """The rule as JSON values."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]  # every rule is a dataclass
        return {"rule": type(self).__name__, **{name: getattr(self, name) for name in names}}

    def __or__(self, other: Rule) -> Rule:
        return (
            AnyOf((*_flattened(AnyOf, self), *_flattened(AnyOf, other)))
            if isinstance(other, Rule)
            else NotImplemented
        )

    def __and__(self, other: Rule) -> Rule:
        return (
            AllOf((*_flattened(AllOf, self), *_flattened(AllOf, other)))
            if isinstance(other, Rule)
            else NotImplemented
        )


@dataclass(frozen=True)
class _Combined(Rule):
    """Several rules, all of which see every observation.

    Attributes:
        parts: The rules.
    """

    parts: tuple[Rule, ...]

    def begin(self) -> State:
        """The states of the parts."""
        return {"parts": [part.begin() for part in self.parts]}

    def observe(self, state: State, observation: Observation, mode: Mode) -> tuple[State, Decision]:
        """Passes the observation to every part, and combines their decisions."""
        pairs = [
            part.observe(of_part, observation, mode)
            for part, of_part in zip(self.parts, state["parts"], strict=True)
        ]
        decision = self._combined_decision([decision for _, decision in pairs])
        return {"parts": [of_part for of_part, _ in pairs]}, decision

    def improves(self, value: float, best: float | None, mode: Mode) -> bool:
        """Tells whether any part calls the value better."""
        return any(part.improves(value, best, mode) for part in self.parts)

    def check_state(self, state: Any) -> None:
        """Checks the state of each part."""
        parts = checked(
            checked(state, dict[str, Any], "rule").get("parts"), list[Any], "rule.parts"
        )
        require(len(parts) == len(self.parts), "rule.parts", f"expected {len(self.parts)} states")
        for part, of_part in zip(self.parts, parts, strict=True):
            part.check_state(of_part)

    def check(self, mode: Mode) -> None:
        """Raises if a part is not defined for a mode."""
        for part in self.parts:
            part.check(mode)

    @property
    def needs_training(self) -> bool:  # type: ignore[override]
        """True if a part reads `Observation.training`."""
        return any(part.needs_training for part in self.parts)

    @property
    def kind(self) -> str:
        """The kinds of all parts."""
        return f"{type(self).__name__}({', '.join(part.kind for part in self.parts)})"

    def get_config(self) -> dict[str, Any]:
        """The configurations of all parts, as JSON values."""
        return {"rule": type(self).__name__, "parts": [part.get_config() for part in self.parts]}

    @abstractmethod
    def _combined_decision(self, decisions: list[Decision]) -> Decision: ...


class AnyOf(_Combined):
    """Stops as soon as one of its parts does; written `a | b`.

    Example:

    >>> import keras_patterns as kp
    >>> rule = kp.Patience(3) | kp.GeneralizationLoss(5)
    >>> isinstance(rule, kp.stopping.AnyOf)
    True
    """

    def _combined_decision(self, decisions: list[Decision]) -> Decision:
        return _joined_decision([decision for decision in decisions if decision.stop])

    def __repr__(self) -> str:
        return f"({' | '.join(map(repr, self.parts))})"


class AllOf(_Combined):
    """Stops at an observation to which all of its parts say so; written `a & b`.

    Example:

    >>> import keras_patterns as kp
    >>> rule = kp.Patience(3) & kp.GeneralizationLoss(5)
    >>> isinstance(rule, kp.stopping.AllOf)
    True
    """

    def _combined_decision(self, decisions: list[Decision]) -> Decision:
        return (
            _joined_decision(decisions) if all(decision.stop for decision in decisions) else GO_ON
        )

    def __repr__(self) -> str:
        return f"({' & '.join(map(repr, self.parts))})"


def improves(value: float, reference: float | None, mode: Mode, least: float = 0.0) -> bool:
    """Tells whether a value is finite, and better than a reference by more than `least`."""
    if not math.isfinite(value):
        return False
    if reference is None:
        return True
    return value + least < reference if mode == "min" else value - least > reference


def _joined_decision(decisions: list[Decision]) -> Decision:
    return Decision(
        bool(decisions), ", and ".join(dict.fromkeys(decision.reason for decision in decisions))
    )


def _flattened(kind: type[_Combined], rule: Rule) -> tuple[Rule, ...]:
    return rule.parts if isinstance(rule, kind) else (rule,)
