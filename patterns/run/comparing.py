"""A program of the steps of a model that was found equal to them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import Block, BlockProgram, CannotFuseError, current

from .. import _keras
from .._util.messages import listed
from ..data.stream import NativeStream
from ..state.own_state import OwnState
from ..state.preservation import preserved
from ..state.snapshot import copy_values
from ..state.variables import find_variables
from .blocks import form_of, most_steps, room_for, stacked
from .run_data import RunData

# Steps that are made both ways.
_COMPARED = 2
# The size of an axis that the data leave open, in batches that are made up.
_OPEN_AXIS = 8
# The attribute of a train function of Keras's that holds its programs, by the form of a batch. They
# live as long as the function, which goes where the model is compiled anew, and no longer than the
# model, which they hold.
_PROGRAMS = "_keras_patterns_programs"


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


def own_method(model: keras.Model, *names: str) -> str:
    """The first of some methods of `keras.Model` that a model has of its own; empty if it has
    none.
    """
    return next(
        (name for name in names if getattr(type(model), name) is not getattr(keras.Model, name)), ""
    )


def has_program(model: keras.Model) -> bool:
    """True if a program was made for a compiled model before."""
    return bool(getattr(model.train_function, _PROGRAMS, {}))


def has_test_program(model: keras.Model) -> bool:
    """True if a program was made of the test steps of a compiled model before."""
    return bool(getattr(model.test_function, _PROGRAMS, {}))


class Candidate:
    """A program of the steps of a model, which is compiled in a thread, and then compared; or one
    that was made for a compiled model before.

    Args:
        model: Has been trained by `fit`. It is trained on the batches when they are compared, and
            put back.
        trial: The batches.
        most: The most steps that a block will have.
        seconds: That a step takes by itself.

    Raises:
        CannotFuseError: If there is no program.
    """

    def __init__(self, model: keras.Model, trial: Trial, most: int, seconds: float) -> None:
        self.trial, self.most, self.seconds = trial, most, seconds
        self._model = model
        self._compiling: list[Future[Any]] = []
        kept = getattr(model.train_function, _PROGRAMS, {}).get(self._key)
        self._known = kept[0] if kept and kept[1] >= most else None
        if self._known is None:
            self._make()

    def _make(self) -> None:
        model, trial = self._model, self.trial
        work: list[Any] = []
        with trying(model) as own:
            self._program = made_program(model, trial.sample, own)
            # Each room is a program of its own; larger ones than are needed are not made.
            rooms = () if trial.by_itself else self._program.rooms
            needed = [room for room in rooms if room <= room_for(self.most, rooms)]
            self._compared_to = needed[-1] if needed else sys.maxsize
            if not trial.by_itself:
                count = len(trial.batches)
                blocks = [Block(stacked(trial.batches, room), count) for room in needed or [count]]
                with preserved(model), _attributes_kept(model):
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
                if found := difference(model, self._program, block, self.trial):
                    raise CannotFuseError(f"a block is not equal to its steps: {found}")
        if not current().runs_python:
            # What the Python code of a step does may be another thing at the next call.
            programs = vars(model.train_function).setdefault(_PROGRAMS, {})
            programs[self._key] = self._program, self._compared_to
        return self._program

    @property
    def _key(self) -> tuple[bool, str]:
        return self.trial.by_itself, form_of(self.trial.sample)


@contextmanager
def trying(model: keras.Model, *passed_on: type[Exception]) -> Iterator[OwnState]:
    """Within it, a program is made and tried: what fails is a reason to have none. Gives the state
    of the model that Keras does not track, which is put back.

    Args:
        model: The model.
        *passed_on: Errors that say something else.

    Raises:
        CannotFuseError: If there is no program.
    """
    own = OwnState(model)
    try:
        yield own
    except CannotFuseError:
        raise
    except passed_on:
        raise
    except Exception as error:
        # Whatever the framework says of the program; a fault of the step is met again when it runs
        # by itself.
        said = str(error).strip().partition("\n")[0]
        raise CannotFuseError(f"no program could be made ({said})") from error
    finally:
        own.put_back()


def made_program(
    model: keras.Model, sample: Any, own: OwnState, tests: bool = False
) -> BlockProgram:
    """A program of the steps of a model that is compared with nothing yet.

    Args:
        model: As it is to stay; `own` excepted.
        sample: A batch.
        own: The model's state that Keras does not track.
        tests: Whether the steps are those of `evaluate`. Defaults to False.

    Raises:
        CannotFuseError: If there is none.
    """
    with preserved(model), _attributes_kept(model):
        program = current().block_program(model, sample, tests)
        moved = own.moved() if current().runs_python else []
    if moved:
        raise CannotFuseError(f"each step moves {listed(moved)}, and no program would")
    return program


def kept_test_program(
    model: keras.Model, sample: Any, make: Callable[[], BlockProgram]
) -> BlockProgram:
    """The program that was made of the test steps of a compiled model before, for batches of this
    form, or a new one.
    """
    if current().runs_python:
        return make()
    kept = vars(model.test_function).setdefault(_PROGRAMS, {})
    form = form_of(sample)
    if form not in kept:
        kept[form] = make()
    program: BlockProgram = kept[form]
    return program


@contextmanager
def _attributes_kept(model: keras.Model) -> Iterator[None]:
    """Puts back what a step that is left in its middle has set in the layers, such as the masks of
    dropout that a recurrent layer keeps for its time steps.
    """
    before = [(layer, dict(vars(layer))) for layer in _keras.all_layers(model)]
    try:
        yield
    finally:
        for layer, attributes in before:
            vars(layer).clear()
            vars(layer).update(attributes)


def difference(model: keras.Model, program: BlockProgram, block: Block | None, trial: Trial) -> str:
    """The difference between a program and the steps that it stands for; empty if there is none.

    Both begin with another rate and count of steps than those that the program was made with: what
    was read then must not be part of it.

    Args:
        model: Is trained both ways, and put back.
        program: The program.
        block: What it is given; None where it reads the batches by itself.
        trial: The same batches one by one.
    """
    batches = trial.batches
    function = program.function(lambda: len(batches) if block is None else block)
    with _feed(model, trial) as steps:
        stepwise = _outcome(model, model.train_function, steps, len(batches))
    with _feed(model, trial) if block is None else nullcontext(program.feed) as steps:
        fused = _outcome(model, function, steps, 1)
    for name, value in stepwise.items():
        if value.tobytes() != fused[name].tobytes():
            return f"{name} is another one after {len(batches)} steps"
    return ""


def _feed(model: keras.Model, trial: Trial) -> closing[Any]:
    samples = [trial.sample] if trial.by_itself else trial.batches
    return closing(current().feed(iter(trial.batches), samples, False, model))


def _outcome(
    model: keras.Model, function: Callable[..., Any], data: Any, times: int
) -> dict[str, np.ndarray]:
    """The values of all variables after some steps."""
    with preserved(model):
        for variable in find_variables(model).of("optimizer").values():
            if not variable.shape:
                variable.assign(_another(variable))
        current().run_function(model, function, data, times)
        current().sync(model)
        return copy_values(find_variables(model).variables)


def _another(number: keras.Variable) -> Any:
    if "int" in number.dtype:
        return keras.ops.add(number.value, 1000)
    return keras.ops.multiply(number.value, 0.5)
