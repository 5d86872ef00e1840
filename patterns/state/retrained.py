"""Having an optimizer train other variables than before, without losing what it knows of those that stay."""

from __future__ import annotations

import keras

from .. import _keras
from .snapshot import copy_values, put_back
from .tree import Places, find_variables

# Keras's name for the average of each weight, with `use_ema=True`.
_AVERAGE = "model_variables_moving_average"


def retrain(model: keras.Model) -> list[str]:
    """Has `model.optimizer` train exactly what is trainable now; to be called wherever that may have changed.

    The slots of the variables that stay are carried over by their keys, and so are the counter, the rate and whatever else the
    optimizer keeps; slots of new ones begin as in a new optimizer, an average as the weight itself. It stays the same object.
    The step is compiled anew. A model that is not compiled, or whose optimizer is not built yet, has nothing to carry.

    Args:
        model: A built model, outside `fit`.

    Returns:
        The keys of the variables that the optimizer did not train before.
    """
    optimizer = model.optimizer if model.compiled else None
    if optimizer is None:
        return []
    model.train_function = None
    wanted, before = model.trainable_variables, _keras.trained_variables(optimizer)
    if not optimizer.built or [id(v) for v in wanted] == [id(v) for v in before]:
        return []
    kept = copy_values(find_variables(model).of("optimizer"))
    _keras.build_anew(optimizer, wanted)
    places = find_variables(model)
    slots = places.of("optimizer")
    put_back(slots, kept)
    known = {id(variable) for variable in before}
    new = [key for key, variable in places.variables.items() if id(variable) in {id(v) for v in wanted} - known]
    _begin_averages(places, new)
    return new


def _begin_averages(places: Places, keys: list[str]) -> None:
    """Keras begins an average at the first step of all; later, at 0, it would pull its weight there."""
    for key in keys:
        for place in places.optimizers:
            average = places.variables.get(f"{place}/{_AVERAGE}[{key}]")
            if average is not None:
                average.assign(places.variables[key].value)
