"""The numbers and generators of a person's own in a model, to be put back."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from .held import HeldStates
from .values import MovingValues, digest
from .variables import find_variables
from .walk import Node, walk


class OwnState:
    """The numbers, arrays and random generators in a model, and in what its code names, that Keras
    does not track, as they are.

    Args:
        model: A built model.
    """

    def __init__(self, model: keras.Model) -> None:
        def nodes() -> Iterator[Node]:
            return walk({"model": model}, owns_globals=True)

        self._held = HeldStates({"model": model}, lambda: find_variables(model).variables.values())
        self._held_before = self._held.states()
        self._values = MovingValues(nodes)
        # Before `begin`, every value counts as one that has moved.
        self._values_before = MovingValues(nodes).states()
        self._values.begin()

    def moved(self) -> list[str]:
        """The places of those that are not as they were."""
        held = self._held.states()
        return sorted(
            {
                *self._values.moved(),
                *(place for place in held if digest(held[place]) != self._digest_before(place)),
            }
        )

    def put_back(self) -> None:
        """Makes them what they were."""
        places = self.moved()
        before = {place: self._held_before[place] for place in places if place in self._held_before}
        if before:
            self._held.restore({**self._held.states(), **before})
        self._values.restore(
            {
                place: self._values_before[place]
                for place in places
                if place in self._values_before and place not in before
            }
        )

    def _digest_before(self, place: str) -> str | None:
        before = self._held_before.get(place)
        return None if before is None else digest(before)
