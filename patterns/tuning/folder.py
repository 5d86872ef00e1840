"""The folder of a search: the study that it belongs to, its locks, and a folder for each trial."""

from __future__ import annotations

import inspect
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import xxhash
from filelock import FileLock, Timeout

from .._util.paths import bound_path
from .._util.schema import Count, Fields
from ..storage import StoreError, StoreInUseError
from ..storage.errors import refusals
from ..storage.lock import check_lock_file, writer_lock
from ..storage.plain_files import make_folder, open_plain, replace_durably, sync_folder
from .errors import TuningError

_STUDY, _TRIAL, _TRIALS = "study.json", "trial.json", "trials"
_LOCK = ".study.lock"
_JOURNAL = "journal.log"
# Whoever holds the lock is creating one trial.
_LOCK_SECONDS = 600
_MOST_BYTES = 1 << 20
_KEPT = "Every trial is kept."


class StudyRecord(Fields, frozen=True):
    """The study that a folder belongs to.

    Attributes:
        format: Of this file.
        name: Of the study in its storage.
        kind: The public function whose search it is.
        objective: The function that is searched, by its module and name.
        source: A digest of its source text; empty where that cannot be had.
        file: In which that stands; empty where there is none.
        seed: Of the search.
        direction: `"minimize"` or `"maximize"`.
        monitor: The metric that is reported.
        sampler: The sampler's class.
        pruner: The pruner's class; empty for none.
        budget: The arguments that say how many steps trials have.
    """

    name: str
    kind: str
    objective: str
    source: str
    seed: int
    direction: Literal["minimize", "maximize"]
    monitor: str
    sampler: str
    pruner: str = ""
    file: str = ""
    budget: dict[str, int] = msgspec.field(default_factory=dict)
    format: Literal[1] = 1


class TrialRecord(Fields, frozen=True):
    """The trial that a folder belongs to.

    Attributes:
        format: Of this file.
        study: The name of its study.
        number: Of the trial.
        seed: Of its weights and its data.
        params: Those that it had when it began to train.
    """

    study: str
    number: Count
    seed: Count
    params: dict[str, Any]
    format: Literal[1] = 1


