"""The callbacks of a run: one `on_train_begin`, one `on_train_end` and epochs that go on, however
often `model.fit` is called.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import keras

from ..state.history import as_numbers, prepare
from .hooks import DrivenCallback, DrivingRun
from .segments import Segment

_BAR_INTERVAL_SECONDS = 0.05


class Boundaries(Protocol):
    """What the list asks of the run."""

    next_boundary: float
    next_time: float

    def segment_opens(self) -> None:
        """`fit` has begun its epochs, and nothing has been drawn for the next one."""

    def epoch_is_open(self) -> None:
        """Every `on_epoch_begin` is done."""

    def first_step(self) -> None:
        """The first step of a segment is about to run."""

    def boundary(self, step: int) -> None:
        """`next_boundary` has come; `step` steps are done."""

    def is_called(self) -> bool:
        """Whether something has happened since the last step that makes a boundary of this one."""

    def epoch_ends(self, epoch: int, step: int, logs: dict[str, Any]) -> None:
        """The last step of an epoch is done; validation and `on_epoch_end` are to follow."""

    def segment_ends(self) -> None:
        """A segment ended inside an epoch."""

    def validation_step(self) -> None:
        """A batch of validation is about to run."""


class RunCallbacks(keras.callbacks.CallbackList):
    """Stands between the several `fit` calls of one run and its callbacks.

    Args:
        callbacks: The user's callbacks. History and the progress bar are added, as in `model.fit`.
        run: Is told of each boundary.
        model: The model in training.
        params: What `Callback.params` says: `verbose`, `epochs`, `steps`.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        run: Boundaries,
        model: keras.Model,
        **params: Any,
    ) -> None:
        self._run = run
        self._segment: Segment
        self._epoch_start = self._shift = self._done = 0
        self._fresh = False
        super().__init__(
            list(callbacks),
            add_history=True,
            add_progbar=params["verbose"] != 0,
            model=model,
            **params,
        )
        prepare(self.history)
        self.driven = [c for c in self.callbacks if isinstance(c, DrivenCallback)]
        self.want_to_begin = any(type(c).begins is not DrivenCallback.begins for c in self.driven)
        self._noting = [c for c in self.driven if type(c).note_step is not DrivenCallback.note_step]
        self._bars = [c for c in self.callbacks if isinstance(c, keras.callbacks.ProgbarLogger)]
        self._only_bar_listens = not any(
            _hears_batch_ends(c) for c in self.callbacks if c not in self._bars
        )
        self._bar_is_live = params["verbose"] not in (0, 2)
        self._next_bar = 0.0

    @property
    def history(self) -> keras.callbacks.History:
        """The History of the run."""
        return next(c for c in self.callbacks if isinstance(c, keras.callbacks.History))

    def tell_beginning(self) -> None:
        """Tells the callbacks of ours that everything is in place."""
        for callback in self.driven:
            callback.begins()

    def next_wanted(self, step: int) -> float:
        """The next step at which a callback wants a boundary."""
        return min((callback.next_boundary(step) for callback in self.driven), default=math.inf)

    @contextmanager
    def driven_by(self, run: DrivingRun) -> Iterator[None]:
        """Within it, those callbacks that want to know have the run."""
        try:
            for callback in self.driven:
                callback.run = run
            yield
        finally:
            for callback in self.driven:
                callback.ends()
                callback.run = None

    def start_run(self) -> None:
        """Tells the callbacks that the run begins."""
        super().on_train_begin()

    def end_run(self, logs: dict[str, Any]) -> None:
        """Tells the callbacks that the run ends."""
        super().on_train_end(logs)

    def open_bar(self, epoch: int) -> None:
        """Shows the progress bar of an epoch that goes on in this process."""
        for bar in self._bars:
            bar.on_epoch_begin(epoch)

    def close_epoch(self, epoch: int, step: int, logs: dict[str, Any]) -> None:
        """Tells the callbacks that an epoch ended, after `step` steps."""
        super().on_epoch_end(epoch, logs)
        self.history.ends.append(step)
        self.history.rates.append(_rate(self.history.model.optimizer))

    def begin_segment(self, segment: Segment, epoch_steps: int) -> None:
        """Is called before each `model.fit`.

        Args:
            segment: What it will run.
            epoch_steps: Steps of its first epoch, those before the segment included.
        """
        self._segment, self._fresh = segment, True
        if epoch_steps != self.params["steps"]:
            self.set_params({**self.params, "steps": epoch_steps})

    def log(self, step: int, logs: dict[str, Any]) -> None:
        """Keeps the running metrics of a step inside an epoch, in `History.steps`."""
        self.history.steps.append({"step": step, **as_numbers(logs)})

    def keep_validation(self, step: int, logs: dict[str, Any]) -> None:
        """Keeps the metrics of a validation, in `History.validations`."""
        self.history.validations.append({"step": step, **as_numbers(logs)})

    def tell_validated(self, logs: dict[str, Any]) -> None:
        """Tells who wants to know that a validation inside an epoch has ended."""
        for callback in self.driven:
            callback.on_step_validation(logs)

    # What model.fit calls.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        pass

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        pass

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        behind = epoch - self._segment.first_epoch
        self._epoch_start = self._segment.start + behind * self._segment.steps
        self._shift = self._segment.offset if not behind else 0
        if self._fresh:
            self._run.segment_opens()
        if not self._shift:
            super().on_epoch_begin(epoch, logs)
        self._run.epoch_is_open()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        run, step = self._run, self._epoch_start + batch
        if self._fresh:
            self._fresh = False
            run.first_step()
        if run.is_called() or step >= run.next_boundary or time.monotonic() >= run.next_time:
            run.boundary(step)
        self._done = step + self._segment.steps_per_execution
        super().on_train_batch_begin(batch + self._shift, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        for callback in self._noting:
            callback.note_step(self._done, logs or {})
        batch += self._shift
        if self._only_bar_listens:
            now = time.monotonic()
            # Reading the logs waits for the device; a bar that nobody can see move need not be
            # moved.
            if not self._bar_is_live or (now < self._next_bar and batch + 1 < self.params["steps"]):
                return
            self._next_bar = now + _BAR_INTERVAL_SECONDS
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._segment.closes or self.model.stop_training:
            self._run.epoch_ends(epoch, self._done, dict(logs or {}))
        else:
            self._run.segment_ends()

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._run.validation_step()
        super().on_test_batch_begin(batch, logs)


def _hears_batch_ends(callback: keras.callbacks.Callback) -> bool:
    # On the instance, not on its class: LambdaCallback sets its hooks as attributes.
    hooks = {hook: getattr(callback, hook) for hook in ("on_train_batch_end", "on_batch_end")}
    return any(
        getattr(f, "__func__", f) is not getattr(keras.callbacks.Callback, hook)
        for hook, f in hooks.items()
    )


def _rate(optimizer: keras.optimizers.Optimizer | None) -> float | None:
    """The learning rate now; None where there is no one rate."""
    try:
        return (
            None
            if optimizer is None
            else float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        )
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None
