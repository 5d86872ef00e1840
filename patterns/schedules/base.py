"""The base of all schedules: they are values, they serialise, and they count whole steps as whole
numbers.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, TypeAlias

import keras
from keras import ops

from .._util.arguments import check_number, whole_number
from .._util.deprecated import with_new_keywords
from .._util.steps import whole_steps

Rate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule

# Twice as many, a cycle up and down, still fit an int32.
_MOST_STEPS = 2**30 - 1


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A function of the step alone, such as `kp.schedules.OneCycle`, computed in float32 whatever
    `floatx` is.

    Its subclasses are frozen dataclasses whose fields are their configuration. A step is a whole
    number, or a tensor of whole numbers of any shape; it is subtracted and divided as such, for
    float32 cannot tell 100,000,001 from 100,000,000.
    """

    def get_config(self) -> dict[str, Any]:
        """The arguments, schedules among them serialised."""
        return {field.name: _serialized(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        """The inverse of `get_config`."""
        config = with_new_keywords(cls.__name__, config)
        return cls(**{name: _deserialized(value) for name, value in config.items()})


def share(step: Any, start: float, stop: float) -> tuple[Any, Any]:
    """The fractions of the way from `start` to `stop` that lie behind a step and before it.

    Both are exact at both ends, and accurate near their own zero, which `1 - x` is not.
    """
    step, length = whole_steps(step), stop - start
    behind = ops.cast(step - math.floor(start), "float32") - (start - math.floor(start))
    ahead = ops.cast(math.floor(stop) - step, "float32") + (stop - math.floor(stop))
    return ops.clip(behind / length, 0.0, 1.0), ops.clip(ahead / length, 0.0, 1.0)


def rise(behind: Any, ahead: Any, low: float, high: float, anneal: str) -> Any:
    """From `low` to `high`: exactly those at the ends, and accurate in relation to `low` near
    it."""
    if anneal == "cosine":
        # (1 - cos(pi x)) / 2, without its cancellation.
        behind, ahead = (
            ops.square(ops.sin(behind * (math.pi / 2))),
            ops.square(ops.sin(ahead * (math.pi / 2))),
        )
    return ops.where(behind < 0.5, low + (high - low) * behind, high - (high - low) * ahead)


def move(step: Any, start: float, stop: float, first: float, last: float, anneal: str) -> Any:
    """From `first` at step `start` to `last` at step `stop`, and constant outside."""
    behind, ahead = share(step, start, stop)
    if last < first:
        return rise(ahead, behind, last, first, anneal)
    return rise(behind, ahead, first, last, anneal)


def value_of(rate: Rate, step: Any) -> Any:
    """The value of a schedule, or a constant, at a step."""
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return ops.cast(rate(step), "float32")
    return ops.full(ops.shape(ops.convert_to_tensor(step)), rate, "float32")


def take_rate(schedule: Schedule, name: str, **limits: Any) -> None:
    """Checks a field, and makes it a `float`: NumPy's numbers do not serialise."""
    object.__setattr__(
        schedule,
        name,
        check_number(type(schedule).__name__, name, getattr(schedule, name), **limits),
    )


def take_steps(schedule: Schedule, name: str, least: int = 1) -> None:
    """Checks a field that counts steps, and makes it an `int`."""
    where = type(schedule).__name__
    steps = whole_number(where, name, getattr(schedule, name), least=least)
    if steps > _MOST_STEPS:
        raise ValueError(
            f"{where}: `{name}` must be at most {_MOST_STEPS:,}, as optimizers count in 32 bits. "
            f"Received: {steps:,}."
        )
    object.__setattr__(schedule, name, steps)


def _serialized(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_serialized(item) for item in value]
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return keras.saving.serialize_keras_object(value)
    return value


def _deserialized(value: Any) -> Any:
    if isinstance(value, list):
        return [_deserialized(item) for item in value]
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
