"""A factor of the rate for each variable, in an optimizer of any class and in its configuration.

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
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_patterns.backends import current

from .. import _keras
from .._util.registered import registered
from .wrapping import Wrapper, added


@dataclass(frozen=True, eq=False)
class RateFactors:
    """The factors of a model's variables.

    Attributes:
        variables: In the model's order. They are told apart by what they are: two backbones share
            their paths.
        values: The factor of each.
        caller: The function that was given them, for messages. Defaults to `with_layer_rates`.
    """

    variables: tuple[keras.Variable, ...]
    values: tuple[float, ...]
    caller: str = "with_layer_rates"

    def by_path(self) -> dict[str, float]:
        """The factors by path; the second variable of a path has `#1` after it."""
        found: dict[str, float] = {}
        seen: Counter[str] = Counter()
        for variable, value in zip(self.variables, self.values, strict=True):
            again = seen[variable.path]
            found[f"{variable.path}#{again}" if again else variable.path] = value
            seen[variable.path] += 1
        return found

    def of(self, variables: Sequence[keras.Variable]) -> tuple[float, ...]:
        """The factor of each of some variables.

        Raises:
            ValueError: If one is not among those of the model.
        """
        known = {
            id(variable): value for variable, value in zip(self.variables, self.values, strict=True)
        }
        strange = [variable.path for variable in variables if id(variable) not in known]
        if strange:
            raise ValueError(
                f"{self.caller}: {strange[0]!r} has no factor: it was not in the model when the "
                "factors were given, or frozen when the model was saved to the file that it comes "
                f"from. Call kp.optimizers.{self.caller} when the model that is trained has all "
                "its layers, and compile it with the result."
            )
        return tuple(known[id(variable)] for variable in variables)


class Rows(list[Any]):
    """Factors in a configuration: `[factor, variables, weights]` for each run of trained variables
    that share a factor.

    They go by order, as Keras's files do with slots, since paths change: that of a Sequential's
    kernel is `sequential/dense/kernel` before it is saved and `dense/kernel` after it is loaded.
    `weights`, the size of the variables, is there to be checked.

    Attributes:
        live: The factors of all variables, frozen ones included, where the configuration has not
            left the process.
    """

    live: RateFactors | None = None


def rows_of(variables: Iterable[keras.Variable], factors: Iterable[float]) -> Rows:
    """The rows of variables that are trained."""
    pairs = zip(variables, factors, strict=True)
    runs = [
        (factor, [v for v, _ in run])
        for factor, run in itertools.groupby(pairs, key=lambda pair: pair[1])
    ]
    return Rows([factor, len(run), sum(math.prod(v.shape) for v in run)] for factor, run in runs)


def matched(
    rows: Sequence[Sequence[Any]],
    variables: Sequence[keras.Variable],
    caller: str = "with_layer_rates",
) -> RateFactors:
    """The inverse of `rows_of`.

    Args:
        rows: What that gave.
        variables: Those that an optimizer is to train.
        caller: As in `RateFactors`. Defaults to `with_layer_rates`.

    Raises:
        ValueError: If the rows are of other variables.
    """
    values = tuple(factor for factor, count, _ in rows for _ in range(count))
    if len(values) != len(variables) or rows_of(variables, values) != [list(row) for row in rows]:
        raise ValueError(
            f"{caller}: this optimizer was saved with factors for {len(values)} variables "
            "(factor, variables, weights: "
            f"{[list(row) for row in rows]}), and is to train {len(variables)} that are not these. "
            f"Call kp.optimizers.{caller} with "
            "the model that is trained, and compile it with the result."
        )
    return RateFactors(tuple(variables), values, caller)


@registered
class LayerwiseRates(Wrapper):
    """Mixed into an optimizer's class, before it."""

    part = "rate_factors"
    prefix = "Layerwise"
    rank = 2

    # What it was given, or until it is built what its configuration says of it.
    _factors: RateFactors | None = None
    _rows: tuple[Any, ...] = ()
    # Of the variables that it trains, in their order.
    _values: tuple[float, ...]
    _factor = 1.0

    @property
    def rate_factors(self) -> dict[str, float]:
        """The factor of each variable, by its path."""
        return _known(self).by_path()

    def check_known(self, variables: Any) -> None:
        """Raises ValueError if one of some variables has no factor."""
        if self._factors is not None:
            self._factors.of(variables)
        super().check_known(variables)

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
            with _keras.replaced(self, "_factor", factor):
                super()._apply_weight_decay(chosen)

    def _get_current_learning_rate(self) -> Any:
        # Weight decay reads the rate from the optimizer.
        rate = super()._get_current_learning_rate()
        return rate if self._factor == 1.0 else rate * self._factor

    def _by_factor(self, variables: Sequence[Any]) -> dict[float, list[int]]:
        groups: dict[float, list[int]] = {}
        for index, variable in enumerate(variables):
            groups.setdefault(self._values[self._get_variable_index(variable)], []).append(index)
        return groups

    @classmethod
    def over(cls, base: Any) -> Any:
        """The class of optimizers of a class that have factors."""
        return _layerwise(base)

    def get_part(self) -> Rows:
        """The factors of what is trained."""
        if self._factors is None:
            return Rows(map(list, self._rows))
        chosen = (
            _keras.trained_variables(self)
            if self.built
            else [v for v in self._factors.variables if v.trainable]
        )
        rows = rows_of(chosen, self._factors.of(chosen))
        rows.live = self._factors
        return rows

    def put_part(self, part: Any) -> None:
        """Sets the factors, which wait for the variables if they come from a configuration."""
        self._rows = tuple(map(tuple, part))
        self._factors = getattr(part, "live", None)

    def get_config(self) -> dict[str, Any]:
        """The optimizer's arguments, its class, and the factors."""
        return {**super().get_config(), "base_optimizer": class_reference(type(self).__bases__[1])}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The inverse of `get_config`."""
        config = dict(config)
        base = config.pop("base_optimizer", None)
        if cls is not LayerwiseRates:
            return super().from_config(config, custom_objects)
        rows = config.pop(cls.part)
        with keras.saving.custom_object_scope(custom_objects or {}):
            optimizer = keras.saving.deserialize_keras_object({**base, "config": config})
            return added(optimizer, LayerwiseRates, rows)


@functools.cache
def _layerwise(base: Any) -> Any:
    attributes = {
        "__doc__": f"`{base.__name__}` with a factor of the rate for each variable.",
        "__module__": __name__,
    }
    cls = type(f"{LayerwiseRates.prefix}{base.__name__}", (LayerwiseRates, base), attributes)
    # Keras saves it under the name of the mixin, which finds the class again in a process that has
    # not made it yet.
    for known in (cls, LayerwiseRates):
        keras.saving.register_keras_serializable("keras_patterns", LayerwiseRates.__name__)(known)
    return cls


def class_reference(cls: type) -> dict[str, Any]:
    """A class as Keras writes it. Its own ones go by their public names, which are the same on
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


