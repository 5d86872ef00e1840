"""Batches of a Python generator or another iterable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._util.arguments import whole_number
from .._util.errors import KerasPatternsError
from .._util.messages import say
from .._util.step_counter import StepCounter
from .streams import RandomStream
from .weights import as_batch, check_class_weight, class_weight_json


class DataExhaustedError(KerasPatternsError, RuntimeError):
    """The data ran out before the run did."""


class GeneratorSource:
    """Batches of a generator, or of another iterable of batches.

    A generator cannot be entered in the middle: to go on at a step, the batches before it are drawn
    again and dropped, with a progress bar. It goes on exactly if it is made the same way and draws
    at random from the global states only (or from generators that it seeds itself): each batch is
    drawn inside a random stream of the source's own, which begins at `random_state`.

    An iterable that is not its own iterator is begun again where it ends.

    Args:
        iterable: gives `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        class_weight: `{class: weight}`, turned into sample weights. Defaults to `None`.
        stream: the random stream in which batches are drawn. Defaults to `None`: Python's and
            NumPy's global states as they are now.
        verbose: whether to show that batches are skipped. Defaults to `True`.

    Example:

    >>> import numpy as np
    >>> source = GeneratorSource((np.full(2, i),) for i in range(9))
    >>> [x.tolist() for (x,), _ in zip(source.batches(0), range(2))]
    [[0, 0], [1, 1]]
    """

    steps_per_pass = None
    random_access = False
    thread_safe = False

    def __init__(
        self,
        iterable: Iterable,
        *,
        class_weight: Mapping[int, float] | None = None,
        stream: RandomStream | None = None,
        verbose: bool = True,
    ) -> None:
        self._iterable = iterable
        self._class_weight = check_class_weight(class_weight)
        self._stream = RandomStream() if stream is None else stream
        self._verbose = verbose
        self._iterator: Iterator | None = None
        self._position = self._first = 0

    @property
    def random_state(self) -> Any:
        """The state at which the random stream began: what a run that goes on must be given."""
        return self._stream.initial

    def begin_at(self, step: int) -> None:
        """Make the first batch that of a later step than the first: those before are not drawn."""
        self._position = self._first = step

    def batch(self, step: int) -> tuple:
        """Raise: a generator can only be read in order."""
        raise RuntimeError("the batches of a generator can only be had in order: `batches(start)`.")

    def batches(self, start: int) -> Iterator[tuple]:
        """Return the batches from step `start` on; those before are drawn and dropped now.

        Raises:
            ValueError: the generator is past `start` already.
            DataExhaustedError: the generator ended; also raised by the iterator.
        """
        start = max(self._first, whole_number("batches", "start", start, least=0))
        if start < self._position:
            raise ValueError(
                f"the generator is at step {self._position} and cannot go back to step {start}. "
                "Make a new one."
            )
        if start > self._position:
            self._skip(start - self._position)
        return self._remaining()

    def for_train_step(self, batch: tuple) -> Any:
        """Return the batch as Keras gives it to `train_step`: as it is."""
        return batch

    def fingerprint(self) -> dict:
        """Return what identifies the data, as JSON; of a generator, next to nothing is known."""
        said = {"kind": "generator", "class_weight": class_weight_json(self._class_weight)}
        return {**said, "first_step": self._first} if self._first else said

    def _remaining(self) -> Iterator[tuple]:
        while True:
            yield as_batch(self._draw(), self._class_weight, "the generator")

    def _skip(self, count: int) -> None:
        say(
            f"skipping {count} batches of the generator: it cannot be entered in the middle, so it "
            f"is run up to step {self._position + count}.",
            verbose=int(self._verbose),
        )
        with StepCounter(count, int(self._verbose)) as counter:
            for done in range(1, count + 1):
                self._draw()
                counter.update(done)

    def _draw(self) -> Any:
        with self._stream:
            try:
                item = next(self._opened())
            except StopIteration:
                item = self._first_of_next_pass()
        self._position += 1
        return item

    def _opened(self) -> Iterator:
        if self._iterator is None:
            self._iterator = iter(self._iterable)
        return self._iterator

    def _first_of_next_pass(self) -> Any:
        """Return the first item of the next pass, where the iterable can be begun again."""
        if self._iterator is not self._iterable:
            self._iterator = iter(self._iterable)
            for item in self._iterator:
                return item
        raise DataExhaustedError(
            f"the generator ended at step {self._position}: it gave "
            f"{self._position - self._first} batches, and "
            "the run needs more. Let it go on without end (`while True:`), or plan fewer steps."
        )
