"""Checks of outputs, losses and targets against each other, by their values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .examined import Examined
from .finding import Finding
from .outputs import Output, are_distributions, is_binary, is_whole

CROSSENTROPIES = ("sparse", "categorical", "binary")
# A share of examples below which a few oddities are passed over.
_FEW = 0.01


def check_targets(examined: Examined) -> Iterator[Finding]:
    """Targets that the loss does not know: their numbers, their shape, their width."""
    for one in examined.outputs:
        if one.family == "sparse":
            yield from _sparse(one)
        elif one.family == "categorical":
            yield from _categorical(one)
        elif one.family == "binary":
            yield from _binary(one)
        elif one.family:
            yield from _numbers(one)


def check_activation(examined: Examined) -> Iterator[Finding]:
    """A last activation that does not suit the loss or the targets."""
    for one in examined.outputs:
        if one.pred.size and np.isfinite(one.pred).all():
            found = _stuck(one) or _twice(one) or _logits(one) or _probabilities(one) or _range(one)
            if found:
                yield found


def check_loss(examined: Examined) -> Iterator[Finding]:
    """A loss that does not suit the targets."""
    for one in examined.outputs:
        if one.family == "regression" and not _is_copy(examined, one):
            binary = is_binary(one.all_y) and one.width == 1 and one.y.size == len(one.y)
            if one.is_one_hot or binary:
                yield Finding(
                    "loss_mismatch",
                    "warning",
                    f"{one.named.capitalize()} is trained with {one.loss_name} on classes: its "
                    "gradient fades where the output is most wrong.",
                    {"loss": one.loss_name},
                    "Use a crossentropy.",
                )
        if one.loss_name == "mean_absolute_error" and one.y.size == len(one.y):
            yield from _always_the_median(one)
        if one.loss_name == "cosine_similarity" and _is_sign(one):
            yield Finding(
                "loss_mismatch",
                "error",
                f"{one.named.capitalize()} is one number, and cosine_similarity compares its sign "
                "only: nothing tells a small one from a large one, and no gradient passes.",
                {"units": one.width},
                "Use mse or huber.",
            )
        if one.family == "binary" and one.sums_to_one and one.is_one_hot and one.width > 2:
            yield Finding(
                "loss_mismatch",
                "warning",
                f"{one.named.capitalize()} is a distribution over {one.width} classes, and each "
                "is judged by itself by binary_crossentropy.",
                {"classes": one.width},
                'Use "categorical_crossentropy".',
            )


def _always_the_median(one: Output) -> Iterator[Finding]:
    """An absolute error of numbers most of which are one: its best answer is that one."""
    median = float(np.median(one.all_y))
    share = float((one.all_y == median).mean())
    if share > 0.5 and not is_binary(one.all_y) and np.ptp(one.all_y):
        yield Finding(
            "loss_mismatch",
            "warning",
            f"{share:.0%} of the targets of {one.named} are {median:g}, and of all constants that "
            "has the smallest absolute error: nothing rare is foretold.",
            {"share": share, "median": median},
            "Use mse, huber or poisson, whose best answer is nearer to the mean.",
        )


def _is_sign(one: Output) -> bool:
    """True if a loss is the same whatever the size of each single number."""
    if one.width > 1 or one.y.size != one.pred.size:
        return False
    shaped = one.y.reshape(one.pred.shape).astype("float32")
    sizes = np.random.default_rng(0).uniform(0.5, 2, shaped.shape).astype("float32")
    return abs(one.loss_of(shaped, sizes * shaped) - one.loss_of(shaped, shaped)) < 1e-4


def check_percentages(examined: Examined) -> Iterator[Finding]:
    """Losses that are relative to the targets, with targets that are zero or below."""
    for one in examined.outputs:
        y, name = one.all_y, one.loss_name
        wrong = {"mean_absolute_percentage_error": np.abs(y) < 1e-6}
        wrong["mean_squared_logarithmic_error"] = wrong["poisson"] = y < 0
        share = float(wrong[name].mean()) if name in wrong else 0.0
        if share > _FEW:
            yield Finding(
                "loss_mismatch",
                "warning",
                f"{share:.0%} of the targets of {one.named} are so that {name} makes no sense.",
                {"share": share},
                "Use mse or huber.",
            )


def _sparse(one: Output) -> Iterator[Finding]:
    labels = one.all_y
    if one.width == 1:
        yield _width(one, "a crossentropy over a single unit is always 0")
        return
    if not is_whole(labels):
        yield Finding(
            "loss_mismatch",
            "error",
            f"The targets of {one.named} are no whole numbers, and {one.loss_name} takes labels.",
            {"lowest": float(np.min(labels)), "highest": float(np.max(labels))},
            "Use a loss for numbers, such as mse, or give labels.",
        )
        return
    if labels.size != len(labels) * int(np.prod(one.pred.shape[1:-1])):
        yield _width(one, f"the labels have the shape {labels.shape}")
        if one.is_one_hot:
            yield _encoded(one, "one-hot rows", "labels", "categorical_crossentropy")
        return
    labels = one.labels
    if not labels.size:
        return
    low, high = int(labels.min()), int(labels.max())
    evidence = {"lowest": low, "highest": high, "outputs": one.width}
    if low < 0 or high >= one.width:
        # Labels from 0 ask for more units, others for other labels.
        kind = "output_width" if low == 0 else "label_range"
        yield Finding(
            kind,
            "error",
            f"The labels of {one.named} go from {low} to {high}, and it has {one.width} units, for "
            f"the labels 0 to {one.width - 1}.",
            evidence,
            f"Give it {high + 1} units." if low == 0 else "Let the labels begin at 0.",
        )
    elif one.width > 2 * (high + 1) and one.width > high + 3:
        yield Finding(
            "output_width",
            "note",
            f"{one.named.capitalize()} has {one.width} units, and no label above {high} occurs.",
            evidence,
        )


def _categorical(one: Output) -> Iterator[Finding]:
    if one.width == 1:
        yield _width(one, "a crossentropy over a single unit is always 0")
    elif one.y.shape[-1] != one.width or one.y.ndim != one.pred.ndim:
        yield _width(one, f"the targets have the shape {one.y.shape}")
        if one.y.size == len(one.y) and is_whole(one.all_y):
            yield _encoded(one, "labels", "one-hot rows", "sparse_categorical_crossentropy")
    elif one.all_y.min() < 0:
        yield _beyond_one(one)
    elif (np.abs(one.all_y.sum(axis=-1) - 1) > 1e-3).mean() > _FEW:
        yield Finding(
            "loss_mismatch",
            "warning",
            f"The targets of {one.named} do not sum to one for each example, and "
            f"{one.loss_name} chooses one class.",
            {"share": float((np.abs(one.all_y.sum(axis=-1) - 1) > 1e-3).mean())},
            "Use binary_crossentropy with sigmoids for labels that do not exclude each other.",
        )


def _binary(one: Output) -> Iterator[Finding]:
    if one.y.size != one.pred.size:
        yield _width(one, f"the targets have the shape {one.y.shape}")
        return
    low, high = float(one.all_y.min()), float(one.all_y.max())
    if low >= 0 and high <= 1:
        return
    if is_whole(one.all_y):
        yield _beyond_one(one)
        if len(np.unique(one.all_y)) == 2:
            return
    yield Finding(
        "loss_mismatch",
        "error",
        f"The targets of {one.named} go from {low:.3g} to {high:.3g}, and binary_crossentropy "
        "takes 0 and 1.",
        {"lowest": low, "highest": high},
        "Use a crossentropy over the classes, or a loss for numbers.",
    )


def _numbers(one: Output) -> Iterator[Finding]:
    if one.y.size == one.pred.size or one.y.shape == one.pred.shape:
        return
    yield _width(one, f"the targets have the shape {one.y.shape}, and are broadcast")
    if one.y.size == len(one.y) and is_whole(one.y) and one.y.min() >= 0:
        yield Finding(
            "loss_mismatch",
            "error",
            f"{one.loss_name} compares each of {one.width} outputs with the number of the class.",
            {"loss": one.loss_name},
            'Use "sparse_categorical_crossentropy".',
        )


def _encoded(one: Output, given: str, wanted: str, other: str) -> Finding:
    return Finding(
        "loss_mismatch",
        "error",
        f"The targets of {one.named} are {given}, and {one.loss_name} takes {wanted}.",
        {"loss": one.loss_name},
        f'Use "{other}".',
    )


def _width(one: Output, why: str) -> Finding:
    return Finding(
        "output_width",
        "error",
        f"{one.named.capitalize()} has the shape {one.pred.shape}, and {why}.",
        {"outputs": one.width, "loss": one.loss_name},
        "Give it one unit for each class, or for each number.",
    )


def _beyond_one(one: Output) -> Finding:
    low, high = float(one.all_y.min()), float(one.all_y.max())
    return Finding(
        "label_range",
        "error",
        f"The targets of {one.named} go from {low:.3g} to {high:.3g}, and {one.loss_name} takes 0 "
        "to 1.",
        {"lowest": low, "highest": high},
        "Recode the labels.",
    )


def _activation(
    one: Output, severity: str, message: str, remedy: str, **evidence: float
) -> Finding:
    return Finding(
        "output_activation",
        severity,  # type: ignore[arg-type]
        f"{one.named.capitalize()} {message}",
        evidence,
        remedy,
    )


def _stuck(one: Output) -> Finding | None:
    if one.width == 1 and one.activation == "softmax" and np.ptp(one.pred) == 0:
        message = "is a softmax over one unit, which is 1 whatever the weights are."
        return _activation(one, "error", message, 'Use "sigmoid".')
    return None


def _twice(one: Output) -> Finding | None:
    """A softmax of a softmax, or a sigmoid of a sigmoid. TensorFlow's losses undo the outer one."""
    if one.before is None or one.before.shape != one.pred.shape:
        return None
    inner = one.before
    again = one.activation == "softmax" and one.width > 1 and are_distributions(inner) > 0.99
    if again:
        message = "is a softmax of a softmax, which is nearly the same for all classes."
        return _activation(one, "error", message, "Leave one of the two out.")
    return None


