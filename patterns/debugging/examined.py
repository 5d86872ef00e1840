"""A model on some rows of its data: all that the checks look at, each computed when it is needed.

With the checks, at most six forward passes and one gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .._util.messages import first_line
from ..data import data_parts, split_validation
from ..data.rows import each_array
from ..data.weights import check_class_weight, class_sample_weights
from ..state.compiled import check_compiled
from ..state.preservation import preserved
from .observed import LayerView, observe
from .outputs import FAMILIES, Output, are_distributions
from .sample import Sample, take_sample

# Rows of the probe for a nonlinearity.
_PROBES = 16


class Examined:
    """A model and a sample of its data.

    Args:
        model: A compiled model.
        sample: Of the training data.
        validation: Of the validation data, or None.
        split: The fraction of the examples that validates, at their end.
        total_steps: Of the training that follows, if they are known.
    """

    def __init__(
        self,
        model: keras.Model,
        sample: Sample,
        validation: Sample | None = None,
        split: float = 0.0,
        total_steps: int | None = None,
    ) -> None:
        self.model = model
        self.sample = sample
        self.validation = validation
        self.split = split
        self.total_steps = total_steps
        # Of the training that follows, where they are known.
        self.callbacks: Sequence[keras.callbacks.Callback] = ()
        self.epochs = 1
        self.is_built = False
        self.problem = ""
        # That of penalties and of `add_loss`, once the model was looked at.
        self.added_loss = 0.0
        # A compiled step that the next rung of the ladder can use.
        self.step_function: Any = None

    def build(self) -> None:
        """Builds what is not built, and notes why if that fails."""
        try:
            with _keras.quiet_faults():
                current().build(self.model, self.sample.cut(0, self.rows))
            self.is_built = True
        except Exception as error:
            self.problem = first_line(error)
            self.is_built = bool(self.model.built)

    def weight_classes(self, class_weight: Any) -> None:
        """Weights the examples by their classes, as `fit` does."""
        if class_weight is not None and self.sample.weight is None:
            weight = class_sample_weights(self.sample.y, check_class_weight(class_weight) or {})
            self.sample = replace(self.sample, weight=weight)

    @cached_property
    def rows(self) -> int:
        """The rows of a batch: those of the sample, or what the model fixes."""
        shapes = [one.shape for one in getattr(self.model, "inputs", None) or []]
        fixed = [shape[0] for shape in shapes if shape and shape[0] is not None]
        return min([*fixed, self.sample.rows])

    def batch_size(self, wanted: int) -> int:
        """The size of a batch to train on: that which the model fixes, or at most all rows."""
        return self.rows if self.rows < self.sample.rows else min(wanted, self.rows)

    @cached_property
    def batch(self) -> tuple[Any, Any, Any]:
        """Inputs, targets and weights."""
        return self.sample.cut(0, self.rows)

    @cached_property
    def seen(self) -> tuple[Any, list[LayerView]]:
        """Outputs and layers for the batch, in inference; nothing if the model cannot be called."""
        if not self.is_built:
            return None, []
        try:
            found = observe(self.model, self.batch[0])
        except Exception as error:
            self.problem = self.problem or first_line(error)
            return None, []
        self.added_loss = _sum_of_losses(self.model)
        return found

    @property
    def adds_losses(self) -> bool:
        """True if layers gave losses at the last call, beside what Keras's regularizers did."""
        weights = [one for one in self.model.trainable_variables if getattr(one, "regularizer", 0)]
        outputs = [one for one in self.views if one.layer.activity_regularizer is not None]
        return len(self.model.losses) > len(weights) + len(outputs)

    @property
    def views(self) -> list[LayerView]:
        """The layers."""
        return self.seen[1]

    @property
    def weighted(self) -> list[LayerView]:
        """The layers with a matrix of weights."""
        return [view for view in self.views if view.is_weighted]

    @cached_property
    def hidden(self) -> list[LayerView]:
        """The layers with weights whose output is none of the model's, nor goes into it alone."""
        outputs = [] if self.seen[0] is None else keras.tree.flatten(self.seen[0])
        found = [
            view
            for view in self.weighted
            if not any(np.array_equal(view.output, one) for one in outputs)
        ]
        return found[:-1] if len(found) == len(self.weighted) else found

    @cached_property
    def outputs(self) -> list[Output]:
        """The outputs whose loss and targets are known."""
        found = self.seen[0]
        x, y, _ = self.batch
        if found is None or y is None:
            return []
        try:
            with preserved(self.model):
                x = each_array(keras.ops.convert_to_tensor, x)
                losses = _keras.resolved_losses(self.model, x, y, found)
        except Exception:
            return []
        return [one for loss in losses if (one := self._output(loss, found, y)) is not None]

    @cached_property
    def leaked(self) -> float:
        """By how much the output of the first row moves when the others do, relative to the
        difference between rows.
        """
        before, views = self.seen
        if before is None or self.rows < 2:
            return 0.0
        # Not all of the others: a sum over the batch is the same in any order.
        rows = np.r_[0, self.rows - 1 - np.arange(self.rows - 1) // 2]
        others = each_array(lambda leaf: _moved(leaf[rows]), self.batch[0])
        pairs = zip(
            self.judged_by(before, views),
            self.judged_by(*observe(self.model, others)),
            strict=True,
        )
        return max((_distance(one, other) for one, other in pairs), default=0.0)

    def judged_by(self, outputs: Any, views: list[LayerView]) -> list[np.ndarray]:
        """Outputs, and what the last layer with weights is given: it may start at zero."""
        last = self.weighted[-1].layer if self.weighted else None
        given = [view.input for view in views if view.layer is last and view.input is not None]
        found = [*keras.tree.flatten(outputs), *given]
        return [one.astype("float64") for one in found if len(one) == self.rows]

    @cached_property
    def affine_error(self) -> float | None:
        """By how much the input of the last weighted layer is no affine function of the inputs;
        None if that cannot be seen.
        """
        weighted = self.weighted
        if len(weighted) < 2 or not self._is_float:
            return None
        count = min(_PROBES, (self.rows - 1) // 3)
        if count < 1:
            return None
        probes = each_array(lambda leaf: _probes(leaf, count, self.rows), self.batch[0])
        _, views = observe(self.model, probes)
        last = next((view for view in views if view.layer is weighted[-1].layer), None)
        if last is None or last.input is None or last.input.ndim < 2:
            return None
        found = last.input.astype("float64")
        beside = any(
            one.shape == found.shape and np.array_equal(one, last.input)
            for one in keras.tree.flatten(probes)
        )
        # A layer on the inputs themselves stands beside the others, not behind them.
        if beside or not np.isfinite(found).all():
            return None
        one, other, both = (found[n * count : (n + 1) * count] for n in range(3))
        size = np.abs(both - found[-1:]).mean()
        bent = np.abs(both - one - other + found[-1:]).mean()
        return float(bent / size) if size > 0 else None

    @cached_property
    def gradients(self) -> tuple[float, list[np.ndarray | None]] | None:
        """The loss in training mode, and the gradient of each trainable variable; None if they
        cannot be had.
        """
        if self.seen[0] is None or not self.model.trainable_variables:
            return None
        if not self.can_be_trained:
            return None
        try:
            with preserved(self.model), _keras.quiet_faults():
                return current().gradients(self.model, self.batch)
        except Exception as error:
            self.problem = self.problem or first_line(error)
            return None

    @property
    def has_gradient(self) -> bool:
        """False if the loss is known to depend on no weight: TensorFlow refuses to train then."""
        found = self.gradients
        return found is None or any(one is not None and np.any(one) for one in found[1])

    @property
    def can_be_trained(self) -> bool:
        """False if an id or a label is out of range: on a GPU PyTorch could not go on after it."""
        return not any(view.wrong_ids for view in self.views) and all(
            one.labels_fit for one in self.outputs
        )

    @property
    def _is_float(self) -> bool:
        """True if all inputs are numbers, not ids."""
        embeds = any(isinstance(one, keras.layers.Embedding) for one in self._layers)
        return not embeds and all(
            leaf.dtype.kind in "fiu" for leaf in keras.tree.flatten(self.batch[0])
        )

    @property
    def _layers(self) -> Iterator[keras.Layer]:
        return (view.layer for view in self.views)

    def _output(self, loss: _keras.ResolvedLoss, found: Any, y: Any) -> Output | None:
        try:
            pred, targets, all_y = (
                _at(structure, loss.path) for structure in (found, y, self.sample.all_y)
            )
        except (KeyError, IndexError, TypeError):
            return None
        arrays = (pred, targets, all_y)
        if any(not isinstance(one, np.ndarray) or one.dtype.kind not in "fiub" for one in arrays):
            return None
        view = self._view_of(pred)
        return Output(
            "/".join(map(str, loss.path)),
            FAMILIES.get(loss.name, ""),
            loss.function,
            loss.name,
            loss.from_logits,
            targets,
            all_y,
            pred,
            view.activation if view else _shown_activation(pred),
            loss.weight,
            view.input if view else None,
            loss.ignored,
        )

    def _view_of(self, pred: np.ndarray) -> LayerView | None:
        """The layer that gave an output, by its values."""
        for view in reversed(self.views):
            gives = view.output.shape == pred.shape and np.array_equal(view.output, pred)
            if gives and (view.activation or view.is_weighted):
                return view
        return None


def _sum_of_losses(model: keras.Model) -> float:
    """Penalties, and what layers added at the last call; 0 if there are no values."""
    try:
        return sum(float(np.mean(keras.ops.convert_to_numpy(one))) for one in model.losses)
    except Exception:
        # Inside a loop that a framework traces.
        return 0.0


def _shown_activation(pred: np.ndarray) -> str:
    """The activation that the values of an output show."""
    is_wide = pred.ndim > 1 and pred.shape[-1] > 1
    return "softmax" if is_wide and are_distributions(pred) > 0.99 else ""


def _at(structure: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        structure = structure[key]
    return structure


def _moved(leaf: np.ndarray) -> np.ndarray:
    """Rows of which all but the first are others: negated, so that no order brings them back."""
    moved = leaf.copy()
    if leaf.dtype.kind == "f":
        moved[1:] = -1.5 * moved[1:]
    return moved


def _probes(leaf: np.ndarray, count: int, rows: int) -> np.ndarray:
    """Rows at random, others, the sums of both, and zeros."""
    one, other = 3 * np.random.default_rng(0).normal(size=(2, count, *leaf.shape[1:]))
    probes = np.zeros((rows, *leaf.shape[1:]), "float32")
    probes[: 3 * count] = np.concatenate([one, other, one + other])
    return probes


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    size = float(np.abs(one).mean()) or 1.0
    spread = float(np.abs(one - one.mean(axis=0)).mean())
    # Rows that hardly differ differ by rounding.
    return float(np.abs(one[0] - other[0]).mean() / max(spread, 0.01 * size))


def examine(
    caller: str,
    model: keras.Model,
    x: Any,
    y: Any,
    sample_weight: Any,
    validation_data: Any,
    validation_split: float,
    total_steps: int | None = None,
) -> Examined:
    """Takes a sample of the data, and builds the model.

    Args:
        caller: The public function, for messages.
        model, x, y, sample_weight, validation_data, validation_split, total_steps: As in
            `preflight`.
    """
    check_compiled(caller, model)
    if validation_split and validation_data is None:
        # For its checks of the fraction.
        split_validation(x, y, sample_weight, validation_split)
    validation = None
    if validation_data is not None:
        validation = take_sample(*(*data_parts("validation_data", validation_data), None, None)[:3])
    split = validation_split if validation_data is None else 0.0
    examined = Examined(model, take_sample(x, y, sample_weight), validation, split, total_steps)
    examined.build()
    return examined
