"""Optimizers of any class with something added to them, in whatever order.

A wrapped optimizer is one optimizer. Its class is made of a mixin for each thing that was added,
before the optimizer's own class. The mixins stand in the order of their ranks, so that whatever was
added first, class, configuration and updates are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import keras

from .. import _keras

# What Keras's classes give and take is theirs to type.
if TYPE_CHECKING:
    _Base: TypeAlias = keras.optimizers.Optimizer
else:
    _Base = object


class Wrapper(_Base):
    """The base of the mixins. Each adds one part to an optimizer; instances are made by `added`.

    The classes made of them are saved by name, in models and in checkpoints: a mixin's prefix is
    that of its classes' names.

    Attributes:
        part: The name of what it adds, in the configuration.
        prefix: Of the names of its classes.
        rank: A mixin of a higher rank stands before one of a lower.
    """

    part: ClassVar[str]
    prefix: ClassVar[str]
    rank: ClassVar[int]

    @classmethod
    def over(cls, base: Any) -> Any:
        """The class of optimizers of a class, which may have mixins of lower ranks, that have the
        part.
        """
        raise NotImplementedError

    # Called on the mixin, not on the instance, which has the methods of all of its mixins.

    def get_part(self) -> Any:
        """The part, as `put_part` takes it."""
        raise NotImplementedError

    def put_part(self, part: Any) -> None:
        """Sets the part, also as it stands in a configuration."""
        raise NotImplementedError

    def check_known(self, variables: Any) -> None:
        """Raises ValueError if a part knows nothing of one of some variables."""

    def get_config(self) -> dict[str, Any]:
        """The optimizer's arguments, and the parts."""
        parts = {mixin.part: mixin.get_part(self) for mixin in mixins_of(type(self))}
        return {**super().get_config(), **{name: _serialized(part) for name, part in parts.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The inverse of `get_config`."""
        parts = {mixin: config[mixin.part] for mixin in mixins_of(cls)}
        names = {mixin.part for mixin in parts}
        with keras.saving.custom_object_scope(custom_objects or {}):
            optimizer = super().from_config({k: v for k, v in config.items() if k not in names})
            for mixin, part in parts.items():
                mixin.put_part(optimizer, part)
        return optimizer


def mixins_of(cls: type) -> list[type[Wrapper]]:
    """The mixins of a class that add a part, the outermost first."""
    return [kind for kind in cls.__mro__ if issubclass(kind, Wrapper) and "part" in vars(kind)]


def base_class(cls: type) -> type:
    """The optimizer's own class, without what was added to it."""
    kinds = cls.__mro__
    return kinds[kinds.index(Wrapper) + 1] if issubclass(cls, Wrapper) else cls


def base_name(name: str) -> str:
    """The name of the optimizer's own class, in that of a class in a checkpoint.

    Example:

    >>> base_name("LayerwiseMomentumScheduledAdam")
    'Adam'
    """
    for mixin in sorted(Wrapper.__subclasses__(), key=lambda mixin: -mixin.rank):
        name = name.removeprefix(mixin.prefix)
    return name


def added(
    optimizer: keras.optimizers.Optimizer, mixin: type[Wrapper], part: Any, rate: Any = None
) -> keras.optimizers.Optimizer:
    """A new optimizer of the same settings that has a part, in place of one of the same kind.

    Args:
        optimizer: Not built. One that scales the loss has the part inside.
        mixin: The kind of the part.
        part: The part.
        rate: In place of the optimizer's. Defaults to None: keeps it.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return type(optimizer)(
            added(optimizer.inner_optimizer, mixin, part, rate),
            initial_scale=optimizer.initial_scale,
            dynamic_growth_steps=optimizer.dynamic_growth_steps,
            name=optimizer.name,
        )
    parts = {one: one.get_part(optimizer) for one in mixins_of(type(optimizer))}
    parts[mixin] = part
    cls: Any = base_class(type(optimizer))
    config = _keras.config_without_rate(optimizer, cls)
    for one in sorted(parts, key=lambda one: one.rank):
        cls = one.over(cls)
    rate = _keras.get_rate(optimizer) if rate is None else rate
    config["learning_rate"] = float(rate.numpy()) if isinstance(rate, keras.Variable) else rate
    new = cls.from_config({**config, **{one.part: value for one, value in parts.items()}})
    _keras.copy_weight_decay_exclusions(optimizer, new)
    return new


def resolve(caller: str, given: Any) -> keras.optimizers.Optimizer:
    """An optimizer that something can be added to, by its name too; Keras does not know all of its
    own by theirs.

    Args:
        caller: For the messages.
        given: An optimizer, or the name of a class of Keras's in any case.

    Raises:
        TypeError: If it is a MultiOptimizer.
        ValueError: If it has been built.
    """
    kinds = {name.lower(): kind for name, kind in vars(keras.optimizers).items()}
    kind = kinds.get(given.lower()) if isinstance(given, str) else None
    optimizer = kind() if isinstance(kind, type) else keras.optimizers.get(given)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        raise TypeError(
            f"{caller}: a MultiOptimizer has no rate and no momentum of its own. Give one "
            f"optimizer for all layers, or give {caller} each of its optimizers before they are "
            "put together."
        )
    if any(one.built for one in (optimizer, *_keras.inner_optimizers(optimizer))):
        raise ValueError(
            f"{caller}: {optimizer.name!r} has been built, and what it has gathered would be lost. "
            "Give a new one."
        )
    return optimizer


def _serialized(part: Any) -> Any:
    schedules = keras.optimizers.schedules.LearningRateSchedule
    return keras.saving.serialize_keras_object(part) if isinstance(part, schedules) else part
