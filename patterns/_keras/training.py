"""Private attributes that `fit` and its callbacks keep, and the global seed."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.trainers.trainer import Trainer
from keras.src.utils.python_utils import pythonify_logs
from keras.src.utils.rng_utils import GLOBAL_RANDOM_SEED, get_random_seed

from .attributes import replaced


def plain_logs(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Logs as callbacks get them: flat, sorted, as Python's numbers. `CallbackList` makes a dict of
    its own for each call, and what a callback adds to it could not be had.
    """
    plain: dict[str, Any] = pythonify_logs(logs)
    return plain


def has_trainer(model: object) -> bool:
    """True for a `keras.Model`, and for any other layer that is mixed with Keras's trainer, as in
    Keras's own tests. The trainer has no public name.
    """
    return isinstance(model, Trainer) and isinstance(model, keras.Layer)


def random_seed() -> int | None:
    """The value that `keras.utils.set_random_seed` was called with; None if it was not. Keras has
    no public way to ask.
    """
    seed: int | None = get_random_seed()
    return seed


@contextmanager
def random_seed_set(seed: int) -> Iterator[None]:
    """Does to Python, NumPy and Keras what `keras.utils.set_random_seed` does; afterwards Keras
    knows the value of the call before, and the random states stay where they are. Keras's own
    function imports TensorFlow, if it is there, whatever the backend, and takes no value back.
    """
    before = get_random_seed()
    global_state.set_global_attribute(GLOBAL_RANDOM_SEED, seed)
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        global_state.set_global_attribute(GLOBAL_RANDOM_SEED, before)


def get_global_seed() -> np.ndarray | None:
    """The state of the generator behind unseeded `keras.random` calls; None if none was made. It
    has no public name.
    """
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    return None if generator is None else np.asarray(keras.ops.convert_to_numpy(generator.state))


def global_seed_variable() -> keras.Variable | None:
    """The variable of the generator behind unseeded `keras.random` calls; None if none was made."""
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state


def raw_value(variable: keras.Variable) -> Any:
    """The framework's tensor or variable in a variable, never cast; None while JAX's trainer has
    it."""
    return variable._value


def set_global_seed(state: np.ndarray | None) -> None:
    """Puts back what `get_global_seed` gave; None forgets the generator, so that the next use makes
    a new one.
    """
    if state is None:
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)
        return
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    if generator is None:
        generator = keras.random.SeedGenerator(0)
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)
    generator.state.assign(state)


@contextmanager
def no_global_seed() -> Iterator[None]:
    """Within it there is no generator behind unseeded `keras.random` calls: the first of them makes
    one, seeded by Python's `random`.
    """
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)
    try:
        yield
    finally:
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)


@contextmanager
def quiet_end_of_data() -> Iterator[None]:
    """Keeps Keras from warning that data end: it takes that for a mistake wherever it happens. True
    for Keras 3.15.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        yield


@contextmanager
def quiet_faults() -> Iterator[None]:
    """Keeps Keras from warning of faults that are being looked for: weights without a gradient (on
    TensorFlow), and a softmax over one unit.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gradients do not exist for variables")
        warnings.filterwarnings("ignore", message="You are using a softmax over axis")
        yield


@contextmanager
def batches_as_in_fit(model: keras.Model) -> Iterator[None]:
    """Within it, `train_on_batch` and `test_on_batch` give a step the parts of a batch that there
    are, as tensors, as `fit` does. They add a None for a weight that is missing, which a step of a
    person's own may not take, and give arrays of NumPy to a step that is not compiled.
    """
    with ExitStack() as stack:
        for name in ("train_step", "test_step"):
            stack.enter_context(replaced(model, name, _with_bare_batch(getattr(model, name))))
        yield


def _with_bare_batch(step: Callable[..., Any]) -> Callable[..., Any]:
    def bare_step(*arguments: Any) -> Any:
        # JAX's has a state before the batch.
        *state, batch = arguments
        while isinstance(batch, tuple) and len(batch) > 1 and batch[-1] is None:
            batch = batch[:-1]
        return step(*state, keras.tree.map_structure(_as_tensor, batch))

    return bare_step


def _as_tensor(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray) or leaf.dtype.kind not in "fiub":
        return leaf
    dtype = keras.config.floatx() if leaf.dtype.kind == "f" else None
    return keras.ops.convert_to_tensor(leaf, dtype)


def finish_batch_ends(callbacks: keras.callbacks.CallbackList) -> None:
    """Waits for every `on_train_batch_end` that Keras has handed to its threads."""
    callbacks._flush_futures()


def shut_down(callbacks: keras.callbacks.CallbackList) -> None:
    """Ends the threads that a list of callbacks keeps until `on_train_end`, for a run that does not
    get there.
    """
    executor = getattr(callbacks, "_executor", None)
    if executor is not None:
        executor.shutdown()
        callbacks._executor = None


def begin_at_epoch(model: keras.Model, epoch: int) -> None:
    """Makes the `fit` that is beginning start at an epoch, as `BackupAndRestore` does; `fit` reads
    it after `on_train_begin`.
    """
    model._initial_epoch = epoch


def forget_initial_epoch(model: keras.Model) -> None:
    """Clears the epoch that stays on a model, from which every later `fit` would start."""
    model._initial_epoch = None


def recompile_step(model: keras.Model) -> None:
    """Makes the next `fit` compile the training step anew, with what the model holds then. No
    public name forgets the compiled one.
    """
    model.train_function = None


def recompile_tests(model: keras.Model) -> None:
    """Makes the next `evaluate` compile its step anew, for the same reason."""
    model.test_function = None


def compiled_with(model: keras.Model) -> Mapping[str, Any]:
    """The arguments of `compile`, as they were given. The public name serializes them all."""
    found = getattr(model, "_compile_config", None)
    return {} if found is None else found.config


def put_optimizer(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Makes a compiled model train with another optimizer, and be saved with it; its loss and its
    metrics stay as they are.

    `compile` would need them all again, those of a person's own `compile` too.
    """
    model.optimizer = optimizer
    recompile_step(model)
    if hasattr(model, "_compile_config"):
        model._compile_config.config["optimizer"] = optimizer
