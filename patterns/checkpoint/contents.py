"""The contents of a checkpoint of a run, and how they lie in its document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from ..state import Role, VariableRecord, encode
from ..state import callbacks as callback_states
from ..state.snapshot import not_finite
from ..storage import StoredCheckpoint, Tensor
from ..storage.document import OPTIONAL, REQUIRED, VARIABLES, read_document
from .cursor import Cursor, Duty
from .identity import Identity


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

    def not_finite(self) -> list[str]:
        """The keys of what is trained, and of its slots, that have a NaN or an infinity; of all
        weights, where no optimizer of the model says what it trains.
        """
        trained = {key for one in self.optimizers.values() for key in one.trained or ()}
        looked_at = trained or self.of("weight").keys()
        return not_finite(
            {
                key: one.value
                for key, one in self.variables.items()
                if one.role == "optimizer" or key in looked_at
            }
        )

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
            name: {"version": version, "required": name in REQUIRED, "content": content[name]}
            for name, version in {**REQUIRED, **OPTIONAL}.items()
        }
        tensors = [
            Tensor(VARIABLES + key, one.value, one.path, stable=one.is_frozen)
            for key, one in self.variables.items()
        ]
        more = {**arrays, **self.unknown_tensors}
        return {**self.unknown, **document}, tensors + [Tensor(*item) for item in more.items()]

    @classmethod
    def unpack(cls, stored: StoredCheckpoint) -> Record:
        """The inverse of `pack`; reads the documents of format 1, too, which lack their step.

        Raises:
            ValueError: If it is not such a document; a store that was opened for runs
                (`open_folder`) has looked.
            NewerFormatError: If a section that cannot be left out is not known here.
        """
        tensors, rows = stored.tensors, stored.entry.manifest.tensors
        contents, unknown = read_document(stored.document, tensors, stored.position)
        identity, cursor = dict(contents["identity"]), contents["cursor"]
        start_mode = identity.pop("start_mode")
        return cls(
            identity=Identity.from_json(identity),
            start_mode=start_mode,
            cursor=Cursor(
                step=cursor["step"],
                todo=tuple(map(Duty, cursor["todo"])),
                logs=cursor["logs"],
                ended=cursor["ended"],
            ),
            variables={
                key: VariableRecord(tensors[VARIABLES + key], role, rows[VARIABLES + key].path)
                for key, role in contents["variables"].items()
            },
            optimizers={
                place: OptimizerRecord(
                    None if one["trained"] is None else tuple(one["trained"]), one["first_steps"]
                )
                for place, one in contents["optimizers"].items()
            },
            callbacks=contents["callbacks"],
            random=contents["random"],
            data=contents["data"],
            held=contents["held"],
            tracked=contents["tracked"],
            resumed_at=contents["resumes"],
            unknown=unknown,
            unknown_tensors={
                key: array for key, array in tensors.items() if key.partition("/")[0] in unknown
            },
        )


def callback_state(callbacks: Iterable[keras.callbacks.Callback]) -> dict[str, Any]:
    """The state of each callback that can tell it, by name."""
    states = {
        name: callback_states.get_state(callback)
        for name, callback in callback_states.named(callbacks).items()
    }
    return {name: state for name, state in states.items() if state is not None}