def rate_factor_of(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> float:
    """By what an optimizer multiplies its rate for a variable: 1.0 where it has no factors.

    Args:
        optimizer: Of any class; those inside it are asked.
        variable: Of the model.

    Raises:
        ValueError: If it has factors, and none for this variable.

    Example:

    >>> import keras, keras_patterns as kp
    >>> layers = [keras.layers.Dense(4, name=name) for name in ("stem", "head")]
    >>> model = keras.Sequential([keras.Input((8,)), *layers])
    >>> optimizer = kp.optimizers.with_layer_rates(keras.optimizers.Adam(), model, decay=0.5)
    >>> kp.optimizers.rate_factor_of(optimizer, model.get_layer("stem").kernel)
    0.5
    """
    if hasattr(optimizer, "inner_optimizer"):
        return rate_factor_of(optimizer.inner_optimizer, variable)
    for inner in getattr(optimizer, "optimizers", ()):
        if any(one is variable for one in _keras.trained_variables(inner)):
            return rate_factor_of(inner, variable)
    if not isinstance(optimizer, LayerwiseRates):
        return 1.0
    return _known(optimizer).of([variable])[0]


def _known(optimizer: LayerwiseRates) -> RateFactors:
    if optimizer._factors is None:
        raise ValueError(
            f"{optimizer.name!r} comes from a configuration, and knows its variables when it is "
            "built on them."
        )
    return optimizer._factors
