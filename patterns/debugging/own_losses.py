"""Checks of losses that a person wrote, by their values at right and at wrong answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .examined import Examined
from .finding import Finding
from .observed import rms
from .outputs import Output, is_binary, is_whole


def check_sign(examined: Examined) -> Iterator[Finding]:
    """A loss of one's own that is lower for wrong answers than for right ones."""
    yield from _weighted(examined)
    for one in examined.outputs:
        order = np.random.default_rng(0).permutation(len(one.y))
        forms = [] if one.loss_name else _true_outputs(one)
        pairs = [(one.loss_of(one.y, form), one.loss_of(one.y, form[order])) for form in forms]
        pairs = [pair for pair in pairs if np.isfinite(pair).all()]
        if pairs and all(wrong < right - 1e-3 * max(1.0, abs(right)) for right, wrong in pairs):
            right, wrong = pairs[0]
            yield Finding(
                "negated_loss",
                "error",
                f"The loss of {one.named} is {right:.3g} for the right answers and {wrong:.3g} for "
                "those of other examples: training makes the answers wrong.",
                {"right": right, "wrong": wrong},
                "Turn its sign around.",
            )
        elif not forms and not one.loss_name:
            yield from _gains_by_distance(one)


def _gains_by_distance(one: Output) -> Iterator[Finding]:
    """A loss of numbers whose right outputs are not known, such as that of a density: it must not
    fall when the targets are moved far off in either direction.
    """
    if one.y.dtype.kind != "f" or is_whole(one.y):
        return
    far = 10 * max(float(one.y.std()), rms(one.pred - one.pred.mean()))
    here = one.loss_of(one.y, one.pred)
    moved = [one.loss_of((one.y + sign * far).astype(one.y.dtype), one.pred) for sign in (-1, 1)]
    if np.isfinite([here, *moved]).all() and max(moved) < here - max(1.0, abs(here)):
        yield Finding(
            "negated_loss",
            "error",
            f"The loss of {one.named} is {here:.3g}, and {max(moved):.3g} or less for targets that "
            "are far off: training makes the answers wrong.",
            {"as given": here, "far off": max(moved)},
            "Turn its sign around: the logarithm of a density wants a minus.",
        )


def _weighted(examined: Examined) -> Iterator[Finding]:
    """Weights below zero, of a loss or of the examples."""
    found = {f"The loss of {one.named}": one.weight for one in examined.outputs}
    examples = examined.batch[2]
    if isinstance(examples, np.ndarray):
        found["The loss of each example"] = float(examples.mean())
    for what, weight in found.items():
        if weight < 0:
            yield Finding(
                "negated_loss",
                "error",
                f"{what} is weighted with {weight:g}: training climbs it.",
                {"weight": weight},
                "Give weights above 0.",
            )


def check_targets_count(examined: Examined) -> Iterator[Finding]:
    """A loss of one's own to which the targets only add a number: no gradient depends on them."""
    for one in examined.outputs:
        if not one.loss_name and one.y.size == one.pred.size and _only_add(one):
            yield Finding(
                "loss_mismatch",
                "error",
                f"The loss of {one.named} prefers the same outputs whatever the targets are: they "
                "only add a number to it, and training does not depend on them.",
                {},
                "Compare each output with its target: by the square of their difference, say.",
            )


def _only_add(one: Output) -> bool:
    y = one.y.astype("float32")
    others = 1 - y if is_binary(one.y) else 1.5 * y + max(float(y.std()), 1e-3)
    step = max(float(one.pred.std()), 0.1)
    noise = np.random.default_rng(0).normal(size=one.pred.shape)
    moved = (one.pred + step * noise).astype("float32")
    here, there = ([one.loss_of(part, pred) for part in (y, others)] for pred in (one.pred, moved))
    if not np.isfinite([*here, *there]).all():
        return False
    size = max(map(abs, [*here, *there]))
    knows_targets = abs(here[0] - here[1]) > 1e-3 * size
    knows_outputs = abs(here[0] - there[0]) > 1e-3 * size
    gains = [first - second for first, second in zip(here, there, strict=True)]
    if not is_binary(one.y):
        # An absolute difference knows only on which side of the outputs the targets are.
        mirrored = (2 * one.pred.reshape(y.shape) - y).astype("float32")
        gains.append(one.loss_of(mirrored, one.pred) - one.loss_of(mirrored, moved))
    differ = max(abs(gain - gains[0]) for gain in gains if np.isfinite(gain))
    return knows_targets and knows_outputs and differ < 1e-5 * size


def check_broadcast(examined: Examined) -> Iterator[Finding]:
    """Targets and predictions that a loss of one's own pairs all with all."""
    for one in examined.outputs:
        if not one.loss_name and _takes_any_order(one):
            yield Finding(
                "broadcast",
                "warning",
                f"The loss of {one.named} is the same when right answers are shuffled among the "
                "examples, and lower if all get the same answer: it pairs each target with each "
                "prediction.",
                {"size": one.y.size},
                "Give both the same shape inside the loss: squeeze both, or none.",
            )
            continue
        if not one.loss_name and _pairs_columns(one):
            yield Finding(
                "broadcast",
                "error",
                f"The loss of {one.named} is the same whichever example has which target: it pairs "
                "each target with each prediction.",
                {"size": one.y.size},
                "Keep the last axis of each part of the output: p[:, :1], not p[:, 0].",
            )
            continue
        yield from _astray(one)


