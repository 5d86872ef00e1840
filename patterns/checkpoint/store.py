"""`kp.CheckpointStore`: the checkpoints of a folder, and everything that is made of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import keras

from .. import _keras
from .._util.arguments import Fuse
from .._util.messages import say
from ..storage import (
    CheckpointFolder,
    Entry,
    Position,
    export_checkpoint,
    phase_folder,
    read_document,
)
from .average import Weighting, average_checkpoints
from .contents import Record
from .reading import SoundCheckpoint, find_newest, not_finite_lines, read_record
from .restore import lines_of_averages, restore_variables, restore_weights
from .rows import CheckpointSelection
from .saving import save_model
from .select import evaluate_checkpoints, select_checkpoint
from .warm import OptimizerStart, warm_start


class CheckpointStore(CheckpointFolder):
    """The checkpoints in a folder.

    Args:
        directory: A folder that `kp.Checkpoint` writes to. A relative one is bound when the store
            is made: a later change of the working directory does not move it.
        phase: The `phase` that it was given. Defaults to None.

    Example:

    >>> import tempfile
    >>> import keras_patterns as kp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kp.CheckpointStore(folder).steps()
    []
    """

    def __init__(self, directory: str | os.PathLike[str], *, phase: str | None = None) -> None:
        super().__init__(phase_folder(directory, phase), read_document)

    @_keras.quiet_arrays()
    def restore(
        self, model: keras.Model, step: int | None = None, *, weights_only: bool = False
    ) -> int:
        """Puts a checkpoint into a model: its weights, and where the model is compiled the
        optimizer's state. With `use_ema=True` the weights are those of the training, and a line
        says how their averages are had.

        Args:
            model: A built model of the same shape, on any backend.
            step: Of the checkpoint. Defaults to None: the newest sound one.
            weights_only: Whether to leave the optimizer as it is. Defaults to False.

        Returns:
            The step of the checkpoint.

        Raises:
            kp.StoreError: If there is no such checkpoint, or it is damaged.
            StateMismatchError: If the model is another one, or by their names layers have exchanged
                their places; it is unchanged then.
        """
        position, record = self.read_record(step)
        for line in not_finite_lines(self, position, record):
            say(line)
        if weights_only or not model.compiled:
            restore_weights(model, record)
            return position.step
        index, lines = restore_variables(model, record)
        for line in [*lines, *lines_of_averages(index)]:
            say(f"{line}.")
        return position.step

    def save(
        self,
        model: keras.Model,
        step: int,
        *,
        score: tuple[str, float] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Saves a model that a loop of one's own trains: weights, metrics, and the optimizer where
        the model is compiled. A whole run with its data is a `kp.Run`.

        Args:
            model: A built model.
            step: Optimizer steps done. Of one step there is one checkpoint.
            score: The name and the value of a metric, by which `best` and a retention go; whether
                less of it is better goes by its name. Defaults to None.
            extra: Numbers, strings, arrays, and dicts and lists of these, which `read_extra` gives
                back. Defaults to None.

        Returns:
            The checkpoint.

        Raises:
            TypeError: If `extra` holds anything else.
            ValueError: If the model is not built, or the metric's name does not tell its direction.
            StoreError: If it cannot be written, or another one of this step is there.

        Example:

        >>> import tempfile, keras, keras_patterns as kp
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = kp.CheckpointStore(folder)
        ...     entry = store.save(model, 10, score=("val_loss", 0.5), extra={"temperature": 0.7})
        ...     store.best().position.step, store.read_extra(10)
        (10, {'temperature': 0.7})
        """
        return save_model(self, model, step, score, extra)

    def read_extra(self, step: int | None = None) -> dict[str, Any]:
        """Reads the `extra` of a checkpoint that `save` made.

        Args:
            step: Of the checkpoint. Defaults to None: the newest sound one.

        Raises:
            kp.StoreError: If there is no such checkpoint, or it is damaged.
        """
        _, record = self.read_record(step)
        return dict(record.tracked.get("extra", {}))

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
        return export_checkpoint(self, path, step)

    def rank(
        self,
        model: keras.Model,
        data: Any,
        metric: str = "loss",
        mode: Literal["auto", "min", "max"] = "auto",
        *,
        batch_size: int | None = None,
        steps: Iterable[int] | None = None,
        fuse: Fuse = False,
        verbose: int | str = "auto",
    ) -> CheckpointSelection:
        """Evaluates the checkpoints of the newest run, and leaves the model as it is.

        Arguments, table and errors are those of `kp.select_checkpoint`.

        Example:

        >>> import tempfile, keras, numpy as np
        >>> import keras_patterns as kp
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> x, y = np.ones((64, 4)), np.ones((64, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     history = kp.fit(model, x, y, epochs=3, seed=0, verbose=0,
        ...         callbacks=[kp.Checkpoint(folder)])
        ...     store = kp.CheckpointStore(folder)
        ...     ranking = store.rank(model, (x, y), verbose=0)
        ...     store.restore(model, ranking.best_step)
        6
        """
        caller = "CheckpointStore.rank"
        selection, _ = evaluate_checkpoints(
            caller, self, model, data, metric, mode, batch_size, steps, fuse, verbose
        )
        return selection

    def load_best(
        self,
        model: keras.Model,
        data: Any,
        metric: str = "loss",
        mode: Literal["auto", "min", "max"] = "auto",
        *,
        batch_size: int | None = None,
        steps: Iterable[int] | None = None,
        fuse: Fuse = False,
        verbose: int | str = "auto",
    ) -> CheckpointSelection:
        """Evaluates the checkpoints of the newest run, and loads the weights of the best into the
        model: `kp.select_checkpoint` of this store, with its arguments, table and errors.
        """
        return select_checkpoint(
            self,
            model,
            data,
            metric,
            mode,
            batch_size=batch_size,
            steps=steps,
            fuse=fuse,
            verbose=verbose,
        )

    def average(
        self,
        model: keras.Model,
        steps: Iterable[int] | None = None,
        weighting: Weighting = "uniform",
        decay: float | None = None,
        data: Any = None,
        batch_size: int | None = None,
    ) -> list[int]:
        """Averages the weights of checkpoints of the newest run into the model:
        `kp.average_checkpoints` of this store, with its arguments, steps and errors.
        """
        return average_checkpoints(self, model, steps, weighting, decay, data, batch_size)

    def warm_start(
        self, model: keras.Model, step: int | None = None, optimizer: OptimizerStart = "fresh"
    ) -> int:
        """Puts a checkpoint into a model from which a new run is to begin: `kp.warm_start` of this
        store, with its arguments, step and errors.
        """
        return warm_start(self, model, step, optimizer)

    def find(self) -> SoundCheckpoint | None:
        """Reads the newest sound checkpoint, falling back over damaged ones; None if there are no
        checkpoints.

        Raises:
            kp.ResumeRefusedError: If there are checkpoints and none of them is sound.
        """
        return find_newest(self)

    def read_record(self, step: int | None = None) -> tuple[Position, Record]:
        """Reads a checkpoint: its position in the training, and its content.

        Args:
            step: Of the checkpoint. Defaults to None: the newest sound one.

        Raises:
            kp.StoreError: If there is no such checkpoint, or it is damaged.
        """
        return read_record(self, step)
