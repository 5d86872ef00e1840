"""The contents of a checkpoint of a run, and how they lie in its document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from ..state import Role, StateMismatchError, VariableRecord, decode, encode
from ..state import callbacks as callback_states
from ..storage import NewerFormatError, StoredCheckpoint, StoreError, Tensor
from .cursor import Cursor, Duty
from .identity import Identity

_VARIABLES = "variables/"
# The version of each section of a document, as it is written now. A reader that does not know a
# section keeps it where it is optional, and refuses the checkpoint where it is not.
_REQUIRED = {"identity": 1, "cursor": 1, "variables": 1, "optimizers": 1, "data": 1}
_OPTIONAL = {"callbacks": 1, "random": 1, "held": 1, "tracked": 1, "resumes": 1}


@dataclass(frozen=True)
class OptimizerRecord:
    """The facts about an optimizer that are needed before its slots are put back.

    Attributes:
        trained: The keys of what it trains, in its order; None if it was not built.
        first_steps: The steps that it had made when it began with a variable, by key; 0 is left
            out.
    """

    trained: tuple[str, ...] | None = None
    first_steps: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Record:
    """The state of a run between two steps.

    Attributes:
        identity: Which run it is.
        start_mode: How it began: from nothing (`"auto"` or `"never"`), or from another one's
            `"weights"`.
        cursor: Where it stands.
        variables: The model's variables by key.
        optimizers: By their place in the model.
        callbacks: The state of each callback by its name.
        random: The global random states.
        held: The state that Keras does not track, by the place of what holds it.
        data: What the source needs to be found again beside the step, what is left out of it, and
            how many batches validations have taken from a generator.
        tracked: What a loop of one's own has given to `kp.Run.track`, by name.
        resumed_at: The steps at which other processes went on with the run.
        unknown: Sections of a newer release, kept as they are.
        unknown_tensors: Their arrays.
    """

    identity: Identity
    start_mode: str
    cursor: Cursor
    variables: dict[str, VariableRecord]
    optimizers: dict[str, OptimizerRecord] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    random: dict[str, Any] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    tracked: dict[str, Any] = field(default_factory=dict)
    resumed_at: list[int] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)
    unknown_tensors: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, np.ndarray]:
        """The values of the variables, by key."""
        return {key: one.value for key, one in self.variables.items()}

    @property
    def roles(self) -> dict[str, Role]:
        """The role of each variable, by key."""
        return {key: one.role for key, one in self.variables.items()}

    def of(self, *roles: Role) -> dict[str, np.ndarray]:
        """The values of some roles, by key."""
        return {key: one.value for key, one in self.variables.items() if one.role in roles}

    def pack(self) -> tuple[dict[str, Any], list[Tensor]]:
        """The record as a JSON document and tensors. The values of the variables are not copied."""
        arrays: dict[str, np.ndarray] = {}
        cursor, optimizers = self.cursor, self.optimizers.items()
        content = {
            "identity": {**self.identity.as_json(), "start_mode": self.start_mode},
            "cursor": {
                "step": cursor.step,
                "todo": list(cursor.todo),
                "logs": encode(cursor.logs, "cursor/logs", arrays),
                "ended": cursor.ended,
            },
            "resumes": self.resumed_at,
            "variables": self.roles,
            "optimizers": {
                place: {"trained": one.trained, "first_steps": dict(one.first_steps)}
                for place, one in optimizers
            },
            "data": encode(self.data, "data", arrays),
            "callbacks": {
                name: encode(state, f"callbacks/{name}", arrays)
                for name, state in self.callbacks.items()
            },
            "random": encode(self.random, "random", arrays),
            "held": encode(self.held, "held", arrays),
            "tracked": encode(self.tracked, "tracked", arrays),
        }
        document = {
            name: {"version": version, "required": name in _REQUIRED, "content": content[name]}
            for name, version in {**_REQUIRED, **_OPTIONAL}.items()
        }
        tensors = [
            Tensor(_VARIABLES + key, one.value, one.path, stable=one.is_frozen)
            for key, one in self.variables.items()
        ]
        more = {**arrays, **self.unknown_tensors}
        return {**self.unknown, **document}, tensors + [Tensor(*item) for item in more.items()]

    @classmethod
    def unpack(
        cls, document: Mapping[str, Any], tensors: Mapping[str, np.ndarray], step: int
    ) -> Record:
        """The inverse of `pack`; reads the documents of format 1, too, which lack their step.

        Raises:
            NewerFormatError: If a section that cannot be left out is not known here.
        """
        if "begun" in document:
            return _from_format_1(document, tensors, step)
        content = {name: _content(name, section) for name, section in document.items()}
        known = {**_REQUIRED, **_OPTIONAL}
        unknown = {name: section for name, section in document.items() if name not in known}
        identity, cursor = dict(content["identity"]), content["cursor"]
        start_mode = identity.pop("start_mode")
        decoded = {
            name: decode(content[name], tensors)
            for name in ("data", "callbacks", "random", "held", "tracked")
            if name in content
        }
        return cls(
            identity=Identity.from_json(identity),
            start_mode=start_mode,
            cursor=Cursor(
                step=cursor["step"],
                todo=tuple(map(Duty, cursor["todo"])),
                logs=decode(cursor["logs"], tensors),
                ended=cursor["ended"],
            ),
            variables=_variables(content["variables"], tensors),
            optimizers={
                place: _optimizer_record(one["trained"], one["first_steps"])
                for place, one in content["optimizers"].items()
            },
            resumed_at=content.get("resumes", []),
            unknown=unknown,
            unknown_tensors={
                key: array for key, array in tensors.items() if key.partition("/")[0] in unknown
            },
            **decoded,
        )


def plain_parts(document: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a document by section, in every format that was ever written."""
    if "begun" in document:
        return dict(document)
    return {name: section["content"] for name, section in document.items()}


