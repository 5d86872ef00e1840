"""`kp.warm_start`: a new run from a checkpoint of an earlier one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import keras
import numpy as np

from .. import _keras
from .._util.arguments import check_choice
from .._util.messages import say
from .._util.models import check_built
from ..optimizers.rebuild import begin_fresh_slots
from ..state.snapshot import copy_values, put_back
from ..state.variables import VariableIndex, find_variables
from ..storage import CheckpointFolder
from .contents import Record
from .identity import changes, describe_optimizers, forget_final_config
from .reading import not_finite_lines, open_folder, read_record
from .restore import restore_variables, restore_weights, set_by_script

OptimizerStart = Literal["fresh", "keep"]
_CALLER = "warm_start"


@_keras.quiet_arrays()
def warm_start(
    store: CheckpointFolder | str | os.PathLike[str],
    model: keras.Model,
    step: int | None = None,
    optimizer: OptimizerStart = "fresh",
) -> int:
    """Puts a checkpoint into a model from which a new run, on fresh data, is to begin.

    Take one from *before* the overfitting (`kp.select_checkpoint` finds it): weights that already
    overfit to the old data are a bad start on new ones. The next `kp.fit`, into another folder,
    begins at step 0 of its plan. In a script that may be killed, call this each time: what the new
    run has saved takes its place.

    Args:
        store: A `kp.CheckpointStore`, or its folder.
        model: A built model of the same shape, on any backend; its optimizer may have been used or
            not.
        step: Of the checkpoint. Defaults to None: the newest sound one.
        optimizer: `"fresh"`: it is as newly made: its slots and its counter at their start, the
            rate as the script set it, a schedule at its beginning. `"keep"`: its slots and its
            counter are the checkpoint's; what the script set otherwise than the earlier run, such
            as another rate, holds, and is said. A schedule of the rate is a function of that
            counter, so it goes on where the earlier run was: its decay and its warm-up do not come
            again. To begin another one there, write `kp.schedules.Join([earlier, another],
            [step])`. Defaults to `"fresh"`.

    Returns:
        The step of the checkpoint.

    Raises:
        TypeError: If `model` is no model.
        ValueError: If `optimizer` is none of these, the model is not built, there is no optimizer
            to keep, or one cannot be made anew.
        kp.StoreError: If there is no such checkpoint, or it is damaged.
        kp.StateMismatchError: If the model is another one; it is unchanged then.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> import keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((64, 4)), np.ones((64, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = kp.fit(model, x, y, epochs=3, seed=0, verbose=0,
    ...         callbacks=[kp.Checkpoint(folder)])
    ...     kp.warm_start(folder, model, step=4)
    4
    >>> int(model.optimizer.iterations)
    0

    References:
        V. Lakshmanan, S. Robinson, M. Munn, "Machine Learning Design Patterns", O'Reilly 2020,
            chapter 4, "Checkpoints".
    """
    check_choice(_CALLER, "optimizer", optimizer, get_args(OptimizerStart))
    check_built(_CALLER, model, compiled=optimizer == "keep")
    folder = open_folder(store)
    position, record = read_record(folder, step)
    for line in not_finite_lines(folder, position, record):
        say(line)
    optimizers = find_variables(model).optimizers
    given = describe_optimizers(optimizers)
    if optimizer == "keep":
        for line in _restore_kept_optimizer(model, record, given):
            say(f"{line}.")
    else:
        fresh = _fresh_values(find_variables(model), given)
        restore_weights(model, record)
        put_back(find_variables(model).variables, fresh)
        begin_fresh_slots(model, find_variables(model), {}, fresh=set())
    forget_final_config(optimizers)
    return position.step


def _restore_kept_optimizer(
    model: keras.Model, record: Record, given: Mapping[str, Any]
) -> list[str]:
    """Puts back everything but what the script has changed; returns what is to be said."""
    now = replace(record.identity, optimizers=dict(given))
    changed = set_by_script(record, now)
    index, lines = restore_variables(model, record, changed)
    rates = _given_rates(index, given)
    put_back(index.variables, rates, rates.keys() & changed)
    return changes(record.identity, now) + lines


def _fresh_values(index: VariableIndex, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The values of the optimizers' variables when these are newly made, with the rates that the
    script set.
    """
    values: dict[int, np.ndarray] = {}
    for place, one in index.optimizers.items():
        if one.built and not any(place.startswith(f"{outer}/") for outer in index.optimizers):
            values |= _values_anew(place, one)
    found = {key: values[id(v)] for key, v in index.of("optimizer").items() if id(v) in values}
    return found | _given_rates(index, given)


def _values_anew(place: str, optimizer: keras.optimizers.Optimizer) -> dict[int, np.ndarray]:
    try:
        fresh = _keras.made_anew(optimizer)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"{_CALLER}: the {type(optimizer).__name__} at {place!r} cannot be made anew from its "
            f"configuration: {error} "
            'Compile the model with a new optimizer before, or say optimizer="keep".'
        ) from error
    fresh.build(_keras.trained_variables(optimizer))
    copies = copy_values({str(number): variable for number, variable in enumerate(fresh.variables)})
    return {
        id(variable): value
        for variable, value in zip(optimizer.variables, copies.values(), strict=True)
    }


def _given_rates(index: VariableIndex, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The rates that the script set as numbers, by the keys of their variables."""
    rates = {
        f"{place}/learning_rate": settings.get("learning_rate") for place, settings in given.items()
    }
    variables = copy_values(
        {key: index.variables[key] for key, rate in rates.items() if isinstance(rate, float)}
    )
    return {key: np.full_like(value, rates[key]) for key, value in variables.items()}
