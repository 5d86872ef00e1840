"""The state of each callback: ours and a user's by protocol, Keras's own by a table."""

from __future__ import annotations

import inspect
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from .._util.schema import Count, checked, require
from .._util.warn import warn
from .snapshot import putting_back

_C = keras.callbacks

# What each of Keras's callbacks moves while it runs; all else in it is configuration, and the
# script's to say.
_MOVING: dict[type, tuple[str, ...]] = {
    _C.EarlyStopping: ("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
    _C.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    _C.ModelCheckpoint: (
        "best",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
        "_current_epoch",
    ),
    _C.OrbaxCheckpoint: (
        "best",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
        "_current_epoch",
        "_total_batches_seen",
    ),
    _C.History: ("history", "epoch"),
    _C.TensorBoard: (
        "_global_train_batch",
        "_global_test_batch",
        "_previous_epoch_iterations",
        "_train_accumulated_time",
    ),
    _C.SwapEMAWeights: ("_ema_weights_in_model",),
    _C.CSVLogger: ("keys",),
    _C.LearningRateScheduler: (),
    _C.LambdaCallback: (),
    _C.RemoteMonitor: (),
    _C.TerminateOnNaN: (),
    _C.ProgbarLogger: (),
    _C.Callback: (),
}
# The kind of each of these values.
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("wait", "stopped_epoch", "best_epoch", "cooldown_counter"), Count),
    **dict.fromkeys(("_batches_seen_since_last_saving", "_total_batches_seen"), Count),
    "_current_epoch": Count,
    "_last_batch_seen": Count | None,
    **dict.fromkeys(("_global_train_batch", "_global_test_batch"), Count),
    "_previous_epoch_iterations": float,
    "_train_accumulated_time": float,
    "best": float | None,
    "best_weights": list[np.ndarray] | None,
    "history": dict[str, list[Any]],
    "epoch": list[Count],
    "_ema_weights_in_model": bool,
    "keys": list[str] | None,
}
_OF_EVERY_CALLBACK = frozenset(vars(_C.Callback())) | {
    "model",
    "_model",
    "params",
    "validation_data",
}
_PAIRS = (("get_state", "set_state"), ("state_dict", "load_state_dict"))


def named(callbacks: Iterable[keras.callbacks.Callback]) -> dict[str, keras.callbacks.Callback]:
    """The callbacks by a name that does not depend on the other ones: the class, numbered where it
    occurs again.
    """
    seen: Counter[str] = Counter()
    result = {}
    for callback in callbacks:
        name = type(callback).__name__
        seen[name] += 1
        own = name if seen[name] == 1 else f"{name}#{seen[name]}"
        while own in result:  # A class can have any name.
            own += "'"
        result[own] = callback
    return result


def get_state(callback: keras.callbacks.Callback) -> dict[str, Any] | None:
    """The moving state of a callback, or None if it has no way to tell it.

    In this order: its own `get_state` and `set_state`; its own `state_dict` and `load_state_dict`;
    the table of Keras's callbacks.
    """
    for get, _ in _protocol(callback):
        return _as_dict(callback, get)
    if not _stock_bases(callback) and not _keeps_nothing_itself(callback):
        return None
    state = {name: getattr(callback, name) for name in _moving(callback) if hasattr(callback, name)}
    if (
        isinstance(callback, _C.CSVLogger)
        and callback.csv_file is not None
        and not callback.csv_file.closed
    ):
        callback.csv_file.flush()
        # Of the open file: its name may lead elsewhere since the working directory was changed.
        state["bytes"] = os.fstat(callback.csv_file.fileno()).st_size
    return state


def set_state(callback: keras.callbacks.Callback, state: Mapping[str, Any]) -> None:
    """Puts back what `get_state` gave. Called after all `on_train_begin`, since several of Keras's
    wipe theirs there.
    """
    with putting_back(type(callback).__name__):
        for _, put in _protocol(callback):
            getattr(callback, put)(dict(state))
            return
        _check_moving(callback, state)
        for name in _moving(callback):
            if name in state:
                setattr(callback, name, state[name])


def _check_moving(callback: keras.callbacks.Callback, state: Mapping[str, Any]) -> None:
    """Raises if a state is not what one of Keras's callbacks keeps."""
    for name in _moving(callback):
        if name not in state or name not in _KINDS:
            continue
        value = state[name]
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim):
            value = value.item()
        checked(value, _KINDS[name], name)
    best, model = state.get("best_weights"), callback.model
    if best is not None and "best_weights" in _moving(callback) and model is not None:
        shapes = [tuple(weight.shape) for weight in model.weights]
        fits = [array.shape for array in best] == shapes
        require(fits, "best_weights", "their number or shapes are not those of the model")


