"""The checkpoints of the newest run, a step at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import keras

from .._util.arguments import whole_number
from ..storage import Entry, StoreError
from .contents import Record
from .store import CheckpointStore


def open_store(store: CheckpointStore | str | os.PathLike[str]) -> CheckpointStore:
    """The store itself, or that in a folder."""
    return store if isinstance(store, CheckpointStore) else CheckpointStore(store)


def check_built(where: str, model: keras.Model, *, compiled: bool = False) -> None:
    """Raises unless `model` is a model with variables, and compiled if it must be."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{where}: `model` must be a Keras model. Received: {type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"{where}: {model.name!r} is not built, so it has no weights yet. Call it on a batch "
            "first."
        )
    if compiled and not model.compiled:
        raise ValueError(
            f"{where}: {model.name!r} is not compiled. Call model.compile(optimizer, loss) first."
        )


def entries_by_step(
    where: str, store: CheckpointStore, steps: Iterable[int] | None
) -> dict[int, list[Entry]]:
    """The checkpoints of the newest run by their step, in order. Of one step, that after its
    validation comes first.

    Args:
        where: Who asks, for the message.
        store: Where they are.
        steps: Which of them. Defaults to all.

    Raises:
        StoreError: If there is none, or none of a step that was asked for.
        TypeError: If a step is no whole number.
    """
    entries = store.entries()
    if not entries:
        raise StoreError(
            store.directory,
            "there is no checkpoint",
            "Name the folder that kp.Checkpoint was given.",
        )
    found: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.position.run == entries[-1].position.run:
            found.setdefault(entry.position.step, []).insert(0, entry)
    if steps is None:
        return found
    wanted = sorted({whole_number(where, "steps", step, least=0) for step in steps})
    if not wanted:
        raise ValueError(
            f"{where}: `steps` must name at least one step, or be None for all. Received: "
            f"{steps!r}."
        )
    missing = [step for step in wanted if step not in found]
    if missing:
        raise StoreError(
            store.directory,
            f"there is no checkpoint of step {missing[0]}",
            f"The newest run has {[*found]}.",
        )
    return {step: found[step] for step in wanted}


def read_sound(store: CheckpointStore, entries: Sequence[Entry]) -> Record | None:
    """Reads the first sound one of several checkpoints of a step; None if their writer has retired
    them meanwhile.

    Raises:
        StoreError: If none is sound.
    """
    problem: StoreError | None = None
    for entry in entries:
        try:
            sound = store.read(entry)
        except StoreError as error:
            if entry.folder.exists():
                problem = problem or error
        else:
            return Record.unpack(sound.document, sound.tensors, sound.position.step)
    if problem:
        raise problem
    return None
