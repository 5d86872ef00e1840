"""The checkpoints of a folder: written, listed, read, verified and retired."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from .._util.paths import bound_path
from .checked import CheckedFiles, FileState
from .entry import Entry, FolderId, Report, StoredCheckpoint, list_entries, newest_run
from .errors import (
    DamagedCheckpointError,
    MissingCheckpointError,
    StoreError,
    SystemRefusalError,
    refusals,
)
from .files import EncodedTensor, Tensor, encode_all
from .folder import (
    check_folder,
    delete_folders,
    is_same,
    read_folder,
    set_aside,
    states,
    write_folder,
)
from .layout import Donor, choose_donor, second_copy
from .lock import WriterLock
from .manifest import Manifest, Position, as_json, score_of
from .plain_files import is_there, sync_folder
from .retention import Retention, ranked

_Read = TypeVar("_Read")
_States = dict[str, FileState]
# How often a reader looks again where the run that writes was faster.
_ROUNDS = 100


class CheckpointFolder:
    """The checkpoints in a folder.

    Any number of processes may read while one writes. What the store did not write it leaves alone.

    Args:
        directory: the folder; made by the first write. A relative one is bound now: a later change
            of the working directory does not move it.
        check: checks the document of a checkpoint, with its tensors and its position, before it is
            written and when it is read; raises SchemaError. Defaults to None: any JSON will do.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> store = CheckpointFolder(tempfile.mkdtemp())
    >>> kernel = Tensor("kernel", np.ones((2, 3)))
    >>> entry = store.write(Position(run=1, step=10), {"seed": 7}, [kernel])
    >>> store.read(entry).tensors["kernel"].shape
    (2, 3)
    """

    def __init__(
        self, directory: str | os.PathLike[str], check: Callable[..., Any] | None = None
    ) -> None:
        self.directory = bound_path(directory)
        self.label = os.fspath(directory)
        self._check = check or (lambda document, tensors, position: None)
        self._lock = WriterLock(self.directory)
        self._entries: dict[FolderId, Entry] = {}
        self._verdicts: dict[str, tuple[_States | None, bool]] = {}
        self._files = CheckedFiles()

    def entries(self) -> list[Entry]:
        """All checkpoints, oldest first; StoreError if the folder cannot be listed."""
        self._entries = list_entries(self.directory, self._entries)
        return sorted(self._entries.values())

    def steps(self) -> list[int]:
        """The steps of the newest run that have a checkpoint, in order."""
        return sorted({entry.position.step for entry in newest_run(self.entries())})

    def latest(self) -> Entry | None:
        """The newest checkpoint, sound or not."""
        return max(self.entries(), default=None)

    def best(self) -> Entry | None:
        """The one with the best finite score, by the metric and mode of the newest that has one."""
        return self.again(self._best)

    def write(
        self,
        position: Position,
        document: Mapping[str, Any],
        tensors: Iterable[Tensor],
        *,
        score: Mapping[str, Any] | None = None,
        made_with: Mapping[str, Any] | None = None,
        needs: Iterable[Position] = (),
    ) -> Entry:
        """Publishes a checkpoint: killed at any instant, it is there as a whole or not at all.

        If the same one is there already and sound, it stays as it is. A damaged one of the same
        position is renamed to "damaged-...".

        Args:
            position: where in the training it is taken.
            document: plain JSON.
            tensors: the arrays; they must not change until this returns.
            score: `{"monitor": name, "mode": "min" or "max", "value": number}`. Defaults to None.
            made_with: plain JSON, such as versions and backend. Defaults to None.
            needs: the positions of earlier ones that stay as long as this one does. Defaults to
                none.

        Returns:
            The new checkpoint.

        Raises:
            TypeError, ValueError: an argument cannot be stored.
            StoreInUseError: another writer has the folder.
            StoreError: the system refused, or another sound checkpoint has this position.
        """
        draft = Manifest(
            Position.checked(position),
            as_json(dict(document), "document"),
            score=score_of(score),
            made_with=as_json(dict(made_with or {}), "made_with"),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            needs=tuple(sorted(needs)),
        )
        tensors = list(tensors)
        stored = encode_all(tensors)
        arrays = {tensor.key: tensor.array for tensor in tensors}
        self._check(draft.document, arrays, draft.position)
        entry = Entry(draft.position, self.directory / draft.position.folder_name)
        with self._lock.ensure_held():
            if self._is_written(entry, draft, stored):
                # Whoever wrote it may have been stopped before its name was on disk.
                with refusals(self.directory, "write to the folder"):
                    sync_folder(self.directory)
                return entry
            write_folder(entry.folder, draft, stored, self._donor(), self._files)
            with suppress(SystemRefusalError):
                self._verdicts[entry.folder.name] = states(entry.folder), True
        return entry

    def read(self, entry: Entry) -> StoredCheckpoint:
        """Reads a checkpoint and checks each of its bytes.

        Raises:
            DamagedCheckpointError: a byte differs; names the file and the tensors.
            MissingCheckpointError: it has been removed.
            NewerFormatError: this library is too old for it.
            SystemRefusalError: the system does not let it be read.
        """
        manifest, tensors = self._read(
            entry, lambda folder: read_folder(folder, self._check), lambda found: found[0]
        )
        return StoredCheckpoint(entry.with_manifest(manifest), manifest.document, tensors)

    def read_at(self, step: int) -> StoredCheckpoint:
        """Reads the newest checkpoint of a step of the newest run; StoreError if there is none, or
        as `read`.
        """
        return self.again(lambda: self.read(self.at(step)))

    def newest_sound(self) -> tuple[StoredCheckpoint | None, list[DamagedCheckpointError]]:
        """Reads the newest sound checkpoint, and says how the newer ones are damaged.

        Raises:
            NewerFormatError, SystemRefusalError: as `read`, of the newest that is not damaged.
        """
        return self.again(self._newest_sound)

    def verify(self) -> list[Report]:
        """Reads every checkpoint, oldest first, and reports on each that is still there."""
        return self.again(self._reports)

    def is_sound(self, entry: Entry) -> bool:
        """Tells whether a checkpoint is what was written; it is read unless this process has done
        so, and its files are as they were then.

        Raises:
            SystemRefusalError: the system does not let it be read.
        """
        try:
            return self._verdict(entry) or bool(self._read_through(entry))
        except SystemRefusalError:
            raise
        except StoreError:
            return False

    def again(self, look: Callable[[], _Read]) -> _Read:
        """Looks, and again where a run that writes has removed meanwhile what was listed.

        Args:
            look: lists the checkpoints and reads some; raises MissingCheckpointError where one is
                no longer there.

        Returns:
            Its answer.

        Raises:
            StoreError: the run is faster each time.
        """
        for _ in range(_ROUNDS):
            with suppress(MissingCheckpointError):
                return look()
        raise StoreError(
            self.label,
            "its run removes checkpoints faster than they can be read",
            "Keep more of them (keep_last=), or look again when it has ended.",
        )

    def at(self, step: int) -> Entry:
        """The newest checkpoint of a step of the newest run; StoreError if there is none."""
        found = [entry for entry in newest_run(self.entries()) if entry.position.step == step]
        if not found:
            raise StoreError(
                self.label,
                f"there is no checkpoint of step {step}",
                f"The newest run has {self.steps()}.",
            )
        return found[-1]

    def prune(self, retention: Retention) -> list[Entry]:
        """Deletes what the retention does not keep of the newest run, and returns it.

        The newest sound checkpoint stays, and of two or more that stay, two share no file. What is
        damaged, or has a foreign file in its folder, is left alone, and nothing sound is deleted in
        its favour.
        """
        with self._lock.ensure_held(), refusals(self.directory, "delete old ones"):
            own = self._sound_rivals(retention)
            positions = retention.kept(entry.candidate for entry in own)
            kept = [entry.folder for entry in own if entry.position in positions]
            doomed = [entry for entry in own if entry.position not in positions]
            spared = self._sound_copy(kept, doomed)
            rest = {entry.folder: entry.manifest for entry in doomed if entry not in spared}
            foreign = delete_folders(rest)
            deleted = [one for one in doomed if one.folder in rest and one.folder not in foreign]
        for entry in deleted:
            self._verdicts.pop(entry.folder.name, None)
        return deleted

    def discard_after(self, position: Position) -> None:
        """Deletes what the run of a checkpoint has saved after it, for a run that goes on from
        there in another way.

        What is damaged, or has a foreign file in its folder, is renamed to "abandoned-...".
        """
        with self._lock.ensure_held(), refusals(self.directory, "delete old ones"):
            # The newest first: killed in between, what is left is a run that can go on.
            later = [
                entry
                for entry in reversed(self.entries())
                if entry.position.run == position.run and entry.position > position
            ]
            usable = {entry.folder: entry.manifest for entry in later if self._is_usable(entry)}
            foreign = delete_folders(usable)
            for entry in later:
                if entry.folder not in usable or entry.folder in foreign:
                    set_aside(entry.folder, "abandoned")

    def lock(self) -> AbstractContextManager[None]:
        """Keeps other writers out, and clears what killed ones left.

        Raises:
            StoreInUseError: another writer has the folder.
        """
        return self._lock.hold()

    def _read(
        self,
        entry: Entry,
        reader: Callable[[Path], _Read],
        manifest_of: Callable[[_Read], Manifest],
    ) -> _Read:
        """Reads a checkpoint, and remembers the verdict on it and on its files."""
        for left in reversed(range(_ROUNDS)):
            before = states(entry.folder)
            try:
                found = reader(entry.folder)
            except DamagedCheckpointError as error:
                if not is_there(entry.folder):
                    raise MissingCheckpointError(entry.folder) from error
                if left and before != states(entry.folder):
                    # Its run has written another one under this name meanwhile.
                    continue
                self._verdicts[entry.folder.name] = before, False
                raise
            self._verdicts[entry.folder.name] = before, True
            for name, row in manifest_of(found).files.items():
                if before and name in before:
                    self._files.note(before[name], row, sound=True)
            return found
        raise AssertionError

    def _read_through(self, entry: Entry) -> Manifest:
        return self._read(
            entry, lambda folder: check_folder(folder, self._check), lambda manifest: manifest
        )

    def _best(self) -> Entry | None:
        entries = {entry.position: entry for entry in self.entries()}
        best = ranked(entry.candidate for entry in entries.values())
        return entries[best[0].position] if best else None

    def _newest_sound(self) -> tuple[StoredCheckpoint | None, list[DamagedCheckpointError]]:
        damaged: list[DamagedCheckpointError] = []
        for entry in reversed(self.entries()):
            try:
                return self.read(entry), damaged
            except DamagedCheckpointError as error:
                damaged.append(error)
        return None, damaged

    def _reports(self) -> list[Report]:
        reports = []
        missing = None
        for entry in self.entries():
            try:
                self._read_through(entry)
                reports.append(Report(entry, None))
            except MissingCheckpointError as error:
                missing = error
            except StoreError as error:
                reports.append(Report(entry, error))
        if missing and not reports:
            raise missing
        return reports

    def _is_written(
        self, entry: Entry, draft: Manifest, stored: Mapping[str, EncodedTensor]
    ) -> bool:
        """Tells whether this very checkpoint is there, sound; a damaged one is set aside."""
        if not is_there(entry.folder):
            return False
        try:
            manifest = self._read_through(entry)
        except DamagedCheckpointError:
            set_aside(entry.folder)
            return False
        if is_same(manifest, draft, stored):
            return True
        what = "a sound checkpoint of the same position with other content is there"
        mend = "Give the run another folder, or move this checkpoint away; it was not changed."
        raise StoreError(entry.folder, what, mend)

    def _is_usable(self, entry: Entry) -> bool:
        """Tells whether it is not known to be damaged, and its manifest can be read."""
        try:
            return bool(entry.manifest) and self._verdict(entry) is not False
        except SystemRefusalError:
            raise
        except StoreError:
            return False

    def _verdict(self, entry: Entry) -> bool | None:
        """The outcome of its last check, None if a file has changed since."""
        if entry.folder.name not in self._verdicts:
            return None
        seen, sound = self._verdicts[entry.folder.name]
        return sound if seen == states(entry.folder) else None

    def _sound_rivals(self, retention: Retention) -> list[Entry]:
        """The checkpoints of the newest run by which a retention decides. Those by whose rank
        others are deleted have been read, once.
        """
        own = [entry for entry in newest_run(self.entries()) if self._is_usable(entry)]
        # Milestones stand in nobody's way, and there may be many.
        ranks = replace(retention, keep_every_steps=None)
        while len(retention.kept(entry.candidate for entry in own)) < len(own):
            rivals = ranks.kept(entry.candidate for entry in own)
            unsound = {
                entry for entry in own if entry.position in rivals and not self.is_sound(entry)
            }
            if not unsound:
                break
            own = [entry for entry in own if entry not in unsound]
        return own

    def _sound_copy(self, kept: list[Path], doomed: list[Entry]) -> list[Entry]:
        """Those of the doomed that stay: a second copy, if one is needed, and the damaged ones that
        were found on the way to it.
        """
        spared: list[Entry] = []
        while not spared or not self.is_sound(spared[-1]):
            left = {entry.folder: entry for entry in doomed if entry not in spared}
            copy = second_copy(kept, list(left))
            if copy is None:
                break
            spared.append(left[copy])
        return spared

    def _donor(self) -> Donor | None:
        """The one whose files may be linked. None also where that cannot be found out now: the same
        bytes are in memory, and to write them is safe.
        """
        try:
            complete = (
                Donor(entry.folder, entry.manifest, frozenset(entry.manifest.files))
                for entry in reversed(self.entries())
                if entry.position.phase == 1 and self._is_usable(entry)
            )
            return choose_donor(complete, self._files.damaged)
        except (OSError, SystemRefusalError):
            return None
