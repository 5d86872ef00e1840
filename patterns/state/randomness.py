"""The global random states of a process: Python's, NumPy's, Keras's and the backend's."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .._util.random_states import check_numpy, check_python, check_seed
from .snapshot import StateMismatchError

State = dict[str, Any]
_NUMBERS = itertools.count()


def get_random_state() -> State:
    """Every global random state that training may draw from.

    Seeds that layers hold are variables of the model and not part of it.

    Returns:
        A dictionary of arrays and JSON, to be put back with `set_random_state`.

    Example:

    >>> import random
    >>> state = get_random_state()
    >>> first = random.random()
    >>> set_random_state(state)
    >>> random.random() == first
    True
    """
    version, words, gauss = random.getstate()
    backend = current()
    numpy = np.random.get_state(legacy=False)
    check_numpy(numpy, "The state of NumPy's global generator cannot be kept")
    return {
        "python": {"version": version, "words": np.array(words, np.uint32), "gauss": gauss},
        "numpy": numpy,
        "keras": _keras.get_global_seed(),
        backend.name: backend.random_state(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Puts back what `get_random_state` gave. What another backend gave for itself is left out.

    Raises:
        StateMismatchError: If it is no such state. Native code would believe it.
    """
    backend = current()
    try:
        _check(state)
        python = state["python"]
        random.setstate(
            (python["version"], tuple(int(word) for word in python["words"]), python["gauss"])
        )
        np.random.set_state(state["numpy"])
        if backend.name in state:
            _keras.set_global_seed(state["keras"])
            backend.set_random_state(state[backend.name])
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise StateMismatchError(
            f"The random states of the checkpoint cannot be put back: {error}. Go on from another "
            'checkpoint, or begin a new run from the weights (resume="weights").'
        ) from error


def drawn_seed() -> int:
    """A seed for what the script gave none: it follows from Python's random state, as those of
    Keras's layers do, and from the number of such calls before.

    The same script has it again after `set_random_seed`, even where `clear_session` has made Keras
    forget the value, and in threads, where Keras does not know it. Nothing is taken from that
    state, which generators of batches may draw from.
    """
    return random.Random(f"{next(_NUMBERS)} {random.getstate()}").getrandbits(32)


def _check(state: Mapping[str, Any]) -> None:
    check_python(state["python"], "python")
    check_numpy(state["numpy"], "numpy")
    check_seed(state["keras"], "keras")
