"""Runs that are repeated, or killed and resumed, and must end in the same state."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import keras

from .. import _keras
from .._util.arguments import whole_number
from ..run.checkpoint import Checkpoint
from ..run.fitting import fit
from ..run.hooks import Hook
from ..state.callbacks import named
from ..state.leftovers import Leftovers
from .comparison import State, assert_same_state, differences, everything_held, run_state

_LEFT = Leftovers()


@_keras.quiet_arrays()
def assert_deterministic(
    make_model: Callable[[], keras.Model], x: Any, y: Any = None, *, seed: int = 0, **arguments: Any
) -> None:
    """Asserts that two uninterrupted runs of `kp.fit` end in the same state, bit for bit.

    Where they do not, no resume can be exact either: look for another number of threads, kernels
    that add up in any order, or a layer with a random state that Keras does not know.

    Args:
        make_model: Returns a new compiled model.
        x: As in `kp.fit`.
        y: As in `kp.fit`.
        seed: Of the order of the data, and of all global random states before `make_model` is
            called. Defaults to 0.
        **arguments: The other arguments of `kp.fit`. What holds state (callbacks, a generator, a
            dataset that changes) must be made anew for each run: give a function without arguments
            that returns it. This goes for `x` too.

    Raises:
        AssertionError: If any part of the state differs; the first ones are named.

    Example:

    >>> import keras, numpy as np
    >>> from keras_patterns.testing import assert_deterministic
    >>> def make_model():
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5),
    ...         keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     return model
    >>> assert_deterministic(make_model, np.ones((20, 4)), np.ones((20, 1)), batch_size=8, epochs=2)
    """
    arguments = _checked({"x": x, "y": y, "seed": seed, **arguments})
    expected, found = (_run(make_model, arguments, seed) for _ in range(2))
    _assert_same(expected, found, "Two uninterrupted runs end in different states.")


@_keras.quiet_arrays()
def assert_resumes_exactly(
    make_model: Callable[[], keras.Model],
    x: Any,
    y: Any = None,
    *,
    kill_at: int | Iterable[int],
    every_steps: int = 1,
    seed: int = 0,
    **arguments: Any,
) -> None:
    """Asserts that a run that is killed and resumed ends in the state of the run that is not, bit
    for bit.

    The killed run is begun again with new objects and with other random seeds, as in a new process;
    the checkpoints lie in a temporary folder. Compared are all variables with their dtypes
    (weights, slots, seeds, metrics), what every callback holds, the History, the global random
    states, and the generators and raw variables that the objects of the run hold.

    Where the runs end in different states, the error names every number, array, generator and
    iterator of the model, the callbacks and the data that ended otherwise, by the way to it: one of
    them may be the cause.

    Args:
        make_model: Returns a new compiled model.
        x: As in `kp.fit`.
        y: As in `kp.fit`.
        kill_at: After how many steps the run is killed; if several, the one run is killed at each
            in turn.
        every_steps: How often the run is saved. Defaults to 1: nothing is trained twice.
        seed: Of the order of the data, and of all global random states before the first run.
            Defaults to 0.
        **arguments: The other arguments of `kp.fit`, as in `assert_deterministic`. Without a
            `kp.Checkpoint`.

    Raises:
        AssertionError: If any part of the state differs; the first ones are named.
        ValueError: If the run has no step at which to kill it, or nothing would be saved before.

    Example:

    >>> import keras, numpy as np
    >>> from keras_patterns.testing import assert_resumes_exactly
    >>> def make_model():
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5),
    ...         keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     return model
    >>> def callbacks():
    ...     return [keras.callbacks.ReduceLROnPlateau("loss", patience=1)]
    >>> x, y = np.ones((20, 4)), np.ones((20, 1))
    >>> assert_resumes_exactly(make_model, x, y, batch_size=8, epochs=2, callbacks=callbacks,
    ...     kill_at=[2, 5])
    """
    kills = _kills(kill_at, every_steps)
    arguments = _checked({"x": x, "y": y, "seed": seed, **arguments})
    # What a run that goes on prints would be noise here.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        expected = _run(make_model, arguments, seed, every_steps=every_steps)
        for attempt, step in enumerate(kills):
            checkpoint = Checkpoint(folder, every_steps=every_steps)
            try:
                # Other seeds each time: what is not put back must not be right by chance.
                _run(make_model, arguments, seed + attempt, [checkpoint, _Kill(step)])
            except _Killed:
                continue
            raise ValueError(
                f"assert_resumes_exactly: kill_at={step}, but the run was over before it began "
                "that step."
            )
        found = _run(
            make_model,
            arguments,
            seed + len(kills),
            [Checkpoint(folder, every_steps=every_steps), _Kill(None)],
        )
    where = (
        f"A run that was killed at {_listed(kills)} and resumed ends in another state than one "
        "that was not."
    )
    try:
        _assert_same(expected, found, where)
    except AssertionError as error:
        again = _run(make_model, arguments, seed, every_steps=every_steps)
        if differences(expected.state, again.state):
            error.add_note(
                "Two uninterrupted runs differ as well, so no resume can be exact: see "
                "assert_deterministic."
            )
        raise


@dataclass(frozen=True)
class _End:
    """The end of a run.

    Attributes:
        state: See `run_state`.
        held: See `everything_held`.
    """

    state: State
    held: dict[str, str]


def _assert_same(expected: _End, found: _End, message: str) -> None:
    try:
        assert_same_state(expected.state, found.state, message)
    except AssertionError as error:
        lines = differences(expected.held, found.held)
        if lines:
            more = [f"... and {len(lines) - 20} more"] if len(lines) > 20 else []
            error.add_note(
                "What the objects of the run hold differs, too; a cause may be among it:\n  "
                + "\n  ".join(lines[:20] + more)
            )
        raise


class _Killed(BaseException):
    """Leaves a run as nothing in it expects."""


class _Kill(keras.callbacks.Callback):
    """Kills the run when so many steps are done, those before a resume included."""

    def __init__(self, step: int | None) -> None:
        super().__init__()
        self._step = step
        self._before = 0

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._step is not None and self._before + batch >= self._step:
            raise _Killed

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._before += self.params["steps"]

    def get_state(self) -> dict[str, int]:
        return {"before": self._before}

    def set_state(self, state: Mapping[str, int]) -> None:
        self._before = state["before"]


def _run(
    make_model: Callable[[], keras.Model],
    arguments: State,
    seed: int,
    extra: Sequence[keras.callbacks.Callback] = (),
    every_steps: int = 1,
) -> _End:
    _keras.set_global_seed(None)
    keras.utils.set_random_seed(seed)
    model = make_model()
    if found := _LEFT.find(model, ""):
        raise ValueError(
            f"`make_model` must return a new model each time, and {found[0]!r} of {model.name!r} "
            "is as a run before has left it. Make the model, its layers and its optimizer inside "
            "of `make_model`."
        )
    made = {name: value() if callable(value) else value for name, value in arguments.items()}
    own = list(keras.tree.flatten(made.pop("callbacks", None) or []))
    with tempfile.TemporaryDirectory() as folder:
        if not extra and any(
            isinstance(callback, Hook) and callback.needs_checkpoint for callback in own
        ):
            extra = [Checkpoint(folder, every_steps=every_steps)]
        try:
            with _LEFT.training(model, "a run"):
                history = fit(model, **made, callbacks=[*own, *extra])
        except _Killed:
            _close_files(own)
            raise
    roots = {"model": model, **named(own)}
    roots |= {name: made[name] for name in ("x", "validation_data") if name in made}
    return _End(run_state(model, history, own), everything_held(roots))


def _close_files(callbacks: Iterable[keras.callbacks.Callback]) -> None:
    """As the end of a process would. Keras's callbacks do so in `on_train_end`, to which a killed
    run does not come.
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger) and callback.csv_file is not None:
            callback.csv_file.close()


def _checked(arguments: State) -> State:
    callbacks = arguments.get("callbacks")
    if callbacks and not callable(callbacks):
        raise TypeError(
            "callbacks= must be a function without arguments that returns new callbacks, since "
            "each run needs its own; "
            f"received {type(callbacks).__name__}."
        )
    return {"verbose": 0, **arguments}


def _kills(kill_at: int | Iterable[int], every_steps: int) -> list[int]:
    steps = [kill_at] if isinstance(kill_at, int) else list(kill_at)
    kills = [whole_number("assert_resumes_exactly", "kill_at", step) for step in steps]
    if not kills or kills != sorted(set(kills)):
        raise ValueError(
            "assert_resumes_exactly: kill_at must be one step or several in rising order; "
            f"received {kill_at!r}."
        )
    if kills[0] < every_steps:
        raise ValueError(
            f"assert_resumes_exactly: nothing is saved by step {kills[0]} with "
            f"every_steps={every_steps}."
        )
    return kills


def _listed(steps: Sequence[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {', '.join(map(str, steps))}"
