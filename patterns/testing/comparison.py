"""The whole state that a run ends with, and the differences between two such states."""

from __future__ import annotations

import itertools
import operator
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from .. import _keras
from ..state.callbacks import named
from ..state.held import HeldStates, access_to
from ..state.randomness import get_random_state
from ..state.snapshot import copy_values
from ..state.values import digest, is_plain
from ..state.variables import find_variables
from ..state.walk import CONTAINERS, REGISTERED, walk

State = dict[str, Any]

# What a callback refers to, and what happened to its processes: not what it is.
_REFERENCES = {"model", "_model", "params", "validation_data", "resumes", "ways", "run"}


@_keras.quiet_arrays()
def run_state(
    model: keras.Model,
    history: keras.callbacks.History,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> State:
    """Everything that a run ends with, as a flat dict of arrays and plain values by name.

    Args:
        model: After `kp.fit`.
        history: What `kp.fit` returned.
        callbacks: Those whose state is wanted. `kp.Checkpoint` has none.

    Returns:
        Names such as `"variables/layers/0/kernel"`, `"callbacks/EarlyStopping/wait"`,
        `"random/python/words"`, or `"held/model/layers/1/generator"` of what Keras does not track;
        the arrays are copies.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> from keras_patterns.testing import run_state
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = kp.fit(model, np.ones((4, 1)), np.ones(4), epochs=1, seed=0, verbose=0)
    >>> run_state(model, history, [])["variables/layers/0/kernel"].shape
    (1, 1)
    """
    random = get_random_state()
    held = {name: callback_values(callback) for name, callback in named(callbacks).items()}
    variables = find_variables(model).variables
    roots = {"model": model, **{f"callbacks/{name}": one for name, one in named(callbacks).items()}}
    untracked = HeldStates(roots, variables.values).states()
    parts = {
        "variables": copy_values(variables),
        "held": {place: one["state"] for place, one in untracked.items()},
        "callbacks": held,
        "random": random,
    }
    return _by_name(flat_state({**parts, "history": callback_values(history)}, ""))


def _by_name(leaves: Iterable[tuple[str, Any]]) -> State:
    """A dict of named leaves; of those with one name, later ones get a mark."""
    state: State = {}
    for name, value in leaves:
        while name in state:
            name += "'"
        state[name] = value
    return state


def everything_held(roots: Mapping[str, Any]) -> dict[str, str]:
    """All numbers, arrays, generators and iterators that a person's own objects hold, as text, by
    the way to each from some roots. Left out is what Keras tracks of the root `"model"`.
    """
    found = {}
    variables = find_variables(roots["model"]).variables.values()
    for node in walk(roots, {id(variable) for variable in variables}):
        if node.place.endswith(REGISTERED):
            continue
        if isinstance(node.owner, CONTAINERS) and is_plain(node.owner):
            # A part of what is shown whole.
            continue
        access = access_to(node.value)
        if isinstance(node.value, keras.Variable) or (access and not access.is_value):
            assert access
            state = access.get()
            found[node.place] = f"{access.kind} {digest(state)}"
        elif node.is_own and isinstance(node.value, int | float | np.generic | itertools.count):
            found[node.place] = repr(node.value)
        elif node.is_own and is_plain(node.value):
            found[node.place] = f"{node.value!r:.60} ({digest(node.value)[:8]})"
        elif isinstance(node.value, Iterator) and hasattr(node.value, "__length_hint__"):
            found[node.place] = f"{operator.length_hint(node.value)} items left"
    return found


def differences(expected: State, found: State) -> list[str]:
    """The differences of two results of `run_state` in any bit, type, dtype or shape: a line for
    each name.

    Example:

    >>> from keras_patterns.testing import differences
    >>> differences({"a": 1, "b": 2}, {"a": 1})
    ['b: missing']
    """
    lines = [f"{name}: missing" for name in expected if name not in found]
    lines += [
        f"{name}: not expected, found {_shown(found[name])}"
        for name in found
        if name not in expected
    ]
    for name in expected.keys() & found.keys():
        if _bits(expected[name]) != _bits(found[name]):
            lines.append(f"{name}: {_difference(expected[name], found[name])}")
    return sorted(lines)


def assert_same_state(expected: State, found: State, message: str = "The states differ.") -> None:
    """Asserts that two results of `run_state` are equal bit for bit: NaN, the sign of zero and
    dtypes included.

    Raises:
        AssertionError: Naming `message` and the first ten parts that differ.

    Example:

    >>> from keras_patterns.testing import assert_same_state
    >>> assert_same_state({"a": float("nan")}, {"a": float("nan")})
    """
    lines = differences(expected, found)
    if lines:
        more = [f"... and {len(lines) - 10} more"] if len(lines) > 10 else []
        of = len(expected.keys() | found.keys())
        raise AssertionError(
            f"{message} {len(lines)} of {of} parts differ:\n  " + "\n  ".join(lines[:10] + more)
        )


def callback_values(callback: keras.callbacks.Callback) -> State:
    """All plain values and arrays in a callback's attributes, whether a checkpoint carries them or
    not.
    """
    values = {name: value for name, value in vars(callback).items() if name not in _REFERENCES}
    return {name: value for name, value in values.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return (
        value is None
        or isinstance(value, str | int | float | np.ndarray | np.generic)
        or keras.ops.is_tensor(value)
    )


def flat_state(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts and lists by their names, with the kind and length of each."""
    if isinstance(value, Mapping | list | tuple):
        yield name, f"{type(value).__name__} of {len(value)}"
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from flat_state(item, f"{name}/{key}" if name else str(key))
    else:
        yield (
            name,
            np.array(keras.ops.convert_to_numpy(value)) if keras.ops.is_tensor(value) else value,
        )


def _bits(value: Any) -> tuple[Any, ...]:
    if isinstance(value, np.ndarray):
        return "array", value.dtype.name, value.shape, value.tobytes()
    return type(value).__name__, struct.pack("<d", value) if isinstance(value, float) else value


def _difference(expected: Any, found: Any) -> str:
    arrays = isinstance(expected, np.ndarray) and isinstance(found, np.ndarray)
    if (
        arrays
        and expected.size > 1
        and (expected.dtype, expected.shape) == (found.dtype, found.shape)
    ):
        first, second = (
            np.frombuffer(array.tobytes(), f"V{array.itemsize}") for array in (expected, found)
        )
        far = np.max(np.abs(expected.astype("float64") - found.astype("float64")))
        return (
            f"{int(np.sum(first != second))} of {expected.size} elements differ, by up to {far:.3g}"
        )
    return f"expected {_shown(expected)}, found {_shown(found)}"


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)} {value.ravel()[:4].tolist()}"
    return f"{value!r} ({type(value).__name__})"
