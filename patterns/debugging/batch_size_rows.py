"""Batches of any size out of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.rows import as_rows, count_examples, each_array, is_rows, take


@dataclass(frozen=True)
class Rows:
    """Arrays from which batches are taken.

    Attributes:
        data: Inputs, targets and weights, each a structure of arrays or None.
        examples: Their number.
    """

    data: tuple[Any, Any, Any]
    examples: int

    def batch(self, places: np.ndarray) -> tuple[Any, Any, Any]:
        """The examples at some places, as inputs, targets and weights."""
        x, y, weight = (each_array(lambda leaf: take(leaf, places), one) for one in self.data)
        return x, y, weight

    def at(self, places: np.ndarray) -> Rows:
        """Some of the examples."""
        return Rows(self.batch(places), len(places))

    def step_batch(self, size: int) -> tuple[Any, ...]:
        """The first examples, as a train step takes them: without the parts that are not there."""
        return self.step_batch_at(np.arange(size))

    def step_batch_at(self, places: np.ndarray) -> tuple[Any, ...]:
        """The examples at some places, as a train step takes them."""
        parts = self.batch(places)
        count = max(place for place, part in enumerate(parts) if part is not None) + 1
        return parts[:count]


def rows_of(caller: str, x: Any, y: Any, sample_weight: Any) -> Rows:
    """Checks data that must be arrays.

    Raises:
        TypeError: If they are something else.
        ValueError: If they hold no example, or their lengths differ.
    """
    if not is_rows(x):
        raise TypeError(
            f"{caller}: batches of several sizes can be made of arrays only. Received: x of type "
            f"{type(x).__name__}. Pass x and y as arrays; some hundred examples are enough for the "
            "speed."
        )
    names = ("x", "y", "sample_weight")
    given = dict(zip(names, (x, y, sample_weight), strict=True))
    data = {name: as_rows(part, name, sparse=name == "x") for name, part in given.items()}
    return Rows((data["x"], data["y"], data["sample_weight"]), count_examples(**data))
