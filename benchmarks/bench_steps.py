"""Does `kp.fit` with `kp.Checkpoint`, when no save is due, run as many steps per second as
`model.fit`?

Both train the same model on the same arrays, with the same batch size and number of steps,
shuffled. The clock runs from the first `on_epoch_begin` to the last `on_epoch_end`: neither
compiling nor the save at the end of a run counts. A ratio above 1 says that `kp.fit` is the faster
one.

Equal results: unshuffled, both see the same batches, and must end with the same weights.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from _measure import interleave, leave, milliseconds, ratio, rounds_asked, say_where, table
from keras import layers

import keras_patterns as kp

# The arithmetic of one step is the same; torch and XLA may still choose another kernel for an array
# at another address.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        name: Of the row.
        model: Makes the compiled model.
        examples: Shape of `x`, the examples first.
        batch_size: Of both sides.
        epochs: Passes over the examples in one measurement.
        listeners: Makes callbacks that both sides get.
        verbose: Of both sides.
    """

    name: str
    model: Callable[[], keras.Model]
    examples: tuple[int, ...]
    batch_size: int
    epochs: int
    listeners: Callable[[], list[keras.callbacks.Callback]] = list
    verbose: int = 0

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        return random.normal(size=self.examples).astype("float32"), random.integers(
            0, 10, self.examples[0]
        )

    @property
    def steps(self) -> int:
        return self.epochs * -(-self.examples[0] // self.batch_size)


class Stopwatch(keras.callbacks.Callback):
    """Seconds from the first epoch's begin to the last one's end. It listens to no batch, so it
    delays none.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch == 0:
            self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.seconds = time.perf_counter() - self.began

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


def dense() -> keras.Model:
    """So small that the host is what takes the time."""
    keras.utils.set_random_seed(0)
    return compiled([keras.Input((32,)), layers.Dense(64, activation="relu"), layers.Dense(10)])


def convolutional() -> keras.Model:
    """Large enough that the arithmetic is what takes the time."""
    keras.utils.set_random_seed(0)
    blocks = [
        layer
        for n in (32, 64)
        for layer in (layers.Conv2D(n, 3, activation="relu"), layers.MaxPooling2D())
    ]
    return compiled([keras.Input((28, 28, 3)), *blocks, layers.Flatten(), layers.Dense(10)])


def compiled(parts: list[Any]) -> keras.Model:
    model = keras.Sequential(parts)
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    return model


def plateau_watchers() -> list[keras.callbacks.Callback]:
    early = keras.callbacks.EarlyStopping(monitor="loss", patience=10**6)
    return [early, keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=10**6)]


CASES = [
    Case("dense", dense, (16_384, 32), 32, 2),
    Case("dense, verbose=1", dense, (16_384, 32), 32, 2, verbose=1),
    Case(
        "dense, EarlyStopping and ReduceLROnPlateau", dense, (16_384, 32), 32, 2, plateau_watchers
    ),
    Case("dense, epochs of 16 steps", dense, (512, 32), 32, 32),
    Case("convolutional", convolutional, (1_024, 28, 28, 3), 64, 2),
    Case("convolutional, verbose=1", convolutional, (1_024, 28, 28, 3), 64, 2, verbose=1),
]


def train_plainly(case: Case, model: keras.Model, shuffle: bool = True) -> float:
    (x, y), stopwatch = case.arrays(), Stopwatch()
    callbacks = [*case.listeners(), stopwatch]
    with quietly():
        model.fit(
            x,
            y,
            batch_size=case.batch_size,
            epochs=case.epochs,
            shuffle=shuffle,
            verbose=case.verbose,
            callbacks=callbacks,
        )
    return stopwatch.seconds


def train_patterned(case: Case, model: keras.Model, shuffle: bool = True) -> float:
    (x, y), stopwatch, folder = case.arrays(), Stopwatch(), tempfile.mkdtemp()
    callbacks = [
        *case.listeners(),
        kp.Checkpoint(folder, every_steps=10**9, every_seconds=10**9),
        stopwatch,
    ]
    with quietly():
        kp.fit(
            model,
            x,
            y,
            batch_size=case.batch_size,
            epochs=case.epochs,
            shuffle=shuffle,
            verbose=case.verbose,
            callbacks=callbacks,
            seed=0,
        )
    shutil.rmtree(folder)
    return stopwatch.seconds


@contextlib.contextmanager
def quietly() -> Any:
    """The progress bar goes to nowhere, as it would into a file."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def check(case: Case) -> list[str]:
    """Trains both sides unshuffled; returns how they differ."""
    models = case.model(), case.model()
    train_plainly(case, models[0], shuffle=False)
    train_patterned(case, models[1], shuffle=False)
    pairs = zip(*(model.get_weights() for model in models), strict=True)
    difference = max(float(np.abs(a - b).max()) for a, b in pairs)
    return (
        []
        if difference <= TOLERANCE
        else [f"{case.name}: weights differ by {difference:.1e} after {case.steps} steps"]
    )


def measure(case: Case, rounds: int) -> list[str]:
    """One row of the table."""
    plain, patterned = case.model(), case.model()
    sides = {
        "model.fit": lambda: train_plainly(case, plain),
        "kp.fit": lambda: train_patterned(case, patterned),
    }
    seconds = interleave(sides, rounds)
    per_step = [milliseconds(seconds[name] / case.steps) for name in sides]
    return [case.name, str(case.steps), *per_step, ratio(seconds["model.fit"], seconds["kp.fit"])]


def main() -> None:
    rounds = rounds_asked(default=15)
    say_where()
    failures, rows = [], []
    for case in CASES:
        failures += check(case)
        rows.append(measure(case, rounds))
    header = (
        "model",
        "steps",
        "model.fit, ms a step",
        "kp.fit, ms a step",
        "steps/s, kp.fit / model.fit (quartiles)",
    )
    table(f"Steps per second, {rounds} rounds", header, rows)
    leave(failures)


if __name__ == "__main__":
    main()
