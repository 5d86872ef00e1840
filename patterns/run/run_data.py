"""The data of a run: its source, the batches that are left out, and the stream that is read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_patterns.backends import Gathered, ReadAhead, current

from ..data import BatchSource, DataExhaustedError, LoaderSource, Skipped
from ..data.stream import BatchStream, NativeStream
from ..state import StateMismatchError


class RunData:
    """The batches of one run.

    Args:
        source: Batches by their number.
        keeps_positions: Whether checkpoints will hold what finds the batches again. Defaults to
            False.
        stops_after_pass: Whether the stream ends with the first pass, for its length to be learnt.
            Defaults to False.

    Attributes:
        source: Batches by their number.
        skipped: The batches that are left out.
        stream: The batches from the present step on.
        samples: The first one or two of them, for their shapes.
        is_fed: Whether nobody but the backend's `feed` reads the stream; set before it is opened.
            Defaults to False.
    """

    stream: BatchStream | NativeStream
    samples: list[Any]

    def __init__(
        self, source: BatchSource, keeps_positions: bool = False, stops_after_pass: bool = False
    ) -> None:
        self.source = source
        if isinstance(source, LoaderSource):
            source.keeps_positions, source.stops_after_pass = keeps_positions, stops_after_pass
        self.skipped = Skipped(source)
        self._opened_at: int | None = None
        self._gathered: Gathered | None = None
        self._ahead: ReadAhead | None = None
        self._steps_left = 0
        self.is_fed = False

    def take_over(self, state: Mapping[str, Any]) -> None:
        """Leaves out the batches that an earlier process has left out.

        Raises:
            StateMismatchError: If they are told by examples, which this source does not know.
        """
        skipped = state.get("skipped", {})
        if skipped.get("examples") and not hasattr(self.source, "indices"):
            raise StateMismatchError(
                "The checkpoint leaves out examples of the data, and these data do not tell which "
                "examples a batch holds. It is of other data; go on from another checkpoint."
            )
        self.skipped = Skipped(self.source, skipped)
        if isinstance(self.source, LoaderSource):
            self.source.take_over(state)

    def state(self, step: int) -> dict[str, Any]:
        """The part of a checkpoint that finds the batch of `step` again, beside the step."""
        state: dict[str, Any] = {"skipped": self.skipped.state}
        if isinstance(self.source, LoaderSource):
            number = self.skipped.number_of(step)
            state |= {"random": self.source.random_state, **self.source.position(number)}
        return state

    def learn_pass(self, step: int, steps_left: int) -> None:
        """Goes on with the next pass, now that the first one has shown its length."""
        assert isinstance(self.source, LoaderSource)
        self.source.stops_after_pass = False
        if steps_left:
            self._opened_at = None
            self.open_at(step, steps_left)

    def open_at(self, step: int, steps_left: int) -> None:
        """Reads from a step on."""
        if self._opened_at == step and self.stream.is_untouched:
            return
        self.close()
        self._opened_at, self._steps_left = step, steps_left
        self._gathered = self._find_gathered() if steps_left else None
        native = self._native(step) if steps_left else None
        if native:
            self.stream = native
            self.samples = native.peek(1)
            return
        if self._gathered:
            arrays: Any = self.source
            places = self.skipped.batches(step, arrays.index_batches)
            self.stream = BatchStream(places, lambda one: one)
            numbers = map(self.skipped.number_of, range(step, step + min(2, steps_left)))
            self.samples = [arrays.step_batch(one) for one in numbers]
            return
        # Where nothing is left, one batch shows how to build the model; a generator need not be run
        # to its end for it.
        batches = self.skipped.batches(step if steps_left else 0)
        may_end = isinstance(self.source, LoaderSource)
        self.stream = BatchStream(batches, self.source.for_train_step, may_end)
        samples = self.stream.peek(min(2, steps_left or 1))
        if samples:
            self.samples = samples
        elif not hasattr(self, "samples"):
            raise DataExhaustedError(
                f"the data gave no batch{f' after step {step:,}' if step else ''}. Give some."
            )

    def read(self, count: int) -> list[Any]:
        """The next batches, for a loop that is not fed by the backend; fewer where the data end."""
        assert isinstance(self.stream, BatchStream)
        if self._ahead is None and self.source.thread_safe:
            self._ahead = ReadAhead(itertools.islice(self.stream, self._steps_left))
        return list(itertools.islice(self._ahead or self.stream, count))

    def lend(self, count: int) -> Any:
        """The next batches, for `feed` of the backend."""
        lent = self.stream.lend(count)
        if self._gathered is None:
            return lent
        self._gathered.places = lent
        return self._gathered

    def batch_length(self, number: int) -> int:
        """The examples of a batch of arrays."""
        source: Any = self.source
        return source.batch_length(number)

    def step_batch(self, number: int) -> Any:
        """A batch of arrays as a step gets it, from where the backend takes it."""
        source: Any = self.source
        take = self._gathered and self._gathered.take
        return take(source.indices(number)) if take else source.step_batch(number)

    def block(self, numbers: Sequence[int], room: int) -> Any:
        """Batches of arrays of one size along a new first axis of `room` places, of which the last
        ones are of no meaning.
        """
        source: Any = self.source
        take = self._gathered and self._gathered.take
        if not take:
            return source.block(numbers, room)
        filled = [*numbers, *[numbers[-1]] * (room - len(numbers))]
        return take(np.stack([source.indices(one) for one in filled]))

    def _find_gathered(self) -> Gathered | None:
        """The arrays, where the backend makes batches of them by itself."""
        if not (self.is_fed and current().gathers):
            return None
        return getattr(self.source, "gathered", None)

    def _native(self, step: int) -> NativeStream | None:
        """The batches, where the backend can read them by itself and none is left out."""
        if self.is_fed and isinstance(self.source, LoaderSource) and self.skipped.is_empty:
            batches = self.source.native_batches(step)
            return batches and NativeStream(batches, step, self.source.note_read)
        return None

    def batch_sizes(self, steps: int) -> set[int]:
        """The sizes of all batches of so many steps; of none where they are known only once they
        are there.
        """
        sizes = getattr(self.source, "batch_sizes", None)
        return sizes(steps) if sizes else set()

    def close(self) -> None:
        """Ends the threads or processes that make batches."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if hasattr(self, "stream"):
            self.stream.close()

    def rewind_blocker(self) -> str | None:
        """Why an earlier step cannot be taken up again; None if it can."""
        if getattr(self.source, "random_access", False):
            return None
        return (
            "the data (a generator, or a PyDataset with on_epoch_end) cannot be taken up at an "
            "earlier step again"
        )

    def examples(self, number: int) -> tuple[int, ...]:
        """Which examples a batch holds; empty where that is not known."""
        indices = getattr(self.source, "indices", None)
        return () if indices is None else tuple(int(index) for index in indices(number))

    def leave_out(self, number: int, examples: Sequence[int]) -> None:
        """Leaves out a batch, and later ones that hold any of some examples."""
        self.skipped.leave_out(number, examples)
        self._opened_at = None
