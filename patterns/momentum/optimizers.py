"""Keras's optimizers with a momentum that follows a schedule, computed inside the compiled step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import keras
from keras import ops

from .. import _keras
from ..schedules.base import PACKAGE

# What Keras's classes give and take is theirs to type.
if TYPE_CHECKING:
    _Base: TypeAlias = keras.optimizers.Optimizer
else:
    _Base = object


class MomentumScheduled(_Base):
    """Mixed into an optimizer of Keras's, before it.

    Args:
        momentum_schedule: The momentum as a function of the step.
        **arguments: Of the optimizer.
    """

    def __init__(self, *, momentum_schedule: keras.optimizers.schedules.LearningRateSchedule, **arguments: Any) -> None:
        super().__init__(**arguments)
        if not isinstance(momentum_schedule, keras.optimizers.schedules.LearningRateSchedule):
            raise TypeError(f"`momentum_schedule` must be a LearningRateSchedule. Received: {momentum_schedule!r}.")
        self.momentum_schedule = momentum_schedule

    def momentum_now(self, dtype: Any) -> Any:
        """The momentum of the step that is being computed: counted as the rate's is."""
        return ops.cast(self.momentum_schedule(_keras.steps_of(self)), dtype)

    def get_config(self) -> dict[str, Any]:
        """The optimizer's arguments, and the schedule."""
        return {**super().get_config(), "momentum_schedule": keras.saving.serialize_keras_object(self.momentum_schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The inverse of `get_config`."""
        schedule = keras.saving.deserialize_keras_object(config["momentum_schedule"], custom_objects=custom_objects)
        return super().from_config({**config, "momentum_schedule": schedule}, custom_objects=custom_objects)


class _BetaScheduled(MomentumScheduled):
    """For optimizers that read `self.beta_1` once in each update, and never ask whether it is zero."""

    _moving: Any = None
    _settled: float

    @property
    def beta_1(self) -> Any:
        """The momentum: that of the schedule while an update is computed, else the one that was given."""
        return self._settled if self._moving is None else self._moving

    @beta_1.setter
    def beta_1(self, value: float) -> None:
        # Not through Keras, which would track it.
        object.__setattr__(self, "_settled", value)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        self._with_momentum("float32", super()._backend_update_step, grads, trainable_variables, learning_rate)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self._with_momentum(variable.dtype, super().update_step, gradient, variable, learning_rate)

    def _with_momentum(self, dtype: Any, update: Any, *arguments: Any) -> None:
        before = self._moving
        object.__setattr__(self, "_moving", self.momentum_now(dtype))
        try:
            update(*arguments)
        finally:
            object.__setattr__(self, "_moving", before)


@keras.saving.register_keras_serializable(PACKAGE)
class MomentumScheduledSGD(MomentumScheduled, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with a schedule of `momentum`."""

    momentums: Any

    def build(self, variables: Any) -> None:
        """Creates the slots, also where `momentum` is 0 and Keras would create none."""
        if self.built:
            return
        super().build(variables)
        self.momentums = self.momentums or self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """As in `SGD`, which asks whether the momentum is 0 and cannot ask that of a traced value."""
        momentum, slot = self.momentum_now(variable.dtype), self.momentums[self._get_variable_index(variable)]
        move = ops.cast(gradient, variable.dtype) * ops.cast(learning_rate, variable.dtype)
        self.assign(slot, slot * momentum - move)
        self.assign_add(variable, slot * momentum - move if self.nesterov else slot)


@keras.saving.register_keras_serializable(PACKAGE)
class MomentumScheduledRMSprop(MomentumScheduled, keras.optimizers.RMSprop):
    """`keras.optimizers.RMSprop` with a schedule of `momentum`."""

    _momentums: Any

    def build(self, variables: Any) -> None:
        """Creates the slots, also where `momentum` is 0 and Keras would create none."""
        if self.built:
            return
        super().build(variables)
        self._momentums = self._momentums or self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """As in `RMSprop`, which asks whether the momentum is 0 and cannot ask that of a traced value."""
        index, gradient = self._get_variable_index(variable), ops.cast(gradient, variable.dtype)
        velocity, slot = self._velocities[index], self._momentums[index]
        self.assign(velocity, self.rho * velocity + (1 - self.rho) * ops.square(gradient))
        spread = velocity + self.epsilon
        if self.centered:
            average = self._average_gradients[index]
            self.assign(average, self.rho * average + (1 - self.rho) * gradient)
            spread = velocity - ops.square(average) + self.epsilon
        move = ops.cast(learning_rate, variable.dtype) * gradient / ops.sqrt(spread)
        self.assign(slot, self.momentum_now(variable.dtype) * slot + move)
        self.assign_sub(variable, slot)


@keras.saving.register_keras_serializable(PACKAGE)
class MomentumScheduledAdam(_BetaScheduled, keras.optimizers.Adam):
    """`keras.optimizers.Adam` with a schedule of `beta_1`."""


@keras.saving.register_keras_serializable(PACKAGE)
class MomentumScheduledAdamW(_BetaScheduled, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with a schedule of `beta_1`."""


@keras.saving.register_keras_serializable(PACKAGE)
class MomentumScheduledAdamax(_BetaScheduled, keras.optimizers.Adamax):
    """`keras.optimizers.Adamax` with a schedule of `beta_1`."""


@keras.saving.register_keras_serializable(PACKAGE)
class MomentumScheduledNadam(_BetaScheduled, keras.optimizers.Nadam):
    """`keras.optimizers.Nadam` with a schedule of `beta_1`."""


@keras.saving.register_keras_serializable(PACKAGE)
class MomentumScheduledLamb(_BetaScheduled, keras.optimizers.Lamb):
    """`keras.optimizers.Lamb` with a schedule of `beta_1`."""


@keras.saving.register_keras_serializable(PACKAGE)
class MomentumScheduledLion(_BetaScheduled, keras.optimizers.Lion):
    """`keras.optimizers.Lion` with a schedule of `beta_1`."""


_CLASSES: tuple[type, ...] = (
    MomentumScheduledSGD,
    MomentumScheduledRMSprop,
    MomentumScheduledAdam,
    MomentumScheduledAdamW,
    MomentumScheduledAdamax,
    MomentumScheduledNadam,
    MomentumScheduledLamb,
    MomentumScheduledLion,
)
# Each class of Keras's, and ours on top of it.
SCHEDULED = {cls.__bases__[1]: cls for cls in _CLASSES}
