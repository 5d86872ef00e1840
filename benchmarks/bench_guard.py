"""What does `kp.NonFiniteGuard` cost while all is sound, in steps per second?

Both sides are `kp.fit` on the same arrays with a `kp.Checkpoint` that saves at the start and at the end only; one has the
guard. The guard looks as often as it does by default, and at the ends of epochs. Timed is an epoch of 600 steps, after a first
one that is not.

Equal results: both must end with the same weights, bit for bit.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import keras
import numpy as np
from _measure import interleave, leave, milliseconds, ratio, rounds_asked, same_bits, say_where, table
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


def dense(depth: int, width: int) -> keras.Model:
    return keras.Sequential([keras.Input((32,)), *(layers.Dense(width, "relu") for _ in range(depth)), layers.Dense(10, "softmax")])


def convolutional() -> keras.Model:
    blocks = [
        (layers.Conv2D(16, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()) for _ in range(2)
    ]
    hidden = [layer for block in blocks for layer in block]
    return keras.Sequential([keras.Input((16, 16, 1)), *hidden, layers.Flatten(), layers.Dense(10, "softmax")])


CASES: dict[str, tuple[Callable[[], keras.Model], tuple[int, ...]]] = {
    "dense, 2 x 64": (lambda: dense(2, 64), (32,)),
    "dense, 40 x 32": (lambda: dense(40, 32), (32,)),
    "dense, 2 x 1024": (lambda: dense(2, 1024), (32,)),
    "convolutional": (convolutional, (16, 16, 1)),
}


def side(
    make: Callable[[], keras.Model], shape: tuple[int, ...], guarded: bool, weights: dict[bool, list[np.ndarray]]
) -> Callable[[], float]:
    keras.utils.set_random_seed(0)
    model = make()
    model.compile("adam", "sparse_categorical_crossentropy")
    begin, slots = model.get_weights(), None
    x, y = _random.normal(size=(BATCH * EPOCH, *shape)).astype("float32"), _random.integers(0, 10, BATCH * EPOCH)

    def run() -> float:
        nonlocal slots
        model.set_weights(begin)
        slots = slots or [np.zeros(variable.shape, variable.dtype) for variable in model.optimizer.variables[2:]]
        for variable, value in zip(model.optimizer.variables[2:], slots, strict=False):
            variable.assign(value)
        model.optimizer.iterations.assign(0)
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            callbacks = [clock, kp.Checkpoint(folder, every_steps=10**6)] + [kp.NonFiniteGuard()] * guarded
            kp.fit(model, x, y, batch_size=BATCH, epochs=1 + TIMED_EPOCHS, seed=0, verbose=0, callbacks=callbacks)
        weights[guarded] = model.get_weights()
        return clock.times[-1] - clock.times[0]

    return run


def main() -> None:
    rounds, rows, failures = rounds_asked(9), [], []
    for name, (make, shape) in CASES.items():
        weights: dict[bool, list[np.ndarray]] = {}
        random_state = _random.bit_generator.state
        sides = {}
        for guarded in (False, True):
            # The same data for both.
            _random.bit_generator.state = random_state
            sides["guarded" if guarded else "alone"] = side(make, shape, guarded, weights)
        seconds = interleave(sides, rounds)
        if not same_bits(weights[False], weights[True]):
            failures.append(name)
        per_step = {key: values / (EPOCH * TIMED_EPOCHS) for key, values in seconds.items()}
        rows.append(
            [name, milliseconds(per_step["alone"]), milliseconds(per_step["guarded"]), ratio(seconds["alone"], seconds["guarded"])]
        )
    say_where()
    table(
        "Steps per second with the guard, over those without (1.00 is free; at least 0.98 is wanted)",
        ["model", "ms a step, without", "with", "steps/s with / without"],
        rows,
    )
    leave(failures)


if __name__ == "__main__":
    main()
