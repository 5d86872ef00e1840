"""`kp.Hook`: the base of all that acts at the boundaries between steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras

from ..storage import Position
from .plain import PlainRun
from .requests import Boundary, Requests, RunView, Saving


class Hook(keras.callbacks.Callback):
    """Acts at boundaries between steps: logs, stops, saves, thaws, goes back.

    Pass it in `callbacks=` of `kp.fit`, or of plain `model.fit`, where the boundaries are the ends
    of epochs. Override what is needed; each of Keras's own hooks works as well. Nothing is read
    from the device between boundaries.

    At a boundary, the validation is done before `on_boundary`, and the checkpoint is made after it.
    At the end of an epoch, `on_epoch_end` calls it, after the callbacks that stand before this one
    in the list; they may add to the logs. Of several requests, `kp.Rewind` comes before `kp.Stop`,
    that before `kp.SetTrainable`, and `kp.Save` last.

    Attributes:
        run: The run that it is part of, while that is under way.
        needs_checkpoint: Whether it cannot do without a `kp.Checkpoint`.
        only_one: Whether a run takes but one of its class.
        single_steps: Whether each step is to be run by itself for now, whatever
            `steps_per_execution` says.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> class StopBelow(kp.Hook):
    ...     def next_boundary(self, step):
    ...         return step + 5
    ...     def on_boundary(self, boundary):
    ...         if boundary.logs["loss"] < 0.1:
    ...             return kp.Stop("the loss is below 0.1")
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> x = np.ones((64, 4), "float32")
    >>> history = kp.fit(model, x, x[:, 0], total_steps=60, epochs=3, seed=0, verbose=0,
    ...     callbacks=[StopBelow()])
    >>> history.events[0]["text"]
    'the loss is below 0.1'
    """

    run: RunView | None = None
    needs_checkpoint = False
    only_one = False
    single_steps = False

    def next_boundary(self, step: int) -> int | None:
        """The first step after `step` at which it wants a boundary; None for those of others
        alone.
        """
        return None

    def restore_trainable(self, model: keras.Model, step: int, total_steps: int) -> None:
        """Sets `trainable` as it is after `step` steps, before a state is put back; the model is
        built. For hooks that ask for `kp.SetTrainable`.
        """

    def on_run_start(self, run: RunView) -> Requests:
        """Everything is in place, and the next step or the rest of a boundary is to follow. Called
        again when the run has gone back.
        """
        return None

    def on_check(self, step: int) -> Requests:
        """`step` steps are done, and nothing of this boundary yet; may ask for `kp.Rewind`."""
        return None

    def on_boundary(self, boundary: Boundary) -> Requests:
        """The metrics are read and the validation is done; the end of the epoch and the save
        follow.
        """
        return None

    def on_save(self, saving: Saving) -> Requests:
        """A checkpoint is about to be written, with the state that this has after the call; may ask
        for `kp.Rewind` instead.
        """
        return None

    def on_published(self, position: Position, settled_step: int) -> None:
        """A checkpoint is on disk. Called in the thread that writes, while the run goes on.

        Args:
            position: Of the checkpoint.
            settled_step: The step up to which all is done and saved, so that neither a resume nor a
                hook that goes back comes before it again.
        """

    def on_restore(self, rewound: bool) -> None:
        """A state has been put back, `set_state` first: at the start of a process, or, if
        `rewound`, in a run that goes back.
        """

    def on_trainable_changed(self) -> None:
        """Other variables are trained now, and so those of the optimizer are others."""

    def on_step_logs(self, logs: Mapping[str, Any]) -> None:
        """A step has been handed to the device. `logs` are still there: reading them waits."""

    def on_run_end(self) -> None:
        """The run is over, however it ended."""

    def required_checkpoints(self) -> Iterable[Position]:
        """The checkpoints that must be kept for its state to be of use."""
        return ()

    def rewind_target(self) -> Position | None:
        """The checkpoint that it may ask to go back to from here, by `kp.Rewind`; None for none."""
        return None

    # Keras calls these. In plain `model.fit` they drive the methods above.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins a run of plain `model.fit`."""
        if self.run is None or isinstance(self.run, PlainRun):
            self.run = PlainRun(self)
            self.run.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, in plain `model.fit`."""
        if isinstance(self.run, PlainRun):
            self.run.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, in plain `model.fit`."""
        if isinstance(self.run, PlainRun):
            self.run.begin_batch(batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """A boundary at the end of an epoch, in its place among the callbacks."""
        if self.run is not None:
            self.run.end_epoch(self, epoch, {} if logs is None else logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends a run of plain `model.fit`."""
        if isinstance(self.run, PlainRun):
            self.run.end()
