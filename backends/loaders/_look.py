"""A look at the first batch of a library's data, and at a position that a checkpoint holds."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def is_batch(element: Any) -> bool:
    """True if all arrays of an element have a first axis, and the same."""
    lengths = {np.shape(leaf)[:1] for leaf in leaves(element)}
    return len(lengths) == 1 and () not in lengths


def shapes(element: Any) -> str:
    """The shapes of its arrays, for people."""
    return ", ".join(str(tuple(np.shape(leaf))) for leaf in leaves(element))


def leaves(element: Any) -> Iterator[Any]:
    """The arrays of an element."""
    if isinstance(element, dict):
        element = tuple(element.values())
    if isinstance(element, tuple | list):
        for part in element:
            yield from leaves(part)
    elif element is not None:
        yield element


def same_form(live: Any, saved: Any) -> bool:
    """True if a saved state has the form of a live one: the same keys, lengths and types."""
    if live is None or saved is None:
        return True
    if isinstance(live, dict):
        if not isinstance(saved, dict):
            return False
        if not live:
            return True
        return live.keys() == saved.keys() and all(same_form(live[key], saved[key]) for key in live)
    if isinstance(live, list | tuple):
        if not isinstance(saved, list | tuple):
            return False
        return not live or (len(live) == len(saved) and all(map(same_form, live, saved)))
    if isinstance(live, int):
        return isinstance(saved, int) and -(2**62) < saved < 2**62
    return type(live) is type(saved)


@contextlib.contextmanager
def watched_randomness() -> Iterator[Callable[[], list[str]]]:
    """Gives a function that names the global random states that have moved since; they are put
    back at the end.
    """
    torch: Any = sys.modules.get("torch")
    states: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
        "Python": (random.getstate, random.setstate),
        "NumPy": (np.random.get_state, np.random.set_state),
    }
    if hasattr(torch, "get_rng_state"):
        states["PyTorch"] = (torch.get_rng_state, torch.set_rng_state)
    before = {name: get() for name, (get, _) in states.items()}

    def moved() -> list[str]:
        return [name for name, (get, _) in states.items() if _plain(get()) != _plain(before[name])]

    try:
        yield moved
    finally:
        for name, (_, put) in states.items():
            put(before[name])


def _plain(state: Any) -> Any:
    """A random state, to be compared: its arrays and tensors as bytes."""
    if isinstance(state, tuple):
        return tuple(map(_plain, state))
    return np.asarray(state).tobytes() if hasattr(state, "shape") else state