def _logits(one: Output) -> Finding | None:
    """Probabilities where logits are expected."""
    if not one.from_logits:
        return None
    low, high = one.range
    if one.sums_to_one or (low, high) == (0.0, 1.0):
        return Finding(
            "logits",
            "error",
            f"{one.named.capitalize()} is made of probabilities already, and the loss expects "
            "logits: it squashes them once more.",
            {"lowest": float(one.pred.min()), "highest": float(one.pred.max())},
            "Leave the last activation out, or from_logits=True.",
        )
    if np.isfinite([low, high]).any():
        message = f"goes through {one.activation}, so its logits cannot leave {low:g} to {high:g}."
        return _activation(one, "warning", message, "Leave the last activation out.")
    return None


def _probabilities(one: Output) -> Finding | None:
    """Something else where probabilities are expected."""
    if one.family not in CROSSENTROPIES or one.from_logits:
        return None
    low, high = float(one.pred.min()), float(one.pred.max())
    if low < -1e-6 or high > 1 + 1e-6 or one.range[1] == np.inf or one.range[0] < 0:
        squash = "softmax" if one.width > 1 and one.family != "binary" else "sigmoid"
        if one.activation == "" and low >= 0 and high <= 1:
            return None
        return _activation(
            one,
            "error",
            f"goes from {low:.3g} to {high:.3g}, and the loss expects probabilities.",
            f'Use "{squash}" as the last activation, or from_logits=True.',
            lowest=low,
            highest=high,
        )
    if one.family != "binary" and one.width > 1 and not one.sums_to_one:
        return _activation(
            one,
            "error",
            f"does not sum to one for each example, and {one.loss_name} expects a distribution.",
            'Use "softmax".',
            sum=float(one.pred.sum(axis=-1).mean()),
        )
    return None