@contextmanager
def files_go_on(
    callbacks: Mapping[str, keras.callbacks.Callback], states: Mapping[str, Mapping[str, Any]]
) -> Iterator[None]:
    """Around a run that goes on: what opens a file in it goes on in that file. `cut_files` is to
    follow once it is open.
    """
    loggers = {
        name: c
        for name, c in callbacks.items()
        if isinstance(c, _C.CSVLogger) and "bytes" in states.get(name, {})
    }
    settings = {name: (logger.append, logger.append_header) for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.append = True
    try:
        yield
    finally:
        for name, logger in loggers.items():
            logger.append, logger.append_header = settings[name]


def cut_files(
    callbacks: Mapping[str, keras.callbacks.Callback], states: Mapping[str, Mapping[str, Any]]
) -> None:
    """In a run that goes on or goes back: cuts what was written since from files that are open."""
    for name, logger in callbacks.items():
        if (
            isinstance(logger, _C.CSVLogger)
            and logger.csv_file is not None
            and not logger.csv_file.closed
        ):
            state = states.get(name, {})
            # Without a length, rows that the person has it append to may be older than the run.
            if "bytes" in state or not logger.append:
                _cut(logger, state.get("bytes", 0))


def _cut(logger: keras.callbacks.CSVLogger, length: int) -> None:
    file = logger.csv_file
    file.flush()
    found = os.fstat(file.fileno()).st_size
    if found < length:
        warn(
            f"CSVLogger: {logger.filename} has {found} bytes, but had {length} when the checkpoint "
            "was made. The rows that are gone stay gone; new ones are appended.",
        )
        return
    file.seek(length)
    file.truncate()
    if not length:
        logger.writer, logger.append_header = None, True


def configuration(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """The settings of a callback by the script: its `get_config()`, or the arguments that it keeps
    under their names as plain values.
    """
    if hasattr(callback, "get_config"):
        return dict(callback.get_config())
    arguments = inspect.signature(type(callback).__init__).parameters
    values = {
        name: getattr(callback, name, None) for name in arguments if name not in _moving(callback)
    }
    if "min_delta" in values:
        # Keras turns its sign round at the end of the first epoch.
        values["min_delta"] = abs(values["min_delta"] or 0)
    return {
        name: value for name, value in values.items() if isinstance(value, str | int | float | bool)
    }


def warn_of_untold(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Names, in one warning, the callbacks that may hold state which a checkpoint cannot carry."""
    untold = [name for name, callback in named(callbacks).items() if _is_untold(callback)]
    if untold:
        warn(
            f"The state of {', '.join(untold)} is not in the checkpoint: after a resume it starts "
            "afresh. To carry it, give the "
            "class two methods: get_state(), which returns a dict of numbers, strings and arrays, "
            "and set_state(state).",
        )


def _as_dict(callback: keras.callbacks.Callback, get: str) -> dict[str, Any]:
    state = getattr(callback, get)()
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{type(callback).__name__}.{get}() returned a {type(state).__name__}; expected a dict "
            "of numbers, strings and arrays, "
            "by name. An empty dict says that it has no state."
        )
    return dict(state)


def _is_untold(callback: keras.callbacks.Callback) -> bool:
    if type(callback) in _MOVING or any(_protocol(callback)):
        return False
    if _keeps_nothing_itself(callback):
        return False
    # A subclass of one of Keras's: the table covers what it inherits; what it adds would be set up
    # by an __init__ of its own.
    own = itertools.takewhile(lambda kind: kind not in _MOVING, type(callback).__mro__)
    return not _stock_bases(callback) or any("__init__" in vars(kind) for kind in own)


def _protocol(callback: keras.callbacks.Callback) -> Iterator[tuple[str, str]]:
    return (
        pair for pair in _PAIRS if all(callable(getattr(callback, name, None)) for name in pair)
    )


def _stock_bases(callback: keras.callbacks.Callback) -> list[type]:
    return [kind for kind in _MOVING if kind is not _C.Callback and isinstance(callback, kind)]


def _moving(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return tuple(name for kind in _stock_bases(callback) for name in _MOVING[kind])


def _keeps_nothing_itself(callback: keras.callbacks.Callback) -> bool:
    return not (vars(callback).keys() - _OF_EVERY_CALLBACK)
