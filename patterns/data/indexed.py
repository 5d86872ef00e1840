"""Batches of a loader that gives any examples at any time."""

from __future__ import annotations

from typing import Any

import numpy as np
import xxhash

from keras_patterns.backends.loaders import IndexedLoader

from .fetched import FetchedSource
from .order import BatchOrder
from .streams import Seeding, global_seeding, stream_words

# What a stream of random numbers is for, in the path from the seed to it; 0 is for a batch.
_ORDER = 1


class IndexedSource(FetchedSource):
    """Batches of an `IndexedLoader`, in an order that is a function of `(seed, step)`.

    Args:
        loader: Gives examples by their place.
        seed: A whole number that is not negative. Defaults to 0.
        seeding: Given the data, returns what seeds the random states. Defaults to `global_seeding`.
        holder: The data, for `seeding`. Defaults to None.
        **arguments: Further ones of `FetchedSource`.

    Raises:
        ValueError: If there is no batch, or the order that the loader draws depends on more than
            the random states.
    """

    loader: IndexedLoader

    def __init__(
        self,
        loader: IndexedLoader,
        *,
        seed: int = 0,
        seeding: Seeding = global_seeding,
        holder: Any = None,
        **arguments: Any,
    ) -> None:
        super().__init__(loader, seed=seed, seeding=seeding, holder=holder, **arguments)
        self._call_to_order = seeding(getattr(loader, "order_holder", holder))
        shuffle = bool(loader.shuffle)
        self._order = BatchOrder(loader.examples, loader.batch_size, shuffle, seed)
        whole, self._rest = divmod(loader.examples, loader.batch_size)
        if loader.drop_last:
            self._rest = 0
        self.steps_per_pass: int = whole + bool(self._rest)
        self._drawn: tuple[int, list[np.ndarray]] | None = None
        if loader.shuffle is None:
            # The global states are seeded while the order of a pass is drawn.
            self.thread_safe = False
            self.steps_per_pass = len(self._checked_order())
        if not self.steps_per_pass:
            raise ValueError(
                f"{loader.kind} gives no batch: {loader.examples:,} examples in batches of "
                f"{loader.batch_size:,}."
            )

    def indices(self, step: int) -> np.ndarray:
        """The examples of the batch of `step`, an int64 array."""
        number, place = divmod(step, self.steps_per_pass)
        if self.loader.shuffle is None:
            return self._order_of(number)[place]
        return self._order.indices(number * self._order.steps_per_pass + place)

    def batch_sizes(self, steps: int) -> set[int]:
        """The sizes of all batches of so many steps."""
        if self.loader.shuffle is None:
            return {len(batch) for batch in self._order_of(0)[:steps]}
        whole = self.steps_per_pass - bool(self._rest)
        sizes = {self.loader.batch_size} if whole else set()
        return sizes | ({self._rest} if self._rest and steps > whole else set())

    def fingerprint(self) -> dict:
        """Return what identifies the data, as JSON."""
        loader = self.loader
        said = super().fingerprint()
        if loader.shuffle is None:
            # Tells weights, subsets and all else that a sampler may have.
            said["order"] = _digest(self._draw(0))
        return {
            **said,
            "examples": loader.examples,
            "batch_size": loader.batch_size,
            "drop_last": loader.drop_last,
            "shuffle": loader.shuffle,
        }

    _places = indices

    def _order_of(self, number: int) -> list[np.ndarray]:
        """The batches of a pass, as the loader draws them; those of the newest one are kept."""
        if self._drawn is None or self._drawn[0] != number:
            order = self._draw(number)
            if len(order) != self.steps_per_pass:
                raise RuntimeError(
                    f"{self.loader.kind} gave {self.steps_per_pass:,} batches in a pass before, "
                    f"and {len(order):,} in pass {number}. The place of a step in the data is "
                    "known only where every pass has the same length."
                )
            self._drawn = number, order
        return self._drawn[1]

    def _draw(self, number: int) -> list[np.ndarray]:
        words = stream_words(self._seed, _ORDER, number)
        # The generators are looked for each time: one may be made with the first order.
        return self._call_to_order(words, lambda: self.loader.draw_order(number), can_repeat=False)

    def _checked_order(self) -> list[np.ndarray]:
        """The order of the first pass, which must be the same each time it is drawn, and as long as
        that of the second.
        """
        first, again = self._draw(0), self._draw(0)
        if not _are_equal(first, again):
            # Perhaps a generator was made with the first one, and could not be seeded before.
            first, again = again, self._draw(0)
        next_one = self._draw(1)
        if not _are_equal(first, again):
            fault = "gives another order each time, under the same random seeds: it counts, say"
            way = "Let it draw from a generator that it keeps, or have a method set_epoch(pass)"
        elif len(first) != len(next_one):
            fault = f"gives {len(first):,} batches in one pass and {len(next_one):,} in the next"
            way = "Give every pass the same number of batches, or put the loader into a generator"
        else:
            self._drawn = 0, first
            return first
        raise ValueError(
            f"kp.fit: the sampler of {self.loader.kind} {fault}, so the place of a step in the "
            f"data cannot be found again. {way}."
        )


def _are_equal(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in pairs)


def _digest(order: list[np.ndarray]) -> str:
    parts = [str([len(batch) for batch in order]).encode(), *(batch.tobytes() for batch in order)]
    return xxhash.xxh3_128_hexdigest(b"".join(parts))
