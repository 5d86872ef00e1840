"""Batches of a loader that gives any examples at any time."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xxhash

from keras_patterns.backends.loaders import IndexedLoader, Job

from .._util.arguments import whole_number
from .order import BatchOrder
from .streams import Seeding, global_seeding, stream_words
from .weights import as_batch, check_class_weight, class_weight_json

# What a stream of random numbers is for, in the path from the seed to it.
_BATCH, _ORDER = 0, 1


class IndexedSource:
    """Batches of an `IndexedLoader`, in an order that is a function of `(seed, step)`.

    While a batch is made, random states are seeded by (seed, step); those of this process are as
    before after it.

    Args:
        loader: Gives examples by their place.
        seed: A whole number that is not negative. Defaults to 0.
        class_weight: `{class: weight}`, turned into sample weights. Defaults to None.
        seeding: Given the data, returns what seeds the random states. Defaults to `global_seeding`.
        holder: The data, for `seeding`. Defaults to None.

    Raises:
        ValueError: If there is no batch, or the order that the loader draws depends on more than
            the random states.
    """

    random_access = True
    found_again = "by index"

    def __init__(
        self,
        loader: IndexedLoader,
        *,
        seed: int = 0,
        class_weight: Mapping[int, float] | None = None,
        seeding: Seeding = global_seeding,
        holder: Any = None,
    ) -> None:
        self.loader = loader
        self.thread_safe = loader.is_pure
        self._seed = whole_number("kp.fit", "seed", seed, least=0)
        self._class_weight = check_class_weight(class_weight)
        self._call = seeding(getattr(loader, "holder", holder))
        self._call_to_order = seeding(getattr(loader, "order_holder", holder))
        shuffle = bool(loader.shuffle)
        self._order = BatchOrder(loader.examples, loader.batch_size, shuffle, seed)
        whole, rest = divmod(loader.examples, loader.batch_size)
        self.steps_per_pass: int = whole + (bool(rest) and not loader.drop_last)
        self._drawn: tuple[int, list[np.ndarray]] | None = None
        if loader.shuffle is None:
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

    def batch(self, step: int) -> tuple:
        """Return the batch of `step`, which counts from 0 through all passes."""
        with contextlib.closing(self._fetched([step])) as batches:
            return next(batches)

    def batches(self, start: int) -> Iterator[tuple]:
        """Return the batches from step `start` on, without end; `close()` ends its workers."""
        start = whole_number("batches", "start", start, least=0)
        return self._fetched(itertools.count(start))

    def for_train_step(self, batch: tuple) -> Any:
        """Return the batch as Keras gives it to `train_step`: as it is."""
        return batch

    def batch_sizes(self, steps: int) -> set[int]:
        """The sizes of all batches of so many steps."""
        return {len(self.indices(step)) for step in range(min(steps, self.steps_per_pass))}

    def fingerprint(self) -> dict:
        """Return what identifies the data, as JSON."""
        loader = self.loader
        said = loader.fingerprint()
        if loader.shuffle is None:
            # Tells weights, subsets and all else that a sampler may have.
            said["order"] = _digest(self._draw(0))
        return {
            **said,
            "examples": loader.examples,
            "batch_size": loader.batch_size,
            "drop_last": loader.drop_last,
            "shuffle": loader.shuffle,
            "class_weight": class_weight_json(self._class_weight),
        }

    def _fetched(self, steps: Iterable[int]) -> Generator[tuple]:
        items = self.loader.fetch(map(self._job, steps), self._call)
        try:
            for item in items:
                yield as_batch(item, self._class_weight, self.loader.kind)
        finally:
            if hasattr(items, "close"):
                items.close()

    def _job(self, step: int) -> Job:
        return self.indices(step), stream_words(self._seed, _BATCH, step)

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
