"""Validation, at the ends of epochs and by steps, through `model.evaluate`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from .._util.arguments import whole_number
from .._util.steps import next_multiple
from ..data import (
    Owned,
    check_validation_data,
    describe_evaluated,
    evaluate_arguments,
    evaluated_sizes,
)
from ..state import Evaluation
from ..state.fused_evaluation import BlockTerms, EvaluationInterrupted, FusedEvaluation
from ..state.snapshot import copy_values, put_back
from ..state.variables import find_variables
from .callback_list import RunCallbacks


class NoValidation:
    """A run without validation."""

    exists = False
    random_access = True
    taken = 0
    holder: Any = None

    def describe(self) -> dict[str, Any]:
        """Its data and its times, as JSON."""
        return {}

    def is_due(self, epoch: int, step: int) -> bool:
        """Never."""
        return False

    def next_step(self, step: int) -> float:
        """None."""
        return math.inf

    def batch_sizes(self) -> set[int]:
        """No batch."""
        return set()

    def run(
        self,
        model: keras.Model,
        callbacks: RunCallbacks,
        is_interrupted: Callable[[], bool],
    ) -> dict[str, float] | None:
        """Finds nothing."""
        return {}

    def skip_to(self, taken: int) -> None:
        """There are no batches."""

    def allow_blocks(self, terms: BlockTerms) -> None:
        """There are no batches."""

    def forbid_blocks(self) -> None:
        """There are no batches."""


class CalledValidation(NoValidation):
    """The validation of a loop of one's own: a function that returns metrics.

    Args:
        function: Without arguments; returns numbers by name.
        every_steps: At multiples of how many steps, beside the ends of epochs. Defaults to None.
    """

    exists = True

    def __init__(
        self, function: Callable[[], Mapping[str, Any]], every_steps: int | None = None
    ) -> None:
        self.holder = self._function = function
        self._every = every_steps

    def describe(self) -> dict[str, Any]:
        """As in `NoValidation`."""
        name = getattr(self._function, "__qualname__", type(self._function).__name__)
        return {"function": name, "validate_every_steps": self._every}

    def is_due(self, epoch: int, step: int) -> bool:
        """At each end of an epoch."""
        return True

    def next_step(self, step: int) -> float:
        """The next multiple of `every_steps`."""
        return next_multiple(step, self._every)

    def run(
        self,
        model: keras.Model,
        callbacks: RunCallbacks,
        is_interrupted: Callable[[], bool],
    ) -> dict[str, float]:
        """Calls the function; returns its metrics under names that start with `val_`."""
        callbacks.on_test_begin()
        logs = {name: float(keras.ops.convert_to_numpy(v)) for name, v in self._function().items()}
        callbacks.on_test_end(logs)
        return {f"val_{name}": value for name, value in logs.items()}


class Validation:
    """Evaluates a model as `model.fit` would, and keeps count, so that a generator goes on where it
    was, and other data that draw at random draw what they would have drawn.

    Args:
        data: What `model.fit` takes as `validation_data`.
        batch_size: Of arrays. Defaults to Keras's own.
        steps: Batches for each validation; needed for a generator.
        frequency: Every how many epochs, or a collection of epochs counted from 1.
        every_steps: At multiples of how many steps as well. Defaults to None: only at the ends of
            epochs.

    Raises:
        ValueError: If `frequency`, `steps` or `every_steps` makes no sense.
    """

    exists = True

    def __init__(
        self,
        data: Any,
        batch_size: int | None = None,
        steps: int | None = None,
        frequency: int | Collection[int] = 1,
        every_steps: int | None = None,
    ) -> None:
        if not isinstance(frequency, Collection):
            frequency = whole_number("kp.fit", "validation_freq", frequency)
        batch_size = _count("batch_size", batch_size)
        steps = _count("validation_steps", steps)
        if isinstance(data, tuple | list) and len(data) == 1:
            (data,) = data
        if isinstance(data, GeneratorType) and steps is None:
            raise ValueError(
                "validation_data is a generator, whose length nobody knows: say validation_steps=."
            )
        check_validation_data("validation_data", data)
        # May hold state beside arrays.
        self.holder: Any = data
        self._batches: Iterator[Any] | None = data if isinstance(data, GeneratorType) else None
        self._arguments = {} if self._batches else evaluate_arguments("validation_data", data)
        self._evaluate = Evaluation(self._arguments, batch_size)
        self._batch_size, self._steps, self._frequency = batch_size, steps, frequency
        self._fused: FusedEvaluation | None = None
        self._every = _count("validate_every_steps", every_steps)
        self.taken = 0

    def describe(self) -> dict[str, Any]:
        """As in `NoValidation`."""
        is_generator, freq = self._batches is not None, self._frequency
        numbers = {
            "validation_batch_size": self._batch_size,
            "validation_steps": self._steps,
            "validate_every_steps": self._every,
        }
        return {
            **({"kind": "generator"} if is_generator else describe_evaluated(self._arguments)),
            **numbers,
            "validation_freq": freq if isinstance(freq, int) else sorted(map(int, freq)),
        }

    @property
    def random_access(self) -> bool:
        """True if it can be repeated as it was."""
        return self._batches is None

    def is_due(self, epoch: int, step: int) -> bool:
        """True if an epoch, counted from 0, that ends after `step` steps does so with a
        validation."""
        if self._every and step % self._every == 0:
            return True
        if isinstance(self._frequency, int):
            return (epoch + 1) % self._frequency == 0
        return epoch + 1 in self._frequency

    def batch_sizes(self) -> set[int]:
        """The sizes of all batches of a validation on arrays; of none where they are known only
        once they are there.
        """
        return evaluated_sizes(self._arguments, self._batch_size, self._steps)

    def next_step(self, step: int) -> float:
        """The first step after `step` after which a validation is due wherever in an epoch it
        falls.
        """
        return next_multiple(step, self._every)

    def run(
        self,
        model: keras.Model,
        callbacks: RunCallbacks,
        is_interrupted: Callable[[], bool],
    ) -> dict[str, float] | None:
        """Evaluates; returns the metrics under names that start with `val_`.

        Args:
            model: In training.
            callbacks: Of the run; they are told of the validation.
            is_interrupted: Asked before each batch.

        Returns:
            None if it was interrupted.
        """
        told = _Interrupter(callbacks, is_interrupted)
        try:
            if self._fused is not None and not callbacks.hear_validations:
                silent = _Interrupter(keras.callbacks.CallbackList(), is_interrupted)
                logs = self._fused(model, lambda told: self._one_by_one(model, told), told, silent)
            else:
                logs = self._one_by_one(model, told)
        except EvaluationInterrupted:
            return None
        # Only now: a run that is stopped before takes these batches again.
        if self._batches is not None:
            self.taken += self._steps or 0
        elif self._evaluate.draws:
            self.taken += 1
        return {f"val_{name}": value for name, value in logs.items()}

    def allow_blocks(self, terms: BlockTerms) -> None:
        """From now on batches of arrays may be run in blocks, if that makes no difference."""
        if self._batches is None:
            self._fused = self._evaluate.in_blocks(terms, self._steps)

    def forbid_blocks(self) -> None:
        """From now on it is run one batch after the other."""
        self._fused = None

    def _one_by_one(self, model: keras.Model, callbacks: Any) -> dict[str, Any]:
        settings = {"steps": self._steps, "callbacks": callbacks}
        if self._batches is None:
            return self._evaluate(model, self.taken, **settings)
        # Keras looks a few batches ahead; not into those of the next validation.
        owned = Owned()
        batches = (owned(batch) for batch in itertools.islice(self._batches, self._steps))
        logs: dict[str, Any] = model.evaluate(batches, return_dict=True, verbose=0, **settings)
        return logs

    def skip_to(self, taken: int) -> None:
        """Passes over the batches of a generator that validations before a resume took."""
        if self._batches is not None:
            for _ in itertools.islice(self._batches, taken - self.taken):
                pass
        self.taken = taken


def _count(name: str, value: Any) -> int | None:
    return None if value is None else whole_number("kp.fit", name, value)


class _Interrupter(keras.callbacks.CallbackList):
    """Passes on to the callbacks of a run what `evaluate` tells, and leaves it when it is asked to.

    Args:
        callbacks: Of the run.
        is_interrupted: Asked before each batch.
    """

    def __init__(
        self, callbacks: keras.callbacks.CallbackList, is_interrupted: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._callbacks = callbacks
        self._is_interrupted = is_interrupted

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._callbacks.on_test_begin(logs)

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._is_interrupted():
            raise EvaluationInterrupted
        self._callbacks.on_test_batch_begin(batch, logs)

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._callbacks.on_test_batch_end(batch, logs)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._callbacks.on_test_end(logs)


class PreservedState:
    """The part of a model that a validation may change, for one inside an epoch to put back.

    Args:
        model: Before its validation.
    """

    def __init__(self, model: keras.Model) -> None:
        current().sync(model)
        trained = {id(variable) for variable in model.trainable_variables}
        variables = find_variables(model).of("weight", "metric")
        self._model = model
        self._variables = {
            key: variable for key, variable in variables.items() if id(variable) not in trained
        }
        self._values: dict[str, np.ndarray] = copy_values(self._variables)
        self._random = current().random_state()

    def put_back(self) -> None:
        """Makes the model what it was, and what its framework draws from. A person's own generator
        of batches goes on.
        """
        current().sync(self._model)
        put_back(self._variables, self._values)
        current().set_random_state(self._random)
