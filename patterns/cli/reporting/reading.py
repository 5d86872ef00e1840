"""The facts about the runs in a folder, as far as its manifests and result files tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..._util.schema import SchemaError
from ...run.history_state import KEPT, checked_history
from ...storage import (
    CheckpointFolder,
    Manifest,
    MissingCheckpointError,
    StoreError,
    phase_folder,
    phases_in,
)
from ...storage.decoding import decode
from ...storage.document import read_outline
from ...storage.results import DiagnosisFile, ResultFile, SearchFile, SweepFile, read_result
from ..folders import rows_of

_HISTORY = "RunHistory"
_Result = TypeVar("_Result", bound=ResultFile)


@dataclass
class RunFacts:
    """A run of a folder.

    Attributes:
        label: Its name on the page.
        number: Its ordinal in the folder.
        step: Of the newest checkpoint that can be read.
        created: When that was made.
        identity: The settings of the run, as they are in that checkpoint.
        is_over: Whether nothing is left to train.
        history: The state of its History, by the names of today.
        resumes: The steps at which other processes went on.
        made_with: Versions and processes.
        checkpoints: A row for each, as `keras-patterns list --json` has it.
        bytes_on_disk: Of all their files, each once.
        problems: What could not be read, and why.
    """

    label: str
    number: int = 0
    step: int = 0
    created: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    is_over: bool = False
    history: dict[str, Any] = field(default_factory=dict)
    resumes: list[int] = field(default_factory=list)
    made_with: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    bytes_on_disk: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def total_steps(self) -> int | None:
        """Steps of its plan, where that knows them."""
        return self.identity.get("total_steps")

    @property
    def processes(self) -> list[dict[str, Any]]:
        """Those that have trained it, oldest first."""
        return list(self.made_with.get("processes", []))


@dataclass
class FolderFacts:
    """A folder that was given to the report.

    Attributes:
        label: As it was given.
        runs: The newest run of the folder, or those of its phases.
        sweep, diagnosis, search: The result files in it.
        problems: Result files that could not be read, and why.
    """

    label: str
    runs: list[RunFacts] = field(default_factory=list)
    sweep: SweepFile | None = None
    diagnosis: DiagnosisFile | None = None
    search: SearchFile | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to show."""
        return not (self.runs or self.sweep or self.diagnosis or self.search or self.problems)

    @property
    def is_over(self) -> bool:
        """True if all of its runs are."""
        return bool(self.runs) and all(run.is_over for run in self.runs)


def read_folder_facts(directory: str) -> FolderFacts:
    """Reads the newest run of a folder, or those of its phases, and the results beside it.

    Args:
        directory: As it was given; need not exist.

    Raises:
        StoreError: If the folder cannot be listed.
    """
    facts = FolderFacts(directory)
    facts.sweep = _result(facts, SweepFile)
    facts.diagnosis = _result(facts, DiagnosisFile)
    facts.search = _result(facts, SearchFile)
    for phase in [None, *phases_in(directory)]:
        store = CheckpointFolder(phase_folder(directory, phase))
        if store.entries():
            label = directory if phase is None else f"{directory} · {phase}"
            facts.runs.append(store.again(lambda store=store, label=label: _read_run(store, label)))  # type: ignore[misc]
    return facts


def _result(facts: FolderFacts, kind: type[_Result]) -> _Result | None:
    try:
        return read_result(Path(facts.label), kind)
    except SchemaError as error:
        facts.problems.append(str(error))
        return None


def _read_run(store: CheckpointFolder, label: str) -> RunFacts:
    run = RunFacts(label)
    for entry in reversed(store.entries()):
        try:
            _fill(run, entry.manifest)
            break
        except MissingCheckpointError:
            raise
        except (StoreError, SchemaError) as error:
            run.problems.append(f"{entry.folder.name}: {error}")
    run.checkpoints, files = rows_of(store)
    run.bytes_on_disk = sum(files.values())
    return run


def _fill(run: RunFacts, manifest: Manifest) -> None:
    """Takes over what a manifest tells; SchemaError if that is not as it must be."""
    outline = read_outline(manifest.document, manifest.position.step)
    encoded = outline["callbacks"].get(_HISTORY, {})
    history = checked_history(decode(encoded, {}, f"callbacks.{_HISTORY}"))
    cursor, total = outline["cursor"], outline["identity"]["total_steps"]
    run.history = {"history": {}, "epoch": [], **{name: [] for name in KEPT}, **history}
    run.number, run.step = manifest.position.run, manifest.position.step
    run.created, run.made_with = manifest.created, manifest.made_with
    run.identity, run.resumes = outline["identity"], outline["resumes"]
    run.is_over = not cursor["todo"] and (cursor["ended"] or cursor["step"] == total)
