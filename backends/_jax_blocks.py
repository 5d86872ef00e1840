"""The steps of a model as one program of XLA."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
from jax import lax
from jax.extend.core import jaxpr_as_fun, jaxprs_in_params
from keras.src.backend.config import is_nnx_enabled

from ._blocks import LAGS, ROOMS, Block, CannotFuseError
from ._feed import Batch, Feed, NoFeed

if TYPE_CHECKING:
    import keras

# In a loop XLA computes them by another kernel on the CPU, which takes twice as long.
_CONVOLUTION = "conv_general_dilated"
_BLOCKS_ON_THE_WAY = 2


class _OtherVariables(Exception):
    """The state of the model has another form than the one that the program was made for."""


class JaxBlocks:
    """A loop over a model's `train_step` or `test_step`, whose number of rounds is an argument of
    the program.

    Args:
        model: Compiled and built.
        sample: A batch.
        tests: Whether it is `test_step`. Defaults to False.
        each: Whether the logs of each step are given. Defaults to False: those of the last one.

    Raises:
        CannotFuseError: If it cannot be had.
    """

    kind = "loop"
    rooms: tuple[int, ...] = ROOMS
    is_outdated = False

    def __init__(
        self, model: keras.Model, sample: Batch, tests: bool = False, each: bool = False
    ) -> None:
        if model.run_eagerly or not model.jit_compile:
            raise CannotFuseError("the model is not compiled as one program")
        if is_nnx_enabled():
            raise CannotFuseError("the variables are those of NNX")
        self.feed: Feed = NoFeed()
        # JAX does not trace a function anew while one that is equal to it lives, as methods of one
        # model are; what Keras compiles must end with the model's hold on it.
        self._step_function = weakref.ref(model.test_function if tests else model.train_function)
        method = model.test_step if tests else model.train_step

        def step(state: Any, batch: Batch) -> Any:
            return method(state, batch)

        self._model, self._tests, self._each = weakref.ref(model), tests, each
        state = state_of(model, tests)
        shapes = jax.eval_shape(lambda: (state, jax.tree.map(jax.numpy.asarray, sample)))
        # Its Python code runs once, here, for all sizes of a block.
        noted, results = jax.make_jaxpr(step, return_shape=True)(*shapes)
        on_cpu = jax.default_backend() == "cpu"
        if on_cpu and _has(_CONVOLUTION, noted.jaxpr):
            raise CannotFuseError("a convolution in a loop is slow on the CPU")
        program = _looped(noted, results, _form_of(state), each, on_cpu)
        self._program = jax.jit(program, donate_argnums=0)
        self._on_the_way: deque[Any] = deque()

    def function(
        self, take: Callable[[], Block | Batch | int | None]
    ) -> Callable[[Any, Any], tuple[Any, Any]]:
        def run(state: Any, iterator: Iterator[Any]) -> tuple[Any, Any]:
            next_one, one_by_one = take(), self._step_function()
            assert one_by_one
            if next_one is None:
                return one_by_one(state, iterator)
            if not isinstance(next_one, Block):
                return one_by_one(state, iter([next_one]))
            if len(self._on_the_way) == _BLOCKS_ON_THE_WAY:
                jax.block_until_ready(self._on_the_way.popleft())
            try:
                logs, state = self._program(state, next_one.batches, next_one.count)
            except _OtherVariables:
                self.is_outdated = True
                logs, state = _one_after_the_other(one_by_one, state, next_one)
                return (logs if self._each else jax.tree.map(lambda leaf: leaf[-1], logs)), state
            self._on_the_way.append(logs)
            if self._each:
                logs = jax.tree.map(lambda leaf: leaf[: next_one.count], logs)
            return logs, state

        return run

    def compilation(self, block: Block) -> Callable[[], Any]:
        # What is called with such arguments later finds what was compiled.
        model = self._model()
        assert model is not None
        state = state_of(model, self._tests)
        return self._program.lower(state, block.batches, block.count).compile


def _looped(
    noted: Any, results: Any, form_of_state: Any, each: bool, on_cpu: bool
) -> Callable[..., tuple[Any, Any]]:
    """A loop over a step that was noted.

    Args:
        noted: Its operations.
        results: The shapes of what it returns.
        form_of_state: Of the model's.
        each: Whether the logs of each step are given.
        on_cpu: Whether it is compiled for a CPU.
    """
    operations, form, first_logs = jaxpr_as_fun(noted), jax.tree.structure(results), results[0]

    def zeros(places: tuple[int, ...] = ()) -> Any:
        return jax.tree.map(
            lambda leaf: jax.numpy.zeros((*places, *leaf.shape), leaf.dtype), first_logs
        )

    def program(state: Any, batches: Batch, count: Any) -> tuple[Any, Any]:
        if _form_of(state) != form_of_state:
            raise _OtherVariables

        def step_on(state: Any, batch: Batch) -> Any:
            leaves = jax.tree.leaves((state, batch))
            return jax.tree.unflatten(form, operations(*leaves))

        def skip(state: Any, batch: Batch) -> Any:
            return zeros(), state

        def one(index: Any, carried: tuple[Any, Any]) -> tuple[Any, Any]:
            batch = jax.tree.map(
                lambda array: lax.dynamic_index_in_dim(array, index, keepdims=False), batches
            )
            if on_cpu:
                # Always true. A branch is compiled by itself, as the step is: what takes the
                # batch out of the block would be merged into it, and round some sums otherwise.
                is_next = jax.numpy.all(index - LAGS < count)
                logs, state = lax.cond(is_next, step_on, skip, carried[1], batch)
            else:
                logs, state = step_on(carried[1], batch)
            if each:
                logs = jax.tree.map(lambda all, one: all.at[index].set(one), carried[0], logs)
            return logs, state

        logs = zeros((len(jax.tree.leaves(batches)[0]),) if each else ())
        return lax.fori_loop(0, count, one, (logs, state))

    return program


def state_of(model: keras.Model, tests: bool = False) -> Any:
    """The state that `train_step` takes, or `test_step`; the arrays are those of the variables."""
    return model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=not tests,
        metrics_variables=True,
    )


def run_function(model: keras.Model, function: Callable[..., Any], data: Feed, times: int) -> Any:
    """Calls a train function outside of `fit`; the variables hold what it leaves behind."""
    # A step gives its arrays away, and those outside may be somebody's.
    state = jax.tree.map(jax.numpy.copy, state_of(model))
    logs, iterator = None, data.get_jax_iterator()
    for _ in range(times):
        logs, state = function(state, iterator)
    names = ("trainable", "non_trainable", "optimizer", "metrics")
    model._jax_state = {
        f"{name}_variables": values for name, values in zip(names, state, strict=True)
    }
    model._jax_state_synced = False
    return logs


def _one_after_the_other(step: Callable[..., Any], state: Any, block: Block) -> tuple[Any, Any]:
    """Runs a block by a train function, which is compiled anew for a state of another form; returns
    the logs of each step, along a new first axis.
    """
    logs = []
    for index in range(block.count):
        batch = jax.tree.map(lambda array: array[index], block.batches)  # noqa: B023
        one, state = step(state, iter([batch]))
        logs.append(one)
    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *logs), state


def _form_of(state: Any) -> tuple[Any, ...]:
    leaves, structure = jax.tree.flatten(state)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _has(name: str, jaxpr: Any) -> bool:
    """True if an operation is in a program, or in one that it calls."""
    return any(
        equation.primitive.name == name
        or any(_has(name, inner) for inner in jaxprs_in_params(equation.params))
        for equation in jaxpr.eqns
    )
