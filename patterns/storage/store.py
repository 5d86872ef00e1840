"""The checkpoints of a folder: written, listed, read, verified and retired."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .entry import Entry, FolderId, Report, StoredCheckpoint, list_entries, newest_run
from .errors import DamagedCheckpointError, StoreError
from .files import EncodedTensor, Tensor, encode_all
from .folder import delete_folder, is_same, read_folder, set_aside, signature, write_folder
from .layout import Donor, Inode, choose_donor, inodes, second_copy
from .lock import WriterLock
from .manifest import Manifest, Position, as_json, score_of
from .retention import Retention, ranked


class CheckpointFolder:
    """The checkpoints in a folder.

    Any number of processes may read while one writes. What the store did not write it leaves alone.

    Args:
        directory: the folder; made by the first write.
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
        self.directory = Path(directory)
        self._check = check or (lambda document, tensors, position: None)
        self._lock = WriterLock(self.directory)
        self._entries: dict[FolderId, Entry] = {}
        self._verdicts: dict[str, tuple[Any, bool]] = {}
        self._damaged: set[Inode] = set()

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
        entries = {entry.position: entry for entry in self.entries()}
        best = ranked(entry.candidate for entry in entries.values())
        return entries[best[0].position] if best else None

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
            if not self._is_written(entry, draft, stored):
                write_folder(entry.folder, draft, stored, self._donor())
                self._verdicts[entry.folder.name] = signature(entry.folder), True
        return entry

    def read(self, entry: Entry) -> StoredCheckpoint:
        """Reads a checkpoint and checks each of its bytes.

        Raises:
            DamagedCheckpointError: a byte differs; names the file and the tensors.
            NewerFormatError: this library is too old for it.
        """
        before = signature(entry.folder)
        try:
            manifest, tensors = read_folder(entry.folder, self._check)
        except DamagedCheckpointError:
            self._verdicts[entry.folder.name] = before, False
            with suppress(OSError):  # its writer may have retired it
                self._damaged |= inodes(entry.folder).keys()
            raise
        self._verdicts[entry.folder.name] = before, True
        return StoredCheckpoint(entry, manifest.document, tensors)

    def newest_sound(self) -> tuple[StoredCheckpoint | None, list[DamagedCheckpointError]]:
        """Reads the newest sound checkpoint, and says how the newer ones are damaged."""
        damaged: list[DamagedCheckpointError] = []
        for entry in reversed(self.entries()):
            try:
                return self.read(entry), damaged
            except DamagedCheckpointError as error:
                if entry.folder.exists():  # otherwise its writer has just retired it
                    damaged.append(error)
        return None, damaged

    def verify(self) -> list[Report]:
        """Reads every checkpoint, oldest first, and reports on each."""
        reports = []
        for entry in self.entries():
            try:
                self.read(entry)
                reports.append(Report(entry, None))
            except StoreError as error:
                if entry.folder.exists():
                    reports.append(Report(entry, error))
        return reports

    def at(self, step: int) -> Entry:
        """The newest checkpoint of a step of the newest run; StoreError if there is none."""
        found = [entry for entry in newest_run(self.entries()) if entry.position.step == step]
        if not found:
            raise StoreError(
                self.directory,
                f"there is no checkpoint of step {step}",
                f"The newest run has {self.steps()}.",
            )
        return found[-1]

    def prune(self, retention: Retention) -> list[Entry]:
        """Deletes what the retention does not keep of the newest run, and returns it.

        The newest sound checkpoint stays, and of two or more that stay, two share no file. What is
        damaged, or has a foreign file in its folder, is left alone.
        """
        with self._lock.ensure_held():
            own = self._prunable()
            positions = retention.kept(entry.candidate for entry in own)
            kept = [entry.folder for entry in own if entry.position in positions]
            doomed = [entry for entry in own if entry.position not in positions]
            try:
                spared = second_copy(kept, [entry.folder for entry in doomed])
                rest = [entry for entry in doomed if entry.folder != spared]
                return [entry for entry in rest if delete_folder(entry.folder, entry.manifest)]
            except OSError as error:
                raise StoreError.failed(self.directory, "delete old ones", error) from error

    def discard_after(self, position: Position) -> None:
        """Deletes what the run of a checkpoint has saved after it, for a run that goes on from
        there in another way.

        What is damaged, or has a foreign file in its folder, is renamed to "abandoned-...".
        """
        with self._lock.ensure_held():
            later = [
                entry
                for entry in self.entries()
                if entry.position.run == position.run and entry.position > position
            ]
            # The newest first: killed in between, what is left is a run that can go on.
            for entry in reversed(later):
                if not (self._is_usable(entry) and delete_folder(entry.folder, entry.manifest)):
                    set_aside(entry.folder, "abandoned")

    def lock(self) -> AbstractContextManager[None]:
        """Keeps other writers out, and clears what killed ones left.

        Raises:
            StoreInUseError: another writer has the folder.
        """
        return self._lock.hold()

    def _is_written(
        self, entry: Entry, draft: Manifest, stored: Mapping[str, EncodedTensor]
    ) -> bool:
        """Tells whether this very checkpoint is there, sound; a damaged one is set aside."""
        if not os.path.lexists(entry.folder):
            return False
        try:
            self.read(entry)
        except DamagedCheckpointError:
            set_aside(entry.folder)
            return False
        if is_same(Manifest.load(entry.folder), draft, stored):
            return True
        what = "a sound checkpoint of the same position with other content is there"
        mend = "Give the run another folder, or move this checkpoint away; it was not changed."
        raise StoreError(entry.folder, what, mend)

    def _is_usable(self, entry: Entry) -> bool:
        """Tells whether it is not known to be damaged, and its manifest can be read."""
        try:
            return bool(entry.manifest) and self._verdict(entry) is not False
        except StoreError:
            return False

    def _verdict(self, entry: Entry) -> bool | None:
        """The outcome of its last check, None if a file has changed since."""
        seen, sound = self._verdicts.get(entry.folder.name, (None, None))
        return sound if seen == signature(entry.folder) else None

    def _is_sound(self, entry: Entry) -> bool:
        try:
            return self._verdict(entry) or bool(self.read(entry))
        except StoreError:
            return False

    def _prunable(self) -> list[Entry]:
        own = [entry for entry in newest_run(self.entries()) if self._is_usable(entry)]
        while own and not self._is_sound(own[-1]):
            own.pop()
        return own

    def _donor(self) -> Donor | None:
        complete = (
            Donor(entry.folder, entry.manifest, frozenset(entry.manifest.files))
            for entry in reversed(self.entries())
            if entry.position.phase == 1 and self._is_usable(entry)
        )
        return choose_donor(complete, self._damaged)
