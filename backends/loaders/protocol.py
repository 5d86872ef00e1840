"""The Protocols of an adapter of a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

# The examples of a batch, by their place in the data, and four 32-bit words that seed what is
# drawn while it is made.
Job = tuple[np.ndarray, np.ndarray]


class NativeBatches(NamedTuple):
    """Batches that the backend reads by itself, one in each step, from where a loader stands.

    Attributes:
        iterator: For `feed` of the backend.
        sample: A batch of `keras.KerasTensor`, or of arrays, for its shapes.
    """

    iterator: Any
    sample: Any


@runtime_checkable
class Loader(Protocol):
    """Batches in order, pass by pass.

    An adapter may have a method `note_held(places)`: it is told, before all others, where the data
    hold random generators of a person's own, and raises or changes `has_state` for it.

    One pass is open at a time. Passes are opened in order, from the first one or from that of a
    saved state. An adapter whose library runs one pass into the next gives all of them as one.

    Attributes:
        kind: For messages, with its article: "a tf.data.Dataset".
        steps_per_pass: Batches of a pass; None if that is not known, or there is no end.
        is_endless: True if a pass is known to have no end.
        has_state: True if the position of an open pass can be saved and put back.
        why_replayed: Where `has_state` is False: what stands in the way, for the person ("its map
            calls Python"). Empty where nothing does. Where it is True: what the person must know.
        why_lost: Why the place could not be found again in any way, with the way out: a run that is
            saved is refused then. Empty where it can. Need not be there.
        joins_passes: True if `open(1)` gives all passes from there on as one, so that a source that
            need not learn the length begins with it. Need not be there.
        native: The batches of the open pass for a backend that reads them by itself; None where
            this one does not. Need not be there.
        is_pure: True if nothing that draws on this process's global random states happens while
            batches are made here: no states are swapped then, and batches may be made in a thread.
        first_cost: Seconds that the first `get_state` is expected to take.
    """

    kind: str
    steps_per_pass: int | None
    is_endless: bool
    has_state: bool
    why_replayed: str
    is_pure: bool
    first_cost: float

    def open(self, number: int) -> Iterator[Any]:
        """Opens pass `number`, from 0."""

    def get_state(self) -> Any:
        """The position of the open pass, before the next batch: JSON and arrays. Bytes are
        given as an array of uint8: one that has not changed is not written again. None where it
        cannot be had just here.
        """

    def set_state(self, number: int, state: Any) -> Iterator[Any]:
        """Opens pass `number` at a position.

        Raises:
            ValueError: If it is no position of these data.
        """

    def fingerprint(self) -> dict[str, Any]:
        """All that can be said of the identity of the data, as JSON."""


@runtime_checkable
class SteppedLoader(Protocol):
    """Batches of any steps at any time, in an order that is the loader's own.

    Attributes:
        kind: For messages, with its article.
        steps_per_pass: Batches of a pass; None if there is no end.
    """

    kind: str
    steps_per_pass: int | None

    def fetch(self, jobs: Iterable[Job], call: Callable[..., Any]) -> Iterator[Any]:
        """As in `IndexedLoader`; the one example of a job is its step."""

    def fingerprint(self) -> dict[str, Any]:
        """All that can be said of the identity of the data, as JSON."""


@runtime_checkable
class IndexedLoader(Protocol):
    """Batches of any examples at any time.

    Attributes:
        kind: For messages, with its article.
        examples: How many there are.
        batch_size: Examples of a batch.
        drop_last: True if a last batch of a pass that is not full is left out.
        shuffle: True for a new order in each pass, False for that of the data; None if `draw_order`
            gives it.
        is_pure: As in `Loader`: `fetch` does not need `call` in this process.

    Where batches may be made some steps before they are trained on although `is_pure` is False, or
    may not although it is True, `may_be_collected` says so.

    Where the random generators of the data are looked for, to be seeded, can be said as well:
    `holder`, whose code makes a batch, and `order_holder`, whose code draws an order. Both default
    to the loader that was given.
    """

    kind: str
    examples: int
    batch_size: int
    drop_last: bool
    shuffle: bool | None
    is_pure: bool

    def draw_order(self, number: int) -> list[np.ndarray]:
        """The examples of each batch of pass `number`, drawn from the global random states, which
        are seeded by the pass. Only where `shuffle` is None.
        """

    def fetch(self, jobs: Iterable[Job], call: Callable[..., Any]) -> Iterator[Any]:
        """The batch of each job, in order; `close` ends its workers.

        Args:
            jobs: May be endless.
            call: `call(words, make)` returns what `make` does, with all random states that it may
                draw from seeded by the words, and puts those of this process back.
        """

    def fingerprint(self) -> dict[str, Any]:
        """All that can be said of the identity of the data, as JSON."""
