"""The rule that waits: so long without an improvement, a value that is good enough, or one that is
hopeless.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._util.arguments import check_number, whole_number
from .._util.metrics import Mode
from .rules import GO_ON, Decision, Observation, Rule, State, improves


@dataclass(frozen=True)
class Patience(Rule):
    """Stops when the monitored value has not improved for `n` epochs or steps.

    With its defaults it decides as `keras.callbacks.EarlyStopping` does on finite values. A value
    that is not finite is never the best and counts as no improvement. The first observation never
    exhausts patience, so 0 and 1 are the same, as in Keras.

    Args:
        n: How long to wait for an improvement, in epochs (or observations), or in optimizer steps
            with `kp.EarlyStopping(unit="steps")`.
        min_delta: By more than how much a value must beat the best to be an improvement. Defaults
            to 0.
        relative: Whether `min_delta` is a fraction of the size of the best value, whatever its
            sign: 0.01 asks for 1 %. Defaults to False.
        threshold: Stop as soon as the value is at least as good as this. Defaults to None.
        divergence: Stop as soon as the value is worse than this. Defaults to None.
        warmup: What comes in the first so many epochs or steps is not looked at. Defaults to 0.
        check_finite: Whether to stop at a value that is not finite. Defaults to False.
        baseline: Waiting begins anew only at an improvement that beats this as well, by more than
            `min_delta`. As in Keras, the run goes on as long as every value is an improvement.
            Defaults to None.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If one is not a number.

    Example:

    >>> import keras_patterns as kp
    >>> rule, decision = kp.Patience(2, min_delta=0.1), None
    >>> state = rule.begin()
    >>> for at, value in enumerate([0.9, 0.5, 0.45, 0.41], start=1):
    ...     state, decision = rule.observe(state, kp.stopping.Observation(value, at), "min")
    >>> print(decision.reason)
    no improvement on 0.5 by more than 0.1 for 2 observations
    """

    n: int
    min_delta: float = 0.0
    relative: bool = False
    threshold: float | None = None
    divergence: float | None = None
    warmup: int = 0
    check_finite: bool = False
    baseline: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", whole_number("Patience", "n", self.n, least=0))
        object.__setattr__(self, "warmup", whole_number("Patience", "warmup", self.warmup, least=0))
        object.__setattr__(self, "min_delta", check_number("Patience", "min_delta", self.min_delta))
        for name in ("threshold", "divergence", "baseline"):
            if getattr(self, name) is not None:
                object.__setattr__(
                    self, name, check_number("Patience", name, getattr(self, name), least=-math.inf)
                )
        for name in ("relative", "check_finite"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(
                    f"Patience: `{name}` must be True or False. Received: {getattr(self, name)!r}."
                )

    def check(self, mode: Mode) -> None:
        """Raises if every value would be good enough or hopeless."""
        if (
            self.threshold is None
            or self.divergence is None
            or improves(self.threshold, self.divergence, mode)
        ):
            return
        raise ValueError(
            f'Patience: with mode="{mode}" the `threshold` must be better than the `divergence`. '
            f"Received: threshold={self.threshold!r}, divergence={self.divergence!r}."
        )

    def begin(self) -> State:
        """The state with no best value and no wait."""
        return {"best": None, "since": None, "wait": 0}

    def observe(self, state: State, observation: Observation, mode: Mode) -> tuple[State, Decision]:
        """Waits on, or begins to wait anew at an improvement."""
        if observation.at <= self.warmup:
            return state, GO_ON
        value = observation.value
        best = state["best"]
        since = state["since"]
        first = since is None
        since = self.warmup if since is None else since
        improved = self.improves(value, best, mode)
        if improved:
            best = value
            since = (
                observation.at
                if self.baseline is None or self.improves(value, self.baseline, mode)
                else since
            )
        wait = observation.at - since
        exhausted = not improved and not first and wait >= max(self.n, 1)
        reason = self._limits(value, mode) or (
            self._exhausted(best, wait, observation.unit) if exhausted else ""
        )
        return {"best": best, "since": since, "wait": wait}, Decision(bool(reason), reason)

    def improves(self, value: float, best: float | None, mode: Mode) -> bool:
        """Tells whether a value is better than the best by more than `min_delta`."""
        size = abs(best) if self.relative and best is not None else 1.0
        return improves(value, best, mode, self.min_delta * size)

    def _limits(self, value: float, mode: Mode) -> str:
        if self.check_finite and not math.isfinite(value):
            return f"the value {value:g} is not finite"
        # A value equal to the threshold is good enough; one equal to the divergence is not hopeless
        # yet.
        if (
            self.threshold is not None
            and math.isfinite(value)
            and not improves(self.threshold, value, mode)
        ):
            return f"the value {value:.4g} reaches the threshold {self.threshold:g}"
        if self.divergence is not None and (
            value > self.divergence if mode == "min" else value < self.divergence
        ):
            return (
                f"the value {value:.4g} is worse than the divergence threshold {self.divergence:g}"
            )
        return ""

    def _exhausted(self, best: float | None, wait: int, unit: str) -> str:
        waited = f"for {wait:,} {unit if wait > 1 else unit.removesuffix('s')}"
        if best is None:
            return f"no finite value {waited}"
        least = f" by more than {self.min_delta:.4g}" if self.min_delta else ""
        if self.relative and self.min_delta:
            least = f" by more than {100 * self.min_delta:.4g} %"
        baseline = (
            "" if self.baseline is None else f", or none that beats the baseline {self.baseline:g},"
        )
        return f"no improvement on {best:.4g}{least}{baseline} {waited}"


def chosen_rule(rule: Rule | None, **arguments: Any) -> Rule:
    """The rule that `kp.EarlyStopping` was given, or the `Patience` of its `patience`, `min_delta`
    and `baseline`.
    """
    if rule is None:
        try:
            return Patience(
                arguments["patience"], arguments["min_delta"], baseline=arguments["baseline"]
            )
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"EarlyStopping: {error}".replace("`n`", "`patience`").replace("Patience: ", "")
            ) from None
    if not isinstance(rule, Rule):
        raise TypeError(
            f"EarlyStopping: `rule` must be a rule such as kp.Patience(5). Received: {rule!r}."
        )
    given = {name: value for name, value in arguments.items() if value not in (0, None)}
    if given:
        names = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ValueError(
            f"EarlyStopping(rule=...): {names} would have no effect; with a rule they go into it: "
            "kp.Patience(patience, min_delta=..., baseline=...)."
        )
    return rule
