"""The trained part of a model, as one small value that can be read off it and put into it."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from ... import _keras
from ...optimizers.where import Node, Selection, nodes_of


@dataclass(frozen=True)
class Trained:
    """The trained part of a model.

    Attributes:
        variables: The `id` of each variable that is trained.
        adapting: The `id` of each BatchNormalization whose statistics follow the data though its
            gamma and beta are not trained.
    """

    variables: frozenset[int]
    adapting: frozenset[int]

    @classmethod
    def of(cls, model: keras.Model) -> Trained:
        """Reads off a model what is trained in it now."""
        variables = frozenset(id(variable) for variable in model.trainable_variables)
        normalizations = [node.layer for node in nodes_of(model) if is_batch_norm(node.layer)]
        adapting = (
            id(one) for one in normalizations if one.trainable and not _any_in(one, variables)
        )
        return cls(variables, frozenset(adapting))

    def put_into(self, model: keras.Model) -> None:
        """Sets `trainable` of every layer and variable of a model. What the layers were made not to
        train stays so.
        """
        model.trainable = bool(self.variables or self.adapting)
        _put_own(model, self.variables)
        nodes = nodes_of(model)
        active = self._active(nodes)
        # From the outside in: setting it on a layer sets it on all inside.
        for node in nodes:
            if node.layer.variables:
                node.layer.trainable = id(node.layer) in active
                _put_own(node.layer, self.variables)

    def without(self, selection: Selection, *, adapt: bool) -> Trained:
        """With a selection frozen; `adapt` says whether its BatchNorm statistics follow the
        data."""
        chosen = frozenset(id(variable) for variable in selection.weights)
        normalizations = frozenset(id(layer) for layer in batch_norms(selection))
        return Trained(
            self.variables - chosen,
            self.adapting | normalizations if adapt else self.adapting - normalizations,
        )

    def and_also(self, selection: Selection) -> Trained:
        """With a selection trained, its BatchNorm too."""
        chosen = frozenset(id(variable) for variable in selection.weights)
        return Trained(
            self.variables | chosen, self.adapting - {id(layer) for layer in batch_norms(selection)}
        )

    def _active(self, nodes: list[Node]) -> set[int]:
        active = set()
        for node in nodes:
            if id(node.layer) in self.adapting or _any_in(node.layer, self.variables):
                active |= {id(node.layer), *(id(layer) for layer in node.above)}
        return active


def is_batch_norm(layer: keras.Layer) -> bool:
    """True if a layer keeps statistics of the batches."""
    return isinstance(layer, keras.layers.BatchNormalization)


def batch_norms(selection: Selection) -> list[keras.Layer]:
    """The BatchNormalization layers that a selection holds as a whole."""
    return [node.layer for node in selection.nodes if is_batch_norm(node.layer)]


def without_batch_norms(selection: Selection) -> Selection:
    """The rest of a selection."""
    nodes = [node for node in selection.nodes if not is_batch_norm(node.layer)]
    left_out = {
        id(variable) for layer in batch_norms(selection) for variable in _keras.own_variables(layer)
    }
    parts = (
        [v for v in part if id(v) not in left_out]
        for part in (selection.variables, selection.weights)
    )
    return Selection(nodes, *parts)


def _any_in(layer: keras.Layer, variables: frozenset[int]) -> bool:
    return any(id(variable) in variables for variable in _keras.weights_made_trainable(layer))


def _put_own(layer: keras.Layer, variables: frozenset[int]) -> None:
    for variable in _keras.weights_made_trainable(layer):
        variable.trainable = id(variable) in variables