class StudyFolder:
    """The folder of a search.

    Args:
        caller: The public function, for messages.
        directory: The folder; made if it does not exist.
    """

    def __init__(self, caller: str, directory: str | os.PathLike[str]) -> None:
        self.path = bound_path(directory)
        self._caller = caller

    @property
    def journal(self) -> Path:
        """The file of the storage that is used where no other one is named."""
        return self.path / _JOURNAL

    def trial(self, number: int) -> Path:
        """The folder of a trial."""
        return self.path / _TRIALS / f"{number:05d}"

    def has_trials(self) -> bool:
        """True if a trial has begun here."""
        return (self.path / _TRIALS).exists()

    def check(self) -> None:
        """Raises if the folder is there and is that of something else."""
        with refusals(self.path, "look into the folder", _KEPT):
            is_there = self.path.exists()
            if is_there and not self.path.is_dir():
                raise TuningError(
                    f"{self._caller}: {self.path} is no folder. Give the search a new one."
                )
            names = [one.name for one in self.path.iterdir()] if is_there else []
        others = sorted(name for name in names if not name.startswith("."))
        if others and _STUDY not in others:
            raise TuningError(
                f"{self._caller}: {self.path} holds no study, but {', '.join(others[:3])}"
                f"{', ...' if len(others) > 3 else ''}. Give the search a folder of its own."
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the list of trials for one worker, waiting for its turn."""
        with refusals(self.path, "write to the folder", _KEPT):
            make_folder(self.path)
            check_lock_file(self.path / _LOCK)
            lock = FileLock(self.path / _LOCK, timeout=_LOCK_SECONDS)
            try:
                lock.acquire()
            except Timeout:
                raise TuningError(
                    f"{self._caller}: {self.path}: another worker has held the list of trials for "
                    f"{_LOCK_SECONDS} seconds. End it and start the script again. {_KEPT}"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def lock_trial(self, number: int) -> Any:
        """Holds a trial for one worker, or raises StoreInUseError; the lock is a context."""
        return writer_lock(self.trial(number))

    def is_free(self, number: int) -> bool:
        """True if no process has the trial."""
        try:
            with self.lock_trial(number):
                return True
        except StoreInUseError:
            return False

    def read(self) -> StudyRecord | None:
        """The study of the folder; None if it is new."""
        return self._read(self.path / _STUDY, StudyRecord)

    def write(self, record: StudyRecord) -> None:
        """Says whose folder it is. The lock is held."""
        _replace(self.path / _STUDY, msgspec.json.encode(record))

    def check_trial(self, study: str, number: int, seed: int, params: dict[str, Any]) -> None:
        """Notes the trial that a folder belongs to, or raises if it is that of another one.

        Raises:
            TuningError: If the storage and the folder tell different things.
        """
        path = self.trial(number) / _TRIAL
        params = msgspec.json.decode(msgspec.json.encode(params))
        found = self._read(path, TrialRecord)
        known = {} if found is None else found.params
        mixed = [
            f"{name} is {params[name]!r} in the storage and {value!r} in the folder"
            for name, value in known.items()
            if params.get(name, value) != value
        ]
        if found and (found.study != study or found.number != number):
            mixed = [f"the folder is that of trial {found.number} of the study {found.study!r}"]
        if mixed:
            raise TuningError(
                f"{self._caller}: the storage and the folder {path.parent} tell different things "
                f"of trial {number} of the study {study!r}: {'; '.join(mixed)}. Put back the "
                "storage that belongs to the folder, or give the search a new folder."
            )
        if found is None or params.keys() > known.keys():
            record = TrialRecord(study=study, number=number, seed=seed, params=params)
            _replace(path, msgspec.json.encode(record))

    def _read(self, path: Path, kind: Any) -> Any:
        try:
            with open_plain(path, any_folder=True) as file:
                return msgspec.json.decode(file.read(_MOST_BYTES), type=kind)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, ValueError) as error:
            raise TuningError(
                f"{self._caller}: {path} is damaged, or of a later version ({error}). Put it back "
                "from a copy, or give the search a new folder."
            ) from error
        except OSError as error:
            raise StoreError.failed(path, "read the file", error) from error


def new_name(folder: StudyFolder) -> str:
    """A name for a study that no other one has."""
    return f"{folder.path.name or 'study'}-{secrets.token_hex(4)}"


def copy_runs(source: Path, target: Path) -> None:
    """Copies the runs of a trial, that another one may go on with them: by hard links, where the
    system has them. The files of checkpoints never change. Done again after a kill, it does what is
    left.
    """
    for run in sorted(source.glob("fit-*")):
        if (target / run.name).exists():
            continue
        unfinished = target / f".copy-{run.name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        with refusals(target, "copy the checkpoints of another trial", _KEPT):
            shutil.copytree(
                run,
                unfinished,
                copy_function=_link_or_copy,
                ignore=lambda _, names: [name for name in names if name.startswith(".")],
            )
            os.replace(unfinished, target / run.name)
            sync_folder(target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # No hard links here, or too many of them.
        shutil.copy2(source, target)


def _replace(path: Path, data: bytes) -> None:
    with refusals(path.parent, "write to the folder", _KEPT):
        replace_durably(path, data)


def name_of(objective: Callable[..., Any]) -> str:
    """The module and the name of a function, by which another one is told from it."""
    plain = _plain(objective)
    module = plain.__module__
    if module in ("__main__", "__mp_main__"):
        module = "the script"
    return f"{module}.{plain.__qualname__}"


def digest_of(objective: Callable[..., Any]) -> str:
    """A digest of the source text of a function; empty where that cannot be had."""
    with suppress(OSError, TypeError):
        return xxhash.xxh3_128_hexdigest(inspect.getsource(_plain(objective)).encode())
    return ""


def file_of(objective: Callable[..., Any]) -> str:
    """The file in which a function is defined; empty where there is none."""
    with suppress(OSError, TypeError):
        if file := inspect.getsourcefile(_plain(objective)):
            return os.path.realpath(file)
    return ""


def import_blocker(objective: Callable[..., Any], by_file: bool = True) -> str | None:
    """The reason why another process cannot import a function; None if it can.

    Args:
        objective: The function.
        by_file: Whether that process reads the script anew, to find what it defines.
    """
    plain = _plain(objective)
    name = plain.__qualname__
    if "<" in name:
        return f"{name} is made inside a function, or has no name"
    is_typed_in = not getattr(sys.modules["__main__"], "__file__", None)
    if by_file and plain.__module__ == "__main__" and is_typed_in:
        return f"{name} was typed in, and stands in no file"
    return None


def _plain(objective: Any) -> Any:
    """The function inside a `functools.partial`, the class of an object that is called."""
    while isinstance(objective, partial):
        objective = objective.func
    return objective if hasattr(objective, "__qualname__") else type(objective)
