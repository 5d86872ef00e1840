"""An optimizer of any class that multiplies its rate by a factor for each variable.

It stays one optimizer of its class with one `learning_rate` and the slots that it had, so that
callbacks, schedules and checkpoints notice nothing. A `keras.optimizers.MultiOptimizer`, one
optimizer for each group, would not do: its `learning_rate` raises, so no callback can set it, it
finds variables by their paths, which do not tell two backbones apart, it raises where two of its
patterns match, and it clips each group by a norm of its own.

The rate is scaled and not the gradient, of whose size Adam takes no notice. This can be done only
where the updates are computed, hence by names of Keras's optimizers that are private. True for
Keras 3.15 (tests/test_layerwise.py trains every one of them).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
from keras import ops

from keras_patterns.backends import current

from .. import _keras
from .._util.registered import registered
from .factors import RateFactors, Rows, matched, rows_of

# What Keras's classes give and take is theirs to type.
if TYPE_CHECKING:
    _Base: TypeAlias = keras.optimizers.Optimizer
else:
    _Base = object


@registered
class LayerwiseRates(_Base):
    """Mixed into an optimizer's class, before it. Instances are made by `with_factors`."""

    # What it was given, or until it is built what its configuration says of it.
    _factors: RateFactors | None = None
    _rows: tuple[Any, ...] = ()
    # Of the variables that it trains, in their order.
    _values: tuple[float, ...]
    _factor = 1.0

    @property
    def rate_factors(self) -> dict[str, float]:
        """The factor of each variable, by its path."""
        if self._factors is None:
            raise ValueError(
                f"{self.name!r} comes from a configuration, and knows its variables when it is "
                "built on them."
            )
        return self._factors.by_path()

    def check_known(self, variables: Any) -> None:
        """Raises ValueError if one of some variables has no factor."""
        if self._factors is not None:
            self._factors.of(variables)

    def build(self, variables: Any) -> None:
        """Creates the slots, and finds the factors of the variables."""
        if not self.built:
            self._factors = self._factors or matched(self._rows, variables)
            self._values = self._factors.of(variables)
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """As in the optimizer, at the variable's own rate."""
        super().update_step(
            gradient, variable, learning_rate * self._values[self._get_variable_index(variable)]
        )

    def _parallel_update_step(self, grads: Any, variables: Any, learning_rate: Any) -> None:
        # Called only where Keras updates many variables at once. Nadam moves a product of its
        # momenta here, which is to move once.
        product = getattr(self, "_u_product", None)
        before = None if product is None else ops.copy(product)
        for factor, indices in self._by_factor(variables).items():
            if product is not None:
                product.assign(before)
            chosen = [grads[i] for i in indices], [variables[i] for i in indices]
            super()._parallel_update_step(*chosen, learning_rate * factor)

    def _apply_weight_decay(self, variables: Any) -> None:
        for factor, indices in self._by_factor(variables).items():
            chosen = [variables[i] for i in indices]
            if current().decays_at_once and not any(
                self._use_weight_decay(variable) for variable in chosen
            ):
                continue
            object.__setattr__(self, "_factor", factor)
            try:
                super()._apply_weight_decay(chosen)
            finally:
                object.__setattr__(self, "_factor", 1.0)

    def _get_current_learning_rate(self) -> Any:
        # Weight decay reads the rate from the optimizer.
        rate = super()._get_current_learning_rate()
        return rate if self._factor == 1.0 else rate * self._factor

    def _by_factor(self, variables: Sequence[Any]) -> dict[float, list[int]]:
        groups: dict[float, list[int]] = {}
        for index, variable in enumerate(variables):
            groups.setdefault(self._values[self._get_variable_index(variable)], []).append(index)
        return groups

    def get_config(self) -> dict[str, Any]:
        """The optimizer's arguments, its class, and the factors."""
        rows = Rows(map(list, self._rows))
        if self._factors is not None:
            chosen = (
                _keras.trained_variables(self)
                if self.built
                else [v for v in self._factors.variables if v.trainable]
            )
            rows = rows_of(chosen, self._factors.of(chosen))
            rows.live = self._factors
        return {
            **super().get_config(),
            "base_optimizer": _reference(type(self).__bases__[1]),
            "rate_factors": rows,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The inverse of `get_config`."""
        config = dict(config)
        base, rows = config.pop("base_optimizer", None), config.pop("rate_factors")
        with keras.saving.custom_object_scope(custom_objects or {}):
            if cls is LayerwiseRates:
                return with_factors(
                    keras.saving.deserialize_keras_object({**base, "config": config}), rows
                )
            optimizer = super().from_config(config)
        optimizer._rows = tuple(map(tuple, rows))
        optimizer._factors = getattr(rows, "live", None)
        return optimizer


@functools.cache
def _layerwise(base: Any) -> Any:
    """The class of optimizers of a class that have factors."""
    attributes = {
        "__doc__": f"`{base.__name__}` with a factor of the rate for each variable.",
        "__module__": __name__,
    }
    cls = type(f"Layerwise{base.__name__}", (LayerwiseRates, base), attributes)
    # Keras saves it under the name of the mixin, which finds the class again in a process that has
    # not made it yet.
    for known in (cls, LayerwiseRates):
        keras.saving.register_keras_serializable("keras_patterns", LayerwiseRates.__name__)(known)
    return cls


def _reference(cls: type) -> dict[str, Any]:
    """What Keras writes of a class. Of its own ones it is the public name, which is the same on
    every backend.
    """
    if cls.__module__.startswith("keras."):
        public = next(
            kind for kind in cls.__mro__ if getattr(keras.optimizers, kind.__name__, None) is kind
        )
        return {
            "module": "keras.optimizers",
            "class_name": public.__name__,
            "registered_name": None,
        }
    name = keras.saving.get_registered_name(cls)
    return {"module": cls.__module__, "class_name": cls.__name__, "registered_name": name}


def with_factors(
    optimizer: keras.optimizers.Optimizer, rows: Rows, rate: Any = None
) -> keras.optimizers.Optimizer:
    """A new optimizer of the same settings that has factors.

    Args:
        optimizer: Not built; one that has factors already loses them.
        rows: The factors.
        rate: In place of the optimizer's. Defaults to None: keeps it.
    """
    kind: Any = type(optimizer)
    cls = kind if issubclass(kind, LayerwiseRates) else _layerwise(kind)
    rate = _keras.get_rate(optimizer) if rate is None else rate
    rate = float(rate.numpy()) if isinstance(rate, keras.Variable) else rate
    new = cls.from_config(
        {**_keras.config_without_rate(optimizer), "learning_rate": rate, "rate_factors": rows}
    )
    _keras.copy_weight_decay_exclusions(optimizer, new)
    return new


def rate_factor_of(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> float:
    """By what an optimizer multiplies its rate for a variable: 1.0 where it has no factors.

    Args:
        optimizer: Of any class; those inside it are asked.
        variable: Of the model.

    Raises:
        ValueError: If it has factors, and none for this variable.
    """
    if hasattr(optimizer, "inner_optimizer"):
        return rate_factor_of(optimizer.inner_optimizer, variable)
    for inner in getattr(optimizer, "optimizers", ()):
        if any(one is variable for one in _keras.trained_variables(inner)):
            return rate_factor_of(inner, variable)
    if not isinstance(optimizer, LayerwiseRates):
        return 1.0
    factors = optimizer._factors
    if factors is None:
        raise ValueError(
            f"{optimizer.name!r} comes from a configuration, and knows its variables when it is "
            "built on them."
        )
    return factors.of([variable])[0]
