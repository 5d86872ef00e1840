"""A model on some rows of its data: all that the checks look at, each computed when it is needed.

In all at most five forward passes and one gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from ..state.preservation import preserved
from .observed import LayerView, observe
from .sample import Sample

# Rows of the probe for a nonlinearity.
_PROBES = 16

# By Keras's names of the losses.
_FAMILIES = {
    "sparse_categorical_crossentropy": "sparse",
    "categorical_crossentropy": "categorical",
    "categorical_focal_crossentropy": "categorical",
    "kl_divergence": "categorical",
    "binary_crossentropy": "binary",
    "binary_focal_crossentropy": "binary",
    "mean_squared_error": "regression",
    "mean_absolute_error": "regression",
    "mean_absolute_percentage_error": "regression",
    "mean_squared_logarithmic_error": "regression",
    "huber": "regression",
    "log_cosh": "regression",
    "poisson": "poisson",
}
RANGES = {
    "relu": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, np.inf),
    "exponential": (0.0, np.inf),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
}


@dataclass(frozen=True)
class Output:
    """One output of a model, with its loss and its targets.

    Attributes:
        place: Its name, for messages; empty if it is the only one.
        family: The family of the loss: sparse, categorical, binary, regression or poisson; empty if
            it is none of Keras's.
        loss: Gives the loss of `(targets, outputs)`.
        loss_name: As Keras has it; empty if it is a person's own.
        from_logits: Whether the loss expects logits; None if it knows no such thing.
        y: Targets of the sample.
        all_y: Those of all examples.
        pred: Outputs for the sample.
        activation: The name of the activation that gives the output; empty if that is not known.
        weight: Of the loss among those of other outputs.
        before: The input of the layer that gives the output; None if no layer is known to.
    """

    place: str
    family: str
    loss: Any
    loss_name: str
    from_logits: bool | None
    y: np.ndarray
    all_y: np.ndarray
    pred: np.ndarray
    activation: str
    weight: float
    before: np.ndarray | None

    @property
    def width(self) -> int:
        """The number of units."""
        return self.pred.shape[-1] if self.pred.ndim > 1 else 1

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value that its activation can give."""
        return RANGES.get(self.activation, (-np.inf, np.inf))

    @cached_property
    def sums_to_one(self) -> bool:
        """True if each row of the outputs is a distribution."""
        return self.width > 1 and are_distributions(self.pred) > 0.99

    @property
    def labels_fit(self) -> bool:
        """False if a label has no unit."""
        if self.family != "sparse":
            return True
        return bool(is_whole(self.y) and self.y.min() >= 0 and self.y.max() < self.width)

    @cached_property
    def is_one_hot(self) -> bool:
        """True if each row of the targets is zero but for a one."""
        y = self.all_y
        if y.ndim < 2 or y.shape[-1] < 2 or y.shape[-1] != self.width:
            return False
        return is_binary(y) and bool((y.sum(axis=-1) == 1).mean() > 0.99)

    @cached_property
    def classes(self) -> np.ndarray | None:
        """The class of each example; None if the targets are no classes."""
        y = self.all_y
        if self.is_one_hot and y.ndim == 2:
            return y.argmax(axis=-1)
        flat = y.reshape(-1) if y.size == len(y) else None
        if flat is None or not (self.family == "sparse" or is_binary(flat)):
            return None
        return flat.astype(np.int64) if is_whole(flat) else None

    @property
    def crossentropy(self) -> float:
        """The mean of -log p of the true classes, by NumPy; NaN where there are none."""
        if self.classes is None or not self.labels_fit or not np.isfinite(self.pred).all():
            return float("nan")
        if not self.from_logits and (self.pred.min() < 0 or self.pred.max() > 1 + 1e-6):
            return float("nan")
        wide = self.pred.reshape(-1, self.width).astype("float64")
        if self.width == 1:
            # The other class has what is left.
            wide = np.concatenate([0 * wide if self.from_logits else 1 - wide, wide], axis=1)
        if self.from_logits:
            wide = np.exp(wide - wide.max(axis=1, keepdims=True))
        likely = np.clip(wide / np.maximum(wide.sum(axis=1, keepdims=True), 1e-12), 1e-7, 1)
        y = self.y.argmax(axis=-1) if self.is_one_hot else self.y
        labels = y.reshape(-1).astype(int)
        return float(-np.log(likely[np.arange(len(labels)), labels]).mean())

    @property
    def named(self) -> str:
        """It in words."""
        return f"the output {self.place!r}" if self.place else "the output"

    def loss_of(self, y: np.ndarray, pred: np.ndarray) -> float:
        """The loss of some outputs, in the mean; NaN if it cannot be had."""
        try:
            value = self.loss(keras.ops.convert_to_tensor(y), keras.ops.convert_to_tensor(pred))
            return float(np.mean(keras.ops.convert_to_numpy(value), dtype="float64"))
        except Exception:
            return float("nan")


