"""The check of random states that were read from disk.

Generators hand their states to native code that believes them: an index past the end of a table
reads foreign memory, or ends the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from .schema import Fields, SchemaError, checked, require, shown

# The words of a Mersenne Twister. An index of as many says that all are used up.
_WORDS = 624
_Index = Annotated[int, Meta(ge=0, le=_WORDS)]
_Word = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_Flag = Literal[0, 1]
_Arrays = dict[str, np.ndarray]


class _Python(Fields, frozen=True):
    version: Literal[3]
    words: np.ndarray
    gauss: float | None


class _NumPy(Fields, frozen=True):
    bit_generator: str
    state: dict[str, Any]
    has_gauss: _Flag = 0
    gauss: float = 0.0
    has_uint32: _Flag = 0
    uinteger: _Word = 0
    buffer: Any = None
    buffer_pos: Annotated[int, Meta(ge=0, le=4)] = 0


class _MersenneTwister(Fields, frozen=True):
    key: np.ndarray
    pos: _Index


class _Large(Fields, frozen=True):
    state: int
    inc: int


# Each of NumPy's bit generators: the arrays of its state by name, and their lengths.
_ARRAYS = {"Philox": {"counter": 4, "key": 2}, "SFC64": {"state": 4}}
_LARGE = ("PCG64", "PCG64DXSM")


def check_python(state: Any, place: str) -> None:
    """Checks a state of Python's generator, as a dict with its words in an array, or as
    `random.getstate()` gives it.

    Raises:
        SchemaError: If it is none.
    """
    if isinstance(state, tuple):
        version, words, _ = checked(state, tuple[int, tuple[_Word, ...], float | None], place)
        require(version == 3, place, f"expected version 3, received {shown(version)}")
        require(len(words) == _WORDS + 1, place, f"expected {_WORDS + 1} words, not {len(words)}")
        checked(words[-1], _Index, f"{place}[1][{_WORDS}]")
        return
    found = checked(state, _Python, place)
    check_array(found.words, np.uint32, (_WORDS + 1,), f"{place}.words")
    checked(int(found.words[-1]), _Index, f"{place}.words[{_WORDS}]")


def check_numpy(state: Any, place: str) -> None:
    """Checks a state of NumPy's generator, as a dict or as `np.random.get_state()` gives it.

    Raises:
        SchemaError: If it is none, or that of a generator that is not NumPy's own.
    """
    if isinstance(state, tuple):
        kind = tuple[Literal["MT19937"], Any, _Index, _Flag, float]
        _, key, *_ = checked(state, kind, place)
        check_array(key, np.uint32, (_WORDS,), f"{place}[1]")
        return
    found = checked(_plain(state), _NumPy, place)
    inside, name = f"{place}.state", found.bit_generator
    if name == "MT19937":
        twister = checked(_plain(found.state), _MersenneTwister, inside)
        check_array(twister.key, np.uint32, (_WORDS,), f"{inside}.key")
    elif name in _LARGE:
        large = checked(found.state, _Large, inside)
        fits = all(0 <= part < 2**128 for part in (large.state, large.inc))
        require(fits, inside, "expected integers of 128 bits")
    elif name in _ARRAYS:
        lengths = _ARRAYS[name]
        arrays = checked(found.state, _Arrays, inside)
        require(arrays.keys() == lengths.keys(), inside, f"expected {sorted(lengths)}")
        for part, length in lengths.items():
            check_array(arrays[part], np.uint64, (length,), f"{inside}.{part}")
        if name == "Philox":
            check_array(found.buffer, np.uint64, (4,), f"{place}.buffer")
    else:
        what = f"{shown(name)} is not one of NumPy's own generators, whose states can be checked"
        raise SchemaError(f"{place}.bit_generator: {what}")


def check_seed(state: Any, place: str) -> None:
    """Checks the state of Keras's global seed generator; None if there is none."""
    if state is None:
        return
    require(isinstance(state, np.ndarray), place, f"expected an array, received {shown(state)}")
    known = [np.dtype(kind) for kind in (np.uint32, np.int32, np.int64)]
    require(state.dtype in known, place, f"expected integers of 32 bits, not {state.dtype}")
    check_array(state, state.dtype, (2,), place)


def check_array(value: Any, dtype: Any, shape: tuple[int, ...], place: str) -> None:
    """Raises if a value is not an array of this dtype and shape."""
    fits = isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == shape
    found = (
        f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else shown(value)
    )
    require(fits, place, f"expected {np.dtype(dtype)} of shape {shape}, received {found}")


def _plain(state: Any) -> Any:
    """A state with Python's numbers in the place of NumPy's."""
    if not isinstance(state, Mapping):
        return state
    return {name: one.item() if isinstance(one, np.generic) else one for name, one in state.items()}
