"""Checks of the layers: their settings, their weights, and what passes through them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from .. import _keras
from .examined import Examined
from .finding import Finding, Severity
from .modes import as_in_training
from .observed import LayerView, rms

# The names of vectors that multiply. Others are biases mostly, which hide nothing at zero.
_SCALES = {"gamma", "scale", "gain", "gate", "alpha"}
# Below this much of the largest gradient, a layer has none.
_NOTHING = 1e-12
# Differences within this much of the largest gradient are of rounding.
_EQUAL = 1e-5


def check_ids(examined: Examined) -> Iterator[Finding]:
    """Ids that an Embedding cannot look up."""
    for view in examined.views:
        wrong, size = view.wrong_ids, getattr(view.layer, "input_dim", 0)
        if wrong is None:
            wrong = _wrong_in_all(examined, view)
        if wrong:
            yield Finding(
                "index_range",
                "error",
                f"{view.name} is given the ids {wrong[0]} to {wrong[1]}, and has the rows 0 to "
                f"{size - 1}. A framework may read another row then, without a word.",
                {"lowest": wrong[0], "highest": wrong[1], "rows": size},
                f"Give it input_dim={wrong[1] + 1}, or map rare ids to one.",
            )


def check_frozen(examined: Examined) -> Iterator[Finding]:
    """Nothing that is trained, or next to nothing."""
    model = examined.model
    if not model.built:
        return
    trained, all_weights = (
        sum(int(np.prod(one.shape)) for one in variables)
        for variables in (model.trainable_variables, _keras.weights_to_train(model))
    )
    if not all_weights or trained >= 0.01 * all_weights:
        return
    last = examined.weighted[-1].layer if examined.weighted else None
    matrices = [] if last is None else [one for one in last.trainable_variables if one.ndim > 1]
    if not trained or (last is not None and not matrices):
        yield Finding(
            "frozen",
            "error",
            f"{trained:,} of {all_weights:,} weights are trained, and those of the last layer are "
            "not.",
            {"trained": trained, "weights": all_weights},
            "Set trainable = True (kp.unfreeze) before compile.",
        )


def check_start(examined: Examined) -> Iterator[Finding]:
    """Units that start equal, and so stay equal."""
    found = list(_equal_units(examined))
    yield from found or _equal_parts(examined)


def _equal_units(examined: Examined) -> Iterator[Finding]:
    """Hidden layers all of whose units have the same weights, and gradients that are no others."""
    by_id = {id(one): gradient for one, gradient in gradients_by_variable(examined)}
    for view in examined.hidden:
        matrix = _matrix(view)
        if matrix is None or isinstance(view.layer, keras.layers.DepthwiseConv2D):
            continue
        values = keras.ops.convert_to_numpy(matrix.value)
        units = values.reshape(-1, values.shape[-1])
        gradient = by_id.get(id(matrix))
        if gradient is not None and gradient.any():
            is_freed = np.ptp(gradient, axis=-1).max() > _EQUAL * np.abs(gradient).max()
        else:
            # A head at zero lets no gradient pass before its first step.
            is_freed = any(one is not matrix for one in _gates(examined))
        is_equal = units.shape[-1] > 1 and np.ptp(units, axis=-1).max() == 0
        # At zero, as the last layers of branches may be, the first step tells them apart.
        if is_equal and (units.any() or not is_freed):
            yield Finding(
                "symmetric_init",
                "error",
                f"All units of {view.name} have the same weights: they get the same gradient and "
                "stay one unit.",
                {"units": units.shape[-1]},
                'Use kernel_initializer="glorot_uniform" or "he_normal".',
            )


def _equal_parts(examined: Examined) -> Iterator[Finding]:
    """Parts of one variable that start equal and have equal gradients, such as experts."""
    for variable, gradient in gradients_by_variable(examined):
        if gradient is None or gradient.ndim < 2 or not gradient.any():
            continue
        values = keras.ops.convert_to_numpy(variable.value)
        for axis, parts in enumerate(gradient.shape):
            if parts == 1 or np.ptp(values, axis=axis).any():
                continue
            if np.ptp(gradient, axis=axis).max() <= _EQUAL * np.abs(gradient).max():
                yield Finding(
                    "symmetric_init",
                    "error",
                    f"The {parts} parts of {variable.path} along axis {axis} start equal, and "
                    "their gradients are equal: they stay one.",
                    {"units": parts, "axis": axis},
                    "Let them start at random.",
                )
                break


def _matrix(view: LayerView) -> keras.Variable | None:
    """The matrix that a layer multiplies its input with; None if it is not known."""
    layer = view.layer
    kernel = getattr(layer, "kernel", getattr(getattr(layer, "cell", None), "kernel", None))
    if kernel is not None:
        return kernel
    if type(layer).__module__.startswith("keras.") or view.input is None:
        return None
    # In a layer of one's own: by its shape.
    shape = (view.input.shape[-1], view.output.shape[-1])
    return next((one for one in layer.trainable_variables if one.shape == shape), None)


def check_linear(examined: Examined) -> Iterator[Finding]:
    """Layers without a nonlinearity between them."""
    error = examined.affine_error
    if error is not None and error < 1e-4 and not _gates(examined):
        yield Finding(
            "missing_nonlinearity",
            "note" if _narrows(examined) else "warning",
            f"{len(examined.weighted)} layers with weights have no activation between them: "
            "together they can do what one of them can.",
            {"bend": error},
            'Give the hidden layers an activation, such as "relu".',
        )
    for view, after in itertools.pairwise(examined.weighted):
        if _feeds(view, after) and not (view.activation or _is_projection(view.layer)):
            yield Finding(
                "missing_nonlinearity",
                "note",
                f"{view.name} has no activation, and its output goes straight into {after.name}.",
                {},
                "Give it one, or leave it out.",
            )
        if _feeds(view, after) and view.activation == "softmax":
            yield Finding(
                "hidden_activation",
                "warning",
                f"{view.name} is a hidden layer with a softmax: its units share one sum, and "
                "hardly any gradient passes.",
                {"spread": view.spread},
                'Use "relu".',
            )


def _narrows(examined: Examined) -> bool:
    """True if a layer has fewer units than all that goes in and comes out, as that of a linear code
    has: then one layer cannot do the same with as few weights.
    """
    first = examined.weighted[0].input
    ends = [view.output.shape[-1] for view in examined.weighted]
    narrowest = min(ends[:-1], default=ends[-1])
    return first is not None and narrowest < min(first.shape[-1], ends[-1])


def _gates(examined: Examined) -> list[keras.Variable]:
    """Variables that are zero at the start and have a gradient, as the gate of a branch that is let
    in by and by (Bachlechner et al. 2020, "ReZero"): a step moves it.
    """
    if examined.gradients is None:
        return []
    return [
        one
        for one, gradient in gradients_by_variable(examined)
        if gradient is not None
        and (one.ndim != 1 or one.name in _SCALES)
        and not keras.ops.convert_to_numpy(one.value).any()
        and np.any(gradient)
    ]


def _feeds(view: LayerView, after: LayerView) -> bool:
    """True if the output of one layer is the input of another, if in another shape."""
    if after.input is None or view.output.size != after.input.size:
        return False
    return np.array_equal(view.output.ravel(), after.input.ravel())


def _is_projection(layer: keras.Layer) -> bool:
    """True for layers that have no activation of their own for a reason."""
    kinds = (keras.layers.Embedding, keras.layers.DepthwiseConv2D, keras.layers.RNN)
    return isinstance(layer, kinds) or not hasattr(layer, "activation")


def check_width(examined: Examined) -> Iterator[Finding]:
    """A hidden layer too narrow for the classes behind it."""
    classes = [one.width for one in examined.outputs if one.classes is not None]
    need = np.log2(max(classes)) if classes else 0.0
    hidden = [view.layer for view in examined.hidden]
    for view, after in itertools.pairwise(examined.weighted):
        if view.layer not in hidden or isinstance(view.layer, keras.layers.Embedding):
            continue
        width = view.output.shape[-1]
        # What goes on beside it, or is gathered from several places, passes as well.
        passing = width if after.input is None else after.input[0].size
        if max(width, passing) >= min(need, 8):
            continue
        yield Finding(
            "capacity",
            "warning" if width < 0.5 * need or width == 1 else "note",
            f"{view.name} has {width} units, and {max(classes)} classes have to pass.",
            {"units": width, "classes": max(classes)},
            "Make it wider.",
        )


def check_flow(examined: Examined) -> Iterator[Finding]:
    """Values that grow or fade from layer to layer, and units that are dead or saturated."""
    views = as_in_training(examined.views)
    for view in views:
        yield from _stuck(view)
    if len(views) == len(examined.views):
        yield from _loud(examined)
    seen = {id(view) for view in views}
    hidden = [view for view in examined.hidden if id(view) in seen]
    spreads = [view.spread for view in hidden]
    if len(hidden) < 2 or not all(np.isfinite(spreads)) or not spreads[0]:
        return
    growth = spreads[-1] / spreads[0]
    if growth > 100:
        yield Finding(
            "exploding",
            "error",
            f"The spread of the values grows by a factor of {growth:.3g} from the first hidden "
            "layer to the last.",
            {"growth": growth},
            "Use an initializer that keeps it: he_normal for relu, glorot for tanh.",
        )
    fade = _gradient_fade(examined)
    if fade is not None and fade < 1e-3 and (growth < 1e-3 or fade < 1e-4):
        yield Finding(
            "vanishing",
            "error",
            f"The gradient of the first layer is {fade:.1e} times that of the last; the spread of "
            f"the values falls to {growth:.1e}.",
            {"gradient": fade, "spread": growth},
            "Use an initializer that keeps it, fewer layers, relu, normalisation or residuals.",
        )


def check_gradient(examined: Examined) -> Iterator[Finding]:
    """Layers that are to be trained, and that no gradient reaches."""
    sizes = layer_gradients(examined)
    largest = max(sizes.values(), default=0.0)
    nothing = [name for name, size in sizes.items() if size <= _NOTHING * max(largest, 1e-30)]
    nothing = nothing[_reached_after_a_step(examined, sizes, nothing) :]
    if not examined.has_gradient and not nothing:
        yield Finding(
            "no_gradient",
            "error",
            "The loss depends on none of the weights that are to be trained: each gradient is 0.",
            {},
            "Look for factors that both start at zero, or a step that has no derivative.",
        )
    if nothing and np.isfinite(largest):
        some = ", ".join(nothing[:3]) + (", ..." if len(nothing) > 3 else "")
        gates = ", ".join(one.path for one in _gates(examined)[:3])
        severity: Severity = "error" if 2 * len(nothing) >= len(sizes) else "warning"
        yield Finding(
            "no_gradient",
            "note" if gates else severity,
            f"The loss does not depend on {some}: the gradient is 0"
            + (f" while {gates} is 0, which a step moves." if gates else "."),
            {"layers": len(nothing), "of": len(sizes)},
            "Look for a step that has no derivative, such as round, argmax or a comparison.",
        )


def _reached_after_a_step(examined: Examined, sizes: dict[str, float], nothing: list[str]) -> int:
    """The number of layers without a gradient that stand before a layer which starts at zero, and
    has one: after the first step it lets it pass.
    """
    count = passed = 0
    for view in examined.weighted:
        count += view.name in nothing
        kernel = getattr(view.layer, "kernel", None)
        if kernel is not None and view.name not in nothing and view.name in sizes:
            passed = passed if np.any(keras.ops.convert_to_numpy(kernel.value)) else count
    return passed


def _loud(examined: Examined) -> Iterator[Finding]:
    """Outputs that start far from any answer."""
    for one in examined.outputs:
        if one.family in ("sparse", "categorical", "binary"):
            times = one.crossentropy / math.log(max(2, one.width))
            is_loud = times > 10
        else:
            size, reach = (rms(part) for part in (one.y, one.pred))
            times = reach / max(size, 1.0)
            is_loud = one.family == "regression" and times > 30
        if is_loud:
            yield Finding(
                "exploding",
                "warning",
                f"Before training, {one.named} is {times:.3g} times as far off as no answer at "
                "all would be.",
                {"times": float(times)},
                "Use a smaller initial scale of the weights, or scale the inputs.",
            )


def gradients_by_variable(examined: Examined) -> list[tuple[Any, np.ndarray | None]]:
    """Each trainable variable and its gradient; nothing if the gradients cannot be had."""
    if examined.gradients is None:
        return []
    return list(zip(examined.model.trainable_variables, examined.gradients[1], strict=True))


def layer_gradients(examined: Examined) -> dict[str, float]:
    """The root mean square of the gradient of each layer with weights, by its name."""
    by_id = {id(one): gradient for one, gradient in gradients_by_variable(examined)}
    sizes = {}
    for view in examined.weighted:
        found = [by_id[id(one)] for one in view.layer.weights if id(one) in by_id]
        if found:
            sizes[view.name] = max(0.0 if one is None else rms(one) for one in found)
    return sizes


def _gradient_fade(examined: Examined) -> float | None:
    sizes = [size for size in layer_gradients(examined).values() if size > 0]
    return sizes[0] / sizes[-1] if len(sizes) > 1 else None


def _stuck(view: LayerView) -> Iterator[Finding]:
    if view.input is not None and not np.ptp(view.input, axis=0).any():
        # Whatever is wrong stands before it.
        return
    for kind, share, what in (
        ("dead_units", view.dead, "units of {} are 0 for all examples"),
        ("saturated", view.saturated, "values of {} lie at the flat ends of its activation"),
    ):
        if share > 0.5:
            yield Finding(
                kind,
                "error" if share > 0.8 else "warning" if share > 0.65 else "note",
                f"{share:.0%} of the {what.format(view.name)}.",
                {"share": share},
                "Scale the inputs, use a lower rate or another initializer.",
            )


def _wrong_in_all(examined: Examined, view: LayerView) -> tuple[int, int] | None:
    """The range of the ids of all examples, if one is out of range, where the inputs are ids."""
    if not isinstance(view.layer, keras.layers.Embedding) or view.input is None:
        return None
    leaves = [keras.tree.flatten(part) for part in (examined.batch[0], examined.sample.all_x)]
    for leaf, whole in zip(*leaves, strict=True):
        if leaf.shape == view.input.shape and np.array_equal(leaf, view.input):
            low, high = int(whole.min()), int(whole.max())
            return (low, high) if low < 0 or high >= view.layer.input_dim else None
    return None
