"""Putting a checkpoint back into a model: the one path, for a resume, a rollback and a reader."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np

from ..optimizers.rebuild import AVERAGE, begin_fresh_slots, parts_of_slot
from ..optimizers.wrapping import base_class, base_name
from ..state import (
    StateMismatchError,
    VariableIndex,
    assign,
    check_fits,
    differences,
    find_variables,
    has_own_step,
    put_back,
    putting_back,
    refresh_derived_state,
)
from .contents import OptimizerRecord, Record
from .identity import Identity
from .model_settings import COMPILED

# Slots of one name hold the same in all of these. In others they need not: the momentum of SGD is a
# step, that of Adam a gradient.
_ALIKE = ("Adam", "AdamW", "Nadam", "Lamb")


def restore_variables(
    model: keras.Model,
    record: Record,
    keep: Collection[str] = (),
    index: VariableIndex | None = None,
) -> tuple[VariableIndex, list[str]]:
    """Puts weights and optimizer state back into a built model; metrics are left alone.

    Args:
        model: The model, built.
        record: From the checkpoint.
        keep: Keys of optimizer variables that keep what they have.
        index: Where the variables stand. Defaults to None: they are found.

    Returns:
        Where the variables stand, and what could not be put back because the optimizer is another
        one, a line each.

    Raises:
        StateMismatchError: If the model is another one; nothing has been changed then.
    """
    values = record.values
    index = index or find_variables(model)
    check_fits(model, index, record.variables)
    index = build_optimizers(model, index, record.optimizers)
    wanted = index.of("optimizer")
    others = _of_another_kind(index, record.identity)
    kept = {
        key
        for key in wanted
        if key in record.variables and key not in keep and not _is_in(key, others)
    }
    wrong = differences({key: wanted[key] for key in kept}, values)
    if wrong:
        raise StateMismatchError(
            "The optimizer's state does not fit the checkpoint:\n  " + "\n  ".join(wrong[:5])
        )
    assign({**index.of("weight"), **{key: wanted[key] for key in kept}}, values)
    refresh_derived_state(model)
    fresh = sorted(wanted.keys() - kept - set(keep))
    steps = {place: one.first_steps for place, one in record.optimizers.items()}
    begin_fresh_slots(model, index, steps, set(fresh))
    unused = sorted(
        key for key, role in record.roles.items() if role == "optimizer" and key not in wanted
    )
    # One that had made no step had no slots then: such as Keras's default beside a model's own.
    unbuilt = {place for place, one in record.optimizers.items() if one.trained is None}
    new = [key for key in fresh if parts_of_slot(key)[0] not in unbuilt]
    lines = []
    if new:
        lines.append(
            f"{len(new)} variables of the optimizer are new and start fresh, {new[0]} first"
        )
    if unused:
        lines.append(f"{len(unused)} variables of the optimizer are gone, {unused[0]} first")
    return index, lines


def lines_of_averages(index: VariableIndex) -> list[str]:
    """A line where an optimizer has averages of the weights, which a finished run has in their
    place.
    """
    if not any(f"/{AVERAGE}[" in key for key in index.of("optimizer")):
        return []
    return [
        "the weights are those that the training goes on from. Their averages (use_ema=True), "
        "which `fit` leaves in the model at its end, are had by "
        "model.optimizer.finalize_variable_values(model.trainable_variables)"
    ]


def set_by_script(record: Record, now: Identity) -> set[str]:
    """The keys of optimizer variables whose setting the script has changed, and of the running
    means of a loss or metrics that it has changed: the script wins.
    """
    before = record.identity
    old, new = before.model or {}, now.model or {}
    changed = [name for name in COMPILED if name in old and name in new and old[name] != new[name]]
    fresh = tuple(place for name in changed for place in COMPILED[name])
    return {
        key
        for key, role in record.roles.items()
        if (role == "metric" and key.startswith(fresh))
        or (
            role == "optimizer"
            and _differs(*key.rpartition("/")[::2], before.optimizers, now.optimizers)
        )
    }


def restore_weights(model: keras.Model, record: Record) -> None:
    """Puts only the weights back, for a run that begins anew from them.

    Raises:
        StateMismatchError: If the model is another one; nothing has been changed then.
    """
    index = find_variables(model)
    check_fits(model, index, record.variables)
    put_back(index.of("weight"), record.of("weight"))
    refresh_derived_state(model)


def build_optimizers(
    model: keras.Model,
    index: VariableIndex,
    records: Mapping[str, OptimizerRecord],
) -> VariableIndex:
    """Builds the optimizers that build themselves late on what they were built on before; returns
    where the variables of the model stand then.

    But that with which Keras's own step trains, on what it is to train: other parts may be frozen
    now than then.
    """
    built = False
    for place, record in records.items():
        optimizer = index.optimizers.get(place)
        if optimizer is None or optimizer.built or record.trained is None:
            continue
        with putting_back(place):
            if place == "optimizer" and not has_own_step(model):
                optimizer.build(model.trainable_variables)
            elif all(key in index.variables for key in record.trained):
                optimizer.build([index.variables[key] for key in record.trained])
            built |= optimizer.built
    return find_variables(model) if built else index


def _of_another_kind(index: VariableIndex, saved: Identity) -> set[str]:
    """The places of optimizers whose slots hold other things than those of the optimizers that were
    there before.
    """
    before = {place: settings["class"] for place, settings in saved.optimizers.items()}
    now = {place: type(optimizer) for place, optimizer in index.optimizers.items()}
    return {
        place
        for place in before.keys() & now.keys()
        if before[place] != now[place].__name__
        and _kind(base_name(before[place])) != _kind(base_class(now[place]).__name__)
    }


def _kind(name: str) -> str:
    """One name for the classes whose slots hold the same."""
    return _ALIKE[0] if name in _ALIKE else name


def _is_in(key: str, optimizers: Collection[str]) -> bool:
    """True if a slot of some optimizers has this key; an average of a weight is the same in all."""
    place, name, variable = parts_of_slot(key)
    return bool(variable) and place in optimizers and name != AVERAGE


def metric_values(
    index: VariableIndex, record: Record, keep: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """The running metrics of the epoch in progress, as far as the script still has them; but for
    the keys of those that it has changed.
    """
    values = record.values
    return {
        key: values[key]
        for key, variable in index.of("metric").items()
        if key not in keep and not differences({key: variable}, values)
    }


def _differs(place: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    settings = after.get(place, {})
    return name in settings and before.get(place, {}).get(name) != settings[name]
