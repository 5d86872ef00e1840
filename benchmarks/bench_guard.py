"""What does `kp.NonFiniteGuard` cost while all is sound, in steps per second?

Both sides are `kp.fit` on the same arrays with a `kp.Checkpoint` that saves at the start and at the
end only; one has the guard. The guard looks as often as it does by default, and at the ends of
epochs. Timed is an epoch of 600 steps, after a first one that is not.

Beside the ratio, which on a busy machine moves by more than what is asked about, the time inside
the guard's own calls is measured as a share of the epoch. What it waits for there, the device has
to do anyway, so the share is an upper bound.

Equal results: both must end with the same weights, bit for bit.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from _measure import (
    interleave,
    leave,
    milliseconds,
    ratio,
    rounds_asked,
    same_bits,
    say_where,
    table,
)
from keras import layers

import keras_patterns as kp

EPOCH, TIMED_EPOCHS, BATCH = 600, 1, 32
_random = np.random.default_rng(0)


class Clock(keras.callbacks.Callback):
    """The time at the end of each epoch, for which Keras has waited for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.times.append(time.perf_counter())

    def get_state(self) -> dict[str, list[float]]:
        return {"times": self.times}

    def set_state(self, state: dict[str, list[float]]) -> None:
        self.times = list(state["times"])


class TimedGuard(kp.NonFiniteGuard):
    """Adds up the time inside its calls between two epochs' ends."""

    seconds = 0.0

    def note_step(self, step: int, logs: Mapping[str, Any]) -> None:
        began = time.perf_counter()
        super().note_step(step, logs)
        self.seconds += time.perf_counter() - began

    def next_boundary(self, step: int) -> float:
        began = time.perf_counter()
        try:
            return super().next_boundary(step)
        finally:
            self.seconds += time.perf_counter() - began

    def at_boundary(self) -> None:
        # Else the steps that are under way would count.
        if "loss" in self._loss._logs:
            keras.ops.convert_to_numpy(self._loss._logs["loss"])
        began = time.perf_counter()
        super().at_boundary()
        self.seconds += time.perf_counter() - began

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self.seconds = 0.0


def dense(depth: int, width: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((32,)),
            *(layers.Dense(width, "relu") for _ in range(depth)),
            layers.Dense(10, "softmax"),
        ]
    )


def convolutional() -> keras.Model:
    blocks = [
        (
            layers.Conv2D(16, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
        )
        for _ in range(2)
    ]
    hidden = [layer for block in blocks for layer in block]
    return keras.Sequential(
        [keras.Input((16, 16, 1)), *hidden, layers.Flatten(), layers.Dense(10, "softmax")]
    )


CASES: dict[str, tuple[Callable[[], keras.Model], tuple[int, ...]]] = {
    "dense, 2 x 64": (lambda: dense(2, 64), (32,)),
    "dense, 40 x 32": (lambda: dense(40, 32), (32,)),
    "dense, 2 x 1024": (lambda: dense(2, 1024), (32,)),
    "convolutional": (convolutional, (16, 16, 1)),
}


def side(
    make: Callable[[], keras.Model],
    shape: tuple[int, ...],
    guarded: bool,
    weights: dict[bool, list[np.ndarray]],
    shares: list[float],
) -> Callable[[], float]:
    keras.utils.set_random_seed(0)
    model = make()
    model.compile("adam", "sparse_categorical_crossentropy")
    begin, slots = model.get_weights(), None
    x, y = (
        _random.normal(size=(BATCH * EPOCH, *shape)).astype("float32"),
        _random.integers(0, 10, BATCH * EPOCH),
    )

    def run() -> float:
        nonlocal slots
        model.set_weights(begin)
        slots = slots or [
            np.zeros(variable.shape, variable.dtype) for variable in model.optimizer.variables[2:]
        ]
        for variable, value in zip(model.optimizer.variables[2:], slots, strict=False):
            variable.assign(value)
        model.optimizer.iterations.assign(0)
        clock = Clock()
        guard = TimedGuard()
        with tempfile.TemporaryDirectory() as folder:
            callbacks = [clock, kp.Checkpoint(folder, every_steps=10**6)] + [guard] * guarded
            kp.fit(
                model,
                x,
                y,
                batch_size=BATCH,
                epochs=1 + TIMED_EPOCHS,
                seed=0,
                verbose=0,
                callbacks=callbacks,
            )
        weights[guarded] = model.get_weights()
        seconds = clock.times[-1] - clock.times[0]
        if guarded:
            shares.append(guard.seconds / seconds)
        return seconds

    return run


def main() -> None:
    rounds, rows, failures = rounds_asked(9), [], []
    for name, (make, shape) in CASES.items():
        weights: dict[bool, list[np.ndarray]] = {}
        shares: list[float] = []
        random_state = _random.bit_generator.state
        sides = {}
        for guarded in (False, True):
            # The same data for both.
            _random.bit_generator.state = random_state
            sides["guarded" if guarded else "alone"] = side(make, shape, guarded, weights, shares)
        seconds = interleave(sides, rounds)
        if not same_bits(weights[False], weights[True]):
            failures.append(name)
        per_step = {key: values / (EPOCH * TIMED_EPOCHS) for key, values in seconds.items()}
        low, middle, high = 100 * np.percentile(shares[1:], (25, 50, 75))
        measured = [milliseconds(per_step[key]) for key in ("alone", "guarded")]
        rows.append(
            [
                name,
                *measured,
                ratio(seconds["alone"], seconds["guarded"]),
                f"{middle:.2f} % ({low:.2f}-{high:.2f})",
            ]
        )
    say_where()
    table(
        "Steps per second with the guard, over those without (1.00 is free; at least 0.98 is "
        "wanted)",
        ["model", "ms a step, without", "with", "steps/s with / without", "inside the guard"],
        rows,
    )
    leave(failures)


if __name__ == "__main__":
    main()
