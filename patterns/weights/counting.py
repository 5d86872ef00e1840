"""`kp.count_parameters`: the sizes of a model's parts, and the memory that training them takes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import keras

from .. import _keras
from .._util.arguments import whole_number
from .._util.models import check_built
from .._util.table import format_table, html_table
from ..optimizers.rebuild import parts_of_slot
from ..optimizers.where import Node, nodes_of
from ..state import find_variables
from ..state.snapshot import np_dtype

_CALLER = "kp.count_parameters"


@dataclass(frozen=True)
class ParameterRow:
    """A part of a model, or all of it, as `kp.count_parameters` counts it.

    Attributes:
        part: Its path in the model.
        kind: Its class.
        parameters: The numbers in its weights, statistics included; seeds are none.
        trained: Those of them that are trained.
        weights: Bytes of all its weights.
        gradients: Bytes of the gradients of what is trained.
        slots: Bytes of the optimizer's slots, such as Adam's moments, or of those that it will
            have; None of a model that is not compiled, and while a MultiOptimizer is not built.
        activations: Bytes of the outputs of its layers for a batch, which training keeps for the
            way back; None where the graph or a shape is not known. A framework may keep more, and
            a compiler less.
    """

    part: str
    kind: str
    parameters: int
    trained: int
    weights: int
    gradients: int
    slots: int | None
    activations: int | None


@dataclass(frozen=True)
class ParameterCounts:
    """The outcome of `kp.count_parameters`: the parts of a model and their sizes; to be printed, or
    read.

    Attributes:
        rows: The parts, in the model's order.
        batch_size: For which the activations are.
    """

    rows: list[ParameterRow]
    batch_size: int

    @property
    def total(self) -> ParameterRow:
        """The sums over all parts."""
        sums: dict[str, Any] = {}
        for name in (field.name for field in fields(ParameterRow)[2:]):
            values = [getattr(row, name) for row in self.rows]
            sums[name] = None if None in values else sum(values)
        return ParameterRow("together", "", **sums)

    @property
    def bytes(self) -> int | None:
        """The memory of weights, gradients, slots and activations; None where one is not known."""
        total = self.total
        parts = (total.weights, total.gradients, total.slots, total.activations)
        return None if None in parts else sum(one or 0 for one in parts)

    def __str__(self) -> str:
        return format_table(*self._table)

    def _repr_html_(self) -> str:
        return html_table(*self._table)

    @property
    def _table(self) -> tuple[list[str], list[list[Any]]]:
        header = ["part", "class", "parameters", "trained"]
        header += ["weights", "gradients", "slots", f"activations of {self.batch_size:,}"]
        cells = [
            [
                *(row.part, row.kind, row.parameters, row.trained),
                *map(_shown, (row.weights, row.gradients, row.slots, row.activations)),
            ]
            for row in [*self.rows, self.total]
        ]
        return header, cells


@_keras.quiet_arrays()
def count_parameters(
    model: keras.Model, *, batch_size: int = 32, depth: int = 1
) -> ParameterCounts:
    """Counts the parameters of a model by part and by what is trained, and the memory that training
    takes: weights, gradients, slots of the optimizer, activations.

    The model is left as it was.

    Args:
        model: A built model, compiled or not.
        batch_size: Examples for which the activations are counted. Defaults to 32.
        depth: The level at which a part is a row: 1 has a nested model as one row, 2 its layers.
            Defaults to 1.

    Returns:
        A table that can be printed; its `.rows` have the figures, `.total` and `.bytes` the sums.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the model is not built, or a number is below 1.

    Example:

    >>> import keras, keras_patterns as kp
    >>> layers = [keras.layers.Dense(64, "relu", name="body"), keras.layers.Dense(10, name="head")]
    >>> model = keras.Sequential([keras.Input((100,)), *layers])
    >>> model.compile("adam", "mse")
    >>> print(kp.count_parameters(model))
    part      class  parameters  trained  weights  gradients  slots    activations of 32
    --------  -----  ----------  -------  -------  ---------  -------  -----------------
    body      Dense       6,464    6,464  25.9 kB  25.9 kB    51.7 kB  8.2 kB
    head      Dense         650      650  2.6 kB   2.6 kB     5.2 kB   1.3 kB
    together              7,114    7,114  28.5 kB  28.5 kB    56.9 kB  9.5 kB
    """
    check_built(_CALLER, model)
    whole_number(_CALLER, "batch_size", batch_size)
    whole_number(_CALLER, "depth", depth)
    nodes = nodes_of(model)
    part_of = {id(node.layer): _part(node, depth) for node in nodes}
    names = {id(node.layer): node.path for node in nodes} | {id(model): model.name}
    kinds = {id(node.layer): type(node.layer).__name__ for node in nodes}
    kinds[id(model)] = type(model).__name__
    part_of[id(model)] = id(model)
    slots = _slots(model)
    activations = _activations(model, part_of, batch_size)
    held: dict[int, list[keras.Variable]] = defaultdict(list)
    for layer in [*(node.layer for node in nodes), model]:
        held[part_of[id(layer)]] += _keras.own_variables(layer)
    trained = {id(variable) for variable in model.trainable_variables}
    rows = []
    for part, variables in held.items():
        chosen = [one for one in variables if id(one) in trained]
        outputs = None if activations is None else activations.get(part, 0)
        if variables or outputs:
            rows.append(
                ParameterRow(
                    part=names[part],
                    kind=kinds[part],
                    parameters=sum(math.prod(one.shape) for one in variables),
                    trained=sum(math.prod(one.shape) for one in chosen),
                    weights=_bytes(variables),
                    gradients=_bytes(chosen),
                    slots=None if slots is None else sum(slots[id(one)] for one in variables),
                    activations=outputs,
                )
            )
    return ParameterCounts(rows, batch_size)


def _part(node: Node, depth: int) -> int:
    """The `id` of the layer at a level that a layer is, or is in."""
    return id([*node.above, node.layer][:depth][-1])


def _bytes(variables: Iterable[keras.Variable]) -> int:
    return sum(math.prod(one.shape) * np_dtype(one).itemsize for one in variables)


def _slots(model: keras.Model) -> dict[int, int] | None:
    """The bytes of the slots of each variable, by its `id`; None if they are not known."""
    optimizer = model.optimizer if model.compiled else None
    if optimizer is None:
        return None
    found: dict[int, int] = defaultdict(int)
    index = find_variables(model)
    if any(one.built for one in index.optimizers.values()):
        for key, slot in index.of("optimizer").items():
            served = index.variables.get(parts_of_slot(key)[2])
            if served is not None:
                found[id(served)] += _bytes([slot])
        return found
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return None
    updating = (_keras.inner_optimizers(optimizer) or [optimizer])[0]
    # One at a time, so that no more memory is taken than for the largest.
    for variable in model.trainable_variables:
        new = _keras.made_anew(updating)
        before = _bytes(new.variables)
        new.build([variable])
        found[id(variable)] = _bytes(new.variables) - before
    return found


def _activations(
    model: keras.Model, part_of: dict[int, int], batch_size: int
) -> dict[int, int] | None:
    """The bytes of the outputs of the layers in each part; None where they are not known."""
    found: dict[int, int] = defaultdict(int)
    waiting: list[tuple[Any, int | None]] = [(_keras.graph_of(model), None)]
    while waiting:
        graph, above = waiting.pop()
        if graph is None:
            return None
        for call in _keras.graph_calls(graph):
            inner = _keras.graph_of(call.operation)
            part = part_of.get(id(call.operation), id(model) if above is None else above)
            if inner is not None:
                waiting.append((inner, part))
            elif call.inputs:
                for tensor in call.outputs:
                    if None in tensor.shape[1:]:
                        return None
                    size = math.prod(tensor.shape[1:]) * np_dtype(tensor).itemsize
                    found[part] += batch_size * size
    return found


def _shown(count: int | None) -> str:
    """Bytes for people.

    Example:

    >>> _shown(512), _shown(25_856), _shown(3_000_000_000), _shown(None)
    ('512 B', '25.9 kB', '3.0 GB', '?')
    """
    if count is None:
        return "?"
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if unit != "B" else f"{count} B"
