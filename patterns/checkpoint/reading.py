"""The checkpoints of the newest run, read as records."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .._util.arguments import whole_number
from ..storage import (
    CheckpointFolder,
    Entry,
    MissingCheckpointError,
    Position,
    StoreError,
    SystemRefusalError,
    read_document,
)
from .contents import Record
from .identity import ResumeRefusedError


@dataclass(frozen=True)
class SoundCheckpoint:
    """The newest sound checkpoint of a folder.

    Attributes:
        position: Where in the training it was taken.
        record: Its content.
        made_with: The versions, the backend and the processes that made it.
        fell_back: Why it is not the newest one, as the end of a sentence; empty if it is.
    """

    position: Position
    record: Record
    made_with: dict[str, Any]
    fell_back: str


def open_folder(store: CheckpointFolder | str | os.PathLike[str]) -> CheckpointFolder:
    """The store itself, or that of the runs in a folder."""
    return store if isinstance(store, CheckpointFolder) else CheckpointFolder(store, read_document)


def find_newest(store: CheckpointFolder) -> SoundCheckpoint | None:
    """Reads the newest sound checkpoint, falling back over damaged ones; None if there are no
    checkpoints.

    Raises:
        ResumeRefusedError: If there are checkpoints and none of them is sound.
    """
    sound, damage = store.newest_sound()
    if sound is None:
        if damage:
            lines = "\n  ".join(str(one) for one in damage)
            raise ResumeRefusedError(
                f"Every checkpoint in {store.label} is damaged:\n  {lines}\nNothing was "
                'changed. To begin from nothing beside them, say Checkpoint(..., resume="never").'
            )
        return None
    fell_back = "".join(f"; fell back, because {one}" for one in damage)
    record = Record.unpack(sound)
    made_with = sound.entry.manifest.made_with
    return SoundCheckpoint(sound.position, record, made_with, fell_back)


def read_record(store: CheckpointFolder, step: int | None) -> tuple[Position, Record]:
    """Reads the checkpoint of a step, or the newest sound one: its position and its content.

    Raises:
        StoreError: If there is no such checkpoint, or it is damaged.
    """
    if step is None:
        newest = find_newest(store)
        if newest is None:
            raise StoreError.empty(store.label)
        return newest.position, newest.record
    sound = store.read_at(step)
    return sound.position, Record.unpack(sound)


def listed(caller: str, steps: Iterable[int] | None) -> list[int] | None:
    """The argument `steps`, which may be read once."""
    if steps is not None and not isinstance(steps, Iterable):
        raise TypeError(f"{caller}: `steps` must list steps, as [4, 6]. Received: {steps!r}.")
    return None if steps is None else list(steps)


def entries_by_step(
    caller: str, store: CheckpointFolder, steps: Iterable[int] | None
) -> dict[int, list[Entry]]:
    """The checkpoints of the newest run by their step, in order. Of one step, that after its
    validation comes first.

    Args:
        caller: The function that was called, for the message.
        store: Where they are.
        steps: Which of them. Defaults to all.

    Raises:
        StoreError: If there is none, or none of a step that was asked for.
        TypeError: If a step is no whole number.
    """
    entries = store.entries()
    if not entries:
        raise StoreError.empty(store.label)
    by_step: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.position.run == entries[-1].position.run:
            by_step.setdefault(entry.position.step, []).insert(0, entry)
    if steps is None:
        return by_step
    wanted = sorted({whole_number(caller, "steps", step, least=0) for step in steps})
    if not wanted:
        raise ValueError(
            f"{caller}: `steps` must name at least one step, or be None for all. Received: "
            f"{steps!r}."
        )
    missing = [step for step in wanted if step not in by_step]
    if missing:
        raise StoreError(
            store.label,
            f"there is no checkpoint of step {missing[0]}",
            f"The newest run has {[*by_step]}.",
        )
    return {step: by_step[step] for step in wanted}


def read_first_sound(store: CheckpointFolder, entries: Sequence[Entry]) -> Record:
    """Reads the first sound one of several checkpoints of a step.

    Raises:
        StoreError: If none is sound.
        MissingCheckpointError: If the run that writes has removed them meanwhile.
        SystemRefusalError: If the system does not let one be read.
    """
    problem: StoreError | None = None
    for entry in entries:
        try:
            sound = store.read(entry)
        except SystemRefusalError:
            raise
        except StoreError as error:
            # Of one that is removed there is less to say than of one that is damaged.
            if problem is None or isinstance(problem, MissingCheckpointError):
                problem = error
        else:
            return Record.unpack(sound)
    assert problem
    raise problem


def not_finite_lines(store: CheckpointFolder, at: Position, record: Record) -> list[str]:
    """A line that names weights that are not finite, and the newest checkpoint before them.

    Args:
        store: Where the checkpoint is.
        at: Its position.
        record: Its content.
    """
    wrong = record.not_finite()
    if not wrong:
        return []
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    text = f"at step {at.step:,}, {wrong[0]}{more} is not finite"
    for entry in reversed(store.entries()):
        if entry.position.run == at.run and entry.position < at:
            try:
                _, earlier = read_record(store, entry.position.step)
            except SystemRefusalError:
                raise
            except StoreError:
                continue
            if not earlier.not_finite():
                return [
                    f"{text}; that of step {entry.position.step:,} is the newest that is. "
                    "kp.NonFiniteGuard goes back by itself."
                ]
    return [
        f"{text}, and no earlier checkpoint that is kept is. Begin anew, with kp.NonFiniteGuard."
    ]
