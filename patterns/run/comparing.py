"""A program of the steps of a model that was found equal to them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import Block, BlockProgram, CannotFuseError, current

from .._util.messages import listed
from ..data.stream import NativeStream
from ..state.own_state import OwnState
from ..state.preservation import preserved
from ..state.snapshot import copy_values
from ..state.variables import find_variables
from .blocks import form_of, stacked
from .run_data import RunData

# Steps that are made both ways.
_COMPARED = 2
# The size of an axis that the data leave open, in batches that are made up.
_OPEN_AXIS = 8
# The attribute of a train function of Keras's that holds its programs, by the form of a batch. They
# live as long as the function, which goes where the model is compiled anew, and no longer than the
# model, which they hold.
_PROGRAMS = "_keras_patterns_programs"


def first_batches(data: RunData) -> list[Any]:
    """Some batches of one form, to make a program with and to compare it by."""
    source: Any = data.source
    if isinstance(data.stream, NativeStream):
        return [_made_up(data.samples[0], seed) for seed in range(_COMPARED)]
    if not hasattr(source, "block"):
        return [one for one in data.samples if form_of(one) == form_of(data.samples[0])]
    numbers = [
        number
        for number in range(min(_COMPARED, source.steps_per_pass))
        if source.batch_length(number) == source.batch_length(0)
    ]
    return [source.for_train_step(source.batch(number)) for number in numbers]


def _made_up(sample: Any, seed: int) -> Any:
    """A batch of the shapes of another one, some of whose axes are open."""
    random = np.random.default_rng(seed)

    def make(leaf: Any) -> Any:
        if leaf is None:
            return None
        shape = [size or _OPEN_AXIS for size in leaf.shape]
        dtype = keras.backend.standardize_dtype(leaf.dtype)
        if dtype == "string":
            raise CannotFuseError("the batches hold text")
        made = random.normal(size=shape) if "float" in dtype else random.integers(0, 2, shape)
        return made.astype(dtype)

    return keras.tree.map_structure(make, sample)


def known_program(model: keras.Model, batch: Any, by_itself: bool) -> BlockProgram | None:
    """The program that was made for a compiled model before, for batches of this form."""
    return getattr(model.train_function, _PROGRAMS, {}).get((by_itself, form_of(batch)))


def compared_program(model: keras.Model, batches: list[Any], by_itself: bool) -> BlockProgram:
    """A program of the steps of a model that makes the same of some batches, in every bit.

    Args:
        model: Has been trained by `fit`. It is trained on the batches, and put back.
        batches: Of one size.
        by_itself: Whether it is to read the batches by itself.

    Raises:
        CannotFuseError: If there is none.
    """
    own = OwnState(model)
    try:
        program = _compared(model, batches, own, by_itself)
    except CannotFuseError:
        raise
    except Exception as error:
        # Whatever the framework says of the program; a fault of the step is met again when it runs
        # by itself.
        said = str(error).strip().partition("\n")[0]
        raise CannotFuseError(f"no program could be made ({said})") from error
    finally:
        own.put_back()
    if not current().runs_python:
        # What the Python code of a step does may be another thing at the next call.
        kept = vars(model.train_function).setdefault(_PROGRAMS, {})
        kept[by_itself, form_of(batches[0])] = program
    return program


def _compared(
    model: keras.Model, batches: list[Any], own: OwnState, by_itself: bool
) -> BlockProgram:
    with preserved(model):
        program = current().block_program(model, batches[0])
    moved = own.moved() if current().runs_python else []
    if moved:
        raise CannotFuseError(f"each step moves {listed(moved)}, and no program would")
    if by_itself:
        found = difference(model, program, None, batches)
        if found:
            raise CannotFuseError(f"a block is not equal to its steps: {found}")
        return program
    # Each room is a program of its own.
    for room in program.rooms or (len(batches),):
        block = Block(stacked(batches, room), len(batches))
        found = difference(model, program, block, batches)
        if found:
            raise CannotFuseError(f"a block is not equal to its steps: {found}")
    return program


def difference(
    model: keras.Model, program: BlockProgram, block: Block | None, batches: list[Any]
) -> str:
    """The difference between a program and the steps that it stands for; empty if there is none.

    Both begin with another rate and count of steps than those that the program was made with: what
    was read then must not be part of it.

    Args:
        model: Is trained both ways, and put back.
        program: The program.
        block: What it is given; None where it reads the batches by itself.
        batches: The same batches one by one, of one shape.
    """
    function = program.train_function(lambda: len(batches) if block is None else block)
    with _feed(model, batches) as steps:
        stepwise = _outcome(model, model.train_function, steps, len(batches))
    with _feed(model, batches) if block is None else nullcontext(program.feed) as steps:
        fused = _outcome(model, function, steps, 1)
    for name, value in stepwise.items():
        if value.tobytes() != fused[name].tobytes():
            return f"{name} is another one after {len(batches)} steps"
    return ""


def _feed(model: keras.Model, batches: list[Any]) -> closing[Any]:
    return closing(current().feed(iter(batches), batches, False, model))


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
