"""Weights without weight decay, told by their places in the model, in an optimizer of any class.

Keras's `exclude_from_weight_decay` goes by `variable.name`, which is `"kernel"` in every layer, or
by objects that its configuration forgets: a model from a file decays everything. The updates ask a
method whose name is private which weights decay. True for Keras 3.15
(tests/unit/optimizers/test_weight_decay.py computes the updates by hand).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras

from keras_patterns.backends import current

from .. import _keras
from .._util.registered import registered
from .depth import NORMALIZATIONS
from .rate_factors import RateFactors, Rows, class_reference, matched, rows_of
from .where import Where, nodes_of, select
from .wrapping import Wrapper, added, resolve

_CALLER = "without_weight_decay"
BIASES_AND_NORMS = "biases and norms"


@_keras.quiet_arrays()
def without_weight_decay(
    optimizer: Any, model: keras.Model, where: Where = BIASES_AND_NORMS
) -> keras.optimizers.Optimizer:
    """An optimizer like the given one that does not decay some of the weights.

    The weights are told by their places in the model, not by their names alone, and a model from a
    file has the same ones without decay. It is one optimizer of the given one's class, with its
    rate and its slots; its updates differ in nothing else.

    Args:
        optimizer: A new optimizer of any class with `weight_decay`, or its name. It may have a
            momentum schedule and rates by layer; one inside a LossScaleOptimizer is given its part
            there.
        model: The model that is to be trained, built, with all its layers.
        where: What is not decayed, as `where` selects everywhere. Defaults to
            `"biases and norms"`, as in timm: biases, all that normalizations hold, and whatever
            else has at most one axis.

    Returns:
        The new optimizer. The given one is not changed.

    Raises:
        TypeError: If an argument is of the wrong type, or the optimizer is a MultiOptimizer.
        ValueError: If the optimizer has no weight decay, or has been built, the model is not built,
            or `where` selects no weight.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")
    >>> model = keras.Sequential([keras.Input((2,)), layer])
    >>> optimizer = keras.optimizers.SGD(1.0, weight_decay=0.5)
    >>> model.compile(kp.optimizers.without_weight_decay(optimizer, model), "mse")
    >>> history = model.fit(np.zeros((4, 2)), np.ones((4, 1)), verbose=0)
    >>> [weight.ravel().tolist() for weight in model.get_weights()]
    [[0.5, 0.5], [1.0]]

    References:
        R. Wightman, "PyTorch Image Models", `param_groups_weight_decay`,
            https://github.com/huggingface/pytorch-image-models.
    """
    optimizer = resolve(_CALLER, optimizer)
    select(_CALLER, model, [])  # checks the model
    decaying = (_keras.inner_optimizers(optimizer) or [optimizer])[0]
    if not decaying.weight_decay:
        raise ValueError(
            f"{_CALLER}: {optimizer.name!r} has no weight decay. Give it one, such as "
            "keras.optimizers.AdamW(1e-3, weight_decay=0.05)."
        )
    variables = _keras.weights_to_train(model)
    chosen = {id(one) for one in _chosen(model, where)}
    values = tuple(0.0 if id(one) in chosen else 1.0 for one in variables)
    if 0.0 not in values:
        raise ValueError(f"{_CALLER}: {where!r} selects no weight in {model.name!r} to train.")
    rows = Rows()
    rows.live = RateFactors(tuple(variables), values, _CALLER)
    return added(optimizer, WithoutDecay, rows)


def _chosen(model: keras.Model, where: Where) -> Sequence[keras.Variable]:
    if where != BIASES_AND_NORMS:
        return select(_CALLER, model, where).variables
    normalizing = {
        id(one)
        for node in nodes_of(model)
        if isinstance(node.layer, NORMALIZATIONS)
        for one in node.own
    }
    return [
        one
        for one in model.weights
        if len(one.shape) < 2 or "bias" in one.name or id(one) in normalizing
    ]


@registered
class WithoutDecay(Wrapper):
    """Mixed into an optimizer's class, before it."""

    part = "decay_factors"
    prefix = "Undecayed"
    rank = 1

    # What it was given, or until it is built what its configuration says of it.
    _decays: RateFactors | None = None
    _decay_rows: tuple[Any, ...] = ()
    # The places, among the variables that it trains, of those that do not decay.
    _undecayed: frozenset[int] = frozenset()

    def build(self, variables: Any) -> None:
        """Creates the slots, and finds the variables among those that it knows."""
        if not self.built:
            self._decays = self._decays or matched(self._decay_rows, variables, _CALLER)
            factors = self._decays.of(variables)
            self._undecayed = frozenset(place for place, one in enumerate(factors) if not one)
        super().build(variables)

    def check_known(self, variables: Any) -> None:
        """Raises ValueError if it does not know whether one of some variables decays."""
        if self._decays is not None:
            self._decays.of(variables)
        super().check_known(variables)

    def _use_weight_decay(self, variable: Any) -> bool:
        is_chosen = self._get_variable_index(variable) in self._undecayed
        return not is_chosen and super()._use_weight_decay(variable)

    def _apply_weight_decay(self, variables: Any) -> None:
        decays = any(self._use_weight_decay(variable) for variable in variables)
        if decays or not current().decays_at_once:
            super()._apply_weight_decay(variables)

    @classmethod
    def over(cls, base: Any) -> Any:
        """The class of optimizers of a class of which some weights do not decay."""
        return _undecayed(base)

    def get_part(self) -> Rows:
        """Which of the trained variables decay: 1.0, and which do not: 0.0."""
        if self._decays is None:
            return Rows(map(list, self._decay_rows))
        chosen = (
            _keras.trained_variables(self)
            if self.built
            else [one for one in self._decays.variables if one.trainable]
        )
        rows = rows_of(chosen, self._decays.of(chosen))
        rows.live = self._decays
        return rows

    def put_part(self, part: Any) -> None:
        """Sets them; they wait for the variables if they come from a configuration."""
        self._decay_rows = tuple(map(tuple, part))
        self._decays = getattr(part, "live", None)

    def get_config(self) -> dict[str, Any]:
        """The optimizer's arguments, its class, and what does not decay."""
        (own,) = (one for one in type(self).__mro__ if one.__bases__[0:1] == (WithoutDecay,))
        return {**super().get_config(), "decaying_optimizer": class_reference(own.__bases__[1])}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The inverse of `get_config`."""
        config = dict(config)
        base = config.pop("decaying_optimizer", None)
        if cls is not WithoutDecay:
            return super().from_config(config, custom_objects)
        rows = config.pop(cls.part)
        with keras.saving.custom_object_scope(custom_objects or {}):
            optimizer = keras.saving.deserialize_keras_object({**base, "config": config})
            return added(optimizer, WithoutDecay, rows)


@functools.cache
def _undecayed(base: Any) -> Any:
    attributes = {
        "__doc__": f"`{base.__name__}` of which some weights do not decay.",
        "__module__": __name__,
    }
    cls = type(f"{WithoutDecay.prefix}{base.__name__}", (WithoutDecay, base), attributes)
    # Keras saves it under the name of the mixin, which finds the class again in a process that has
    # not made it yet.
    for known in (cls, WithoutDecay):
        keras.saving.register_keras_serializable("keras_patterns", WithoutDecay.__name__)(known)
    return cls