class Examined:
    """A model and a sample of its data.

    Args:
        model: A compiled model.
        sample: Of the training data.
        validation: Of the validation data, or None.
        split: The fraction of the examples that validates, at their end.
    """

    def __init__(
        self,
        model: keras.Model,
        sample: Sample,
        validation: Sample | None = None,
        split: float = 0.0,
    ) -> None:
        self.model = model
        self.sample = sample
        self.validation = validation
        self.split = split
        self.is_built = False
        self.problem = ""
        # A compiled step that the next rung of the ladder can use.
        self.step_function: Any = None

    def build(self) -> None:
        """Builds what is not built, and notes why if that fails."""
        try:
            with _keras.quiet_faults():
                current().build(self.model, self.sample.cut(0, self.rows))
            self.is_built = True
        except Exception as error:
            self.problem = _first_line(error)
            self.is_built = bool(self.model.built)

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
            return observe(self.model, self.batch[0])
        except Exception as error:
            self.problem = self.problem or _first_line(error)
            return None, []

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
        _, y, _ = self.batch
        if found is None or y is None:
            return []
        try:
            with preserved(self.model):
                losses = _keras.resolved_losses(self.model, y, found)
        except Exception:
            return []
        return [one for loss in losses if (one := self._output(loss, found, y)) is not None]

    @cached_property
    def leaked(self) -> float:
        """By how much the output of the first row moves when the others do, relative to outputs."""
        before, _ = self.seen
        if before is None or self.rows < 2:
            return 0.0
        rows = np.r_[0, np.arange(self.rows - 1, 0, -1)]
        others = keras.tree.map_structure(
            lambda leaf: None if leaf is None else _moved(leaf[rows]), self.batch[0]
        )
        after, _ = observe(self.model, others)
        pairs = zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True)
        return max((_distance(one, other) for one, other in pairs), default=0.0)

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
        probes = keras.tree.map_structure(
            lambda leaf: None if leaf is None else _probes(leaf, count, self.rows), self.batch[0]
        )
        _, views = observe(self.model, probes)
        last = next((view for view in views if view.layer is weighted[-1].layer), None)
        if last is None or last.input is None or last.input.ndim < 2:
            return None
        found = last.input.astype("float64")
        if not np.isfinite(found).all():
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
        if self.seen[0] is None or self.batch[1] is None or not self.model.trainable_variables:
            return None
        if not self.can_be_trained:
            return None
        try:
            with preserved(self.model), _keras.quiet_faults():
                return current().gradients(self.model, self.batch)
        except Exception as error:
            self.problem = self.problem or _first_line(error)
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
            _FAMILIES.get(loss.name, ""),
            loss.function,
            loss.name,
            loss.from_logits,
            targets,
            all_y,
            pred,
            view.activation if view else _shown_activation(pred),
            loss.weight,
            view.input if view else None,
        )

    def _view_of(self, pred: np.ndarray) -> LayerView | None:
        """The layer that gave an output, by its values."""
        for view in reversed(self.views):
            gives = view.output.shape == pred.shape and np.array_equal(view.output, pred)
            if gives and (view.activation or view.is_weighted):
                return view
        return None


def _shown_activation(pred: np.ndarray) -> str:
    """The activation that the values of an output show."""
    is_wide = pred.ndim > 1 and pred.shape[-1] > 1
    return "softmax" if is_wide and are_distributions(pred) > 0.99 else ""


def is_whole(values: np.ndarray) -> bool:
    """True if all values are whole numbers."""
    if values.dtype.kind in "iub":
        return True
    return bool(np.isfinite(values).all() and (values == np.round(values)).all())


def is_binary(values: np.ndarray) -> bool:
    """True if all values are 0 or 1, and both are there."""
    return bool(values.size and np.isin(values, (0, 1)).all() and np.ptp(values.astype(int)))


def _at(structure: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        structure = structure[key]
    return structure


def are_distributions(rows: np.ndarray) -> float:
    """The share of rows that are a distribution."""
    if not np.isfinite(rows).all() or rows.min() < 0:
        return 0.0
    return float((np.abs(rows.sum(axis=-1, dtype="float64") - 1) < 1e-3).mean())


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
    return float(np.abs(one[0] - other[0]).mean() / size)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
