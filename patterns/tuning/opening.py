"""Opening a search: its folder, its storage, its study; and the check that they belong together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from .. import _keras
from .._util.arguments import check_choice, check_takes, whole_number
from .._util.messages import first_line, say
from ..state.randomness import drawn_seed
from .errors import TuningError, optuna_of, storage_errors
from .folder import StudyFolder, StudyRecord, digest_of, file_of, name_of, new_name
from .journal import journal_storage
from .sampling import make_sampler
from .search import Search, Strategy
from .trial import Trial

# SQLite lets one process write at a time; the others wait.
_SQLITE_SECONDS = 120


@dataclass(frozen=True)
class SearchArguments:
    """A search as it was asked for.

    Attributes:
        caller: The public function, for messages.
        objective: Takes a trial, and gives its value.
        directory: The folder.
        strategy: Says which trials there are.
        storage: Of Optuna's; None for a journal in the folder.
        sampler: Of Optuna's, or a function of `seed=`; None for `TPESampler`.
        pruner: Of Optuna's; None prunes nothing.
        direction: `"minimize"` or `"maximize"`.
        monitor: The metric that is reported.
        seed: Of the search; None takes that of the study in the folder, or that of
            `keras.utils.set_random_seed`, or draws one.
        catch: Errors of the objective that end the trial and not the search.
        verbose: 0 is silent.
        budget: The arguments that say how many steps trials have.
    """

    caller: str
    objective: Callable[[Trial], float | None]
    directory: str | os.PathLike[str]
    strategy: Strategy
    storage: Any = None
    sampler: Any = None
    pruner: Any = None
    direction: str = "minimize"
    monitor: str = "val_loss"
    seed: int | None = None
    catch: tuple[type[Exception], ...] = ()
    verbose: int | str = "auto"
    budget: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        optuna = optuna_of(self.caller)
        check_takes(self.caller, "objective", self.objective, "a trial")
        check_choice(self.caller, "direction", self.direction, ("minimize", "maximize"))
        if not (isinstance(self.monitor, str) and self.monitor):
            raise TypeError(
                f"{self.caller}: `monitor` must be the name of a metric. Received: "
                f"{self.monitor!r}."
            )
        if self.seed is not None:
            whole_number(self.caller, "seed", self.seed, least=0)
        if self.pruner is not None and not isinstance(self.pruner, optuna.pruners.BasePruner):
            raise TypeError(
                f"{self.caller}: `pruner` must be one of optuna.pruners. Received: {self.pruner!r}."
            )
        if not all(isinstance(one, type) and issubclass(one, Exception) for one in self.catch):
            raise TypeError(
                f"{self.caller}: `catch` must be a class of Exception, or a tuple of such. "
                f"Received: {self.catch!r}."
            )


def open_search(asked: SearchArguments) -> Search:
    """Opens a search.

    Raises:
        TuningError: If the folder is that of another search or of something else, or the storage
            does not hold its study or cannot be reached.
    """
    folder = StudyFolder(asked.caller, asked.directory)
    folder.check()
    with folder.lock():
        found = folder.read()
        # Drawn also where it is not wanted: a later search of the script has the same one.
        drawn = drawn_seed()
        record = found or _new_record(asked, folder, drawn)
        sampler = make_sampler(asked.caller, asked.sampler, record.seed)
        record = _of_script(record, asked, str(sampler))
        if found:
            _check_record(asked, folder, found)
            _say_changes(found, record)
        study = _study(asked, folder, record, sampler, is_new=found is None)
        if found and asked.monitor != found.monitor:
            _check_monitor(asked, folder, found, study)
            record = _with(record, monitor=asked.monitor)
        if record != found:
            folder.write(record)
    prunes = asked.pruner is not None
    return Search(
        asked.caller,
        folder,
        study,
        asked.objective,
        asked.strategy,
        record.seed,
        record.monitor,
        prunes,
        asked.catch,
        asked.verbose,
    )


def open_storage(caller: str, folder: StudyFolder, storage: Any) -> Any:
    """Optuna's storage.

    Args:
        caller: The public function, for messages.
        folder: Of the search.
        storage: A URL, an object of Optuna's, or None for the journal in the folder.
    """
    optuna = optuna_of(caller)
    try:
        if storage is None:
            return journal_storage(folder.journal)
        if isinstance(storage, str):
            waits = {"connect_args": {"timeout": _SQLITE_SECONDS}}
            how = {"engine_kwargs": waits} if storage.startswith("sqlite") else {}
            storage = optuna.storages.RDBStorage(storage, **how)
    except Exception as error:
        # SQLAlchemy has an error for each way in which a URL is wrong.
        what = repr(str(folder.journal if storage is None else storage))
        raise TuningError(
            f"{caller}: the storage {what} cannot be opened ({first_line(error)}). Every trial is "
            "kept. Check the name, and that the storage is there; then start the script again."
        ) from error
    if not isinstance(storage, optuna.storages.BaseStorage):
        raise TypeError(
            f"{caller}: `storage` must be a URL or a storage of Optuna's. Received: {storage!r}."
        )
    if _is_in_memory(storage):
        raise ValueError(
            f"{caller}: a storage in memory is lost with its process. Name a file or a server, or "
            "leave storage= out: then a journal is kept in the folder."
        )
    return storage


def _is_in_memory(storage: Any) -> bool:
    """True of Optuna's own, and of SQLite without a file."""
    from optuna.storages import InMemoryStorage, RDBStorage

    if not isinstance(storage, RDBStorage):
        return isinstance(storage, InMemoryStorage)
    url = storage.engine.url
    has_file = url.database not in (None, "", ":memory:") and url.query.get("mode") != "memory"
    return url.get_backend_name() == "sqlite" and not has_file