def weights_in(checkpoint: StoredCheckpoint) -> dict[str, np.ndarray]:
    """The weights of a checkpoint by their keys in the model, whatever else it holds.

    Raises:
        StoreError: If it does not tell which tensors are weights.
    """
    section = checkpoint.document.get("variables")
    roles = section.get("content", section) if isinstance(section, dict) else None
    if not isinstance(roles, dict):
        what = "it does not say which tensors are weights"
        raise StoreError(checkpoint.entry.folder, what, "Give a checkpoint of kp.Checkpoint.")
    keys = [key for key, role in roles.items() if role == "weight"]
    return {key: checkpoint.tensors[_VARIABLES + key] for key in keys}


def callback_state(callbacks: Iterable[keras.callbacks.Callback]) -> dict[str, Any]:
    """The state of each callback that can tell it, by name."""
    states = {
        name: callback_states.get_state(callback)
        for name, callback in callback_states.named(callbacks).items()
    }
    return {name: state for name, state in states.items() if state is not None}


def _content(name: str, section: Any) -> Any:
    known = {**_REQUIRED, **_OPTIONAL}.get(name)
    if known is None and section["required"]:
        what = f"the checkpoint has a section {name!r} that this keras-patterns does not know"
        raise NewerFormatError(name, what, "Upgrade keras-patterns.")
    if known is not None and section["version"] > known:
        what = (
            f"the section {name!r} of the checkpoint has version {section['version']}, and this "
            f"keras-patterns reads version {known}"
        )
        raise NewerFormatError(name, what, "Upgrade keras-patterns.")
    return section["content"]


def _variables(
    roles: Mapping[str, Role], tensors: Mapping[str, np.ndarray]
) -> dict[str, VariableRecord]:
    return {key: VariableRecord(tensors[_VARIABLES + key], role) for key, role in roles.items()}


def _optimizer_record(trained: Any, first_steps: Any) -> OptimizerRecord:
    """An optimizer's record; nonsense in it would not show before it has been put to use."""
    if isinstance(first_steps, dict) and all(
        type(step) is int and step >= 0 for step in first_steps.values()
    ):
        return OptimizerRecord(None if trained is None else tuple(trained), first_steps)
    raise StateMismatchError(
        "The checkpoint's `first_steps` must be whole numbers by optimizer and variable. Received: "
        f"{first_steps!r}. It was not written like this; go on from another checkpoint."
    )


def _from_format_1(
    document: Mapping[str, Any], tensors: Mapping[str, np.ndarray], step: int
) -> Record:
    """The record of a document that release 0.1 wrote."""
    first_steps = document.get("first_steps", {})
    if not isinstance(first_steps, dict):
        first_steps = {"": first_steps}
    built_on = document["built_on"]
    decoded = {
        name: decode(document[name], tensors) for name in ("callbacks", "random", "source", "logs")
    }
    logs, validates = decoded["logs"], document.get("validates", False)
    return Record(
        identity=Identity.from_json(document["identity"]),
        start_mode=document["begun"],
        cursor=Cursor(
            step=step,
            todo=_todo_of_format_1(logs is not None, validates, document.get("save_due", False)),
            logs=logs,
            ended=document["stopped"],
        ),
        variables=_variables(document["variables"], tensors),
        optimizers={
            place: _optimizer_record(built_on.get(place), first_steps.get(place, {}))
            for place in [*built_on, *(place for place in first_steps if place not in built_on)]
        },
        callbacks={
            "RunHistory" if name == "History" else name: state
            for name, state in decoded["callbacks"].items()
        },
        random=decoded["random"],
        data={
            **({"random": decoded["source"]["random"]} if "random" in decoded["source"] else {}),
            "skipped": document.get("skipped", {}),
            "validated": document["validated"],
        },
        resumed_at=document.get("resumes", []),
    )


def _todo_of_format_1(ends_epoch: bool, validates: bool, save_due: bool) -> tuple[Duty, ...]:
    if not (ends_epoch or validates):
        return ()
    todo = {Duty.VALIDATE: True, Duty.HOOKS: not ends_epoch, Duty.CLOSE_EPOCH: ends_epoch}
    return tuple(duty for duty, left in {**todo, Duty.SAVE: save_due}.items() if left)
