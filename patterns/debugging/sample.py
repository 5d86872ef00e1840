"""Some rows of the data that a model is to be trained on, whatever kind of data it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from ..data import Permutation, make_source
from ..data.rows import as_rows, count_examples, each_array, is_rows, on_host, take
from ..state.item_caller import ItemCaller

MOST_ROWS = 512
# Of the inputs of a sample.
_MOST_VALUES = 2**25


@dataclass(frozen=True)
class Sample:
    """Rows of inputs, targets and weights, as NumPy arrays in the structures of the data.

    Attributes:
        x: Inputs.
        y: Targets, or None.
        weight: Sample weights, or None.
        all_x: All inputs where they are arrays, else those of the sample.
        all_y: All targets where they are arrays, else those of the sample.
        examples: How many examples there are; None if nobody knows.
    """

    x: Any
    y: Any
    weight: Any
    all_x: Any
    all_y: Any
    examples: int | None

    @property
    def rows(self) -> int:
        """The number of its rows."""
        return len(keras.tree.flatten(self.x)[0])

    def cut(self, start: int, stop: int) -> tuple[Any, Any, Any]:
        """Some of its rows, as a batch."""
        x, y, weight = (
            each_array(lambda leaf: leaf[start:stop], part)
            for part in (self.x, self.y, self.weight)
        )
        return x, y, weight


def take_sample(x: Any, y: Any, sample_weight: Any, most: int = MOST_ROWS) -> Sample:
    """Takes rows at random places of arrays, or the first batches of other data.

    The random states and the data are left as they are; a generator has given its batches.

    Args:
        x, y, sample_weight: As in `kp.fit`.
        most: How many rows at most. Defaults to 512; fewer of large inputs.

    Raises:
        TypeError: If the data are of a kind that is not served.
        ValueError: If they hold no example, or their lengths differ.
    """
    if not is_rows(x):
        return _first_batches(x, y, sample_weight, most)
    data = [as_rows(x, "x", sparse=True), as_rows(y, "y"), as_rows(sample_weight, "sample_weight")]
    examples = count_examples(x=data[0], y=data[1], sample_weight=data[2])
    values = sum(int(np.prod(leaf.shape[1:])) for leaf in keras.tree.flatten(data[0]))
    rows = min(examples, most, max(32, _MOST_VALUES // max(1, values)))
    places = Permutation(examples, seed=0)(np.arange(rows))
    x_rows, y_rows, weights = (each_array(lambda leaf: take(leaf, places), part) for part in data)
    return Sample(x_rows, y_rows, weights, data[0], data[1], examples)


def _first_batches(x: Any, y: Any, sample_weight: Any, most: int) -> Sample:
    source = make_source(
        x, y, sample_weight, seeding=partial(ItemCaller, names_moving=False), verbose=False
    )
    batches: list[tuple[Any, ...]] = []
    rows = 0
    with closing(_iterator(source.batches(0))) as left:
        while rows < most and (source.steps_per_pass is None or len(batches) < _pass_of(source)):
            batch = next(left, None)
            if batch is None or (batches and _form(batch) != _form(batches[0])):
                break
            batch = tuple(each_array(on_host, part) for part in (*batch, None, None)[:3])
            batches.append(batch)
            rows += len(keras.tree.flatten(batch[0])[0])
    if not batches:
        raise ValueError("the data hold no batch.")
    x, y, weights = (
        each_array(lambda *leaves: np.concatenate(leaves)[:most], *part)
        for part in zip(*batches, strict=True)
    )
    return Sample(x, y, weights, x, y, None)


def _iterator(batches: Iterator[tuple]) -> Any:
    """Batches that can be closed."""
    return (batch for batch in batches)


def _pass_of(source: Any) -> int:
    return int(source.steps_per_pass)


def _form(batch: tuple[Any, ...]) -> list[Any]:
    return [np.shape(leaf)[1:] for leaf in keras.tree.flatten(batch)]
