"""Batches of a `keras.utils.PyDataset`."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import keras

from .._util.arguments import whole_number
from .order import BatchOrder
from .owned import Owned, copied
from .prefetch import Job, fetch_in_order
from .streams import Seeding, global_seeding, stream_words
from .weights import as_batch, check_class_weight, class_weight_json

# What a stream of random numbers is for, in the path from the seed to it.
_ITEM, _BEGIN, _END = 0, 1, 2


class PyDatasetSource:
    """Batches of a `keras.utils.PyDataset`, in an order that is a function of `(seed, step)`.

    A pass takes each index once, shuffled as a whole if asked. An endless dataset
    (`num_batches` is `None`) gets the step as index, and its one pass never ends.

    `on_epoch_begin` and `on_epoch_end` are called once a *pass*, in order; no item is made ahead
    over that boundary. A run that goes on in a later pass first calls them for the passes before,
    so a dataset that reshuffles itself there goes on exactly. Such a dataset has no random access.

    While these hooks and `__getitem__` run, random states are seeded by (seed, step), so what they
    draw is repeatable: by default Python's and NumPy's global ones. Threads share those states:
    with `workers` above 1 and no `use_multiprocessing`, `__getitem__` must not draw from them.

    Args:
        dataset: the dataset. Its `workers`, `use_multiprocessing` and `max_queue_size` are
            honoured.
        shuffle: whether to shuffle the indices at each pass; `"batch"` keeps their order, since an
            item is a batch. An endless dataset has its own order. Defaults to `True`.
        class_weight: `{class: weight}`, turned into sample weights. Defaults to `None`.
        seed: a whole number that is not negative. Defaults to `0`.
        seeding: given the dataset, returns what seeds the random states; a function that can be
            pickled. Defaults to `global_seeding`.

    Raises:
        ValueError: the dataset is empty, or an argument is out of range.
        TypeError: an argument has the wrong type.

    Example:

    >>> class Squares(keras.utils.PyDataset):
    ...     num_batches = 3
    ...     def __getitem__(self, index):
    ...         return keras.ops.convert_to_numpy([index**2]), None
    >>> source = PyDatasetSource(Squares(), shuffle=False)
    >>> [source.batch(step)[0].tolist() for step in range(4)]
    [[0], [1], [4], [0]]
    """

    thread_safe = False
    may_be_collected = False

    @property
    def found_again(self) -> str:
        """The way in which a run that goes on finds its place, for the person."""
        hooks = "" if self.random_access else ", after the hooks of the passes before are called"
        return f"by index{hooks}"

    def __init__(
        self,
        dataset: keras.utils.PyDataset,
        *,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        seed: int = 0,
        seeding: Seeding = global_seeding,
    ) -> None:
        self._dataset = dataset
        self._seeding = seeding
        self._call = seeding(dataset)
        self._class_weight = check_class_weight(class_weight)
        self._seed = whole_number("PyDataset", "seed", seed, least=0)
        self.steps_per_pass: int | None = dataset.num_batches
        self._order: BatchOrder | None = None
        if self.steps_per_pass is not None:
            length = whole_number("PyDataset", "num_batches", self.steps_per_pass)
            self._order = BatchOrder(length, 1, shuffle, seed)
        self.random_access = not any(map(self._overrides, ("on_epoch_begin", "on_epoch_end")))
        self._pass = 0
        self._pass_has_begun = False

    def batch(self, step: int) -> tuple:
        """Return the batch of `step`, which counts from 0 through all passes.

        Raises:
            RuntimeError: the dataset changes from pass to pass; use `batches`.
        """
        if not self.random_access:
            raise RuntimeError(
                f"{self._name} has an `on_epoch_begin` or `on_epoch_end` of its own, so its "
                "batches can only be had in order. Use `batches(start)`."
            )
        return self._as_batch(copied(self._fetch(self._job(step))))

    def batches(self, start: int) -> Generator[tuple]:
        """Return the batches from step `start` on, without end; `close()` ends its workers.

        Raises:
            RuntimeError: on the first batch, if `start` lies in a pass that is over, and the
                dataset changes from pass to pass.
        """
        start = whole_number("batches", "start", start, least=0)
        return self._from(start)

    def for_train_step(self, batch: tuple) -> Any:
        """Return the batch as Keras gives it to `train_step`: a dict that stands alone is not
        wrapped.
        """
        return batch[0] if len(batch) == 1 and isinstance(batch[0], dict) else batch

    def fingerprint(self) -> dict:
        """Return what identifies the data, as JSON; its content is not looked at."""
        return {
            "kind": "PyDataset",
            "steps_per_pass": self.steps_per_pass,
            "shuffle": self._order is not None and self._order.shuffle,
            "class_weight": class_weight_json(self._class_weight),
        }

    def _from(self, start: int) -> Generator[tuple]:
        length = self.steps_per_pass
        if self.random_access or length is None:
            self._enter_pass(0)
            yield from self._fetched(itertools.count(start))
            return
        for number in itertools.count(start // length):
            self._enter_pass(number)
            end = (number + 1) * length
            yield from self._fetched(range(start, end))
            start = end

    def _fetched(self, steps: Iterable[int]) -> Generator[tuple]:
        jobs = map(self._job, steps)
        items = fetch_in_order(self._dataset, jobs, self._seeding, self._fetch)
        with contextlib.closing(items):
            yield from map(self._as_batch, map(Owned(), items))

    def _fetch(self, job: Job) -> Any:
        index, words = job
        return self._call(words, lambda: self._dataset[index])

    def _job(self, step: int) -> Job:
        index = step if self._order is None else int(self._order.indices(step)[0])
        return index, stream_words(self._seed, _ITEM, step)

    def _enter_pass(self, number: int) -> None:
        """Call the hooks that lie between here and the first batch of pass `number`."""
        if number < self._pass:
            raise RuntimeError(
                f"{self._name} is in pass {self._pass} and cannot go back to pass {number}: it "
                "changes in its `on_epoch_begin` or `on_epoch_end`. Make a new dataset."
            )
        while self._pass < number:
            self._begin_pass()
            self._call_hook("on_epoch_end", _END)
            self._pass_has_begun = False
            self._pass += 1
        self._begin_pass()

    def _begin_pass(self) -> None:
        if not self._pass_has_begun:
            self._call_hook("on_epoch_begin", _BEGIN)
            self._pass_has_begun = True

    def _call_hook(self, hook: str, purpose: int) -> None:
        words = stream_words(self._seed, purpose, self._pass)
        self._call(words, getattr(self._dataset, hook), can_repeat=False)
        if self._dataset.num_batches != self.steps_per_pass:
            raise RuntimeError(
                f"{self._name} had {self.steps_per_pass} batches and has "
                f"{self._dataset.num_batches} after `{hook}`. The place of a step in the data is "
                "known only where every pass has the same length."
            )

    def _overrides(self, hook: str) -> bool:
        method = getattr(self._dataset, hook)
        return getattr(method, "__func__", None) is not getattr(keras.utils.PyDataset, hook)

    def _as_batch(self, item: Any) -> tuple:
        return as_batch(item, self._class_weight, f"{self._name}.__getitem__")

    @property
    def _name(self) -> str:
        return type(self._dataset).__name__
