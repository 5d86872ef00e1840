"""Checks of the data alone, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from ..state.snapshot import all_finite
from .copies import Rows, are_near_copies, matrices, share_among
from .examined import Examined
from .finding import Finding
from .observed import LayerView, rms
from .outputs import Output, is_binary, is_whole

# What a layer gives whose statistics are of the data is judged by its values.
_NORMALISERS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.UnitNormalization,
)


def check_finite(examined: Examined) -> Iterator[Finding]:
    """Data, weights, outputs, loss or gradients that are not finite."""
    sample = examined.sample
    for name, part in (("x", sample.all_x), ("y", sample.all_y), ("weights", sample.weight)):
        for leaf in keras.tree.flatten(part):
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" and not all_finite(leaf):
                share = float((~np.isfinite(leaf)).mean())
                yield _not_finite(f"{share:.2%} of the values of {name} are", {"share": share})
                return
    for view in examined.views:
        if not np.isfinite(view.output).all():
            yield _not_finite(f"The output of {view.name} is", {})
            return
    found = examined.gradients
    if found is None:
        return
    loss, gradients = found
    if not math.isfinite(loss):
        yield _not_finite("The outputs are finite, and the loss is", {"loss": loss})
    elif not all(one is None or np.isfinite(one).all() for one in gradients):
        yield _not_finite("The loss is finite, and its gradient is", {"loss": loss})


def check_inputs(examined: Examined) -> Iterator[Finding]:
    """Inputs of an unsuitable scale, or that do not vary."""
    for leaf in keras.tree.flatten(examined.sample.x):
        rows = leaf.reshape(len(leaf), -1)
        if len(rows) > 1 and rows.dtype.kind in "fiu":
            varying = float((np.ptp(rows, axis=0) > 0).mean())
            if varying < 0.02 and np.isfinite(rows).all():
                yield Finding(
                    "constant_input",
                    "error" if not varying else "warning",
                    f"{1 - varying:.0%} of the inputs are the same for all examples.",
                    {"varying": varying},
                    "Look at what the preprocessing does to the data.",
                )
    yield from _scale(examined)
    yield from _validation_scale(examined)


def check_target_scale(examined: Examined) -> Iterator[Finding]:
    """Targets far from what the outputs start at."""
    for one in examined.outputs:
        is_number = one.family == "regression" or (not one.loss_name and not is_binary(one.y))
        if not is_number or one.y.size != one.pred.size:
            continue
        size, reach = rms(one.y), max(rms(one.pred), 1.0)
        if size > 100 and size > 30 * reach:
            yield Finding(
                "target_scale",
                "warning",
                f"The targets of {one.named} are {size:.3g} in the root mean square, and its "
                f"outputs {rms(one.pred):.3g}.",
                {"targets": size, "outputs": rms(one.pred)},
                "Divide the targets by their standard deviation, less their mean.",
            )
        elif 0 < one.y.std() < 1e-3 and np.abs(one.y).max() < 1e-2:
            yield Finding(
                "target_scale",
                "warning",
                f"The targets of {one.named} differ by {one.y.std():.3g} only.",
                {"targets": float(one.y.std())},
                "Divide the targets by their standard deviation, less their mean.",
            )


def check_classes(examined: Examined) -> Iterator[Finding]:
    """Classes with hardly any example, or with hardly any weight."""
    for one in examined.outputs:
        if examined.sample.weight is not None:
            yield from _outweighed(one, examined.batch[2])
            continue
        classes = one.classes
        is_masks = one.y.ndim > 2 and one.loss_name == "binary_crossentropy"
        is_tags = one.family == "sparse" and one.y.size > len(one.y) and one.labels_fit
        if classes is None and (is_masks or is_tags):
            yield from _few_places(one)
        if classes is None or len(classes) < 50:
            continue
        counts = np.bincount(classes - classes.min())
        counts = counts[counts > 0]
        share = float(counts.min() / counts.sum())
        if len(counts) > 1 and share < 0.1 / len(counts):
            yield Finding(
                "imbalance",
                # Focal losses are made for it.
                "warning" if _is_lost(share, counts) and "focal" not in one.loss_name else "note",
                f"The rarest class of {one.named} has {counts.min()} of {counts.sum()} examples: "
                f"without it the accuracy is {1 - share:.1%}.",
                {"share": share},
                "Weight the classes (class_weight=), or judge by the recall of each.",
            )


def _outweighed(one: Output, weight: Any) -> Iterator[Finding]:
    """A rare class that the weights of the examples make rarer still."""
    # Those of the sample, whose weights are known.
    classes = one.classes_of(one.y)
    if classes is None or len(classes) < 50 or np.shape(weight) != classes.shape:
        return
    classes = classes - classes.min()
    kinds, counts = np.unique(classes, return_counts=True)
    weights = np.bincount(classes, weights=weight)[kinds]
    if len(kinds) < 2 or weights.min() < 0 or not weights.sum():
        return
    # Of several without weight, the one that most examples are of.
    rarest = int(np.lexsort((-counts, weights))[0])
    share, before = float(weights[rarest] / weights.sum()), float(counts[rarest] / counts.sum())
    # A class of no weight at all is left out on purpose, but for the one that most are of.
    is_meant = not share and counts[rarest] < counts.max()
    if not is_meant and share < before and _is_lost(share, kinds):
        yield Finding(
            "imbalance",
            "warning",
            f"One class of {one.named} has {before:.1%} of the examples, and by their weights "
            f"{share:.1%}: they make it rarer than it is.",
            {"share": before, "weighted": share},
            "Weight classes by one over their shares, not by their shares.",
        )


def _is_lost(share: float, classes: np.ndarray) -> bool:
    """True if a class is too rare to be learnt."""
    return share < 0.02 and share < 0.05 / len(classes)


def _few_places(one: Output) -> Iterator[Finding]:
    """Masks or tags in which all but hardly any place are of one class."""
    if is_binary(one.all_y):
        share = float(one.all_y.mean(dtype="float64"))
        share = min(share, 1 - share)
    elif one.family == "sparse" and is_whole(one.labels) and one.labels.min(initial=0) >= 0:
        counts = np.bincount(one.labels.reshape(-1).astype(np.int64), minlength=1)
        share = 1 - float(counts.max() / max(1, counts.sum()))
    else:
        return
    if 0 < share < 0.02:
        yield Finding(
            "imbalance",
            "warning" if share < 0.005 else "note",
            f"All but {share:.2%} of the places of {one.named} are of one class: with nothing but "
            f"it the accuracy is {1 - share:.1%}.",
            {"share": share},
            "Use a focal or a Dice loss, or weight the places.",
        )


def check_split(examined: Examined) -> Iterator[Finding]:
    """Validation data that are not like the training data, or among them."""
    if examined.split:
        for one in examined.outputs:
            yield from _ordered(one.classes, one.all_y, examined.split)
    train, validation = _parts(examined)
    if not train or not validation:
        return
    shared = share_among(train, validation)
    if shared > 0.02:
        yield Finding(
            "validation_leak",
            "warning",
            f"{shared:.0%} of the validation inputs are among the training inputs.",
            {"share": shared},
            "Split before examples are repeated or augmented.",
        )
    elif are_near_copies(train, validation):
        yield Finding(
            "validation_leak",
            "warning",
            "Most validation inputs have one among the training inputs that is far nearer than "
            "any other: they look like copies of the same examples.",
            {},
            "Split before examples are augmented, and keep what belongs together on one side.",
        )


def _ordered(classes: np.ndarray | None, y: np.ndarray, split: float) -> Iterator[Finding]:
    cut = math.floor(len(y) * (1 - split))
    if not 0 < cut < len(y):
        return
    if classes is not None and len(classes) == len(y):
        classes = classes - classes.min()
        count = int(classes.max()) + 1
        shares = [
            np.bincount(part, minlength=count) / len(part)
            for part in (classes[:cut], classes[cut:])
        ]
        distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
        most = 0.2 + 1.5 * math.sqrt(count / (len(y) - cut))
        what = "holds other classes than"
    elif y.size == len(y):
        head, tail = (np.sort(part.reshape(-1)) for part in (y[:cut], y[cut:]))
        values = np.unique(y)
        below = [np.searchsorted(part, values, "right") / len(part) for part in (head, tail)]
        distance = float(np.abs(below[0] - below[1]).max())
        most = 0.4 + 2 / math.sqrt(len(tail))
        what = "has other targets than"
    else:
        return
    if distance > most:
        yield Finding(
            "ordered_split",
            "error" if distance > 0.5 else "warning",
            f"The last {split:.0%} of the examples, which validate, {what} the rest: the data are "
            "in order.",
            {"distance": distance, "expected": most},
            "Shuffle the examples once before the split.",
        )


def _scale(examined: Examined) -> Iterator[Finding]:
    """By what reaches each layer with weights that no other is before."""
    views = examined.views
    leaves = [leaf for leaf in keras.tree.flatten(examined.batch[0]) if leaf.dtype.kind in "fiu"]
    is_first = True
    for number, view in enumerate(views):
        if not view.is_weighted:
            continue
        if (is_first or _holds_one(view.input, leaves)) and not _is_normalised(views, number):
            yield from _scale_at(view)
        is_first = False


def _holds_one(values: np.ndarray | None, leaves: Rows) -> bool:
    """True if a layer is given one of the inputs as it is, flattened, or beside others."""
    if values is None:
        return False
    return _is_among(values, leaves) or any(
        np.array_equal(leaf.ravel().astype(values.dtype), values.ravel())
        if leaf.size == values.size
        else _are_columns(leaf, values)
        for leaf in leaves
    )


def _are_columns(leaf: np.ndarray, values: np.ndarray) -> bool:
    """True if an input makes up some of the columns that a layer is given."""
    if leaf.ndim < 2 or leaf.shape[:-1] != values.shape[:-1] or leaf.size > values.size:
        return False
    width, leaf = leaf.shape[-1], leaf.astype(values.dtype)
    starts = np.arange(values.shape[-1] - width + 1)
    first = values[..., : len(starts)].reshape(-1, len(starts))
    starts = starts[(first == leaf[..., :1].reshape(-1, 1)).all(axis=0)]
    return any(np.array_equal(leaf, values[..., one : one + width]) for one in starts)


def _is_among(values: np.ndarray | None, leaves: Rows) -> bool:
    """True if a layer is given one of the inputs as it is."""
    return values is not None and any(
        leaf.shape == values.shape and np.array_equal(leaf.astype(values.dtype), values)
        for leaf in leaves
    )


def _is_normalised(views: list[LayerView], number: int) -> bool:
    """True if one of the layers around a layer, or behind it, normalises."""
    view = views[number]
    return any(
        isinstance(one.layer, _NORMALISERS)
        and (abs(place - number) <= 1 or _is_among(one.input, [view.output]))
        for place, one in enumerate(views)
    )


def _scale_at(view: LayerView) -> Iterator[Finding]:
    values = view.input
    if values is None or values.dtype.kind == "b" or isinstance(view.layer, keras.layers.Embedding):
        return
    rows = values.reshape(-1, values.shape[-1]).astype("float64")
    if not np.isfinite(rows).all():
        return
    size, most, stds = rms(rows), float(np.abs(rows).max()), rows.std(axis=0)
    stds = stds[stds > 0]
    ratio = float(stds.max() / stds.min()) if len(stds) else 1.0
    mixed = ratio > 100 and most > 100
    # Rows with some large values among thousands of zeros are as they should be.
    is_sparse = most > 0.1 and (rows == 0).mean() > 0.9
    is_small = 0 < size < 0.03 and not is_sparse
    evidence = {"rms": size, "largest": most, "ratio of columns": ratio}
    remedy = "Scale them to a mean of 0 and a deviation of 1, by keras.layers.Normalization, say."
    if size > 30 or most > 1000 or mixed:
        yield Finding(
            "input_scale",
            "warning",
            f"The inputs are {size:.3g} in the root mean square and {most:.3g} at most; columns "
            f"differ by a factor of {ratio:.3g}.",
            evidence,
            remedy,
        )
    elif is_small and size < 0.01:
        yield Finding(
            "input_scale",
            "warning",
            f"The inputs are {size:.3g} in the root mean square: have they been divided twice?",
            evidence,
            remedy,
        )
    elif len(stds) and stds.mean() < 0.01 * size:
        yield Finding(
            "input_scale",
            "warning",
            f"The inputs are {size:.3g} in the root mean square, and examples differ by "
            f"{stds.mean():.3g} only: have they been scaled twice?",
            {**evidence, "deviation": float(stds.mean())},
            remedy,
        )
    elif size > 3.5 or is_small:
        yield Finding(
            "input_scale",
            "note",
            f"The inputs are {size:.3g} in the root mean square.",
            evidence,
            remedy,
        )


def _validation_scale(examined: Examined) -> Iterator[Finding]:
    if examined.validation is None:
        return
    pairs = zip(
        keras.tree.flatten(examined.sample.x),
        keras.tree.flatten(examined.validation.x),
        strict=False,
    )
    for train, validation in pairs:
        sizes = [rms(leaf) for leaf in (train, validation)]
        if train.dtype.kind == "f" and min(sizes) > 0 and max(sizes) > 5 * min(sizes):
            yield Finding(
                "input_scale",
                "warning",
                f"The training inputs are {sizes[0]:.3g} in the root mean square, those of the "
                f"validation {sizes[1]:.3g}.",
                {"training": sizes[0], "validation": sizes[1]},
                "Scale both in the same way.",
            )


def _parts(examined: Examined) -> tuple[Rows, Rows]:
    """The inputs to train on and to validate on, a matrix for each array; none if not known."""
    train = matrices(examined.sample.all_x)
    if examined.validation is not None:
        return train, matrices(examined.validation.all_x)
    if not examined.split or examined.sample.examples is None or not train:
        return [], []
    cut = math.floor(len(train[0]) * (1 - examined.split))
    return [one[:cut] for one in train], [one[cut:] for one in train]


def _not_finite(what: str, evidence: dict[str, float]) -> Finding:
    return Finding(
        "non_finite",
        "error",
        f"{what} not finite.",
        evidence,
        "Look for missing values, logarithms of 0, and divisions by 0.",
    )
