"""Batches whose memory their source uses again."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

# The most arrays that a source is expected to fill in turn.
_RING = 2


class Owned:
    """Gives the items of a source with arrays that nobody changes while they wait for their step.

    A source may fill the same array for each batch, and batches are read ahead. So the first items
    are copied; if the memory of one comes again, all are.
    """

    def __init__(self) -> None:
        # Items are kept, so that no new array can have the memory of one that is gone.
        self._first: list[tuple[Any, list[tuple[int, int]]]] = []
        self._copies: bool | None = None

    def __call__(self, item: Any) -> Any:
        """The item, or a copy of it."""
        if self._copies is None:
            self._look_at(item)
        return item if self._copies is False else copied(item)

    def _look_at(self, item: Any) -> None:
        spans = _spans(item)
        if any(
            low < other_high and other_low < high
            for _, others in self._first
            for other_low, other_high in others
            for low, high in spans
        ):
            self._copies = True
        elif len(self._first) == _RING:
            self._copies = False
        else:
            self._first.append((item, spans))
            return
        self._first.clear()


def copied(item: Any) -> Any:
    """A copy of a structure of arrays; what cannot be changed in place stays itself."""

    def copy(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            return np.array(leaf, order="K")
        return leaf.clone() if hasattr(leaf, "data_ptr") else leaf

    return keras.tree.map_structure(copy, item)


def _spans(item: Any) -> list[tuple[int, int]]:
    """The first and the last address of each array."""
    return [span for leaf in keras.tree.flatten(item) if (span := _span(leaf)) is not None]


def _span(leaf: Any) -> tuple[int, int] | None:
    """That of an array, or of a tensor which can be written to, on whichever device."""
    if isinstance(leaf, np.ndarray):
        return np.lib.array_utils.byte_bounds(leaf) if leaf.size else None
    if not hasattr(leaf, "data_ptr"):
        return None
    try:
        start, sizes = leaf.data_ptr(), zip(leaf.shape, leaf.stride(), strict=True)
    except RuntimeError:
        # A sparse one has several.
        return None
    last = sum((size - 1) * stride for size, stride in sizes)
    return (start, start + (last + 1) * leaf.element_size()) if leaf.numel() else None
