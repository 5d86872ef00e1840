"""The three families of stopping criteria of Prechelt (1998), to the letter.

A strip is `strip` observations; strips follow one another from the first observation on. `E(t)` is
the monitored value at observation t, such as the validation error of epoch t, and `Eopt(t)` the
lowest up to there.

Where a value is not finite, no criterion is met at that observation: it is never the lowest, a
strip that holds one has no progress, and a rise from or to one is none. `| kp.Patience(...,
check_finite=True)` stops there.

References:
    - [Prechelt, 1998, Early stopping - but when?](https://doi.org/10.1007/3-540-49430-8_3)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._util.arguments import check_number, whole_number
from .._util.metrics import Mode
from .rules import GO_ON, Decision, Observation, Rule, State, improves


@dataclass(frozen=True)
class _ErrorCriterion(Rule):
    """A criterion that divides by errors: defined for positive values of which less is better.

    Attributes:
        alpha: The threshold.
    """

    alpha: float

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "alpha", check_number(type(self).__name__, "alpha", self.alpha, above=0.0)
        )

    def check(self, mode: Mode) -> None:
        """Raises where more is better."""
        if mode == "max":
            raise ValueError(
                f"{type(self).__name__} is defined for errors, of which less is better; received "
                'mode="max". Monitor a loss or an error, or use kp.Patience or kp.SuccessiveRises.'
            )

    def _next_lowest(self, lowest: float | None, value: float) -> float | None:
        if value <= 0:
            raise ValueError(
                f"{type(self).__name__} divides by the lowest value, and is defined for positive "
                f"ones; received {value:g}. "
                "Monitor an error that stays above 0, or use kp.Patience or kp.SuccessiveRises."
            )
        return value if improves(value, lowest, "min") else lowest


@dataclass(frozen=True)
class GeneralizationLoss(_ErrorCriterion):
    """Prechelt's GL: stops as soon as the value exceeds the lowest one by more than `alpha`
    percent.

    `GL(t) = 100 (E(t) / Eopt(t) - 1)`, and it stops after the first observation t with `GL(t) >
    alpha`. Prechelt tried `alpha` from 1 to 5.

    Args:
        alpha: In percent; positive.

    Raises:
        ValueError: If `alpha` is not positive; when it observes, if the value is not, or if more is
            better.

    Example:

    >>> import keras_patterns as kp
    >>> rule = kp.GeneralizationLoss(alpha=5)
    >>> state, decision = rule.observe(rule.begin(), kp.stopping.Observation(0.5, at=1), "min")
    >>> state, decision = rule.observe(state, kp.stopping.Observation(0.53, at=2), "min")
    >>> print(decision.reason)
    the generalization loss 6 exceeds 5 (lowest value: 0.5)

    References:
        - [Prechelt, 1998, Early stopping - but when?](https://doi.org/10.1007/3-540-49430-8_3)
    """

    def begin(self) -> State:
        """The state with no lowest value."""
        return {"lowest": None}

    def observe(self, state: State, observation: Observation, mode: Mode) -> tuple[State, Decision]:
        """Compares with the lowest value."""
        self.check(mode)
        lowest = self._next_lowest(state["lowest"], observation.value)
        loss = _generalization_loss(observation.value, lowest)
        stop = loss is not None and loss > self.alpha
        return {"lowest": lowest}, Decision(
            True, _too_general(loss, self.alpha, lowest)
        ) if stop else GO_ON


@dataclass(frozen=True)
class ProgressQuotient(_ErrorCriterion):
    """Prechelt's PQ: stops when the generalization loss is high for how fast the training still
    goes on.

    `P(t) = 1000 (mean of the training errors of the strip / lowest of them - 1)`, and it stops
    after the first observation t that ends a strip with `GL(t) / P(t) > alpha`, `GL` as in
    `kp.GeneralizationLoss`. A strip without any progress is met by any `GL(t) > 0`. Prechelt tried
    `alpha` from 0.5 to 3 with strips of 5 epochs.

    Args:
        alpha: The quotient; positive.
        strip: Observations in a strip; at least 2. Defaults to 5.

    Raises:
        ValueError: If an argument is out of range; when it observes, if a value is not positive, if
            more is better, or if there is no training value.

    Example:

    >>> import keras_patterns as kp
    >>> rule = kp.ProgressQuotient(alpha=0.5, strip=2)
    >>> state = rule.begin()
    >>> for at, (value, training) in enumerate([(0.5, 0.31), (0.6, 0.30)], start=1):
    ...     state, decision = rule.observe(state, kp.stopping.Observation(value, at, training),
    ...         "min")
    >>> print(decision.reason)
    the generalization loss 20 over the training progress 16.67 exceeds 0.5 (lowest value: 0.5)

    References:
        - [Prechelt, 1998, Early stopping - but when?](https://doi.org/10.1007/3-540-49430-8_3)
    """

    strip: int = 5
    needs_training = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(
            self, "strip", whole_number("ProgressQuotient", "strip", self.strip, least=2)
        )

    def begin(self) -> State:
        """The state with no lowest value and an empty strip."""
        return {"lowest": None, "training": []}

    def observe(self, state: State, observation: Observation, mode: Mode) -> tuple[State, Decision]:
        """Notes the training value; at the end of a strip, compares."""
        self.check(mode)
        lowest = self._next_lowest(state["lowest"], observation.value)
        training = [*state["training"], self._training(observation)]
        if len(training) < self.strip:
            return {"lowest": lowest, "training": training}, GO_ON
        loss = _generalization_loss(observation.value, lowest)
        state = {"lowest": lowest, "training": []}
        if loss is None or None in training:
            return state, GO_ON
        progress = 1000 * (sum(training) / (self.strip * min(training)) - 1)
        # As a product: a strip without progress is no division by zero.
        if not loss > self.alpha * progress:
            return state, GO_ON
        return state, Decision(
            True,
            _too_general(loss, self.alpha, lowest, f" over the training progress {progress:.4g}"),
        )

    def _training(self, observation: Observation) -> float | None:
        if observation.training is None or observation.training <= 0:
            raise ValueError(
                "ProgressQuotient needs the training value beside the monitored one, and a "
                f"positive one; received {observation.training!r}. Monitor a metric of the "
                "validation (val_...) that is there for the training too."
            )
        # JSON knows no NaN.
        return observation.training if math.isfinite(observation.training) else None


@dataclass(frozen=True)
class SuccessiveRises(Rule):
    """Prechelt's UP: stops when the value has become worse in `s` strips, one after the other.

    It compares the ends of strips: `UP(1)` stops after the first end of a strip, t, with `E(t) >
    E(t - strip)`, and `UP(s)` if `UP(s - 1)` stops after `t - strip` and `E(t) > E(t - strip)`. By
    how much plays no part, nor does the lowest value. In mode `"max"` a fall counts.

    Args:
        s: How many strips; at least 1.
        strip: Observations in a strip. Defaults to 5.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import keras_patterns as kp
    >>> rule = kp.SuccessiveRises(s=2, strip=1)
    >>> state = rule.begin()
    >>> for at, value in enumerate([0.5, 0.51, 0.52], start=1):
    ...     state, decision = rule.observe(state, kp.stopping.Observation(value, at), "min")
    >>> print(decision.reason)
    2 strips of 1 ended worse than the one before, at last with 0.52

    References:
        - [Prechelt, 1998, Early stopping - but when?](https://doi.org/10.1007/3-540-49430-8_3)
    """

    s: int
    strip: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "s", whole_number("SuccessiveRises", "s", self.s))
        object.__setattr__(self, "strip", whole_number("SuccessiveRises", "strip", self.strip))

    def begin(self) -> State:
        """The state with nothing seen: no end of a strip, no rise."""
        return {"seen": 0, "end": None, "rises": 0}

    def observe(self, state: State, observation: Observation, mode: Mode) -> tuple[State, Decision]:
        """At the end of a strip, compares with the end of the one before."""
        seen = state["seen"] + 1
        end = state["end"]
        value = observation.value
        if seen % self.strip:
            return {**state, "seen": seen}, GO_ON
        rose = end is not None and math.isfinite(value) and improves(end, value, mode)
        rises = state["rises"] + 1 if rose else 0
        reason = (
            f"{rises} strips of {self.strip} ended worse than the one before, at last with "
            f"{value:.4g}"
        )
        decision = (
            Decision(True, reason if rises > 1 else reason.replace("strips", "strip"))
            if rises >= self.s
            else GO_ON
        )
        # JSON knows no NaN, and nothing is compared with one.
        return {
            "seen": seen,
            "end": value if math.isfinite(value) else None,
            "rises": rises,
        }, decision


def _generalization_loss(value: float, lowest: float | None) -> float | None:
    return 100 * (value / lowest - 1) if lowest is not None and math.isfinite(value) else None


def _too_general(loss: float | None, alpha: float, lowest: float | None, over: str = "") -> str:
    return (
        f"the generalization loss {loss:.4g}{over} exceeds {alpha:g} (lowest value: {lowest:.4g})"
    )
