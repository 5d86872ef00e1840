"""Opening a search: its folder, its storage, its study; and the check that they belong together."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .. import _keras
from .._util.arguments import check_choice, whole_number
from .._util.messages import first_line, say
from .errors import TuningError, optuna_of, storage_errors
from .folder import StudyFolder, StudyRecord, digest_of, name_of, new_name
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
        if not callable(self.objective):
            raise TypeError(
                f"{self.caller}: `objective` must be a function of a trial. Received: "
                f"{self.objective!r}."
            )
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
        record = found or _new_record(asked, folder)
        sampler = make_sampler(asked.caller, asked.sampler, record.seed)
        record = _with_sampler(record, str(sampler), found)
        if found:
            record = _checked(asked, folder, record)
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
        if isinstance(storage, str) and storage.startswith("sqlite"):
            waits = {"connect_args": {"timeout": _SQLITE_SECONDS}}
            return optuna.storages.RDBStorage(storage, engine_kwargs=waits)
        if isinstance(storage, str):
            return optuna.storages.RDBStorage(storage)
    except Exception as error:
        # SQLAlchemy has an error for each way in which a URL is wrong.
        what = repr(str(storage or folder.journal))
        raise TuningError(
            f"{caller}: the storage {what} cannot be opened ({first_line(error)}). Every trial is "
            "kept. Check the name, and that the storage is there; then start the script again."
        ) from error
    if isinstance(storage, optuna.storages.BaseStorage):
        if isinstance(storage, optuna.storages.InMemoryStorage):
            raise ValueError(
                f"{caller}: an InMemoryStorage is lost with its process. Give a URL, or leave "
                "storage= out: then a journal is kept in the folder."
            )
        return storage
    raise TypeError(
        f"{caller}: `storage` must be a URL or a storage of Optuna's. Received: {storage!r}."
    )


def _new_record(asked: SearchArguments, folder: StudyFolder) -> StudyRecord:
    seed = asked.seed if asked.seed is not None else _keras.random_seed()
    if seed is None:
        seed = secrets.randbits(32)
        say(
            f"seed={seed} was drawn for the search; give it to have it again.",
            verbose=asked.verbose,
        )
    return StudyRecord(
        name=new_name(folder),
        kind=asked.caller,
        objective=name_of(asked.objective),
        source=digest_of(asked.objective),
        seed=int(seed),
        direction=asked.direction,  # type: ignore[arg-type]  # checked before
        monitor=asked.monitor,
        sampler="",
        budget=asked.budget,
    )


def _with_sampler(record: StudyRecord, sampler: str, found: StudyRecord | None) -> StudyRecord:
    """The record with the sampler of this script."""
    if found and found.sampler != sampler:
        say(f"the sampler is {sampler}, it was {found.sampler}.")
    return _with(record, sampler=sampler)


def _with(record: StudyRecord, **changes: Any) -> StudyRecord:
    return msgspec.structs.replace(record, **changes)


def _checked(asked: SearchArguments, folder: StudyFolder, record: StudyRecord) -> StudyRecord:
    """The record of a folder, if the script asks for its search."""
    now = {
        "the search": (record.kind, asked.caller),
        "objective": (record.objective, name_of(asked.objective)),
        "direction": (record.direction, asked.direction),
        "seed": (record.seed, record.seed if asked.seed is None else asked.seed),
        **{
            name: (record.budget.get(name), asked.budget.get(name))
            for name in sorted({*record.budget, *asked.budget})
        },
    }
    other = [f"{name} is {new!r}, it was {old!r}" for name, (old, new) in now.items() if old != new]
    if other:
        raise TuningError(
            f"{asked.caller}: {folder.path} holds another study: {'; '.join(other)}. Put these "
            "back to go on with it, or give the search a new folder. Every trial is kept."
        )
    source = digest_of(asked.objective)
    if source and record.source and source != record.source:
        say(
            f"the text of {record.objective} is another than when the search began: the values of "
            "its trials may not be comparable.",
            verbose=asked.verbose,
        )
    return _with(record, source=source or record.source)


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
