"""The outputs of a model, each with its loss and its targets, and what their values are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

# By Keras's names of the losses.
FAMILIES = {
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
        ignored: The label of targets that do not count; None if there is none.
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
    ignored: int | None = None

    @property
    def labels(self) -> np.ndarray:
        """The targets of all examples that count."""
        return self._counted(self.all_y)

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
        y = self._counted(self.y)
        return bool(is_whole(y) and y.min(initial=0) >= 0 and y.max(initial=0) < self.width)

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
        return self.classes_of(self.all_y)

    def classes_of(self, y: np.ndarray) -> np.ndarray | None:
        """The classes of some of its targets; None if they are none."""
        if self.is_one_hot and y.ndim == 2:
            return y.argmax(axis=-1)
        flat = y.reshape(-1) if y.size == len(y) else None
        if flat is None or not (self.family == "sparse" or is_binary(flat)):
            return None
        if not is_whole(flat) or (self.ignored is not None and self.ignored in flat):
            return None
        return flat.astype(np.int64)

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

    def _counted(self, y: np.ndarray) -> np.ndarray:
        return y if self.ignored is None else y[y != self.ignored]

    @property
    def smoothing(self) -> float:
        """The `label_smoothing` of the loss; 0 if it has none."""
        found = getattr(self.loss, "label_smoothing", 0.0)
        return float(found) if isinstance(found, int | float) else 0.0

    def best_outputs(self) -> np.ndarray:
        """Outputs that equal the targets of a likelihood, as it smooths them."""
        y = self.y.reshape(self.pred.shape).astype("float32")
        classes = 2 if self.family == "binary" else self.pred.shape[-1]
        if self.smoothing:
            y = y * (1 - self.smoothing) + self.smoothing / classes
        if not self.from_logits:
            return y
        shares = np.clip(y, 1e-7, 1 - 1e-7)
        rest = 1 - shares if self.family == "binary" else np.float32(1)
        return np.log(shares / rest)

    def loss_of(self, y: np.ndarray, pred: np.ndarray) -> float:
        """The loss of some outputs, in the mean; NaN if it cannot be had."""
        try:
            value = self.loss(keras.ops.convert_to_tensor(y), keras.ops.convert_to_tensor(pred))
            return float(np.mean(keras.ops.convert_to_numpy(value), dtype="float64"))
        except Exception:
            return float("nan")


def is_whole(values: np.ndarray) -> bool:
    """True if all values are whole numbers."""
    if values.dtype.kind in "iub":
        return True
    return bool(np.isfinite(values).all() and (values == np.round(values)).all())


def is_binary(values: np.ndarray) -> bool:
    """True if all values are 0 or 1, and both are there."""
    return bool(values.size and np.isin(values, (0, 1)).all() and np.ptp(values.astype(int)))


def are_distributions(rows: np.ndarray) -> float:
    """The share of rows that are a distribution."""
    if not np.isfinite(rows).all() or rows.min() < 0:
        return 0.0
    return float((np.abs(rows.sum(axis=-1, dtype="float64") - 1) < 1e-3).mean())
