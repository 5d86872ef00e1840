"""The comparison of two runs of the demo, and its closing table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..._util.table import format_table
from ...state.codec import decode
from ...storage import CheckpointFolder, StoredCheckpoint
from ...storage.compare import Difference, differing_tensors, differing_values
from ...storage.parts import plain_parts
from .processes import PREDICTIONS, TrainingProcess

_VARIABLES = {
    "weight": "weights, BatchNorm statistics",
    "seed": "seeds of dropout, augmentation",
    "optimizer": "optimizer: slots, rate, step",
    "metric": "running metrics",
}
_REST = "plan, identity, skipped batches"
# What the processes went through, and no part of the state: where they went on.
_NO_STATE = "resumes"

TableRow = tuple[str, int | str]


@dataclass(frozen=True)
class Outcome:
    """A run that is over.

    Attributes:
        processes: What its processes did, in order.
        checkpoint: Its last checkpoint.
        predictions: Of the trained model for the validation images, shape `(images, 10)`.
    """

    processes: list[TrainingProcess]
    checkpoint: StoredCheckpoint
    predictions: np.ndarray

    @classmethod
    def read(cls, folder: Path, processes: list[TrainingProcess]) -> Outcome:
        """Reads what the processes left in their folder."""
        store = CheckpointFolder(folder)
        latest = store.latest()
        assert latest is not None, f"the run left no checkpoint in {folder}"
        return cls(processes, store.read(latest), np.load(folder / PREDICTIONS, allow_pickle=False))

    @property
    def history(self) -> dict[str, Any]:
        """The state of Keras's History: `history`, `epoch`, and what `kp.fit` adds."""
        return self.callback("RunHistory")

    def callback(self, name: str) -> dict[str, Any]:
        """The state of a callback."""
        states = plain_parts(self.checkpoint.document)["callbacks"]
        return decode(states[name], self.checkpoint.tensors)

    @property
    def not_finite(self) -> list[int]:
        """The steps whose batches the guard left out."""
        return [finding["step"] for finding in self.callback("NonFiniteGuard")["findings"]]

    @property
    def backend(self) -> str:
        """The backend on which its last process trained."""
        return self.checkpoint.entry.manifest.made_with["backend"]

    @property
    def kills(self) -> list[tuple[int, int]]:
        """The step that had begun at each kill, and that after which the next process went on."""
        return [
            (process.last, following.first - 1)
            for process, following in zip(self.processes, self.processes[1:], strict=False)
        ]


@dataclass
class Part:
    """A part of a run's state: its arrays by key, and its plain values by place."""

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def differences(self, other: Part) -> list[Difference]:
        """The places where the two are not equal to the bit."""
        return differing_tensors(self.tensors, other.tensors) + differing_values(
            self.values, other.values
        )

    @property
    def bytes(self) -> int:
        """The bytes of the arrays, and of the plain values as text."""
        return sum(array.nbytes for array in self.tensors.values()) + (
            len(json.dumps(self.values)) if self.values else 0
        )


def parts(outcome: Outcome) -> dict[str, Part]:
    """All that a checkpoint holds, and what the model predicts, by what it is."""
    found: defaultdict[str, Part] = defaultdict(Part)
    checkpoint = outcome.checkpoint
    rows = checkpoint.entry.manifest.tensors
    contents = plain_parts(checkpoint.document)
    for key, array in checkpoint.tensors.items():
        found[_part_of(key, rows[key].path, contents["variables"])].tensors[key] = array
    for key, value in contents.items():
        if key == "callbacks":
            for name, state in value.items():
                found[_part_of(f"callbacks/{name}")].values.update({name: state} if state else {})
        elif key != _NO_STATE:
            found[_part_of(key)].values[key] = value
    found["predictions after training"].tensors["predictions"] = outcome.predictions
    return {name: part for name, part in found.items() if part.bytes}


def _part_of(key: str, path: str = "", roles: dict[str, str] | None = None) -> str:
    group, _, rest = key.partition("/")
    if group == "callbacks":
        return f"callback {rest.split('/')[0]}"
    if group == "random":
        return "random states of the process"
    if group == "variables" and roles:
        return _VARIABLES["seed" if path.endswith("seed_generator_state") else roles[rest]]
    return _REST


def compare(reference: Outcome, killed: Outcome) -> tuple[str, list[Difference]]:
    """The closing table, and where the two runs differ: nowhere, if all is well."""
    first, second = parts(reference), parts(killed)
    rows: list[tuple[str, int, int, str]] = []
    differences: list[Difference] = []
    for name in dict.fromkeys([*first, *second]):
        one, other = first.get(name, Part()), second.get(name, Part())
        found = one.differences(other)
        rows.append((name, len(one.tensors), one.bytes, _verdict(found)))
        differences += found
    rows.append(
        (
            "together",
            sum(row[1] for row in rows),
            sum(row[2] for row in rows),
            _verdict(differences),
        )
    )
    return format_table(["compared bit for bit", "arrays", "bytes", "equal"], rows), differences


def _verdict(differences: list[Difference]) -> str:
    return "NOT EQUAL" if differences else "yes"


def summary(reference: Outcome, killed: Outcome) -> str:
    """A table of what the two runs went through, and what became of early stopping."""
    reason = killed.callback("EarlyStopping")["reason"]
    said = (
        "Stopped early: " + reason
        if reason
        else "Early stopping saw no reason to stop before the end"
    )
    return f"{journey(reference, killed, _guard_and_stopping_rows)}\n\n{said}."


def journey(
    reference: Outcome,
    killed: Outcome,
    more: Callable[[Outcome], list[TableRow]] = lambda outcome: [],
) -> str:
    """A table of what the processes of two runs did, and more figures of each."""
    rows = zip(_rows(reference, more(reference)), _rows(killed, more(killed)), strict=True)
    return format_table(
        ["", "left alone", "killed"], [[name, value, other] for (name, value), (_, other) in rows]
    )


def verdict(differences: list[Difference]) -> str:
    """The comparison in a line."""
    if differences:
        return (
            f"NOT EQUAL in {len(differences)} places. The first: {differences[0].place}: "
            f"{differences[0].what}."
        )
    return "EQUAL, bit for bit."


def accuracy(outcome: Outcome) -> float:
    """The accuracy on the validation images of the weights that were put back; between 0 and 1."""
    return outcome.history["history"]["val_accuracy"][
        outcome.callback("EarlyStopping")["best_epoch"]
    ]


def _rows(outcome: Outcome, more: list[TableRow]) -> list[TableRow]:
    return [
        ("processes", len(outcome.processes)),
        ("kills (SIGKILL)", sum(process.killed for process in outcome.processes)),
        ("killed in step", ", ".join(str(killed) for killed, _ in outcome.kills)),
        ("went on from step", ", ".join(str(resumed) for _, resumed in outcome.kills)),
        ("steps planned", plain_parts(outcome.checkpoint.document)["identity"]["total_steps"]),
        ("steps made", outcome.checkpoint.position.step),
        ("steps lost by kills", sum(killed - resumed for killed, resumed in outcome.kills)),
        *more,
        (
            "seconds, imports included",
            f"{sum(process.seconds for process in outcome.processes):.0f}",
        ),
    ]


def _guard_and_stopping_rows(outcome: Outcome) -> list[TableRow]:
    stopping = outcome.callback("EarlyStopping")
    return [
        ("NaN found in step", ", ".join(map(str, outcome.not_finite))),
        ("best step, put back", stopping["best_step"]),
        ("its validation accuracy", f"{accuracy(outcome):.4f}"),
    ]