def _new_record(asked: SearchArguments, folder: StudyFolder, drawn: int) -> StudyRecord:
    seed = asked.seed if asked.seed is not None else _keras.random_seed()
    if seed is None:
        seed = drawn
        say(
            f"seed={seed} was drawn for the search; give it to have it again.",
            verbose=asked.verbose,
        )
    return StudyRecord(
        name=new_name(folder),
        kind=asked.caller,
        objective=name_of(asked.objective),
        source="",
        seed=int(seed),
        direction=asked.direction,  # type: ignore[arg-type]  # checked before
        monitor=asked.monitor,
        sampler="",
        budget=asked.budget,
    )


def _of_script(record: StudyRecord, asked: SearchArguments, sampler: str) -> StudyRecord:
    """The record with what a script may change."""
    source = digest_of(asked.objective)
    return _with(
        record,
        source=source or record.source,
        file=file_of(asked.objective) if source else record.file,
        sampler=sampler,
        pruner="" if asked.pruner is None else type(asked.pruner).__name__,
    )


def _with(record: StudyRecord, **changes: Any) -> StudyRecord:
    return msgspec.structs.replace(record, **changes)


def _check_record(asked: SearchArguments, folder: StudyFolder, found: StudyRecord) -> None:
    """Raises if the script does not ask for the search of the folder."""
    now = {
        "the search": (found.kind, asked.caller),
        "objective": (found.objective, name_of(asked.objective)),
        "direction": (found.direction, asked.direction),
        "seed": (found.seed, found.seed if asked.seed is None else asked.seed),
        **{
            name: (found.budget.get(name), asked.budget.get(name))
            for name in sorted({*found.budget, *asked.budget})
        },
    }
    other = [f"{name} is {new!r}, it was {old!r}" for name, (old, new) in now.items() if old != new]
    file = file_of(asked.objective)
    # A script that is no longer there may have been moved, and edited as well.
    is_there = file != found.file and bool(found.file) and Path(found.file).exists()
    if is_there and digest_of(asked.objective) not in ("", found.source):
        other.append(f"objective is another one, of {file}; that of {found.file} is still there")
    if other:
        raise TuningError(
            f"{asked.caller}: {folder.path} holds another study: {'; '.join(other)}. Put these "
            "back to go on with it, or give the search a new folder. Every trial is kept."
        )


def _say_changes(found: StudyRecord, record: StudyRecord) -> None:
    """Names what the script has changed of a search, and may change."""
    for name in ("sampler", "pruner"):
        old, new = getattr(found, name) or "none", getattr(record, name) or "none"
        if old != new:
            say(f"the {name} is {new}, it was {old}.")
    if found.file and record.file != found.file:
        say(f"the objective is that of {record.file}, it was that of {found.file}.")
    if found.source and record.source != found.source:
        say(
            f"the text of {found.objective} is another than when the search began: the values of "
            "its trials may not be comparable."
        )


def _check_monitor(
    asked: SearchArguments, folder: StudyFolder, found: StudyRecord, study: Any
) -> None:
    """Raises if trials have values of another metric."""
    told = [
        one.number
        for one in study.get_trials(deepcopy=False)
        if one.intermediate_values or one.state.name == "COMPLETE"
    ]
    if told:
        raise TuningError(
            f"{asked.caller}: {folder.path} holds a study of another metric: monitor is "
            f"{asked.monitor!r}, it was {found.monitor!r}, and trial {told[0]} has reported it. "
            "Put it back, or give the search a new folder. Every trial is kept."
        )


def _study(
    asked: SearchArguments, folder: StudyFolder, record: StudyRecord, sampler: Any, is_new: bool
) -> Any:
    optuna = optuna_of(asked.caller)
    storage = open_storage(asked.caller, folder, asked.storage)
    with storage_errors("find the study"), _quiet():
        if is_new:
            folder.write(record)
        elif folder.has_trials() and record.name not in optuna.get_all_study_names(storage):
            raise TuningError(
                f"{asked.caller}: {folder.path} holds the trials of the study {record.name!r}, and "
                f"the storage {asked.storage or str(folder.journal)!r} has no such study. Give the "
                "storage that it is in, or a new folder for a new search."
            )
        return optuna.create_study(
            study_name=record.name,
            storage=storage,
            direction=asked.direction,
            sampler=sampler,
            pruner=asked.pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it, Optuna does not say that it has found or made a study."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.set_verbosity(before)