def _astray(one: Output) -> Iterator[Finding]:
    """Shapes that differ by an axis of length 1, which a loss spreads over all pairs."""
    same_size = one.y.size == one.pred.size and one.y.shape != one.pred.shape
    if not same_size or one.family or len(one.y) < 2:
        return
    # At outputs that equal the targets, pairs that go astray always show.
    shaped = one.y.reshape(one.pred.shape).astype("float32")
    as_given, aligned = one.loss_of(one.y, shaped), one.loss_of(shaped, shaped)
    if np.isfinite([as_given, aligned]).all() and (
        abs(as_given - aligned) > 1e-3 * max(abs(aligned), 1e-6 * float(one.y.std()), 1e-12)
    ):
        yield Finding(
            "broadcast",
            "error",
            f"The targets have the shape {one.y.shape}, {one.named} has {one.pred.shape}, and "
            "the loss pairs each target with each prediction.",
            {"as given": as_given, "aligned": aligned},
            f"Reshape the targets to {(*one.y.shape[:1], *one.pred.shape[1:])}.",
        )


def _takes_any_order(one: Output) -> bool:
    """True if a loss takes note of the targets, and not of which example has which answer.

    One that compares two distributions does so rightly: it is lowest where they are the same. The
    mean over all pairs is lowest where all answers are one.
    """
    if one.y.shape != one.pred.shape or len(one.y) < 2:
        return False
    shaped = one.y.astype("float32")
    shuffled = shaped[np.random.default_rng(0).permutation(len(shaped))]
    if (shaped != shuffled).mean() < 0.1:
        return False
    means, medians = (
        np.broadcast_to(middle(shaped, axis=0), shaped.shape).astype("float32")
        for middle in (np.mean, np.median)
    )
    right, other = one.loss_of(one.y, shaped), one.loss_of(one.y, shuffled)
    # One that knows no target is the same where all targets are one.
    alike = one.loss_of(means, shaped)
    one_answer = [one.loss_of(one.y, middle) for middle in (means, medians)]
    close = 1e-4 * max(abs(right), 1e-12)
    return bool(
        np.isfinite([right, other, alike]).all()
        and abs(other - right) < close
        and abs(alike - right) > 100 * close
        and np.nanmin([*one_answer, np.inf]) < right
    )


def _pairs_columns(one: Output) -> bool:
    """True if a loss of one target and several outputs for each example knows the targets, and not
    whose they are.
    """
    if one.y.size != len(one.y) or one.y.dtype.kind != "f" or one.width < 2 or len(one.y) < 8:
        return False
    random = np.random.default_rng(0)
    pred = (one.pred + 0.5 * random.normal(size=one.pred.shape)).astype("float32")
    here = one.loss_of(one.y, pred)
    shuffled = one.loss_of(one.y[random.permutation(len(one.y))], pred)
    moved = one.loss_of((2 * one.y + 1).astype(one.y.dtype), pred)
    close = 1e-5 * max(abs(here), 1e-12)
    return bool(
        np.isfinite([here, shuffled, moved]).all()
        and float(np.ptp(one.y)) > 0
        and abs(shuffled - here) < close
        and abs(moved - here) > 100 * close
    )


def check_own_logits(examined: Examined) -> Iterator[Finding]:
    """Probabilities under a loss of one's own that takes logits."""
    for one in examined.outputs:
        if one.loss_name or not (one.sums_to_one or one.range == (0.0, 1.0)):
            continue
        hot = _hot(one)
        if hot is None:
            continue
        likely = one.loss_of(one.y, hot.astype("float32"))
        wrong = one.loss_of(one.y, (1 - hot).astype("float32"))
        sure = one.loss_of(one.y, (20 * hot - 10).astype("float32"))
        if likely > 0.1 * wrong > 0 and abs(sure) < 0.1 * likely:
            yield Finding(
                "logits",
                "error",
                f"{one.named.capitalize()} is made of probabilities, and its loss is {likely:.3g} "
                "where they are right, and 0 for logits: it squashes them once more.",
                {"right probabilities": likely, "right logits": sure},
                "Leave the last activation out, or from_logits=True.",
            )


def _true_outputs(one: Output) -> list[np.ndarray]:
    """Outputs that are right, in each form that the loss may expect; none if they are not known."""
    hot = _hot(one)
    if hot is not None and one.before is None and not one.sums_to_one:
        # Of a distance, say, which is 0 where two inputs are of one class.
        return []
    if hot is None:
        same = one.y.size == one.pred.size
        return [one.y.reshape(one.pred.shape).astype("float32")] if same else []
    likely = 0.9 * hot + 0.1 * (1 - hot) / max(1, one.width - 1)
    forms = [likely] if one.sums_to_one or one.range == (0.0, 1.0) else [likely, 8 * hot - 4]
    return [form.astype("float32") for form in forms]


def _hot(one: Output) -> np.ndarray | None:
    """The classes as rows of 0 and 1, or labels that are 0 and 1; None if the targets are none."""
    y, pred = one.y, one.pred
    if pred.ndim == 2 and one.width > 1 and y.size == len(y):
        if not is_whole(y) or y.min() < 0 or y.max() >= one.width:
            return None
        return np.eye(one.width)[y.reshape(-1).astype(int)]
    if y.size != pred.size:
        return None
    hot = y.reshape(pred.shape).astype("float64")
    return hot if is_binary(hot) else None
