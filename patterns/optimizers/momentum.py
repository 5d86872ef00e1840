"""Giving an optimizer a schedule of its momentum."""

from __future__ import annotations

from typing import Any

import keras

from .. import _keras
from ..schedules import OneCycle, OneCycleMomentum
from .momentum_classes import SCHEDULED, MomentumScheduled


def with_momentum_schedule(
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
            `Lamb` or `Lion` (their `beta_1`) of Keras's, or its name.
        schedule: The momentum as a function of the step, below 1.
        learning_rate: A rate or a schedule in place of the optimizer's. Defaults to None: keeps it.

    Returns:
        The new optimizer. The given one is not changed.

    Raises:
        TypeError: If the optimizer is of another class, or `schedule` is no schedule.
        ValueError: If the optimizer has been built: what it has gathered would be lost.

    Example:

    >>> import keras, keras_patterns as kp
    >>> momentum = kp.schedules.CyclicalMomentum(0.8, 0.95, step_size=100)
    >>> optimizer = kp.with_momentum_schedule(keras.optimizers.SGD(0.1, nesterov=True), momentum)
    >>> isinstance(optimizer, keras.optimizers.SGD)
    True

    References:
        L. N. Smith, "A disciplined approach to neural network hyper-parameters: Part 1", 2018,
            arXiv:1803.09820.
    """
    optimizer = _optimizer(optimizer)
    cls = _class_for(optimizer)
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        raise TypeError(
            "with_momentum_schedule: `schedule` must be a LearningRateSchedule. Received: "
            f"{schedule!r}."
        )
    if optimizer.built:
        raise ValueError(
            f"with_momentum_schedule: {optimizer.name!r} has been built, and what it has gathered "
            "would be lost. Give a new one."
        )
    config = _keras.config_without_rate(optimizer)
    config["learning_rate"] = _keras.get_rate(optimizer) if learning_rate is None else learning_rate
    if isinstance(config["learning_rate"], keras.Variable):
        config["learning_rate"] = float(config["learning_rate"].numpy())
    scheduled = cls(**{**config, "momentum_schedule": schedule})
    _keras.copy_weight_decay_exclusions(optimizer, scheduled)
    return scheduled


def one_cycle(
    optimizer: Any,
    maximal_learning_rate: float,
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
        optimizer: As for `with_momentum_schedule`. Its rate is replaced.
        maximal_learning_rate: The rate at the peak.
        total_steps: Optimizer steps of the whole training.
        momentum: The lowest and the highest. Defaults to `(0.85, 0.95)`.
        div_factor, final_div_factor: As in `kp.schedules.OneCycle`.
        **phases: `pct_start`, `anneal`, `three_phase` and `convention`, as in
            `kp.schedules.OneCycle`.

    Returns:
        The new optimizer. The given one is not changed.

    Raises:
        TypeError: If an argument is of the wrong type, or the optimizer of a class without
            momentum.
        ValueError: If an argument is out of range, or the optimizer has been built.

    Example:

    >>> import keras, keras_patterns as kp
    >>> optimizer = kp.one_cycle("adamw", maximal_learning_rate=0.01, total_steps=1_000)
    >>> round(float(keras.ops.convert_to_numpy(optimizer.learning_rate)), 5)
    0.0004

    References:
        L. N. Smith, N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large
            Learning Rates", 2018,
        arXiv:1708.07120.
    """
    if not (isinstance(momentum, tuple | list) and len(momentum) == 2):
        raise TypeError(
            "one_cycle: `momentum` must be the lowest and the highest, such as (0.85, 0.95). "
            f"Received: {momentum!r}."
        )
    lowest, highest = momentum
    rate = OneCycle(
        maximal_learning_rate,
        total_steps,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        **phases,
    )
    opposite = OneCycleMomentum(total_steps, lowest, highest, **phases)
    return with_momentum_schedule(optimizer, opposite, learning_rate=rate)


def _optimizer(given: Any) -> Any:
    """An optimizer by its name; Keras does not know all of its own by theirs."""
    by_name = {kind.__name__.lower(): kind for kind in SCHEDULED}
    if isinstance(given, str) and given.lower() in by_name:
        return by_name[given.lower()]()
    return keras.optimizers.get(given)


def _class_for(optimizer: keras.optimizers.Optimizer) -> type:
    """Our class on top of the optimizer's. A person's own subclass has none: its changes would be
    lost.
    """
    if isinstance(optimizer, MomentumScheduled):
        return type(optimizer)
    kinds = type(optimizer).__mro__
    base = next((kind for kind in kinds if kind in SCHEDULED), None)
    if base is None or not type(optimizer).__module__.startswith("keras."):
        names = ", ".join(kind.__name__ for kind in SCHEDULED)
        raise TypeError(
            f"with_momentum_schedule: {type(optimizer).__name__} has no momentum that it knows. It "
            f"takes Keras's own {names}. "
            "One inside a LossScaleOptimizer or a MultiOptimizer is given its schedule before it "
            "is wrapped, and one for "
            "kp.layerwise_rates before that."
        )
    return SCHEDULED[base]
