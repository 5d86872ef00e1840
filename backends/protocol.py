"""The Protocol of an adapter: what it does for the patterns, and what it may assume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import keras

from ._blocks import BlockProgram
from ._feed import Batch, Feed
from ._gathered import Gathered
from ._held import StateAccess
from ._measured import Values
from .loaders import NativeBatches


class Backend(Protocol):
    """One framework under Keras. Everything persistent passes through NumPy, so that adapters stay
    small.

    The driver calls every method from the thread that trains, and only between two steps.

    Attributes:
        name: What `keras.backend.backend()` says.
        version: The framework's.
        carries_attribute_optimizers: Whether an optimizer other than `model.optimizer` can be used
            in a custom `train_step`. Where not, its state never reaches the model's variables.
        decays_at_once: Whether the weight decay of some variables is one operation, which needs at
            least one of them.
        step_overhead: Seconds that a step takes at most beside the work of the device, roughly.
        program_cost: Seconds that it takes at least to make a program of a small model, roughly.
        fuses_steps: Whether `steps_per_execution` may be larger than one.
        gathers: Whether batches of arrays are best made by the framework: `feed` takes `Gathered`.
        runs_python: Whether the Python code of a step runs in each step, unless the model is
            compiled with `jit_compile=True`. Where not, it runs once, when the step is traced.
    """

    name: str
    version: str
    carries_attribute_optimizers: bool
    decays_at_once: bool
    step_overhead: float
    program_cost: float
    fuses_steps: bool
    gathers: bool
    runs_python: bool

    def attributes(self, node: Any) -> Mapping[str, Any]:
        """The attributes set on a Keras object, by name, wherever the framework's base class keeps
        them.
        """

    def held_dtype(self, name: str) -> str:
        """The dtype in which the framework holds values that Keras calls so."""

    def build(self, model: keras.Model, batch: tuple[Any, ...]) -> None:
        """Creates the variables of `model`, its metrics and its optimizer, as far as possible,
        without training.
        """

    def prepare(self, model: keras.Model) -> None:
        """Sees to it, before the first step, that nothing but the variables goes from one step to
        the next.
        """

    def hold(self, model: keras.Model) -> Callable[[], None]:
        """Notes what training changes on a model beside the variables; returns a function that puts
        it back.
        """

    def sync(self, model: keras.Model) -> None:
        """Makes the variables of a model that is inside `fit` hold their newest values. Costs
        nothing when they do.
        """

    def to_host(self, variables: Sequence[keras.Variable], buffers: Sequence[np.ndarray]) -> None:
        """Copies each variable's value into its buffer of the same shape and dtype. The copies are
        complete on return.
        """

    def assign(self, variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> None:
        """Gives each variable the value of its array of the same shape and dtype: the inverse of
        `to_host`. None keeps the memory of an array.
        """

    def finite_check(self, variables: Sequence[keras.Variable]) -> Callable[[], np.ndarray]:
        """A function that looks whether all values of each of some variables of floats are finite,
        and waits for the device once.

        Returns:
            A function that returns booleans of shape `(variables,)`.
        """

    def spread_blocker(self, model: keras.Model) -> str | None:
        """Why this process cannot train the model as one device would: other processes train too,
        or the model is spread over devices in a way that no run can follow. It ends with the way
        out. None if it can.
        """

    def batch_parts(self) -> int:
        """The number of equal parts in which the examples of a batch go to devices; 1 where they
        stay together.
        """

    def device(self) -> str:
        """The device that trains, for people: its kind, and the number where there are several."""

    def peak_memory(self) -> int | None:
        """The most bytes that the first device has had in use in this process; None where it does
        not say, as a CPU.
        """

    def is_out_of_memory(self, error: BaseException) -> bool:
        """True if an error, or one that it stands for, says that the device or the host has no
        memory left.
        """

    def settings(self) -> dict[str, Any]:
        """The number of threads, and what decides whether results repeat, for people."""

    def tree_to_arrays(self, tree: Any) -> dict[str, np.ndarray]:
        """The leaves of a tree of arrays, numbers and random keys, by their paths, as copies."""

    def tree_from_arrays(self, like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        """The inverse of `tree_to_arrays`, with the structure and the kinds of leaf of `like`."""

    def random_state(self) -> dict[str, Any]:
        """The framework's own global random states, on every device, as arrays and JSON."""

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        """Puts back what `random_state` gave; ValueError, before native code sees it, if it is no
        such state.
        """

    def set_seed(self, seed: int) -> None:
        """Does to the framework's own global random states what `keras.utils.set_random_seed` does.
        The seed is below 2**32.
        """

    def seeded(self, words: np.ndarray) -> AbstractContextManager[None]:
        """Within it, the framework's own global random states are a function of four 32-bit words;
        after it they are as before.
        """

    def state_access(self, thing: Any) -> StateAccess | None:
        """The way to the state of an object of the framework that Keras does not track: a random
        generator, a raw variable, a buffer, a table; None of anything else.
        """

    def is_random_key(self, thing: Any) -> bool:
        """True if it is a key from which random numbers are a pure function."""

    def untold_operations(self, known: Set[int]) -> list[str]:
        """The operations, in the step that is being traced, that draw from or move a state which
        nothing outside can read, a line each with the name and the kind.

        Args:
            known: The `id` of each variable of the framework that is saved.
        """

    def gradients(
        self, model: keras.Model, batch: tuple[Any, ...]
    ) -> tuple[float, list[np.ndarray | None]]:
        """The loss of a batch in training mode, and its gradient for each trainable variable; zeros
        or None where it does not depend on one. What a forward pass moves, statistics and seeds,
        may be moved.

        Args:
            model: Compiled and built.
            batch: `(x, y, sample_weight)`, of arrays or None.
        """

    def gradient_function(
        self, model: keras.Model
    ) -> Callable[[tuple[Any, ...]], tuple[float, list[np.ndarray | None]]]:
        """`gradients` of a model for many batches, as a function of one that is compiled but once.
        It goes by what the model is at its first call: its layers, losses, and what is trained.
        """

    def measured_step(
        self, model: keras.Model, fresh: Values, counter: keras.Variable, loss_key: str
    ) -> Callable[..., Any]:
        """A stand-in for `model.train_step` that has the metrics begin anew with each batch.

        Args:
            model: A built model.
            fresh: The metrics' variables, and what each is to hold before a batch.
            counter: A variable of the optimizer.
            loss_key: The name of the loss among what the step returns.

        Returns:
            A function that gives the loss of the batch alone as `"loss"`, and the counter as it was
            before as `"step"`.
        """

    def feed(
        self,
        batches: Iterable[Batch] | NativeBatches | Gathered,
        samples: Sequence[Batch],
        ahead: bool,
        owner: keras.Model,
    ) -> Feed:
        """The batches as data that `model.fit` takes and whose length Keras does not know.

        Args:
            batches: Read in order, once, and never beyond its end; or `NativeBatches`, which only
                a loader gives that knows the backend: one is read in each step; or `Gathered`,
                where `gathers`.
            samples: The first one or two of them, for their shapes.
            ahead: Whether batches may be made in another thread before they are needed.
            owner: The model that is fed.
        """

    def block_program(
        self, model: keras.Model, sample: Batch, tests: bool = False, each: bool = False
    ) -> BlockProgram:
        """The steps of a compiled and built model as one program. It may make steps to that end.

        Args:
            model: Compiled and built; it has its train function, or its test function.
            sample: A batch.
            tests: Whether the steps are those of `evaluate`. Defaults to False: those of `fit`.
            each: Whether it gives the logs of each step of a block, with a new first axis. Defaults
                to False: those of the last one.

        Raises:
            CannotFuseError: If they cannot be one.
        """

    def run_function(
        self, model: keras.Model, function: Callable[..., Any], data: Feed, times: int
    ) -> Any:
        """Calls `model.train_function`, or a stand-in for it, outside of `fit`; returns what it
        gave last. The model is that of after these steps.
        """
