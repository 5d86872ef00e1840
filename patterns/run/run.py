"""`kp.Run`: a run with its checkpoints, its data and its hooks, for loops of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import keras

from .._util.arguments import whole_number
from .checkpoint import Checkpoint
from .checks import check_model
from .driver import Driver
from .history import RunHistory
from .keras_fit import train_by_fit
from .opening import RunArguments, open_run
from .own_loop import OwnLoop
from .plan import StepPlan
from .start_point import StartPoint
from .validation import CalledValidation, NoValidation

_CALLER = "kp.Run"
# The name under which the sums of the metrics are carried.
_LOGGED = "logged"


class Run:
    """A run whose steps are one's own: the promises of `kp.fit` for any loop.

    The run hands out the batches of each step, begins where a checkpoint of an earlier process
    stands, and does at boundaries what `kp.fit` does there: logs, validates, asks the hooks, closes
    epochs, saves. The weights of `model` are in the checkpoint; all else that the loop moves is
    given to `track`.

    Args:
        model: A built Keras model; compiled or not.
        plan: How many steps, in epochs of how many.
        data: The data of `kp.fit`, of any kind: `x`, or a tuple `(x, y)` or
            `(x, y, sample_weight)`.
        batch_size: Of arrays. Defaults to None: 32.
        shuffle: Whether each pass over the data is in a new order. Defaults to True.
        checkpoint: A `kp.Checkpoint`. Defaults to None: the run is not saved.
        callbacks: Keras's callbacks and hooks. Defaults to none.
        validate: A function that returns metrics, called at the end of each epoch. Defaults to
            None.
        validate_every_steps: Calls it at multiples of this many steps, too. Defaults to None.
        log_every_steps: As in `kp.fit`.
        seed: Of the order of the data. Defaults to None: the one that
            `keras.utils.set_random_seed` was called with; where it was not, one is drawn and
            printed. It is kept in the checkpoint, and a resume takes it from there.
        verbose: As in `model.fit`. Defaults to 0.

    Attributes:
        history: The `kp.RunHistory` of the run.
        step: Optimizer steps done, at a boundary.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the model is not built, or arguments disagree.
        kp.ResumeRefusedError: If the folder holds a run that this script cannot go on with.
        kp.RunInterrupted: If a signal asked the run to stop; its state is saved.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> optimizer = keras.optimizers.SGD(0.1)
    >>> optimizer.build(model.trainable_variables)
    >>> x = np.ones((32, 3), "float32")
    >>> with kp.Run(model, plan=kp.StepPlan(8, 4), data=(x, x[:, :1]), seed=0) as run:
    ...     run.track(optimizer=optimizer)
    ...     for step, (inputs, targets) in run.steps():
    ...         run.log({"loss": float(step)})  # a step of your own, with its metrics
    >>> run.history.history["loss"]
    [1.5, 5.5]
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        plan: StepPlan,
        data: Any,
        batch_size: int | None = None,
        shuffle: bool = True,
        checkpoint: Checkpoint | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        validate: Callable[[], Mapping[str, Any]] | None = None,
        validate_every_steps: int | None = None,
        log_every_steps: int | None = None,
        seed: int | None = None,
        verbose: int | str = 0,
    ) -> None:
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"{_CALLER}: the first argument must be a Keras model; received "
                f"{type(model).__name__}."
            )
        if not isinstance(plan, StepPlan):
            raise TypeError(f"{_CALLER}: `plan` must be a kp.StepPlan; received {plan!r}.")
        if validate is None and validate_every_steps is not None:
            raise ValueError(f"{_CALLER}: validate_every_steps= needs validate=.")
        if validate_every_steps is not None:
            whole_number(_CALLER, "validate_every_steps", validate_every_steps)
        parts = data if isinstance(data, tuple) else (data,)
        self._asked = RunArguments(
            caller=_CALLER,
            model=model,
            data={
                **dict(zip(("x", "y", "sample_weight"), parts, strict=False)),
                "batch_size": batch_size,
                "shuffle": shuffle,
            },
            make_plan=lambda source: plan,
            callbacks=[*keras.tree.flatten(callbacks), *([checkpoint] if checkpoint else [])],
            validation=(
                CalledValidation(validate, validate_every_steps) if validate else NoValidation()
            ),
            log_every=log_every_steps,
            seed=seed,
            verbose=verbose,
        )
        self._until_end = ExitStack()
        self._driver: Driver | None = None
        self._start = StartPoint()
        self._loop: OwnLoop | None = None

    def __enter__(self) -> Run:
        with ExitStack() as stack:
            self._driver, self._start = open_run(self._asked, stack)
            self._until_end = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._until_end.__exit__(kind, error, trace)

    @property
    def history(self) -> RunHistory:
        """The History of the run."""
        return self._opened.callbacks.history

    @property
    def step(self) -> int:
        """Optimizer steps done, at a boundary."""
        return self._opened.cursor.step

    def track(self, **parts: Any) -> None:
        """Adds state to the checkpoints beside the model's; to be called before `steps`.

        Args:
            **parts: By name: a Keras variable, a list or dict of them, or a Keras object that has
                some (an optimizer, a metric); an object with `get_state` and `set_state`, or
                `state_dict` and `load_state_dict`; a random generator of NumPy, Python or the
                framework; or a pair `(get, set)` of functions over any tree of arrays, such as the
                state of an Optax optimizer or a random key. `get` is called at boundaries only.

        Raises:
            TypeError: If a part is none of these.
            ValueError: If a name is taken, or the run has begun.
        """
        if self._loop is not None:
            raise ValueError(f"{_CALLER}.track: the run has begun. Track before `steps`.")
        for name, what in parts.items():
            if name == _LOGGED:
                raise ValueError(f"{_CALLER}.track: the name {_LOGGED!r} is the run's own.")
            self._asked.tracked.add(name, what)

    def log(self, logs: Mapping[str, Any]) -> None:
        """Adds the metrics of a step to those of the epoch, whose means go into the History.

        Args:
            logs: Numbers or tensors by name. They stay on the device until a boundary reads them.
        """
        if self._loop is None:
            raise ValueError(f"{_CALLER}.log: there is no step yet. Log inside `steps`.")
        self._loop.note(logs)

    def steps(self) -> Iterator[tuple[int, Any]]:
        """Gives each step, from 0, with its batch, from where the run stands to its end.

        Boundaries happen between two steps. A run that is finished gives none.
        """
        for first, batches in self.blocks(most=1):
            yield first, batches[0]

    def blocks(self, most: int = 64) -> Iterator[tuple[int, list[Any]]]:
        """Gives the first step of each block, with its batches: for a step of one's own that takes
        many batches in one compiled program. No boundary lies inside a block.

        Args:
            most: The length of a block at most. Defaults to 64.
        """
        most = whole_number(f"{_CALLER}.blocks", "most", most)
        driver = self._opened
        if not self._asked.model.built:
            raise ValueError(
                f"{_CALLER}: {self._asked.model.name!r} is not built, so no checkpoint could be "
                "put back into it. Call it on a batch first."
            )
        self._loop = loop = OwnLoop(driver)
        driver.engine = loop
        self._asked.tracked.add(_LOGGED, loop, moves=False)
        yield from loop.blocks(self._start, most)
        driver.end()

    def fit(self) -> RunHistory:
        """Runs all steps by `model.fit`, whose model must be compiled; returns the History."""
        check_model(_CALLER, self._asked.model)
        return train_by_fit(self._opened, self._start, self._asked.verbose)

    @property
    def _opened(self) -> Driver:
        if self._driver is None:
            raise ValueError(f"{_CALLER}: the run is not open. Use it in a `with` statement.")
        return self._driver