def _range(one: Output) -> Finding | None:
    """Targets that the last activation cannot give."""
    if one.sums_to_one and one.y.shape == one.pred.shape and is_binary(one.all_y):
        share = float((one.all_y.sum(axis=-1) != 1).mean())
        if share > _FEW:
            return _activation(
                one,
                "error",
                "sums to one for each example, and the targets do not: classes that do not "
                "exclude each other share one distribution.",
                'Use "sigmoid" with binary_crossentropy.',
                share=share,
            )
    low, high = one.range
    if one.family == "poisson" and low < 0:
        return _activation(
            one,
            "warning",
            "can be below zero, and the loss takes its logarithm.",
            'Use "exponential" or "softplus".',
            lowest=float(one.pred.min()),
        )
    if one.family in CROSSENTROPIES or one.y.size != one.pred.size:
        return None
    outside = float(((one.all_y < low - 1e-6) | (one.all_y > high + 1e-6)).mean())
    if outside > _FEW:
        return _activation(
            one,
            "error",
            f"goes through {one.activation}, which gives {low:g} to {high:g}, and {outside:.0%} of "
            "the targets lie outside.",
            "Leave the last activation out, or scale the targets.",
            share=outside,
        )
    if one.family == "regression" and one.activation == "relu" and is_binary(one.all_y):
        return _activation(
            one, "warning", "goes through relu, and the targets are 0 and 1.", 'Use "sigmoid".'
        )
    return None


def _is_copy(examined: Examined, one: Output) -> bool:
    """True if the targets are the inputs, or images: numbers that happen to be 0 and 1."""
    x, _, _ = examined.batch
    return one.y.ndim > 2 or (
        isinstance(x, np.ndarray)
        and x.size == one.y.size
        and np.array_equal(x.ravel(), one.y.ravel())
    )
