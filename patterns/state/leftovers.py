"""Variables as the trainings of this process have left them, told from those that begin anew."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np
from xxhash import xxh3_64_intdigest

from keras_patterns.backends import current

from .snapshot import copy_values, is_seed
from .variables import find_variables


@dataclass(frozen=True)
class _Left:
    """The state in which a training has left a variable.

    Attributes:
        variable: Refers to it.
        by: The training.
        digest: Of its values.
    """

    variable: weakref.ref[keras.Variable]
    by: str
    digest: int


class Leftovers:
    """Knows a variable that a training has moved and nobody has touched since: what trains it next
    goes on with that training. Random seeds do not count.
    """

    def __init__(self) -> None:
        self._left: dict[int, _Left] = {}

    def find(self, model: keras.Model, by: str) -> tuple[str, str] | None:
        """The place of a variable that another training has left as it is, and that training; None
        if there is none.

        Args:
            model: Is to be trained.
            by: The training to come.
        """
        variables = {
            key: one
            for key, one in _variables(model).items()
            if id(one) in self._left and self._left[id(one)].by != by
        }
        now = _digests(model, variables)
        for key, variable in variables.items():
            left = self._left[id(variable)]
            if left.variable() is variable and now[key] == left.digest:
                return key, left.by
        return None

    @contextmanager
    def training(self, model: keras.Model, by: str) -> Iterator[None]:
        """Within it, a training trains a model."""
        before = _digests(model, _variables(model))
        try:
            yield
        finally:
            variables = _variables(model)
            after = _digests(model, variables)
            self._left = {key: one for key, one in self._left.items() if one.variable() is not None}
            for key, variable in variables.items():
                if after[key] != before.get(key):
                    self._left[id(variable)] = _Left(weakref.ref(variable), by, after[key])


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    found = find_variables(model).of("weight", "optimizer")
    return {key: one for key, one in found.items() if not is_seed(one)}


def _digests(model: keras.Model, variables: dict[str, keras.Variable]) -> dict[str, int]:
    current().sync(model)
    return {
        key: xxh3_64_intdigest(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        for key, value in copy_values(variables).items()
    }
