"""The callbacks of a run: Keras's and hooks, told as one `fit` would tell them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from .. import _keras
from .history import RunHistory, as_numbers
from .hooks import Hook
from .progress import RunProgress
from .requests import RunView

_IN_VALIDATIONS = ("on_test_batch_begin", "on_test_batch_end", "on_test_begin", "on_test_end")
_IN_EPOCHS = (
    *("on_epoch_begin", "on_train_batch_begin", "on_train_batch_end"),
    *("on_batch_begin", "on_batch_end"),
    *_IN_VALIDATIONS,
)


class RunCallbacks(keras.callbacks.CallbackList):
    """The callbacks of a run, with its History and its progress.

    Args:
        callbacks: The user's callbacks. With a bar of Keras's among them, there is no other.
        model: The model in training.
        progress: Shows how far the run is.
        params: The content of `Callback.params`: `verbose`, `epochs`, `steps`.

    Attributes:
        history: The History of the run.
        hooks: Those that act at boundaries.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        progress: RunProgress,
        **params: Any,
    ) -> None:
        self.history = RunHistory()
        super().__init__([*callbacks, self.history], model=model, **params)
        model.history = self.history
        self.hooks = [one for one in self.callbacks if isinstance(one, Hook)]
        self._noting = [
            one for one in self.hooks if type(one).on_step_logs is not Hook.on_step_logs
        ]
        self._bars = [c for c in self.callbacks if isinstance(c, keras.callbacks.ProgbarLogger)]
        self._progress = None if self._bars else progress
        self._has_live_bar = bool(self._bars) and params["verbose"] not in (0, 2)
        self._batch_ends_are_heard = any(
            _hears(one, "on_train_batch_end", "on_batch_end") for one in self.callbacks
        )

    @property
    def hears_batches(self) -> str:
        """The name of a callback that wants to hear of each batch; empty if none does."""
        return next(
            (
                type(one).__name__
                for one in self.callbacks
                if (one in self._noting and _is_of_ones_own(one))
                or (one not in self._bars and not _saves_by_epochs(one) and _hears_each_batch(one))
            ),
            "",
        )

    @property
    def hear_validations(self) -> bool:
        """True if a callback does something at each batch of a validation, or one of a person's own
        at its begin or end.
        """
        batches, whole = _IN_VALIDATIONS[:2], _IN_VALIDATIONS[2:]
        return any(
            one not in self._bars
            and (_hears(one, *batches) or (_is_of_ones_own(one) and _hears(one, *whole)))
            for one in self.callbacks
        )

    @property
    def of_ones_own(self) -> str:
        """The name of a callback that runs code of a person's own; empty if none does."""
        return next((type(one).__name__ for one in self.callbacks if _is_of_ones_own(one)), "")

    @property
    def call_a_schedule(self) -> bool:
        """True if a callback asks a person's own function for the rate."""
        kind = keras.callbacks.LearningRateScheduler
        return any(isinstance(one, kind) for one in self.callbacks)

    @property
    def want_built_model(self) -> bool:
        """True if a hook looks at the model before its first step."""
        return any(type(hook).on_run_start is not Hook.on_run_start for hook in self.hooks)

    @property
    def has_open_bar(self) -> bool:
        """True if a bar of Keras's stands open inside an epoch, below which messages begin."""
        return self._has_live_bar

    @contextmanager
    def driven_by(self, run: RunView) -> Iterator[None]:
        """Within it, the hooks have the run."""
        try:
            for hook in self.hooks:
                hook.run = run
            yield
        finally:
            for hook in self.hooks:
                hook.on_run_end()
                hook.run = None

    def finish_batch_ends(self) -> None:
        """Waits for what callbacks do in threads."""
        _keras.finish_batch_ends(self)

    def shut_down(self) -> None:
        """Ends the threads of a run that does not get to its end, and its display."""
        if self._progress:
            self._progress.close()
        _keras.shut_down(self)

    def open_bar(self, epoch: int, offset: int) -> None:
        """Shows the progress of an epoch that goes on in this process, after `offset` steps."""
        for bar in self._bars:
            bar.on_epoch_begin(epoch)
        if self._progress:
            self._progress.begin_epoch(epoch, offset)

    def set_epoch_steps(self, steps: int | None) -> None:
        """Says how many steps the epochs have from here on; None where nobody knows."""
        if steps != self.params["steps"]:
            self.set_params({**self.params, "steps": steps})

    def log(self, step: int, logs: dict[str, Any]) -> None:
        """Keeps the running metrics of a step inside an epoch."""
        self.history.step_logs.append({"step": step, **as_numbers(logs)})

    def keep_validation(self, step: int, logs: dict[str, Any]) -> None:
        """Keeps the metrics of a validation."""
        self.history.validations.append({"step": step, **as_numbers(logs)})

    def close_epoch(self, epoch: int, step: int, logs: dict[str, Any]) -> str | None:
        """Tells the callbacks that an epoch ended.

        Args:
            epoch: Which, from 0.
            step: Steps done.
            logs: Its metrics, which callbacks may add to.

        Returns:
            Which callback stopped the run then, if one did.
        """
        self.finish_batch_ends()
        plain = _keras.plain_logs(logs)
        was_stopped, stopper = self.model.stop_training, None
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, plain)
            if self.model.stop_training and not was_stopped and stopper is None:
                stopper = type(callback).__name__
        logs.update(plain)
        if self._progress:
            self._progress.end_epoch(plain)
        self.history.epoch_end_steps.append(step)
        optimizer = getattr(self.model, "optimizer", None)
        self.history.learning_rates.append(_rate(optimizer))
        self.history.momentums.append(_momentum(optimizer))
        return stopper

    def who_may_have_stopped(self) -> str:
        """The callbacks that may have stopped the run inside an epoch, by name."""
        names = [
            type(one).__name__
            for one in self.callbacks
            if not _is_ours(one) and one not in self._bars and _hears(one, *_IN_EPOCHS)
        ]
        return " or ".join(names) or "model.stop_training"

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        for hook in self._noting:
            hook.on_step_logs(logs or {})
        if self._batch_ends_are_heard:
            super().on_train_batch_end(batch, logs)
        if self._progress:
            self._progress.note_step(batch, logs or {})

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._progress:
            self._progress.begin_epoch(epoch)
        super().on_epoch_begin(epoch, logs)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._progress:
            self._progress.pause()
        super().on_test_begin(logs)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_test_end(logs)
        if self._progress:
            self._progress.go_on()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        if self._progress:
            self._progress.close()


