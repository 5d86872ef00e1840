"""The items of a dataset, made so that what is drawn at random is the same whenever one is made."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np

from keras_patterns.backends import StateAccess, current

from .. import _keras
from .._util.messages import listed
from .._util.warn import warn
from ..data.streams import seeded
from .held import HeldStates
from .walk import CONTAINERS, walk

_COUNTERS = (int, float, itertools.count)


class ItemCaller:
    """Makes the items of a dataset so that what is drawn at random depends on (seed, step) alone.

    While an item is made, all global random states and the generators that the dataset holds are
    seeded; afterwards they are as before.

    Args:
        dataset: Whose items are made.
        names_moving: Whether numbers that `__getitem__` moves are named in a warning. Defaults to
            False.
    """

    def __init__(self, dataset: Any, names_moving: bool = False) -> None:
        self._dataset = dataset
        self._names_moving = names_moving
        self._held = HeldStates({"x": dataset})
        self._found: dict[str, StateAccess] = {}
        self._is_first = True

    def __call__(self, words: np.ndarray, make: Callable[[], Any], can_repeat: bool = True) -> Any:
        """Returns what `make` returns.

        Args:
            words: Four 32-bit words that belong to the item.
            make: Makes it.
            can_repeat: Whether `make` may be called twice. Defaults to True.
        """
        if can_repeat and not self._is_first:
            return self._call(words, make)
        self._found, numbers = self._find(), self._numbers()
        result = self._call(words, make)
        if not can_repeat:
            return result
        self._is_first = False
        now = self._numbers()
        self._name(place for place, value in numbers.items() if now.get(place, value) != value)
        found = self._find()
        if found.keys() == self._found.keys():
            return result
        # Some are made with the first item. It must not matter which one that was.
        self._found = found
        return self._call(words, make)

    def _numbers(self) -> dict[str, Any]:
        nodes = walk({"x": self._dataset}) if self._names_moving else ()
        return {
            node.place: repr(node.value)
            for node in nodes
            if node.is_own
            and not isinstance(node.owner, CONTAINERS)
            and (type(node.value) in _COUNTERS or current().is_random_key(node.value))
        }

    def _name(self, moved: Iterable[str]) -> None:
        if places := sorted(moved):
            warn(
                f"{type(self._dataset).__name__}.__getitem__ moves {listed(places)}, which a "
                "checkpoint does not carry: after a resume the batches are others. Let an item "
                "depend on its index alone, and draw from a generator that the dataset keeps.",
            )

    def _find(self) -> dict[str, StateAccess]:
        return {place: access for place, (_, access) in self._held.find().items() if access.seed}

    def _call(self, words: np.ndarray, make: Callable[[], Any]) -> Any:
        with seeded(words), _keras.no_global_seed(), current().seeded(words):
            return self._with_held_seeded(words, make) if self._found else make()

    def _with_held_seeded(self, words: np.ndarray, make: Callable[[], Any]) -> Any:
        with ExitStack() as afterwards:
            for place, access in self._found.items():
                afterwards.callback(access.put, access.get())
                own = np.random.SeedSequence([*words.tolist(), zlib.crc32(place.encode())])
                assert access.seed
                access.seed(own.generate_state(4))
            return make()
