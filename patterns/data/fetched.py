"""Batches that a loader makes for any step at any time."""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_patterns.backends.loaders import IndexedLoader, Job, SteppedLoader

from .._util.arguments import whole_number
from .owned import Owned
from .streams import Seeding, global_seeding, stream_words
from .weights import as_batch, check_class_weight, class_weight_json

# What a stream of random numbers is for, in the path from the seed to it; the order of an
# `IndexedSource` has another one.
_BATCH = 0


class FetchedSource(ABC):
    """Batches of a loader that makes each from its places and a seed.

    While a batch is made, random states are seeded by (seed, step); those of this process are as
    before after it.

    Args:
        loader: Makes the batches.
        seed: A whole number that is not negative. Defaults to 0.
        class_weight: `{class: weight}`, turned into sample weights. Defaults to None.
        seeding: Given the data, returns what seeds the random states. Defaults to `global_seeding`.
        holder: The data, for `seeding`. Defaults to None.
    """

    random_access = True
    found_again = "by index"

    def __init__(
        self,
        loader: IndexedLoader | SteppedLoader,
        *,
        seed: int = 0,
        class_weight: Mapping[int, float] | None = None,
        seeding: Seeding = global_seeding,
        holder: Any = None,
    ) -> None:
        self.loader: IndexedLoader | SteppedLoader = loader
        self.thread_safe: bool = getattr(loader, "is_pure", False)
        self.may_be_collected: bool = getattr(loader, "may_be_collected", self.thread_safe)
        self._seed = whole_number("kp.fit", "seed", seed, least=0)
        self._class_weight = check_class_weight(class_weight)
        self._call = seeding(getattr(loader, "holder", holder))

    @abstractmethod
    def _places(self, step: int) -> np.ndarray:
        """The thing a loader is asked for in a step."""

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

    def fingerprint(self) -> dict:
        """Return what identifies the data, as JSON."""
        return {
            **self.loader.fingerprint(),
            "class_weight": class_weight_json(self._class_weight),
        }

    def _fetched(self, steps: Iterable[int]) -> Generator[tuple]:
        items = self.loader.fetch(map(self._job, steps), self._call)
        owned = Owned()
        try:
            for item in items:
                yield as_batch(owned(item), self._class_weight, self.loader.kind)
        finally:
            if hasattr(items, "close"):
                items.close()

    def _job(self, step: int) -> Job:
        return self._places(step), stream_words(self._seed, _BATCH, step)


class SteppedSource(FetchedSource):
    """Batches of a `SteppedLoader`, in its own order.

    Args:
        loader: Gives the batch of any step.
        **arguments: Of `FetchedSource`.
    """

    def __init__(self, loader: SteppedLoader, **arguments: Any) -> None:
        super().__init__(loader, **arguments)
        self.steps_per_pass = loader.steps_per_pass

    def _places(self, step: int) -> np.ndarray:
        return np.array([step])
