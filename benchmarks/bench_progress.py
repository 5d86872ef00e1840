"""How many steps per second does a progress display cost: that of `kp.fit`, and Keras's bar?

One model trains on the same arrays in five ways: by `kp.fit` without a display, with its own, with
a `keras.callbacks.ProgbarLogger` among its callbacks; and by `model.fit` with its bar and without.
Once to a terminal (a pseudo terminal that is read all the time), once to a file. The clock runs
from the first `on_epoch_begin` to the last `on_epoch_end`. A ratio above 1 says that the side has
more steps per second than `kp.fit` without a display.

Equal results: all sides of `kp.fit` end with the same weights to the bit.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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

EXAMPLES, BATCH, EPOCHS = 16_384, 32, 4
STEPS = EPOCHS * EXAMPLES // BATCH


class Stopwatch(keras.callbacks.Callback):
    """Seconds from the first epoch's begin to the last one's end. It listens to no batch."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch == 0:
            self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.seconds = time.perf_counter() - self.began


@contextlib.contextmanager
def to_terminal() -> Iterator[None]:
    """Standard output is a terminal that somebody reads."""
    reader, writer = os.openpty()

    def read() -> None:
        with contextlib.suppress(OSError):
            while os.read(reader, 1 << 16):
                pass

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    with open(writer, "w") as out, contextlib.redirect_stdout(out):
        yield
    reading.join()
    os.close(reader)


@contextlib.contextmanager
def to_file() -> Iterator[None]:
    """Standard output is a file."""
    with tempfile.TemporaryFile("w") as out, contextlib.redirect_stdout(out):
        yield


def make_model() -> keras.Model:
    """So small that the host is what takes the time."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((32,)), layers.Dense(64, activation="relu"), layers.Dense(10)]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def arrays() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(EXAMPLES, 32)).astype("float32")
    return x, random.integers(0, 10, EXAMPLES)


def by_ours(model: keras.Model, verbose: int, callbacks: list[keras.callbacks.Callback]) -> float:
    (x, y), stopwatch = arrays(), Stopwatch()
    kp.fit(
        model,
        x,
        y,
        batch_size=BATCH,
        epochs=EPOCHS,
        seed=0,
        verbose=verbose,
        callbacks=[*callbacks, stopwatch],
    )
    return stopwatch.seconds


def by_keras(model: keras.Model, verbose: int) -> float:
    (x, y), stopwatch = arrays(), Stopwatch()
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=verbose, callbacks=[stopwatch])
    return stopwatch.seconds


SIDES: dict[str, Callable[[keras.Model], float]] = {
    "kp.fit, no display": lambda model: by_ours(model, 0, []),
    "kp.fit, own display": lambda model: by_ours(model, 1, []),
    "kp.fit, Keras's bar": lambda model: by_ours(model, 1, [keras.callbacks.ProgbarLogger()]),
    "model.fit, no display": lambda model: by_keras(model, 0),
    "model.fit, Keras's bar": lambda model: by_keras(model, 1),
}


def check() -> list[str]:
    """Trains all sides of `kp.fit`; returns which differ."""
    weights = {}
    for name, side in SIDES.items():
        if name.startswith("kp.fit"):
            model = make_model()
            with to_file():
                side(model)
            weights[name] = model.get_weights()
    first, *others = weights
    return [
        f"{name}: other weights than {first}"
        for name in others
        if not same_bits(weights[first], weights[name])
    ]


def measure(where: str, out: Callable[[], Any], rounds: int) -> None:
    """One table."""

    def timed(side: Callable[[keras.Model], float], model: keras.Model) -> Callable[[], float]:
        def run() -> float:
            with out():
                return side(model)

        return run

    seconds = interleave({name: timed(side, make_model()) for name, side in SIDES.items()}, rounds)
    plain = seconds["kp.fit, no display"]
    rows = [
        [name, milliseconds(seconds[name] / STEPS), ratio(plain, seconds[name])] for name in SIDES
    ]
    header = ("", "ms a step", "steps/s, over kp.fit without a display (quartiles)")
    table(f"{where}, {STEPS} steps, {rounds} rounds", header, rows)


def main() -> None:
    rounds = rounds_asked(default=11)
    say_where()
    failures = check()
    measure("To a terminal", to_terminal, rounds)
    measure("To a file", to_file, rounds)
    leave(failures)


if __name__ == "__main__":
    sys.exit(main())
