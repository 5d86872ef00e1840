"""`kp.CheckpointStore`: the checkpoints of a folder, for people and programs that look at them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import keras

from .._util.messages import say
from ..storage import CheckpointStore as FileStore
from ..storage import Entry, Position, StoreError, export_weights
from .contents import Record, restore_variables, restore_weights
from .identity import ResumeRefusedError


@dataclass(frozen=True)
class Found:
    """The newest sound checkpoint of a folder.

    Attributes:
        position: Where in the training it was taken.
        record: What it holds.
        backend: What it was saved on.
        fell_back: Why it is not the newest one, as the end of a sentence; empty if it is.
    """

    position: Position
    record: Record
    backend: str
    fell_back: str


class CheckpointStore(FileStore):
    """The checkpoints in a folder.

    Args:
        directory: A folder that `kp.Checkpoint` writes to.

    Example:

    >>> import tempfile
    >>> import keras_patterns as kp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kp.CheckpointStore(folder).steps()
    []
    """

    def find(self) -> Found | None:
        """Reads the newest sound checkpoint, falling back over damaged ones; None if there are no
        checkpoints.

        Raises:
            ResumeRefusedError: If there are checkpoints and none of them is sound.
        """
        sound, damage = self.newest_sound()
        if sound is None:
            if damage:
                raise ResumeRefusedError(
                    f"Every checkpoint in {self.directory} is damaged:\n  "
                    + "\n  ".join(str(one) for one in damage)
                    + (
                        "\nNothing was changed. To begin from nothing beside them, say "
                        'Checkpoint(..., resume="never").'
                    )
                )
            return None
        fell_back = "".join(f"; fell back, because {one}" for one in damage)
        record = Record.unpack(sound.document, sound.tensors)
        return Found(sound.position, record, sound.entry.manifest.made_with["backend"], fell_back)

    def restore(
        self, model: keras.Model, step: int | None = None, *, weights_only: bool = False
    ) -> int:
        """Puts a checkpoint into a model: its weights, and where the model is compiled the
        optimizer's state.

        Args:
            model: A built model of the same shape, on any backend.
            step: Of the checkpoint. Defaults to None: the newest sound one.
            weights_only: Whether to leave the optimizer as it is. Defaults to False.

        Returns:
            The step of the checkpoint.

        Raises:
            StoreError: If there is no such checkpoint, or it is damaged.
            StateMismatchError: If the model is another one; it is unchanged then.
        """
        position, record = self.read_record(step)
        if weights_only or not model.compiled:
            restore_weights(model, record)
            return position.step
        for line in restore_variables(model, record):
            say(f"{line}.")
        return position.step

    def export(self, path: str | os.PathLike[str], step: int | None = None) -> Entry:
        """Writes the weights of a checkpoint into a new `.safetensors` file, under their places in
        the model.

        Args:
            path: The file; an existing one is never overwritten.
            step: Of the newest run. Defaults to None: the newest sound checkpoint.

        Returns:
            The checkpoint that they are from.

        Raises:
            StoreError: If there is no such checkpoint, it is damaged, or the file cannot be
                written.
        """
        checkpoint = self.read(self.at(step)) if step is not None else self.newest_sound()[0]
        if checkpoint is None:
            raise StoreError(
                self.directory,
                "no sound checkpoint is there",
                "Name the folder that kp.Checkpoint was given.",
            )
        export_weights(checkpoint, Path(path))
        return checkpoint.entry

    def read_record(self, step: int | None = None) -> tuple[Position, Record]:
        """Reads a checkpoint: where in the training it was taken, and what it holds.

        Args:
            step: Of the checkpoint. Defaults to None: the newest sound one.

        Raises:
            StoreError: If there is no such checkpoint, or it is damaged.
        """
        if step is None:
            found = self.find()
            if found is None:
                raise StoreError(
                    self.directory,
                    "there is no checkpoint",
                    "Name the folder that kp.Checkpoint was given.",
                )
            return found.position, found.record
        sound = self.read(self.at(step))
        return sound.position, Record.unpack(sound.document, sound.tensors)
