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
    return {"python": random.getstate(), "numpy": _numpy_state()}


def set_global_state(state: dict[str, Any]) -> None:
    """Put back what `global_state` returned."""
    random.setstate(state["python"])
    _set_numpy_state(state["numpy"])


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
    known, theirs = _known_generator(), _numpy.get_bit_generator()
    state = np.random.get_state(legacy=False) if known is None else {}
    kept = None if known is None else _take_kept_normal(known)
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


def _numpy_state() -> Any:
    """The same as `np.random.get_state()`, in a tenth of the time."""
    generator = _known_generator()
    if generator is None:
        return np.random.get_state()
    kept = _take_kept_normal(generator)
    # Drops the other half of what was drawn to see whether there is one.
    _numpy.set_bit_generator(generator)
    words = np.frombuffer(_read(generator), np.uint32)
    state = ("MT19937", words[:-1], int(words[-1]), int(kept is not None), kept or 0.0)
    if kept is not None:
        np.random.set_state(state)
    return state


def _set_numpy_state(state: Any) -> None:
    """Does what `np.random.set_state(state)` does, in a tenth of the time."""
    generator = _known_generator()
    if generator is None or not _is_plain(state):
        np.random.set_state(state)
        return
    _, key, position, _, _ = state
    _numpy.set_bit_generator(generator)
    _write(generator, np.append(key, np.uint32(position)).tobytes())


def _is_plain(state: Any) -> bool:
    """True if a state is sound, and holds nothing but words: no number that NumPy keeps."""
    return (
        isinstance(state, tuple)
        and len(state) == 5
        and state[0] == "MT19937"
        and getattr(state[1], "dtype", None) == np.uint32
        and state[1].shape == (624,)
        and 0 <= state[2] <= 624
        and not state[3]
    )


def _take_kept_normal(generator: np.random.MT19937) -> float | None:
    """Take the normal number that NumPy keeps from drawing two at a time; None if it keeps none.

    It is dropped when the bit generator changes, and nothing tells it but the whole state.
    """
    before = _read(generator)
    drawn = np.random.standard_normal()
    if _read(generator) == before:
        return drawn
    _write(generator, before)
    return None


def _known_generator() -> np.random.MT19937 | None:
    """The generator that NumPy's global functions draw from, if its state lies in memory as it did
    in NumPy 2.
    """
    generator = _numpy.get_bit_generator()
    return generator if type(generator) is np.random.MT19937 and _layout_is_known() else None


def _read(generator: np.random.MT19937) -> bytes:
    """The words of its state, and the place of the next one."""
    return ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)


def _write(generator: np.random.MT19937, state: bytes) -> None:
    ctypes.memmove(generator.ctypes.state_address, state, _MT19937_BYTES)


@functools.cache
def _layout_is_known() -> bool:
    """True if the state of a Mersenne Twister lies in memory as it did in NumPy 2."""
    generator = np.random.MT19937(1)
    state = generator.state["state"]
    return _read(generator) == state["key"].tobytes() + np.int32(state["pos"]).tobytes()


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
