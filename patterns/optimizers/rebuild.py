"""An optimizer rebuilt on other variables than before, with what it knows of those that stay."""

from __future__ import annotations

from collections.abc import Mapping, Set

import keras

from .. import _keras
from ..state.snapshot import copy_values, put_back
from ..state.variables import VariableIndex, find_variables
from .rates import steps_made

# Keras's name for the average of each weight, with `use_ema=True`.
AVERAGE = "model_variables_moving_average"


@_keras.quiet_arrays()
def rebuild_optimizer(model: keras.Model) -> list[str]:
    """Rebuilds `model.optimizer` on exactly what is trainable now; to be called wherever that may
    have changed.

    The slots of the variables that stay are carried over by their keys, and so are the counter, the
    rate and whatever else the optimizer keeps; slots of new ones begin as in a new optimizer, an
    average as the weight itself, and what corrects them goes by the steps since then. It stays the
    same object. The step is compiled anew. A model that is not compiled, or whose optimizer is not
    built yet, has nothing to carry.

    Args:
        model: A built model, outside `fit`.

    Returns:
        The keys of the variables that the optimizer did not train before.

    Raises:
        ValueError: If the optimizer has factors of the rate, and none for what it is to train; it
            is as before then.
    """
    optimizer = model.optimizer if model.compiled else None
    if optimizer is None:
        return []
    _keras.recompile_step(model)
    wanted, before = model.trainable_variables, _keras.trained_variables(optimizer)
    if not optimizer.built or [id(v) for v in wanted] == [id(v) for v in before]:
        return []
    check_known = getattr(getattr(optimizer, "inner_optimizer", optimizer), "check_known", None)
    if check_known:
        check_known(wanted)
    kept = copy_values(find_variables(model).of("optimizer"))
    _keras.build_anew(optimizer, wanted)
    index = find_variables(model)
    slots = index.of("optimizer")
    put_back(slots, kept)
    fresh = {id(variable) for variable in wanted} - {id(variable) for variable in before}
    new = [key for key, variable in index.variables.items() if id(variable) in fresh]
    _begin_averages(index, new)
    # Others, such as that of a backbone that was compiled by itself, keep their slots.
    for one in (
        one for place, one in updating(index).items() if place.partition("/")[0] == "optimizer"
    ):
        known, now = _keras.first_steps(one), steps_made(one)
        _keras.put_first_steps(
            one,
            {
                id(v): now if id(v) in fresh else known.get(id(v), 0)
                for v in _keras.trained_variables(one)
            },
        )
    return new


def begin_fresh_slots(
    model: keras.Model,
    index: VariableIndex,
    steps: Mapping[str, Mapping[str, int]],
    fresh: Set[str],
) -> None:
    """Begins what a checkpoint does not hold of the optimizers, once its values have been put back.

    Each variable counts its steps from where the checkpoint says, or from now on where its slots
    are fresh; a fresh average begins as the weight itself.

    Args:
        model: The model.
        index: Its variables.
        steps: By the place of the optimizer and the key of the variable; see
            `VariableIndex.first_steps`.
        fresh: The keys of slots that are not in the checkpoint: what has no others, but for its
            average, counts from now on.
    """
    key_of = {id(variable): key for key, variable in index.variables.items()}
    slots: dict[tuple[str, str], set[str]] = {}
    for slot in index.of("optimizer"):
        place, name, key = parts_of_slot(slot)
        if name != AVERAGE:
            slots.setdefault((place, key), set()).add(slot)
    for place, one in updating(index).items():
        known, now, first = steps.get(place, {}), steps_made(one), {}
        for variable in _keras.trained_variables(one):
            key = key_of[id(variable)]
            own = slots.get((place, key), set())
            first[id(variable)] = now if own and own <= fresh else known.get(key, 0)
        if _keras.put_first_steps(one, first):
            _keras.recompile_step(model)
    _begin_averages(index, [key for _, name, key in map(parts_of_slot, fresh) if name == AVERAGE])


def parts_of_slot(key: str) -> tuple[str, str, str]:
    """The place of the optimizer, the name and the variable of a slot; what is none serves no
    variable.
    """
    name, _, variable = key.partition("[")
    place, _, name = name.rpartition("/")
    return place, name, variable.removesuffix("]")


def updating(index: VariableIndex) -> dict[str, keras.optimizers.Optimizer]:
    """The optimizers that compute updates, and do not wrap others that do, by their place."""
    return {
        place: one for place, one in index.optimizers.items() if not _keras.inner_optimizers(one)
    }


def _begin_averages(index: VariableIndex, keys: list[str]) -> None:
    """Keras begins an average at the first step of all; later, at 0, it would pull its weight
    there.
    """
    for key in keys:
        for place in index.optimizers:
            average = index.variables.get(f"{place}/{AVERAGE}[{key}]")
            if average is not None:
                average.assign(index.variables[key].value)
