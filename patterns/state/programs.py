"""Programs of the steps of a model: made, kept and tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_patterns.backends import BlockProgram, CannotFuseError, current

from .. import _keras
from .._util.messages import listed
from ..data.stacked import form_of
from .own_state import OwnState
from .preservation import preserved

# The attribute of a train function of Keras's that holds its programs, by the form of a batch. They
# live as long as the function, which goes where the model is compiled anew, and no longer than the
# model, which they hold.
PROGRAMS = "_keras_patterns_programs"
# A program is worth its compilation if what it saves is more, with room.
_ROOM = 3.0


def pays(calls: float, seconds: float = math.inf, compilation: float = 0.0) -> bool:
    """True if a program that saves so many calls is likely to win back what it costs.

    Args:
        calls: How many fewer there are.
        seconds: That a step takes, which bounds what a call costs. Defaults to no bound.
        compilation: Seconds that a program takes to compile at least. Defaults to 0.
    """
    saved = calls * min(seconds, current().step_overhead)
    return saved / 2 > _ROOM * max(compilation, current().program_cost)


def own_method(model: keras.Model, *names: str) -> str:
    """The first of some methods of `keras.Model` that a model has of its own; empty if it has
    none.
    """
    return next(
        (name for name in names if getattr(type(model), name) is not getattr(keras.Model, name)), ""
    )


def has_program(model: keras.Model) -> bool:
    """True if a program was made for a compiled model before."""
    return bool(getattr(model.train_function, PROGRAMS, {}))


def has_test_program(model: keras.Model) -> bool:
    """True if a program was made of the test steps of a compiled model before."""
    return bool(getattr(model.test_function, PROGRAMS, {}))


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
    model: keras.Model, sample: Any, own: OwnState, tests: bool = False, each: bool = False
) -> BlockProgram:
    """A program of the steps of a model that is compared with nothing yet.

    Args:
        model: As it is to stay; `own` excepted.
        sample: A batch.
        own: The model's state that Keras does not track.
        tests: Whether the steps are those of `evaluate`. Defaults to False.
        each: Whether it is to give the logs of each step. Defaults to False.

    Raises:
        CannotFuseError: If there is none.
    """
    with preserved(model), attributes_kept(model):
        program = current().block_program(model, sample, tests, each)
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
    kept = vars(model.test_function).setdefault(PROGRAMS, {})
    form = form_of(sample)
    if form not in kept:
        kept[form] = make()
    program: BlockProgram = kept[form]
    return program


@contextmanager
def attributes_kept(model: keras.Model) -> Iterator[None]:
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
