"""The verdict on one batch, by the losses at each rate that was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .finding import Finding, shown
from .overfit_report import Attempt, LayerRow, OverfitReport

# Factors of the rate that are tried, in this order, where the given rate does not do.
_LOWER, _HIGHER = (0.1, 0.01), (10.0, 100.0, 1000.0)
# Of the loss at the start, less what no model can go below.
_MEMORISED, _LEARNT, _STOOD_STILL = 0.95, 0.1, 0.08
# A gain over the given rate by which another one is said to be better.
_GAIN_LOWER, _GAIN_AFTER_EXPLOSION, _GAIN_HIGHER = 0.1, 0.002, 0.08
# Of a step, relative to the weights, in each layer.
HEALTHY_UPDATES = (4e-4, 0.16)
_NO_STEP, _USUAL_UPDATE = 0.01 * HEALTHY_UPDATES[0], 0.01


def judged(losses: np.ndarray, floor: float) -> tuple[float, str]:
    """The share of the loss that is gone, and the verdict."""
    if not np.isfinite(losses).all():
        return -math.inf, "not finite"
    first, last = float(losses[0]), float(np.median(losses[-5:]))
    room = max(first - floor, 1e-3 * abs(first), 1e-12)
    fall = (first - last) / room
    moves = np.diff(losses)
    rises, swing = float((moves > 0).mean()), float(np.abs(moves[len(moves) // 2 :]).mean()) / room
    if np.ptp(losses) <= 1e-7 * max(abs(first), 1e-12):
        return fall, "no gradient"
    if losses.max() > first + 10 * room:
        return fall, "explodes"
    if fall >= _MEMORISED:
        return fall, "memorised"
    if rises > 0.25 and swing > 0.1:
        return fall, "oscillates"
    if fall < -0.05:
        return fall, "goes up"
    return fall, "learning" if fall >= _LEARNT else "plateaus"


def other_factors(first: Attempt, update: float) -> tuple[float, ...]:
    """The factors of the rate that could prove it wrong.

    Args:
        first: At the given rate.
        update: The largest change of a layer in the first step, relative to its weights.
    """
    if first.fall >= _LEARNT and update > 2 * HEALTHY_UPDATES[1]:
        return _LOWER[:1]
    if first.verdict in ("not finite", "explodes", "oscillates", "goes up") or _is_restless(first):
        # A rate that is further off is tried at a usual change of the weights.
        usual = _USUAL_UPDATE / update if update > 0 else 1.0
        return (*_LOWER, usual) if usual < _LOWER[-1] else _LOWER
    return _HIGHER if first.fall < _STOOD_STILL else ()


def _is_restless(first: Attempt) -> bool:
    """True if the loss rose above its start, or went far without getting anywhere."""
    size, losses = abs(float(first.losses[0])), first.losses
    went = float(np.abs(np.diff(losses)).sum())
    rose = float(losses.max()) > losses[0] + 0.1 * size
    return first.fall < 0.5 and (rose or went > 2 * size)


def is_better(first: Attempt, other: Attempt) -> bool:
    """True if the other rate proves the first one wrong."""
    if other.verdict in ("not finite", "explodes"):
        return False
    if other.factor > 1:
        return other.fall - first.fall > _GAIN_HIGHER
    if _has_exploded(first) or (first.verdict == "explodes" and first.fall < other.fall):
        return other.fall > _GAIN_AFTER_EXPLOSION
    if first.fall >= _LEARNT and _mean_fall(other) - _mean_fall(first) > _GAIN_LOWER:
        return True
    return other.fall - max(first.fall, 0.0) > _GAIN_LOWER


def _has_exploded(one: Attempt) -> bool:
    """True if the loss is lost; a likelihood leaps now and then on its way down."""
    return one.verdict == "not finite" or (one.verdict == "explodes" and one.fall < _MEMORISED)


def _climbs(one: Attempt) -> bool:
    """True if the loss rises in nearly every step."""
    return len(one.losses) > 5 and float((np.diff(one.losses) > 0).mean()) > 0.9


def _mean_fall(one: Attempt) -> float:
    """The fall of the loss in the mean over all steps."""
    first = float(one.losses[0])
    return (first - float(one.losses.mean())) / max(abs(first), 1e-12)


def report_of(
    attempts: tuple[Attempt, ...],
    rows: tuple[LayerRow, ...],
    gradients: Mapping[str, float],
    without: tuple[str, ...],
) -> OverfitReport:
    first = attempts[0]
    better = next((one for one in attempts[1:] if is_better(first, one)), None)
    findings, advice = [], ""
    updates = [row.update for row in rows if row.update > 0]
    numbers = {"loss": float(first.losses[0]), "fall": first.fall, "rate": first.rate}
    if updates:
        numbers["largest update"] = max(updates)
    if better is not None:
        numbers[f"fall at {better.rate:.1e}"] = better.fall
        kind = "lr_high" if better.factor < 1 else "lr_low"
        advice = f"Use a learning rate of about {better.rate:.1e}; kp.find_learning_rate finds one."
        findings.append(Finding(kind, "warning", _sentence(first, better), numbers, advice))
    elif len(attempts) > 1 and all(_climbs(one) for one in attempts):
        advice = "Look at the sign of the loss, of its weights and of the learning rate."
        findings.append(
            Finding("negated_loss", "error", "The loss rises at every rate.", numbers, advice)
        )
    elif first.fall < _STOOD_STILL and updates and max(updates) < _NO_STEP:
        advice = "Raise the learning rate, or the norm that gradients are clipped to."
        text = f"A step changes no layer by more than {max(updates):.1e} of its weights."
        findings.append(Finding("lr_low", "warning", text, numbers, advice))
    elif _has_exploded(first):
        advice = "Look at the data, the loss and the initial weights: no lower rate helps."
        kind = "non_finite" if first.verdict == "not finite" else "exploding"
        findings.append(Finding(kind, "warning", _sentence(first, None), numbers, advice))
    elif first.verdict in ("no gradient", "plateaus", "goes up"):
        advice = "kp.preflight looks for the cause: no other rate helps."
    elif first.verdict == "memorised":
        advice = "Train on all the data."
    elif first.verdict == "learning":
        advice = "Train for longer: it learns, and has not finished."
    else:
        advice = "Give it more steps, or a rate that falls."
    evidence = _sentence(first, better)
    verdict = first.verdict
    if gradients and not any(gradients.values()):
        verdict = "no gradient"
    if updates and len(attempts) > 1:
        evidence += f" ({shown({'largest update over weight': max(updates)})})"
    return OverfitReport(verdict, attempts, rows, evidence, advice, without, tuple(findings))


def _sentence(first: Attempt, better: Attempt | None) -> str:
    count = len(first.losses)
    text = f"At the rate of {first.rate:.2g} the loss of one batch {_moved(first)} in {count} steps"
    if better is None:
        return f"{text}."
    return f"{text}; at {better.factor:.3g} times the rate it {_moved(better)}."


def _moved(one: Attempt) -> str:
    if not math.isfinite(one.fall):
        return "is not finite"
    if one.verdict == "explodes":
        return f"rises to {np.max(one.losses):.3g}"
    word = "falls" if one.fall >= 0 else "rises"
    return f"{word} by {abs(one.fall):.0%}"
