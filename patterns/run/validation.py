"""Validation, at the ends of epochs and by steps, through `model.evaluate`."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from .._util.arguments import whole_number
from .._util.steps import next_multiple
from ..data import evaluate_arguments
from ..state.randomness import get_random_state, set_random_state
from ..state.snapshot import copy_values, put_back
from ..state.variables import find_variables


class Validation:
    """Evaluates a model as `model.fit` would, and keeps count, so that a generator goes on where it
    was.

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

    def __init__(
        self,
        data: Any,
        batch_size: int | None = None,
        steps: int | None = None,
        frequency: int | Collection[int] = 1,
        every_steps: int | None = None,
    ) -> None:
        if (isinstance(frequency, int) and frequency < 1) or not isinstance(
            frequency, int | Collection
        ):
            raise ValueError(
                "validation_freq must be a positive integer or a list of epochs; received "
                f"{frequency!r}."
            )
        if steps is not None and steps < 1:
            raise ValueError(f"validation_steps must be positive; received {steps!r}.")
        if isinstance(data, GeneratorType) and steps is None:
            raise ValueError(
                "validation_data is a generator, whose length nobody knows: say validation_steps=."
            )
        self._batches: Iterator[Any] | None = data if isinstance(data, GeneratorType) else None
        self._arguments = {} if self._batches else evaluate_arguments("validation_data", data)
        self._batch_size, self._steps, self._frequency = batch_size, steps, frequency
        self._every = (
            None
            if every_steps is None
            else whole_number("kp.fit", "validate_every_steps", every_steps)
        )
        self.taken = 0

    @property
    def random_access(self) -> bool:
        """Whether it can be repeated as it was."""
        return self._batches is None

    def is_due(self, epoch: int, step: int) -> bool:
        """Whether an epoch, counted from 0, that ends after `step` steps does so with a
        validation."""
        if self._every and step % self._every == 0:
            return True
        if isinstance(self._frequency, int):
            return (epoch + 1) % self._frequency == 0
        return epoch + 1 in self._frequency

    def next_step(self, step: int) -> float:
        """The first step after `step` after which a validation is due wherever in an epoch it
        falls.
        """
        return next_multiple(step, self._every)

    def run(self, model: keras.Model, callbacks: keras.callbacks.CallbackList) -> dict[str, float]:
        """Evaluates, and returns the metrics under names that start with `val_`."""
        arguments = self._arguments
        if self._batches is not None:
            # Keras looks a few batches ahead; it must not look into those of the next validation.
            arguments = {"x": (batch for batch in itertools.islice(self._batches, self._steps))}
        logs = model.evaluate(
            **arguments,
            batch_size=self._batch_size,
            steps=self._steps,
            callbacks=callbacks,
            return_dict=True,
            verbose=0,
        )
        # Only now: a run that is stopped before takes these batches again.
        self.taken += self._steps if self._batches is not None and self._steps else 0
        return {f"val_{name}": value for name, value in logs.items()}

    def skip_to(self, taken: int) -> None:
        """Passes over the batches of a generator that validations before a resume took."""
        if self._batches is not None:
            for _ in itertools.islice(self._batches, taken - self.taken):
                pass
        self.taken = taken


class HeldState:
    """What a validation may change, held so that a run that is stopped during it can be saved as it
    was before it.

    Args:
        model: The model, before its validation.
        logs: The training metrics of the epoch that ends; None inside an epoch.
        callbacks: The states of the callbacks, whose hooks for validation may move them.
    """

    def __init__(
        self, model: keras.Model, logs: dict[str, Any] | None, callbacks: dict[str, Any]
    ) -> None:
        current().sync(model)
        trained = {id(variable) for variable in model.trainable_variables}
        variables = find_variables(model).of("weight", "metric")
        self._model, self.logs, self.callbacks = model, logs, callbacks
        self._variables = {
            key: variable for key, variable in variables.items() if id(variable) not in trained
        }
        self._values: dict[str, np.ndarray] = copy_values(self._variables)
        self._random = get_random_state()

    def put_back(self) -> None:
        """Makes the model, and the random states, what they were."""
        self.put_back_model()
        set_random_state(self._random)

    def put_back_model(self) -> None:
        """Makes the model what it was, and what its framework draws from. A person's own generator
        of batches goes on.
        """
        current().sync(self._model)
        put_back(self._variables, self._values)
        current().set_random_state(self._random[current().name])
