"""`kp.trainable_table`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from ... import _keras
from ..._util.table import format_table, html_table
from ...optimizers import rate_factor_of
from ...optimizers.rates import with_rates
from ...optimizers.where import nodes_of
from .trained import is_batch_norm

_HEADER = ["layer", "class", "parameters", "trained", "BatchNorm", "rate"]


@dataclass(frozen=True)
class TrainableRow:
    """A layer that holds weights.

    Attributes:
        layer: Its path in the model.
        kind: Its class.
        parameters: How many numbers it holds, statistics included.
        trained: How many of them are trained.
        batch_norm: What a BatchNormalization does: `"trains"`, `"adapts"` (its statistics alone
            move) or `"frozen"` (inference mode); empty for other layers.
        rate: The learning rate now; None where nothing is trained, or there is no one rate.
    """

    layer: str
    kind: str
    parameters: int
    trained: int
    batch_norm: str
    rate: float | None


@dataclass(frozen=True)
class TrainableTable:
    """The outcome of `kp.trainable_table`: a row for each layer with weights; to be printed, or
    read.

    Attributes:
        rows: In the model's order.
    """

    rows: list[TrainableRow]

    @property
    def parameters(self) -> int:
        """The count of numbers that the layers hold."""
        return sum(row.parameters for row in self.rows)

    @property
    def trained(self) -> int:
        """The count of numbers that are trained."""
        return sum(row.trained for row in self.rows)

    def __str__(self) -> str:
        return format_table(_HEADER, self._cells)

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._cells)

    @property
    def _cells(self) -> list[list[Any]]:
        cells: list[list[Any]] = [
            [
                row.layer,
                row.kind,
                row.parameters,
                row.trained,
                row.batch_norm,
                "" if row.rate is None else f"{row.rate:.3g}",
            ]
            for row in self.rows
        ]
        return [*cells, ["together", "", self.parameters, self.trained, "", ""]]


@_keras.quiet_arrays()
def trainable_table(model: keras.Model) -> TrainableTable:
    """Lists what is trained in a model: layer, parameters, trained ones, BatchNorm's mode, rate.

    Args:
        model: A built model, compiled or not.

    Returns:
        A table that can be printed; its `.rows` have the figures.

    Raises:
        TypeError: If `model` is no model.
        ValueError: If it is not built.

    Example:

    >>> import keras, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="body"),
    ...     keras.layers.Dense(2, name="head")])
    >>> model.compile(keras.optimizers.SGD(0.5), "mse")
    >>> kp.freeze(model, "body")
    >>> print(kp.trainable_table(model))
    layer     class  parameters  trained  BatchNorm  rate
    --------  -----  ----------  -------  ---------  ----
    body      Dense          16        0
    head      Dense          10       10              0.5
    together                 26       10
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"kp.trainable_table: `model` must be a Keras model. Received: {type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"kp.trainable_table: {model.name!r} is not built, so it has no weights yet. Call it "
            "on a batch first."
        )
    trained = {id(variable) for variable in model.trainable_variables}
    rates = _rates(model)
    holders = [(node.path, node.layer) for node in nodes_of(model)] + [(model.name, model)]
    rows = [
        _row(path, layer, trained, rates) for path, layer in holders if _keras.own_variables(layer)
    ]
    return TrainableTable(rows)


def _row(path: str, layer: keras.Layer, trained: set[int], rates: dict[int, float]) -> TrainableRow:
    own = _keras.own_variables(layer)
    chosen = [variable for variable in own if id(variable) in trained]
    found = {rates[id(variable)] for variable in chosen if id(variable) in rates}
    mode = ""
    if is_batch_norm(layer):
        mode = "trains" if chosen else "adapts" if layer.trainable else "frozen"
    return TrainableRow(
        path,
        type(layer).__name__,
        _count(own),
        _count(chosen),
        mode,
        found.pop() if len(found) == 1 else None,
    )


def _count(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _rates(model: keras.Model) -> dict[int, float]:
    """The rate at which each variable is trained, by its `id`."""
    optimizers = list(with_rates(model).values()) if model.compiled else []
    alone = model.trainable_variables if len(optimizers) == 1 else None
    found: dict[int, float] = {}
    for one in optimizers:
        rate = float(ops.convert_to_numpy(one.learning_rate))
        found.update(
            (id(v), rate * rate_factor_of(one, v)) for v in alone or _keras.trained_variables(one)
        )
    return found
