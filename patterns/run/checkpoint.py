"""`kp.Checkpoint`: when a run is saved, what is kept, and how it is found again."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import keras

from .._util.arguments import whole_number
from .._util.metrics import direction, resolve_mode
from .._util.steps import next_multiple
from ..checkpoint.capture import versions
from ..checkpoint.identity import ResumeRefusedError
from ..checkpoint.reading import SoundCheckpoint
from ..checkpoint.store import CheckpointStore
from ..storage import BackgroundWriter, Position, Retention, Tensor
from .checks import check_processes
from .plain_saves import PlainSaves
from .reuse import check_not_finished, remember_finished
from .scores import BestScores

Resume = Literal["auto", "weights", "never"]


class Checkpoint(keras.callbacks.Callback):
    """Saves a run so that it can be killed at any instant and go on bit for bit.

    In `kp.fit` everything is saved: weights, slots, seeds, running metrics, the position in the
    data, the random states and the state of every callback. The run goes on at the step after the
    checkpoint. In plain `model.fit` it saves and resumes at the ends of epochs, without the state
    of the other callbacks, which `model.fit` keeps to itself.

    Each checkpoint is a folder of its own, published whole or not at all. It is written in the
    background from one copy of the state.

    Args:
        directory: The folder of the run. Made if it does not exist. One run writes to it at a time.
            A relative one is bound here: a later change of the working directory does not move it.
        every_steps: Save when this many optimizer steps are done, and at each multiple.
        every_seconds: Save at the first step after this many seconds, and again after as many. With
            neither, a run is saved at the end of each epoch. Every run is saved at its end.
        keep_last: How many of the newest checkpoints to keep. Defaults to 3.
        keep_best: How many of the best by `monitor` to keep beside them. A state that becomes one
            of them is saved, whatever `every_steps` says. Defaults to none.
        keep_every_steps: Keep those at multiples of this many steps for good. Defaults to none.
        monitor: The metric of an epoch, or of a validation inside one, that says which is best.
            Where `keep_best` is given, the first that lacks it is a `ValueError`. Defaults to
            `"val_loss"`.
        mode: `"min"`, `"max"`, or `"auto"`, which goes by the name: losses and errors are
            minimised; accuracies, AUC, precision, recall and the like maximised.
        background: Whether to write in a thread beside the training. Defaults to True.
        on_signal: Whether SIGTERM and SIGINT (Ctrl-C) save the state after the step in flight and
            end the run with `kp.RunInterrupted`. Defaults to True.
        resume: `"auto"` goes on where the newest sound checkpoint is. `"weights"` begins a new run
            from its weights alone, and when the script is started again goes on with that new run.
            `"never"` begins from nothing. Neither removes what an earlier run left in the folder.
        phase: The name of this part of a script that trains one model several times, such as
            `"head"`. Each phase is a run with checkpoints of its own, in the folder
            `directory/phase-NAME`. When the script is started again, a finished one is passed over.
            Defaults to None: the run has the folder to itself.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> import keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((64, 4)), np.ones((64, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = kp.fit(model, x, y, epochs=2, seed=0, verbose=0,
    ...         callbacks=[kp.Checkpoint(folder)])
    ...     kp.CheckpointStore(folder).steps()
    [2, 4]
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        every_steps: int | None = None,
        every_seconds: float | None = None,
        keep_last: int = 3,
        keep_best: int | None = None,
        keep_every_steps: int | None = None,
        monitor: str = "val_loss",
        mode: Literal["auto", "min", "max"] = "auto",
        background: bool = True,
        on_signal: bool = True,
        resume: Resume = "auto",
        *,
        phase: str | None = None,
    ) -> None:
        super().__init__()
        if every_steps is not None:
            every_steps = whole_number("Checkpoint", "every_steps", every_steps)
        if every_seconds is not None and not every_seconds > 0:
            raise ValueError(
                "Checkpoint(every_seconds=...) must be positive or None; received "
                f"{every_seconds!r}."
            )
        if resume not in get_args(Resume):
            raise ValueError(
                f"Checkpoint(resume=...) must be one of {get_args(Resume)}; received {resume!r}."
            )
        self.store = CheckpointStore(directory, phase=phase)
        self.retention = Retention(
            keep_last=keep_last, keep_best=keep_best, keep_every_steps=keep_every_steps
        )
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self.monitor = monitor
        lenient = mode == "auto" and keep_best is None
        self.mode = direction(monitor) if lenient else resolve_mode("Checkpoint", monitor, mode)
        self.scores = BestScores(monitor, self.mode, keep_best)
        self.background, self.on_signal, self.resume = background, on_signal, resume
        self.is_driven = False
        self._plain: PlainSaves | None = None
        self._writer = BackgroundWriter()
        self.begin(0)

    # What the driver asks.

    def begin(self, step: int) -> None:
        """Counts from a step: the start of a run, or a checkpoint."""
        self.next_step = next_multiple(step, self.every_steps)
        self.next_time = time.monotonic() + self.every_seconds if self.every_seconds else math.inf

    def is_planned(self, step: int, ends_epoch: bool) -> bool:
        """True if the state after `step` steps is to be saved in every run of the script, whatever
        the clock says.
        """
        if self.every_steps is None:
            return ends_epoch and self.every_seconds is None
        return step >= self.next_step

    def is_due(self, step: int, ends_epoch: bool) -> bool:
        """True if the state after `step` steps is to be saved."""
        return self.is_planned(step, ends_epoch) or time.monotonic() >= self.next_time

    def is_of_the_best(self, logs: Mapping[str, Any], is_validated: bool, ends_epoch: bool) -> bool:
        """True if the state with these metrics is to be saved for its score.

        Args:
            logs: Of a validation inside an epoch, or of an epoch that ends.
            is_validated: Whether a validation is among them.
            ends_epoch: Whether an epoch ends.

        Raises:
            ValueError: If they should have the monitored metric, and do not.
        """
        is_of_validation = self.monitor.startswith("val_")
        is_expected = is_validated if is_of_validation else ends_epoch
        return self.scores.has_place_for(logs, is_expected)

    def take_over_scores(self, newest: Position | None) -> None:
        """Begins with the scores of a run's sound checkpoints, up to the newest; None for a new
        run.
        """
        entries = self.store.entries() if newest and self.retention.keep_best else []
        self.scores.take_over(
            entry
            for entry in entries
            if newest and entry.position.run == newest.run and entry.position <= newest
            if entry.candidate.score and self.store.is_sound(entry)
        )

    def check_not_finished(self, caller: str, model: keras.Model, total: int) -> None:
        """Raises if this process has finished a run of the model in the folder, and the call would
        train nothing; see `run/reuse.py`.
        """
        check_not_finished(caller, model, self.store.directory, self.store.label, total)

    def remember_finished(self, model: keras.Model, total: int) -> None:
        """Remembers that this process has finished a run of the model in the folder."""
        remember_finished(model, self.store.directory, total)

    def wait(self) -> None:
        """Waits until what was handed over is on disk; raises what went wrong there."""
        self._writer.wait()

    @property
    def failed(self) -> bool:
        """True if a save in the background went wrong, so that `wait` would raise."""
        return self._writer.failed

    def save(
        self,
        position: Position,
        document: dict[str, Any],
        tensors: Sequence[Tensor],
        logs: Mapping[str, Any] | None,
        needs: Iterable[Position] = (),
        made_with: Mapping[str, Any] | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Writes a checkpoint. The tensors' arrays must not change until `wait` returns; `then` is
        called once it is on disk, in the thread that writes.
        """
        score = self.scores.score(logs)
        if score:
            self.scores.add(score["value"])
        made_with = made_with or versions()

        def write() -> None:
            self.store.write(
                position, document, tensors, score=score, made_with=made_with, needs=needs
            )
            if then:
                then()
            self.store.prune(self.retention)

        self._writer.submit(write, self.background)
        self.begin(position.step)

    def close(self) -> None:
        """Ends the thread, after what was handed over is on disk."""
        self._writer.close()

    def find(self) -> SoundCheckpoint | None:
        """The newest sound checkpoint of the folder; None where there is none, or where nothing is
        to be taken from it.
        """
        try:
            return self.store.find()
        except ResumeRefusedError:
            if self.resume != "never":
                raise
            return None

    def get_config(self) -> dict[str, Any]:
        """Nothing: when and where a run is saved is no part of what it is."""
        return {}

    def get_state(self) -> dict[str, Any]:
        """Nothing: what is on disk is the state."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to put back."""

    # What plain model.fit calls; in kp.fit the driver does it all.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the newest checkpoint back."""
        check_processes("kp.Checkpoint", self.model)
        self._plain = (
            None if self.is_driven else PlainSaves(self, self.model, self.params["epochs"])
        )
        if self._plain:
            self._plain.begin()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Ends the resume."""
        if self._plain:
            self._plain.begin_epoch()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the steps."""
        if self._plain:
            self._plain.begin_batch(batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if it is due."""
        if self._plain:
            self._plain.end_epoch(epoch, dict(logs or {}))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Saves what is not saved yet."""
        if self._plain:
            self._plain.end(dict(logs or {}))

    def check_monitor(self, validates: bool) -> None:
        """Raises if the best is to be kept by a metric of a validation that the run does not
        have."""
        if (
            self.retention.keep_best is not None
            and self.monitor.startswith("val_")
            and not validates
        ):
            raise ValueError(
                f"Checkpoint(monitor={self.monitor!r}, keep_best={self.retention.keep_best}) needs "
                "validation data; there is none. "
                "Give validation_data= or validation_split=, or monitor a metric of the training."
            )
