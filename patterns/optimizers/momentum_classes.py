"""Keras's optimizers with a momentum that follows a schedule, computed inside the compiled step.

The momentum of a step can be had nowhere but in the method that computes the updates, and SGD and
RMSprop cannot but be computed anew; so these classes use names of Keras's optimizers that are
private. True for Keras 3.15 (tests/test_momentum.py computes every update by hand).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import keras
from keras import ops

from .. import _keras
from .._util.registered import registered

# What Keras's classes give and take is theirs to type.
if TYPE_CHECKING:
    _Base: TypeAlias = keras.optimizers.Optimizer
else:
    _Base = object

# In place of a momentum of 0, of which Keras asks whether it is 0: such a one has no slots.
_LEAST = 1e-30


class MomentumScheduled(_Base):
    """Mixed into an optimizer of Keras's, before it.

    Args:
        momentum_schedule: The momentum as a function of the step.
        **arguments: Of the optimizer.
    """

    _moving: Any = None
    _settled: float

    def __init__(
        self,
        *,
        momentum_schedule: keras.optimizers.schedules.LearningRateSchedule,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if not isinstance(momentum_schedule, keras.optimizers.schedules.LearningRateSchedule):
            raise TypeError(
                "`momentum_schedule` must be a LearningRateSchedule. Received: "
                f"{momentum_schedule!r}."
            )
        self.momentum_schedule = momentum_schedule

    def get_config(self) -> dict[str, Any]:
        """The optimizer's arguments, and the schedule."""
        return {
            **super().get_config(),
            "momentum_schedule": keras.saving.serialize_keras_object(self.momentum_schedule),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The inverse of `get_config`."""
        schedule = keras.saving.deserialize_keras_object(
            config["momentum_schedule"], custom_objects=custom_objects
        )
        return super().from_config(
            {**config, "momentum_schedule": schedule}, custom_objects=custom_objects
        )

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        # Once for all variables, and not through Keras, which would track it.
        momentum = ops.maximum(
            ops.cast(self.momentum_schedule(_keras.steps_of(self)), "float32"), _LEAST
        )
        # Nadam multiplies it with a variable of its own.
        product = getattr(self, "_u_product", None)
        object.__setattr__(
            self, "_moving", momentum if product is None else ops.cast(momentum, product.dtype)
        )
        try:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
        finally:
            object.__setattr__(self, "_moving", None)

    def _get_momentum(self) -> Any:
        return self._settled if self._moving is None else self._moving

    def _put_momentum(self, value: float) -> None:
        object.__setattr__(self, "_settled", value)

    # Stands where an optimizer keeps its momentum.
    followed = property(
        _get_momentum,
        _put_momentum,
        doc="In an update that of its step, else the one that was given.",
    )


class _Slotted(MomentumScheduled):
    """For SGD and RMSprop, which ask whether the momentum is 0, and cannot ask that of a traced
    value.
    """

    momentum = MomentumScheduled.followed
    slots: str

    def build(self, variables: Any) -> None:
        """Creates the slots, also where `momentum` is 0 and Keras would create none."""
        if self.built:
            return
        super().build(variables)
        if not getattr(self, self.slots):
            setattr(self, self.slots, self.add_optimizer_variables(variables, "momentum"))


def _made(cls: Any) -> Any:
    """The class of which Keras makes an instance, when asked for one of `cls`: on torch, one that
    updates all weights at once.
    """
    return type(cls.__new__(cls))


@registered
class MomentumScheduledSGD(_Slotted, _made(keras.optimizers.SGD)):  # type: ignore[misc]
    """`keras.optimizers.SGD` with a schedule of `momentum`."""

    slots = "momentums"

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """As in `SGD`."""
        momentum, slot = (
            ops.cast(self.momentum, variable.dtype),
            self.momentums[self._get_variable_index(variable)],
        )
        # By functions, not operators: the gradient of an embedding may be sparse.
        move = ops.multiply(
            ops.cast(gradient, variable.dtype), ops.cast(learning_rate, variable.dtype)
        )
        self.assign(slot, ops.subtract(slot * momentum, move))
        self.assign_add(variable, ops.subtract(slot * momentum, move) if self.nesterov else slot)


@registered
class MomentumScheduledRMSprop(_Slotted, _made(keras.optimizers.RMSprop)):  # type: ignore[misc]
    """`keras.optimizers.RMSprop` with a schedule of `momentum`."""

    slots = "_momentums"

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """As in `RMSprop`."""
        index, gradient = self._get_variable_index(variable), ops.cast(gradient, variable.dtype)
        velocity, slot = self._velocities[index], self._momentums[index]
        # By functions, not operators: the gradient of an embedding may be sparse.
        self.assign(
            velocity,
            ops.add(
                ops.multiply(velocity, self.rho), ops.multiply(ops.square(gradient), 1 - self.rho)
            ),
        )
        spread = velocity + self.epsilon
        if self.centered:
            average = self._average_gradients[index]
            self.assign(
                average,
                ops.add(ops.multiply(average, self.rho), ops.multiply(gradient, 1 - self.rho)),
            )
            spread = velocity - ops.square(average) + self.epsilon
        move = ops.divide(
            ops.multiply(gradient, ops.cast(learning_rate, variable.dtype)), ops.sqrt(spread)
        )
        self.assign(slot, ops.add(slot * ops.cast(self.momentum, variable.dtype), move))
        self.assign_sub(variable, slot)


class _BetaScheduled(MomentumScheduled):
    """For optimizers that read `self.beta_1` and never ask whether it is zero."""

    beta_1 = MomentumScheduled.followed

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """As in the optimizer, in the precision of the variable."""
        moving = self._moving
        object.__setattr__(
            self, "_moving", None if moving is None else ops.cast(moving, variable.dtype)
        )
        try:
            super().update_step(gradient, variable, learning_rate)
        finally:
            object.__setattr__(self, "_moving", moving)


def _beta_scheduled(kind: Any) -> type:
    """Our class on top of one of the Adam family."""
    attributes = {
        "__doc__": f"`keras.optimizers.{kind.__name__}` with a schedule of `beta_1`.",
        "__module__": __name__,
    }
    cls = type(f"MomentumScheduled{kind.__name__}", (_BetaScheduled, _made(kind)), attributes)
    return registered(cls)


_ADAM_FAMILY = ("Adam", "AdamW", "Adamax", "Nadam", "Lamb", "Lion")

# Each class of Keras's, and ours on top of it.
SCHEDULED: dict[type, type] = {
    keras.optimizers.SGD: MomentumScheduledSGD,
    keras.optimizers.RMSprop: MomentumScheduledRMSprop,
    **{
        kind: _beta_scheduled(kind)
        for kind in (getattr(keras.optimizers, name) for name in _ADAM_FAMILY)
    },
}
