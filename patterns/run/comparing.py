"""A program of the steps of a model that was found equal to them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import Block, BlockProgram, CannotFuseError, current

from ..data.stacked import form_of, most_steps, room_for, stacked
from ..data.stream import NativeStream
from ..state.preservation import preserved
from ..state.programs import PROGRAMS, attributes_kept, made_program, trying
from ..state.snapshot import copy_values
from ..state.variables import find_variables
from .run_data import RunData

# Steps that are made both ways.
_COMPARED = 2
# The size of an axis that the data leave open, in batches that are made up.
_OPEN_AXIS = 8


@dataclass(frozen=True)
class Trial:
    """Batches, to make a program with and to compare it on.

    Attributes:
        batches: Of one form.
        sample: A batch as the feed of the run gives it, for its shapes.
        by_itself: Whether the program is to read the batches by itself.
    """

    batches: list[Any]
    sample: Any
    by_itself: bool = False

    @classmethod
    def of(cls, data: RunData) -> Trial:
        """From the data of a run.

        Raises:
            CannotFuseError: If their batches make no block.
        """
        if isinstance(data.stream, NativeStream):
            sample = data.samples[0]
            return cls([_made_up(sample, seed) for seed in range(_COMPARED)], sample, True)
        batches = _first_batches(data)
        for leaf in keras.tree.flatten(batches):
            if leaf is not None and not (hasattr(leaf, "dtype") and hasattr(leaf, "nbytes")):
                raise CannotFuseError(f"a batch holds {leaf!r:.40}, which is no array")
        first = batches[0]
        alike = [one for one in batches if form_of(one) == form_of(first)]
        if any(_sizes(one) != _sizes(first) for one in batches):
            raise CannotFuseError("the batches have different shapes")
        return cls(alike, first)

    def most_steps(self, seconds: float) -> int:
        """The most steps that a block may have, of which each takes so many seconds."""
        return most_steps(self.batches[0], seconds)


def _sizes(batch: Any) -> list[Any]:
    """The shapes of the examples of a batch."""
    return [None if leaf is None else tuple(leaf.shape[1:]) for leaf in keras.tree.flatten(batch)]


def _first_batches(data: RunData) -> list[Any]:
    source: Any = data.source
    if not hasattr(source, "block"):
        return list(data.samples)
    numbers = [
        number
        for number in range(min(_COMPARED, source.steps_per_pass))
        if source.batch_length(number) == source.batch_length(0)
    ]
    return [source.step_batch(number) for number in numbers]


def _made_up(sample: Any, seed: int) -> Any:
    """A batch of the shapes of another one, some of whose axes are open."""
    random = np.random.default_rng(seed)

    def make(leaf: Any) -> Any:
        if leaf is None:
            return None
        shape = [size or _OPEN_AXIS for size in leaf.shape]
        dtype = str(leaf.dtype)
        if not any(kind in dtype for kind in ("float", "int", "bool", "complex")):
            raise CannotFuseError("the batches hold text")
        made = random.normal(size=shape) if "float" in dtype else random.integers(0, 2, shape)
        return made.astype(dtype)

    return keras.tree.map_structure(make, sample)


class Candidate:
    """A program of the steps of a model, which is compiled in a thread, and then compared; or one
    that was made for a compiled model before.

    Args:
        model: Has been trained by `fit`. It is trained on the batches when they are compared, and
            put back.
        trial: The batches.
        most: The most steps that a block will have.
        seconds: That a step takes by itself.
        each: Whether the program is to give the logs of each step.

    Raises:
        CannotFuseError: If there is no program.
    """

    def __init__(
        self, model: keras.Model, trial: Trial, most: int, seconds: float, each: bool
    ) -> None:
        self.trial, self.most, self.seconds, self._each = trial, most, seconds, each
        self._model = model
        self._compiling: list[Future[Any]] = []
        kept = getattr(model.train_function, PROGRAMS, {}).get(self._key)
        self._known = kept[0] if kept and kept[1] >= most else None
        if self._known is None:
            self._make()

    def _make(self) -> None:
        model, trial = self._model, self.trial
        work: list[Any] = []
        with trying(model) as own:
            self._program = made_program(model, trial.sample, own, each=self._each)
            # Each room is a program of its own; larger ones than are needed are not made.
            rooms = () if trial.by_itself else self._program.rooms
            needed = [room for room in rooms if room <= room_for(self.most, rooms)]
            self._compared_to = needed[-1] if needed else sys.maxsize
            if not trial.by_itself:
                count = len(trial.batches)
                blocks = [Block(stacked(trial.batches, room), count) for room in needed or [count]]
                with preserved(model), attributes_kept(model):
                    work = [self._program.compilation(block) for block in blocks]
            self._blocks: list[Block | None] = [None] if trial.by_itself else [*blocks]
        # Python waits for the thread before it ends: it must not be inside a compiler then.
        thread = ThreadPoolExecutor(1, thread_name_prefix="keras-patterns-compiling")
        self._compiling = [thread.submit(one) for one in work if one is not None]
        thread.shutdown(wait=False)

    def is_compiled(self, seconds: float = 0.0) -> bool:
        """True if it is, at the latest after so many seconds."""
        return not wait(self._compiling, seconds).not_done

    def compared(self) -> BlockProgram:
        """The program, once it has made the same of the batches as the steps, in every bit.

        Raises:
            CannotFuseError: If it does not.
        """
        if self._known is not None:
            return self._known
        model = self._model
        with trying(model):
            for one in self._compiling:
                one.result()
            for block in self._blocks:
                if found := difference(model, self._program, block, self.trial, self._each):
                    raise CannotFuseError(f"a block is not equal to its steps: {found}")
        if not current().runs_python:
            # What the Python code of a step does may be another thing at the next call.
            programs = vars(model.train_function).setdefault(PROGRAMS, {})
            programs[self._key] = self._program, self._compared_to
        return self._program

    @property
    def _key(self) -> tuple[bool, bool, str]:
        return self.trial.by_itself, self._each, form_of(self.trial.sample)


def difference(
    model: keras.Model, program: BlockProgram, block: Block | None, trial: Trial, each: bool
) -> str:
    """The difference between a program and the steps that it stands for; empty if there is none.

    Both begin with another rate and count of steps than those that the program was made with: what
    was read then must not be part of it.

    Args:
        model: Is trained both ways, and put back.
        program: The program.
        block: What it is given; None where it reads the batches by itself.
        trial: The same batches one by one.
        each: Whether the program gives the logs of each step.
    """
    batches = trial.batches
    function = program.function(lambda: len(batches) if block is None else block)
    with _feed(model, trial) as steps:
        stepwise = _outcome(model, model.train_function, steps, len(batches), False)
    with _feed(model, trial) if block is None else nullcontext(program.feed) as steps:
        fused = _outcome(model, function, steps, 1, each)
    for name, value in stepwise.items():
        if value.tobytes() != fused[name].tobytes():
            return f"{name} is another one after {len(batches)} steps"
    return ""


def _feed(model: keras.Model, trial: Trial) -> closing[Any]:
    samples = [trial.sample] if trial.by_itself else trial.batches
    return closing(current().feed(iter(trial.batches), samples, False, model))


def _outcome(
    model: keras.Model, function: Callable[..., Any], data: Any, times: int, each: bool
) -> dict[str, np.ndarray]:
    """The values of all variables after some steps, and the logs of the last one."""
    with preserved(model):
        for variable in find_variables(model).of("optimizer").values():
            if not variable.shape:
                variable.assign(_another(variable))
        given = current().run_function(model, function, data, times)
        current().sync(model)
        logs = {
            f"the log {'/'.join(map(str, place))}": np.asarray(keras.ops.convert_to_numpy(value))
            for place, value in keras.tree.flatten_with_path(given)
        }
        if each:
            logs = {name: value[-1:].reshape(value.shape[1:]) for name, value in logs.items()}
        return {**copy_values(find_variables(model).variables), **logs}


def _another(number: keras.Variable) -> Any:
    if "int" in number.dtype:
        return keras.ops.add(number.value, 1000)
    return keras.ops.multiply(number.value, 0.5)
