"""Batches that come in order: of a loader, a generator or another iterable."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

from keras_patterns.backends.loaders import Loader, NativeBatches

from .._util.arguments import whole_number
from .._util.errors import KerasPatternsError
from .._util.messages import say
from .._util.progress import duration
from .._util.step_counter import StepCounter
from .._util.warn import warn
from .owned import Owned
from .positions import LoaderPosition, PositionClock, PositionLog
from .streams import RandomStream
from .weights import as_batch, check_class_weight, class_weight_json


class DataExhaustedError(KerasPatternsError, RuntimeError):
    """The data of `kp.fit` ran out before the place at which they are to go on, or have no batch.
    Give data that are as long as those of the run.
    """


def warn_of_end(step: int, total_steps: int) -> None:
    """Warns that the data ended after a step of a run that had more to go."""
    warn(
        f"The data ended after step {step:,} of {total_steps:,}, and the run with them. Give data "
        "that can be begun again or that have no end, or plan fewer steps."
    )


class IterableLoader:
    """A generator, or another iterable of batches, as a loader.

    Args:
        iterable: Is begun again at each pass, unless it is its own iterator.
    """

    has_state = False
    why_replayed = ""
    is_pure = False
    first_cost = 0.0
    is_endless = False

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterable = iterable
        self._is_iterator = isinstance(iterable, Iterator)
        self.kind = "the generator" if self._is_iterator else f"the {type(iterable).__name__}"
        is_sized = isinstance(iterable, Sized) and not self._is_iterator
        self.steps_per_pass = (len(iterable) or None) if is_sized else None  # type: ignore[arg-type]

    def open(self, number: int) -> Iterator[Any]:
        """An iterator; of a generator, always the same."""
        return iter(self._iterable)

    def get_state(self) -> Any:
        """Raises: there is none."""
        raise TypeError(f"{self.kind} has no position.")

    def set_state(self, number: int, state: Any) -> Iterator[Any]:
        """Raises: there is none."""
        raise ValueError(f"{self.kind} has no position, and the checkpoint holds one.")

    def fingerprint(self) -> dict[str, Any]:
        """Next to nothing is known."""
        return {"kind": "generator"}


class LoaderSource:
    """Batches of a loader, pass after pass.

    A place in the middle is found again from a position that was saved at or before it, or from the
    start: the batches between are drawn again and dropped, with a progress bar. That is exact if
    the loader is made the same way. Unless the loader is pure, each batch is drawn inside a random
    stream of the source's own, which begins at `random_state`: its code may draw from the global
    random states, and nothing outside is moved.

    Args:
        loader: Gives `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        class_weight: `{class: weight}`, turned into sample weights. Defaults to None.
        stream: The random stream in which batches are drawn. Defaults to None: Python's and NumPy's
            global states as they are now.
        verbose: Whether to show that batches are skipped. Defaults to True.

    Attributes:
        steps_per_pass: Batches of a pass, None if that is not known.
        stops_after_pass: True if `batches` is to end with the pass that is open, for its length to
            be learnt.

    Example:

    >>> import numpy as np
    >>> source = LoaderSource(IterableLoader([(np.full(2, i),) for i in range(3)]))
    >>> [x.tolist() for (x,), _ in zip(source.batches(0), range(4))]
    [[0, 0], [1, 1], [2, 2], [0, 0]]
    """

    random_access = False

    def __init__(
        self,
        loader: Loader,
        *,
        class_weight: Mapping[int, float] | None = None,
        stream: RandomStream | None = None,
        verbose: bool = True,
    ) -> None:
        self.loader = loader
        self.steps_per_pass = loader.steps_per_pass
        self.thread_safe = self.may_be_collected = loader.is_pure
        self.stops_after_pass = False
        self._keeps_positions = False
        self._class_weight = check_class_weight(class_weight)
        self._stream = RandomStream() if stream is None else stream
        if hasattr(loader, "note_held"):
            loader.note_held(self._stream.held_places)
        self._verbose = verbose
        self._iterator: Iterator[Any] | None = None
        self._pass = self._pass_start = 0
        self._first_pass: int | None = None
        self._next = self._first = 0
        self._log = PositionLog(PositionClock(loader.first_cost))
        self._drawing = _Pace()
        self._lock = threading.Lock()

    @property
    def is_of_unknown_length(self) -> bool:
        """True if a pass may end, and nobody knows when."""
        return self.steps_per_pass is None and not self.loader.is_endless

    @property
    def random_state(self) -> Any:
        """The state at which the random stream began: what a run that goes on must be given."""
        return self._stream.initial

    @property
    def found_again(self) -> str:
        """The way in which a run that goes on finds its place, for the person."""
        because = f" ({self.loader.why_replayed})" if self.loader.why_replayed else ""
        if self.loader.has_state:
            return f"by its saved position{because}"
        return f"by running it again from its start{because}"

    @property
    def keeps_positions(self) -> bool:
        """True if `position` will be asked for, so that states are taken."""
        return self._keeps_positions

    @keeps_positions.setter
    def keeps_positions(self, keeps: bool) -> None:
        why_lost = getattr(self.loader, "why_lost", "")
        if keeps and why_lost:
            raise ValueError(
                f"a run on {self.loader.kind} that is saved could not find its place again: "
                f"{why_lost}. Or leave kp.Checkpoint out."
            )
        self._keeps_positions = keeps

    def begin_at(self, step: int) -> None:
        """Make the first batch that of a later step than the first: those before are not drawn."""
        self._next = self._first = self._pass_start = step

    def position(self, step: int) -> dict[str, Any]:
        """The state that finds the batch of `step` again, beside the step: JSON and arrays."""
        # Another thread may be drawing.
        with self._lock:
            self._note_position(step)
            found = self._log.at(step)
        pace = self._drawing.seconds_per_batch
        state: dict[str, Any] = {"first_pass": self._first_pass}
        if pace is not None:
            state["seconds_per_batch"] = pace
        return state if found is None else {**state, "position": found.as_dict()}

    def take_over(self, state: Mapping[str, Any]) -> None:
        """Makes `batches` begin from what `position` gave."""
        self._drawing.known = state.get("seconds_per_batch")
        self._first_pass = state.get("first_pass")
        if state.get("position") is not None:
            self._log.base = LoaderPosition(**state["position"])

    def batch(self, step: int) -> tuple:
        """Raise: a loader can only be read in order."""
        raise RuntimeError(
            f"the batches of {self.loader.kind} can only be had in order: `batches(start)`."
        )

    def batches(self, start: int) -> Iterator[tuple]:
        """Return the batches from step `start` on; those before are drawn and dropped now.

        The iterator ends where the loader cannot be begun again, and after a pass if
        `stops_after_pass` is set.

        Raises:
            ValueError: the loader is past `start` already, or the saved position is not of it.
            DataExhaustedError: the loader ended before `start`.
        """
        self._stand_at(start)
        return self._remaining()

    def native_batches(self, start: int) -> NativeBatches | None:
        """The batches from step `start` on, for a backend that reads one of them in each step; None
        where it cannot have them so.

        Whoever gives them out says by `note_read` how far they are read. Raises as `batches` does.
        """
        if self._class_weight is not None or self.stops_after_pass:
            return None
        self._stand_at(start)
        if self._iterator is None:
            with self._inside():
                self._iterator = self.loader.open(self._pass)
        return getattr(self.loader, "native", None)

    def note_read(self, step: int) -> None:
        """The batch of `step` is the next one that is read."""
        self._next = step
        if self._log.owes_one:
            self._note_position(step)

    def _stand_at(self, start: int) -> None:
        start = max(self._first, whole_number("batches", "start", start, least=0))
        self._choose_first_pass()
        self._go_to_base(start)
        if start < self._next:
            raise ValueError(
                f"{self.loader.kind} is at step {self._next} and cannot go back to step {start}. "
                "Make a new one."
            )
        if start > self._next:
            self._skip(start - self._next)

    def for_train_step(self, batch: tuple) -> Any:
        """Return the batch as Keras gives it to `train_step`: as it is."""
        return batch

    def fingerprint(self) -> dict:
        """Return what identifies the data, as JSON."""
        said = {
            **self.loader.fingerprint(),
            "class_weight": class_weight_json(self._class_weight),
        }
        return {**said, "first_step": self._first} if self._first else said

    def _choose_first_pass(self) -> None:
        """Begins with all passes in one, if the loader gives them and the length of the first one
        need not be learnt; a run that goes on does as before.
        """
        if self._first_pass is None:
            is_joined = self.steps_per_pass is None and not self.stops_after_pass
            self._first_pass = int(is_joined and getattr(self.loader, "joins_passes", False))
        if self._iterator is None and self._pass == 0:
            self._pass = self._first_pass

    def _go_to_base(self, start: int) -> None:
        """Opens the loader at a saved position, if that saves drawing."""
        base = self._log.base
        if base is None or self._iterator is not None or not self._next < base.step <= start:
            return
        self._stream.go_to(base.random)
        with self._inside():
            self._iterator = self.loader.set_state(base.pass_number, base.state)
        self._pass, self._pass_start, self._next = base.pass_number, base.pass_start, base.step

    def _remaining(self) -> Iterator[tuple]:
        owned = Owned()
        while (item := self._draw_alone(self.stops_after_pass)) is not _END:
            yield as_batch(owned(item), self._class_weight, self.loader.kind)

    def _skip(self, count: int) -> None:
        pace = self._drawing.known
        takes = f" At the last rate this takes about {duration(count * pace)}." if pace else ""
        since = f"from step {self._next:,} " if self._next > self._first else ""
        say(
            f"running {self.loader.kind} again {since}up to step {self._next + count:,}: {count:,} "
            f"batches are drawn and left.{takes}",
            verbose=int(self._verbose),
        )
        with StepCounter(count, int(self._verbose)) as counter:
            for done in range(1, count + 1):
                if self._draw_alone(stops=False) is _END:
                    raise DataExhaustedError(
                        f"{self.loader.kind} ended at step {self._next:,}, and the run goes on at "
                        f"step {self._next + count - done + 1:,}. It is not what it was: make it "
                        "as in the run before, or begin a new run in another folder."
                    )
                counter.update(done)

    def _draw_alone(self, stops: bool) -> Any:
        with self._lock:
            return self._draw(stops)

    def _draw(self, stops: bool) -> Any:
        """The next item; `_END` where there is none, or where a pass ends and `stops` is set."""
        self._note_position(self._next)
        began = time.perf_counter()
        with self._inside():
            if self._iterator is None:
                self._iterator = self.loader.open(self._pass)
            item = next(self._iterator, _END)
            if item is _END and self._note_pass() and not stops:
                self._iterator = self.loader.open(self._pass)
                item = next(self._iterator, _END)
        if item is not _END:
            self._next += 1
            self._drawing.note(time.perf_counter() - began)
        return item

    def _note_pass(self) -> bool:
        """A pass has ended; False if it gave nothing, so that there is nothing more."""
        length = self._next - self._pass_start
        if length == 0:
            return False
        if self.steps_per_pass is None and self._pass == 0:
            self.steps_per_pass = length
        elif self.steps_per_pass not in (None, length) and self._pass_start >= self._first:
            say(
                f"{self.loader.kind} gave {length:,} batches in a pass, not "
                f"{self.steps_per_pass:,}; the next pass begins after them.",
                verbose=int(self._verbose),
            )
        self._iterator = None
        self._pass += 1
        self._pass_start = self._next
        return True

    def _note_position(self, step: int) -> None:
        """Takes the loader's state, if it stands at `step` and it is time to."""
        if (
            not (self.keeps_positions and self.loader.has_state)
            or self._iterator is None
            or step != self._next
            or not self._log.is_due(step)
        ):
            return
        with self._inside():
            self._log.add(self._position)

    def _position(self) -> LoaderPosition | None:
        state = self.loader.get_state()
        if state is None:
            return None
        return LoaderPosition(self._next, self._pass, self._pass_start, state, self._stream.state)

    def _inside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.loader.is_pure else self._stream


class _Pace:
    """The seconds that a batch takes to draw.

    Attributes:
        known: As an earlier process measured it; None if none has.
    """

    known: float | None = None

    def __init__(self) -> None:
        self._count = 0
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        self._count += 1
        self._seconds += seconds

    @property
    def seconds_per_batch(self) -> float | None:
        return self._seconds / self._count if self._count else self.known


_END: Any = object()
