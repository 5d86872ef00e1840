"""The listener of a sweep: reads the losses, shows them, and ends the sweep."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from .._util.step_counter import StepCounter
from ..run.hooks import Hook
from ..run.requests import Boundary, Stop
from .sweep import WARMUP_SHARE, LearningRateSweep

# A loss is read so many steps after it was computed, when it lies ready: nothing waits for the
# device.
READ_LAG_STEPS = 4
# A sweep ends so many steps after its last loss at most; a block has no more steps.
ENDS_EVERY_STEPS = 8
# By so many steps, one lucky batch at the start no longer makes the average.
_LEAST_WARMUP_STEPS = 5


class SweepListener(Hook):
    """Reads the losses of a sweep, shows them, and stops it.

    Args:
        rates: Of the sweep.
        smoothing, divergence: As in `kp.find_learning_rate`.
        shows: Whether there is a progress bar.

    Attributes:
        start_step: Where the optimizer's counter of steps stood at the start.
    """

    def __init__(self, rates: np.ndarray, smoothing: float, divergence: float, shows: bool) -> None:
        super().__init__()
        self._rates = rates
        self._smoothing = smoothing
        self._divergence = divergence
        self._unread_logs: deque[Mapping[str, Any]] = deque()
        self._indices: list[int] = []
        self._losses: list[float] = []
        self.start_step = 0
        self._mean = 0.0
        self._best = math.inf
        self._spread = 0.0
        self._warmup_steps = max(_LEAST_WARMUP_STEPS, int(WARMUP_SHARE * len(rates)))
        self._ended = "all steps were made"
        self._is_over = False
        self._counter = StepCounter(len(rates), "auto" if shows else 0)

    def get_state(self) -> dict[str, Any]:
        """Nothing: a sweep is not saved."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to put back."""

    def on_step_logs(self, logs: Mapping[str, Any]) -> None:
        """Reads the loss of some steps before, or those of the block before."""
        self._unread_logs.append(logs)
        lag = 1 if np.ndim(logs["loss"]) else READ_LAG_STEPS
        if len(self._unread_logs) > lag:
            self._read(self._unread_logs.popleft())

    def next_boundary(self, step: int) -> int:
        """As often as it may find that the sweep is over."""
        return step + ENDS_EVERY_STEPS

    def on_boundary(self, boundary: Boundary) -> Stop | None:
        """Stops the sweep once it is over."""
        return Stop(self._ended) if self._is_over else None

    def read_rest(self) -> None:
        """Reads the losses that are left."""
        while self._unread_logs:
            self._read(self._unread_logs.popleft())

    def result(self, swept: tuple[str, ...], ways: Sequence[dict[str, Any]]) -> LearningRateSweep:
        """The sweep. Steps whose update was left out, because its gradients overflowed, share a
        rate, and so their mean loss.

        Args:
            swept: The places of the optimizers.
            ways: In which the steps were run.
        """
        if not self._losses:
            raise ValueError(
                "find_learning_rate: the loss of the first batch is not finite, before any update. "
                "Look at the data for NaN and infinity, at the targets, and at the loss."
            )
        found, places, counts = np.unique(self._indices, return_inverse=True, return_counts=True)
        losses = np.bincount(places, self._losses) / counts
        rates, steps = self._rates[found], len(self._rates)
        return LearningRateSweep(
            rates, losses, steps, self._ended, self._smoothing, swept, tuple(ways)
        )

    def _read(self, logs: Mapping[str, Any]) -> None:
        losses, steps = (
            np.ravel(keras.ops.convert_to_numpy(logs[name])) for name in ("loss", "step")
        )
        for loss, step in zip(losses, steps, strict=True):
            if not self._is_over:
                self._note(float(loss), int(step))

    def _note(self, loss: float, step: int) -> None:
        """Takes the loss of a step of the optimizer."""
        if not math.isfinite(loss):
            self._end("the loss was not finite")
            return
        # A train_step may use its optimizer several times in a batch, and so run out of rates.
        index = min(step - self.start_step, len(self._rates) - 1)
        self._indices.append(index)
        self._losses.append(loss)
        count = len(self._losses)
        self._counter.update(count, {"learning_rate": float(self._rates[index]), "loss": loss})
        self._mean = self._smoothing * self._mean + (1 - self._smoothing) * loss
        if count < self._warmup_steps:
            return
        if count == self._warmup_steps:
            self._spread = max(self._losses) - min(self._losses)
        smoothed = self._mean / (1 - self._smoothing**count)
        self._best = min(self._best, smoothed)
        # A loss near zero is compared with how far the first ones lie apart.
        size = max(abs(self._best), self._spread)
        if smoothed > self._best + (self._divergence - 1) * size:
            self._end("the loss diverged")

    def _end(self, why: str) -> None:
        self._ended = why
        self._is_over = True
        self.close()

    def close(self) -> None:
        """Shows where the sweep has ended, and leaves the terminal as it was."""
        self._counter.close()
