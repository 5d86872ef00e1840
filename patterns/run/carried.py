"""The state that Keras disturbs between two calls of `fit`, carried from one to the next."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from ..state.randomness import get_random_state, set_random_state
from ..state.snapshot import copy_values, put_back
from ..state.variables import find_variables


class CarriedState:
    """The global random states and the running metrics with which the next step begins.

    Args:
        model: In training.

    Attributes:
        random: The random states.
        metrics: The values of the metrics' variables; empty where the next step opens an epoch.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self.random: dict[str, Any] = {}
        self.metrics: dict[str, np.ndarray] = {}

    def take_random(self) -> None:
        """Takes the random states as they are now."""
        self.random = get_random_state()

    def take(self) -> None:
        """Takes the random states and the metrics; waits for the device."""
        self.take_random()
        current().sync(self._model)
        self.metrics = copy_values(find_variables(self._model).of("metric"))

    def put_back_random(self) -> None:
        """Makes the random states those with which the next step begins."""
        set_random_state(self.random)

    def put_back(self) -> None:
        """Makes the model and the random states ready for the next step. The metrics are put back
        once only.
        """
        self.put_back_random()
        current().prepare(self._model)
        if self.metrics:
            put_back(find_variables(self._model).of("metric"), self.metrics)
            self.metrics = {}
