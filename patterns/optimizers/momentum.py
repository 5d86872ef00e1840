"""A momentum that follows a schedule, computed inside the compiled step.

The momentum of a step can be had nowhere but in the method that computes the updates, and SGD and
RMSprop cannot but be computed anew; so these classes use names of Keras's optimizers that are
private. True for Keras 3.15 (tests/test_momentum.py computes every update by hand).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from .. import _keras
from .._util.deprecated import renamed_keywords
from .._util.registered import registered
from ..schedules import OneCycle, OneCycleMomentum
from .wrapping import Wrapper, added, base_class, resolve

# In place of a momentum of 0, of which Keras asks whether it is 0: such a one has no slots.
_LEAST = 1e-30


@_keras.quiet_arrays()
def with_momentum(
    optimizer: Any,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    *,
    learning_rate: Any = None,
) -> keras.optimizers.Optimizer:
    """An optimizer like the given one, whose momentum follows a schedule.

    It is of a class of its own, registered with Keras, which computes the momentum inside the
    compiled step from the same step counter as a schedule of the rate. Setting `optimizer.momentum`
    or `beta_1` during a run, instead, does nothing on JAX and TensorFlow.

    Args:
        optimizer: A new `SGD`, `RMSprop` (their `momentum`), `Adam`, `AdamW`, `Adamax`, `Nadam`,
            `Lamb` or `Lion` (their `beta_1`) of Keras's, or its name. It may have rates by layer;
            one inside a LossScaleOptimizer is given its schedule there.
        schedule: The momentum as a function of the step, below 1.
        learning_rate: A rate or a schedule in place of the optimizer's. Defaults to None: keeps it.

    Returns:
        The new optimizer. The given one is not changed.

    Raises:
        TypeError: If the optimizer is of another class or a MultiOptimizer, or `schedule` is no
            schedule.
        ValueError: If the optimizer has been built: what it has gathered would be lost.

    Example:

    >>> import keras, keras_patterns as kp
    >>> momentum = kp.schedules.CyclicalMomentum(0.8, 0.95, step_size=100)
    >>> optimizer = keras.optimizers.SGD(0.1, nesterov=True)
    >>> optimizer = kp.optimizers.with_momentum(optimizer, momentum)
    >>> isinstance(optimizer, keras.optimizers.SGD)
    True

    References:
        L. N. Smith, "A disciplined approach to neural network hyper-parameters: Part 1", 2018,
            arXiv:1803.09820.
    """
    return _with_momentum("with_momentum", optimizer, schedule, learning_rate)


@renamed_keywords(maximal_learning_rate="peak_learning_rate", pct_start="warmup_fraction")
@_keras.quiet_arrays()
def with_one_cycle(
    optimizer: Any,
    peak_learning_rate: float,
    total_steps: int,
    *,
    momentum: tuple[float, float] = (0.85, 0.95),
    div_factor: float = 25.0,
    final_div_factor: float | None = None,
    **phases: Any,
) -> keras.optimizers.Optimizer:
    """An optimizer like the given one that trains in one cycle: the rate up and down, the momentum
    down and up.

    Args:
        optimizer: As for `with_momentum`. Its rate is replaced.
        peak_learning_rate: The rate at the peak.
        total_steps: Optimizer steps of the whole training.
        momentum: The lowest and the highest. Defaults to `(0.85, 0.95)`.
        div_factor, final_div_factor: As in `kp.schedules.OneCycle`.
        **phases: `warmup_fraction`, `anneal`, `three_phase`, `convention` and `return_fraction`,
            as in `kp.schedules.OneCycle`.

    Returns:
        The new optimizer. The given one is not changed.

    Raises:
        TypeError: If an argument is of the wrong type, or the optimizer of a class without
            momentum.
        ValueError: If an argument is out of range, or the optimizer has been built.

    Example:

    >>> import keras, keras_patterns as kp
    >>> optimizer = kp.optimizers.with_one_cycle("adamw", 0.01, total_steps=1_000)
    >>> round(float(keras.ops.convert_to_numpy(optimizer.learning_rate)), 5)
    0.0004

    References:
        L. N. Smith, N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large
            Learning Rates", 2018, arXiv:1708.07120.
    """
    if not (isinstance(momentum, tuple | list) and len(momentum) == 2):
        raise TypeError(
            "with_one_cycle: `momentum` must be the lowest and the highest, such as (0.85, 0.95). "
            f"Received: {momentum!r}."
        )
    lowest, highest = momentum
    rate = OneCycle(
        peak_learning_rate,
        total_steps,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        **phases,
    )
    opposite = OneCycleMomentum(total_steps, lowest, highest, **phases)
    return _with_momentum("with_one_cycle", optimizer, opposite, rate)


def _with_momentum(caller: str, optimizer: Any, schedule: Any, rate: Any) -> Any:
    optimizer = resolve(caller, optimizer)
    computes = (_keras.inner_optimizers(optimizer) or [optimizer])[0]
    if _scheduled(type(computes)) is None:
        names = ", ".join(kind.__name__ for kind in SCHEDULED)
        raise TypeError(
            f"{caller}: {base_class(type(computes)).__name__} has no momentum that it knows. It "
            f"takes Keras's own {names}."
        )
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        raise TypeError(
            f"{caller}: `schedule` must be a LearningRateSchedule. Received: {schedule!r}."
        )
    return added(optimizer, MomentumScheduled, schedule, rate)


def _scheduled(cls: type) -> type | None:
    """The class with a scheduled momentum of a class. A person's own subclass has none: its changes
    would be lost.
    """
    base = base_class(cls)
    own = not base.__module__.startswith("keras.")
    return (
        None if own else next((SCHEDULED[kind] for kind in base.__mro__ if kind in SCHEDULED), None)
    )


class MomentumScheduled(Wrapper):
    """Mixed into an optimizer of Keras's, before it.

    Attributes:
        momentum_schedule: The momentum as a function of the step.
    """

    part = "momentum_schedule"
    prefix = "MomentumScheduled"
    rank = 0

    momentum_schedule: keras.optimizers.schedules.LearningRateSchedule
    _moving: Any = None
    _settled: float

    @classmethod
    def over(cls, base: Any) -> Any:
        """The class with a scheduled momentum, of one of Keras's."""
        return _scheduled(base)

    def get_part(self) -> Any:
        """The schedule."""
        return self.momentum_schedule

    def put_part(self, part: Any) -> None:
        """Sets the schedule."""
        schedule = keras.saving.deserialize_keras_object(part) if isinstance(part, dict) else part
        self.momentum_schedule = schedule

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        # Once for all variables.
        momentum = ops.maximum(
            ops.cast(self.momentum_schedule(_keras.steps_of(self)), "float32"), _LEAST
        )
        # Nadam multiplies it with a variable of its own.
        product = getattr(self, "_u_product", None)
        momentum = momentum if product is None else ops.cast(momentum, product.dtype)
        with _keras.replaced(self, "_moving", momentum):
            super()._backend_update_step(grads, trainable_variables, learning_rate)

    def _get_momentum(self) -> Any:
        return self._settled if self._moving is None else self._moving

    def _put_momentum(self, value: float) -> None:
        self._settled = value

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
        moving = None if self._moving is None else ops.cast(self._moving, variable.dtype)
        with _keras.replaced(self, "_moving", moving):
            super().update_step(gradient, variable, learning_rate)


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