def _is_ours(callback: keras.callbacks.Callback) -> bool:
    """True for one that asks for a stop by a request, if at all."""
    package = __name__.partition(".")[0]
    return isinstance(callback, Hook) or type(callback).__module__.startswith(f"{package}.")


def _is_of_ones_own(callback: keras.callbacks.Callback) -> bool:
    package = type(callback).__module__.partition(".")[0]
    is_known = package in ("keras", __name__.partition(".")[0])
    return not is_known or isinstance(callback, keras.callbacks.LambdaCallback)


def _saves_by_epochs(callback: keras.callbacks.Callback) -> bool:
    """True for one of Keras's that looks at each batch only to see that it has nothing to do."""
    kinds = (keras.callbacks.ModelCheckpoint, keras.callbacks.OrbaxCheckpoint)
    return type(callback) in kinds and callback.save_freq == "epoch"


def _hears_each_batch(callback: keras.callbacks.Callback) -> bool:
    """True if a callback does something at each batch; what our own do there is for plain
    `model.fit`.
    """
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    package = __name__.partition(".")[0]
    return any(
        _hears(callback, hook)
        and not str(getattr(getattr(callback, hook), "__module__", "")).startswith(f"{package}.")
        for hook in hooks
    )


def _hears(callback: keras.callbacks.Callback, *hooks: str) -> bool:
    # On the instance, not on its class: LambdaCallback sets its hooks as attributes.
    found = {hook: getattr(callback, hook) for hook in hooks}
    return any(
        getattr(f, "__func__", f) is not getattr(keras.callbacks.Callback, hook)
        for hook, f in found.items()
    )


def _rate(optimizer: keras.optimizers.Optimizer | None) -> float | None:
    """The learning rate now; None where there is no one rate."""
    try:
        if optimizer is None:
            return None
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None


def _momentum(optimizer: keras.optimizers.Optimizer | None) -> float | None:
    """The momentum now; None where it has no schedule."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    schedule = getattr(inner, "momentum_schedule", None)
    # An optimizer of one's own may call something else so.
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return float(keras.ops.convert_to_numpy(schedule(_keras.steps_of(inner))))
