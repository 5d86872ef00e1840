"""What a checkpoint of a run holds, and how it is put back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from ..optimizers.rebuild import AVERAGE, begin_fresh_slots, parts_of_slot
from ..optimizers.wrapping import base_class, base_name
from ..state import callbacks as callback_states
from ..state.codec import decode, encode
from ..state.snapshot import StateMismatch, check_fits, differences, put_back, settle
from ..state.variables import Places, Role, find_variables, has_own_step
from ..storage import Tensor
from .identity import Identity

_VARIABLES = "variables/"
# Slots of one name hold the same in all of these. In others they need not: the momentum of SGD is a
# step, that of Adam a gradient.
_ALIKE = ("Adam", "AdamW", "Nadam", "Lamb")


@dataclass
class Record:
    """The state of a run between two steps.

    Attributes:
        identity: Which run it is.
        begun: How it began: from nothing (`"auto"` or `"never"`), or from another one's
            `"weights"`.
        variables: The values of the model's variables by key.
        roles: What each variable is.
        paths: Keras's name for each variable, for people.
        built_on: For each optimizer, the ordered keys of what it trains.
        first_steps: For each optimizer, how many steps it had made when it began with a variable,
            by key; 0 is left out.
        frozen: The keys of weights that are not trained, but would be if nothing were frozen. It is
            not stored.
        callbacks: The state of each callback by its name.
        random: The global random states.
        source: What the data source needs to go on, beside the step.
        logs: The training metrics of an epoch whose validation is still to come, else None.
        validates: Whether a validation inside an epoch is still to come.
        save_due: Whether `every_steps` asks for a checkpoint of this step once its validation is
            done.
        stopped: Whether the run has ended before its plan did.
        resumes: The steps at which other processes went on with the run.
        skipped: What is left out of the data; see `data.Skipped`.
        validated: Batches that validations have taken from a generator.
    """

    identity: Identity
    begun: str
    variables: dict[str, np.ndarray]
    roles: dict[str, Role]
    paths: dict[str, str] = field(default_factory=dict)
    built_on: dict[str, list[str]] = field(default_factory=dict)
    first_steps: dict[str, dict[str, int]] = field(default_factory=dict)
    frozen: Collection[str] = ()
    callbacks: dict[str, Any] = field(default_factory=dict)
    random: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, Any] | None = None
    validates: bool = False
    save_due: bool = False
    stopped: bool = False
    resumes: list[int] = field(default_factory=list)
    skipped: dict[str, Any] = field(default_factory=dict)
    validated: int = 0

    def pack(self) -> tuple[dict[str, Any], list[Tensor]]:
        """The record as a JSON document and tensors. The values of the variables are not copied."""
        arrays: dict[str, np.ndarray] = {}
        document = {
            "identity": self.identity.as_json(),
            "begun": self.begun,
            "variables": self.roles,
            "built_on": self.built_on,
            "first_steps": self.first_steps,
            "stopped": self.stopped,
            "validates": self.validates,
            "save_due": self.save_due,
            "resumes": self.resumes,
            "skipped": self.skipped,
            "validated": self.validated,
            "callbacks": {
                name: encode(state, f"callbacks/{name}", arrays)
                for name, state in self.callbacks.items()
            },
            "random": encode(self.random, "random", arrays),
            "source": encode(self.source, "source", arrays),
            "logs": encode(self.logs, "logs", arrays),
        }
        tensors = [
            Tensor(_VARIABLES + key, value, self.paths.get(key, ""), still=key in self.frozen)
            for key, value in self.variables.items()
        ]
        return document, tensors + [Tensor(key, value) for key, value in arrays.items()]

    @classmethod
    def unpack(cls, document: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Record:
        """The inverse of `pack`."""
        return cls(
            identity=Identity.from_json(document["identity"]),
            begun=document["begun"],
            variables={key: tensors[_VARIABLES + key] for key in document["variables"]},
            roles=document["variables"],
            built_on=document["built_on"],
            first_steps=_checked_steps(document.get("first_steps", {})),
            stopped=document["stopped"],
            validates=document.get("validates", False),
            save_due=document.get("save_due", False),
            resumes=document.get("resumes", []),
            skipped=document.get("skipped", {}),
            validated=document["validated"],
            **{
                name: decode(document[name], tensors)
                for name in ("callbacks", "random", "source", "logs")
            },
        )

    def of(self, *roles: Role) -> dict[str, np.ndarray]:
        """The values of some roles, by key."""
        return {key: value for key, value in self.variables.items() if self.roles[key] in roles}


def _checked_steps(found: Any) -> dict[str, dict[str, int]]:
    """What a document has for `first_steps`: nonsense in it would not show before it has been put
    to use.
    """
    rows = list(found.values()) if isinstance(found, dict) else [None]
    if all(
        isinstance(steps, dict) and all(type(step) is int and step >= 0 for step in steps.values())
        for steps in rows
    ):
        return found
    raise StateMismatch(
        "The checkpoint's `first_steps` must be whole numbers by optimizer and variable. "
        f"Received: {found!r}. It was not written "
        "like this; go on from another checkpoint."
    )


def callback_state(callbacks: list[keras.callbacks.Callback]) -> dict[str, Any]:
    """The state of each callback that can tell it, by name."""
    states = {
        name: callback_states.get_state(callback)
        for name, callback in callback_states.named(callbacks).items()
    }
    return {name: state for name, state in states.items() if state is not None}


def restore_variables(model: keras.Model, record: Record, keep: Collection[str] = ()) -> list[str]:
    """Puts weights and optimizer state back into a built model; metrics are left alone.

    Args:
        model: The model, built.
        record: From the checkpoint.
        keep: Keys of optimizer variables that keep what they have.

    Returns:
        What could not be put back because the optimizer is another one, a line each.

    Raises:
        StateMismatch: If the model is another one; nothing has been changed then.
    """
    build_optimizers(model, record.built_on)
    places = find_variables(model)
    check_fits(places, record.variables, record.roles)
    wanted = places.of("optimizer")
    others = _of_another_kind(places, record.identity)
    kept = {
        key
        for key in wanted
        if key in record.variables and key not in keep and not _is_in(key, others)
    }
    wrong = differences({key: wanted[key] for key in kept}, record.variables)
    if wrong:
        raise StateMismatch(
            "The optimizer's state does not fit the checkpoint:\n  " + "\n  ".join(wrong[:5])
        )
    put_back(places.of("weight"), record.variables)
    put_back(wanted, record.variables, kept)
    settle(model)
    fresh = sorted(wanted.keys() - kept - set(keep))
    begin_fresh_slots(model, record.first_steps, set(fresh))
    unused = sorted(
        key for key, role in record.roles.items() if role == "optimizer" and key not in wanted
    )
    lines = (
        [f"{len(fresh)} variables of the optimizer are new and start fresh, {fresh[0]} first"]
        if fresh
        else []
    )
    return lines + (
        [f"{len(unused)} variables of the optimizer are gone, {unused[0]} first"] if unused else []
    )


def set_by_script(record: Record, now: Identity) -> set[str]:
    """The keys of optimizer variables whose setting the script has changed: the script wins."""
    keys = {key for key, role in record.roles.items() if role == "optimizer"}
    return {
        key
        for key in keys
        if _differs(*key.rpartition("/")[::2], record.identity.optimizers, now.optimizers)
    }


def restore_weights(model: keras.Model, record: Record) -> None:
    """Puts only the weights back, for a run that begins anew from them.

    Raises:
        StateMismatch: If the model is another one; nothing has been changed then.
    """
    places = find_variables(model)
    check_fits(places, record.variables, record.roles)
    put_back(places.of("weight"), record.variables)
    settle(model)


def build_optimizers(model: keras.Model, built_on: Mapping[str, list[str]]) -> None:
    """Builds the optimizers that build themselves late on what they were built on before.

    But that with which Keras's own step trains, on what it is to train: other parts may be frozen
    now than then.
    """
    places = find_variables(model)
    for place, keys in built_on.items():
        optimizer = places.optimizers.get(place)
        if (
            optimizer is not None
            and not optimizer.built
            and all(key in places.variables for key in keys)
        ):
            whole = place == "optimizer" and not has_own_step(model)
            optimizer.build(
                model.trainable_variables if whole else [places.variables[key] for key in keys]
            )


def _of_another_kind(places: Places, saved: Identity) -> set[str]:
    """The places of optimizers whose slots hold other things than those of the optimizers that were
    there before.
    """
    before = {place: settings["class"] for place, settings in saved.optimizers.items()}
    now = {place: type(optimizer) for place, optimizer in places.optimizers.items()}
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
    """Whether a slot of some optimizers has this key; an average of a weight is the same in all."""
    place, name, variable = parts_of_slot(key)
    return bool(variable) and place in optimizers and name != AVERAGE


def metric_values(places: Places, record: Record) -> dict[str, np.ndarray]:
    """The running metrics of the epoch in progress, as far as the script still has these
    metrics."""
    metrics = {
        key: variable for key, variable in places.of("metric").items() if key in record.variables
    }
    misfits = {line.split(" ")[0].rstrip(":") for line in differences(metrics, record.variables)}
    return {key: record.variables[key] for key in metrics if key not in misfits}


def _differs(place: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    settings = after.get(place, {})
    return name in settings and before.get(place, {}).get(name) != settings[name]
