"""Random streams of their own for a person's code that draws from the global random states."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .order import seed_words

# Its type hints leave out get_bit_generator and set_bit_generator.
_numpy: Any = np.random
# 624 words, and the index of the next one.
_MT19937_BYTES = 2500
# Bit generators of ours that nobody draws from now.
_spare: list[np.random.MT19937] = []


def global_state() -> dict[str, Any]:
    """Return the states of Python's and NumPy's global random generators."""
    return {"python": random.getstate(), "numpy": np.random.get_state()}


def set_global_state(state: dict[str, Any]) -> None:
    """Put back what `global_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])


class RandomStream:
    """A stream of the global random states that goes on only inside its `with` block.

    What the block draws depends on nothing drawn outside, and the other way round.

    Args:
        get_state: returns the global random states, a value of its own that later draws do not
            change. Defaults to Python's and NumPy's.
        set_state: puts back what `get_state` returned. Defaults to Python's and NumPy's.
        state: where the stream begins. Defaults to `None`: at the state now.

    Attributes:
        initial: Where it begins.
        held_places: Where the data hold generators of a person's own, whose states it carries.

    Example:

    >>> stream = RandomStream()
    >>> with stream:
    ...     first = random.random()
    >>> with RandomStream(state=stream.initial):
    ...     again = random.random()
    >>> first == again
    True
    """

    def __init__(
        self,
        get_state: Callable[[], Any] = global_state,
        set_state: Callable[[Any], None] = set_global_state,
        state: Any = None,
    ) -> None:
        self._get_state = get_state
        self._set_state = set_state
        self.initial = get_state() if state is None else state
        self.held_places: tuple[str, ...] = ()
        self._inside = self.initial
        self._outside: Any = None

    @property
    def state(self) -> Any:
        """Where the stream is; inside its `with` block, too."""
        return self._inside if self._outside is None else self._get_state()

    def go_to(self, state: Any) -> None:
        """Goes on from what `state` gave."""
        self._inside = state

    def __enter__(self) -> None:
        self._outside = self._get_state()
        self._set_state(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = self._get_state()
        self._set_state(self._outside)
        self._outside = None


@contextlib.contextmanager
def seeded(words: np.ndarray) -> Iterator[None]:
    """Run a block with Python's and NumPy's global random states seeded, then put them back."""
    python = random.getstate()
    with _numpy_aside():
        seed_globally(words)
        try:
            yield
        finally:
            random.setstate(python)


@contextlib.contextmanager
def _numpy_aside() -> Iterator[None]:
    """Let NumPy's global functions draw from a bit generator of ours inside a block.

    That is a hundred times faster than to get and set the state of theirs.
    """
    theirs: Any = _numpy.get_bit_generator()
    is_known = type(theirs) is np.random.MT19937 and _layout_is_known()
    state = {} if is_known else np.random.get_state(legacy=False)
    kept = _take_kept_normal(theirs) if is_known else None
    ours = _spare.pop() if _spare else np.random.MT19937(0)
    _numpy.set_bit_generator(ours)
    try:
        yield
    finally:
        _numpy.set_bit_generator(theirs)
        _spare.append(ours)
        if kept is not None:
            state = {**np.random.get_state(legacy=False), "has_gauss": 1, "gauss": kept}
        if state:
            np.random.set_state(state)


def _take_kept_normal(generator: np.random.MT19937) -> float | None:
    """Take the normal number that NumPy keeps from drawing two at a time; None if it keeps none.

    It is dropped when the bit generator changes, and nothing tells it but the whole state.
    """
    address = generator.ctypes.state_address
    before = ctypes.string_at(address, _MT19937_BYTES)
    drawn = np.random.standard_normal()
    if ctypes.string_at(address, _MT19937_BYTES) == before:
        return drawn
    ctypes.memmove(address, before, _MT19937_BYTES)
    return None


@functools.cache
def _layout_is_known() -> bool:
    """True if the state of a Mersenne Twister lies in memory as it did in NumPy 2."""
    generator = np.random.MT19937(1)
    state = generator.state["state"]
    found = ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)
    return found == state["key"].tobytes() + np.int32(state["pos"]).tobytes()


def call_seeded(words: np.ndarray, make: Callable[[], Any], can_repeat: bool = True) -> Any:
    """Return what `make` returns, with Python's and NumPy's global random states seeded in it."""
    with seeded(words):
        return make()


# Given a dataset: a function that calls another with its random states seeded, as `call_seeded`.
Seeding = Callable[[Any], Callable[..., Any]]


def global_seeding(dataset: Any) -> Callable[..., Any]:
    """Return `call_seeded`, which knows nothing of the generators that a dataset holds."""
    return call_seeded


def seed_globally(words: np.ndarray) -> None:
    """Seed Python's and NumPy's global random states with four 32-bit words."""
    random.seed(int.from_bytes(words.astype("<u4").tobytes(), "little"))
    np.random.seed(words)


def stream_words(seed: int, *path: int) -> np.ndarray:
    """Return the words for `seeded` that belong to `seed` and to a purpose, named by integers."""
    return seed_words(seed, *path, words=4, dtype=np.uint32)
