"""How many times as many steps per second does `kp.fit` run as `model.fit`, and as a loop that is
written by hand, or by a library for loops of one's own?

All sides train the same model on the same arrays in memory, shuffled. The clock runs from the begin
of the second epoch to the end of the last one: neither compiling nor the choice of the way counts.
A ratio above 1 says that `kp.fit` is faster. Runs as short as these do not pay for a program:
`fuse="auto"` trains most of them one by one, and `fuse=True` shows what longer ones gain.

Equal results: unshuffled, `kp.fit` in blocks and `kp.fit` one by one must end with the same bits;
the loop by hand, whose Adam rounds otherwise, with nearly the same loss where nothing is drawn.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from _by_hand import train_by_hand
from _measure import (
    interleave,
    interval,
    is_asked_for,
    leave,
    milliseconds,
    rounds_asked,
    same_bits,
    say_where,
    table,
)
from _peers import PEERS, train_by_peer
from keras import layers, ops

import keras_patterns as kp
from keras_patterns.run import fusing

TOGETHER = 32
PEER = PEERS.get(keras.backend.backend(), "")
# Of the loss after an epoch, with an Adam that rounds otherwise.
NEARLY = 0.02


@dataclass(frozen=True)
class Case:
    """One row.

    Args:
        name: Of the row.
        model: Makes a model that is not compiled.
        loss: It is compiled with.
        x: Shape of the inputs, the examples first.
        classes: Of the targets; 0 where the inputs are their own.
        batch_size: Of all sides.
        epochs: Of one measurement, the first one included, which is not timed.
        draws: Whether a step draws random numbers.
        validated: Whether each epoch ends with a validation on half of the examples, which the loop
            by hand has not.
        has_peer: Whether a library for loops of one's own has its turn as well.
    """

    name: str
    model: Callable[[], keras.Model]
    loss: Any
    x: tuple[int, ...]
    classes: int
    batch_size: int = 32
    epochs: int = 3
    draws: bool = False
    validated: bool = False
    has_peer: bool = False

    def arrays(self) -> dict[str, Any]:
        random = np.random.default_rng(0)
        x = random.normal(size=self.x).astype("float32")
        y = random.integers(0, self.classes, self.x[0]) if self.classes else x
        return {"x": x, "y": y, "batch_size": self.batch_size, "epochs": self.epochs, "verbose": 0}

    @property
    def steps(self) -> int:
        return (self.epochs - 1) * (self.x[0] // self.batch_size)

    def compiled(self, **how: Any) -> keras.Model:
        keras.utils.set_random_seed(0)
        model = self.model()
        model.compile("adam", self.loss, **how)
        return model


class Stopwatch(keras.callbacks.Callback):
    """Seconds from the second epoch's begin to the last one's end."""

    # On PyTorch, callbacks that are not known keep steps one by one.
    __module__ = f"{kp.__name__}.benchmarks"

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch == 1:
            self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch > 0:
            self.seconds = time.perf_counter() - self.began


class VariationalAutoencoder(keras.Model):
    """With a loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.Sequential([layers.Dense(128, activation="relu"), layers.Dense(16)])
        self.decoder = keras.Sequential([layers.Dense(128, activation="relu"), layers.Dense(64)])
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x: Any, training: bool = False) -> Any:
        mean, spread = ops.split(self.encoder(x), 2, axis=-1)
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        divergence = ops.square(mean) + ops.exp(spread) - spread - 1
        self.add_loss(ops.mean(divergence) / 2)
        return self.decoder(mean + ops.exp(spread / 2) * noise)


def tiny_dense() -> keras.Model:
    return keras.Sequential(
        [keras.Input((32,)), layers.Dense(64, activation="relu"), layers.Dense(10)]
    )


def wide_dense() -> keras.Model:
    hidden = [layers.Dense(1024, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((512,)), *hidden, layers.Dense(10)])


def convolutional() -> keras.Model:
    parts = []
    for filters in (16, 32):
        parts += [layers.Conv2D(filters, 3), layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential(
        [keras.Input((16, 16, 3)), *parts, layers.Flatten(), layers.Dropout(0.3), layers.Dense(10)]
    )


def recurrent() -> keras.Model:
    return keras.Sequential([keras.Input((20, 16)), layers.LSTM(32), layers.Dense(10)])


def transformer() -> keras.Model:
    inputs = keras.Input((16, 32))
    attended = layers.MultiHeadAttention(4, 8)(inputs, inputs)
    x = layers.LayerNormalization()(inputs + attended)
    x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="gelu")(x)))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


CLASSES = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CASES = [
    Case("tiny dense", tiny_dense, CLASSES, (8_192, 32), 10, has_peer=True),
    Case("dense 512-1024-1024", wide_dense, CLASSES, (1_024, 512), 10, has_peer=True),
    Case("convolutional", convolutional, CLASSES, (1_024, 16, 16, 3), 10, draws=True),
    Case("LSTM", recurrent, CLASSES, (2_048, 20, 16), 10),
    Case("transformer", transformer, CLASSES, (2_048, 16, 32), 10),
    Case("variational autoencoder", VariationalAutoencoder, "mse", (4_096, 64), 0, draws=True),
    Case("tiny dense, validated", tiny_dense, CLASSES, (8_192, 32), 10, validated=True),
]


def train(case: Case, model: keras.Model, fuse: Any = None, shuffle: bool = True) -> float:
    """Trains by `model.fit`, or by `kp.fit` where `fuse` says how; returns the seconds."""
    stopwatch = Stopwatch()
    arguments = {**case.arrays(), "shuffle": shuffle, "callbacks": [stopwatch]}
    if case.validated:
        half = len(arguments["x"]) // 2
        arguments["validation_data"] = arguments["x"][:half], arguments["y"][:half]
    if fuse is None:
        model.fit(**arguments)
    else:
        kp.fit(model, **arguments, seed=0, fuse=fuse)
    return stopwatch.seconds


def by_hand(case: Case, model: keras.Model, epochs: int, shuffle: bool = True) -> float:
    """Trains by a loop of the framework's own; returns the seconds."""
    arrays = case.arrays()
    if not model.built:
        model(arrays["x"][:1])
    return train_by_hand(
        model, case.loss, arrays["x"], arrays["y"], case.batch_size, epochs, shuffle
    )


def by_peer(case: Case, model: keras.Model, epochs: int, shuffle: bool = True) -> float:
    """Trains by another library; returns the seconds."""
    arrays = case.arrays()
    return train_by_peer(model, arrays["x"], arrays["y"], case.batch_size, epochs, shuffle)


def check(case: Case) -> tuple[list[str], str]:
    """Trains unshuffled one by one, in blocks and by hand; returns how they differ, and which way
    it was.
    """
    said: list[str] = []
    ends = []
    with noted(said):
        for fuse in (False, True):
            model = case.compiled()
            train(case, model, fuse, shuffle=False)
            variables = [*model.variables, *model.optimizer.variables]
            ends.append([keras.ops.convert_to_numpy(one.value) for one in variables])
    failures = [] if same_bits(*ends) else [f"{case.name}: blocks end in other bits"]
    if not case.draws and not case.validated:
        arrays = {**case.arrays(), "epochs": 1, "shuffle": False}
        ways = {"model.fit": lambda model: model.fit(**arrays)}
        ways["by hand"] = lambda model: by_hand(case, model, 1, shuffle=False)
        if case.has_peer and PEER:
            ways[PEER] = lambda model: by_peer(case, model, 1, shuffle=False)
        losses = {}
        for name, way in ways.items():
            model = case.compiled()
            way(model)
            losses[name] = model.evaluate(arrays["x"], arrays["y"], verbose=0)
        far = {name: abs(loss / losses["model.fit"] - 1) for name, loss in losses.items()}
        failures += [
            f"{case.name}: {name}, a loss {part:.1%} from that of model.fit"
            for name, part in far.items()
            if part > NEARLY
        ]
    way = said[-1].partition(": ")[2] or "in blocks"
    return failures, way.rstrip(".")


@contextlib.contextmanager
def noted(said: list[str]) -> Any:
    """Within it, what is said of blocks is noted."""
    usual, fusing.say = fusing.say, lambda text, **_: said.append(text)
    try:
        yield
    finally:
        fusing.say = usual


def measure(case: Case, rounds: int) -> list[str]:
    """One row of the table."""
    models = {
        name: case.compiled() for name in ("model.fit", "stepwise", "blocks", "auto", "by hand")
    }
    sides: dict[str, Callable[[], float]] = {
        "model.fit": lambda: train(case, models["model.fit"]),
        "stepwise": lambda: train(case, models["stepwise"], fuse=False),
        "blocks": lambda: train(case, models["blocks"], fuse=True),
        "auto": lambda: train(case, models["auto"], fuse="auto"),
    }
    if not case.validated:
        sides["by hand"] = lambda: by_hand(case, models["by hand"], case.epochs)
    if case.has_peer and PEER:
        models["peer"] = case.compiled()
        sides["peer"] = lambda: by_peer(case, models["peer"], case.epochs)
    if keras.backend.backend() != "torch":
        models["together"] = case.compiled(steps_per_execution=TOGETHER)
        sides["together"] = lambda: train(case, models["together"])
    seconds = interleave(sides, rounds)
    names = ("model.fit", "together", "by hand", "peer", "stepwise", "blocks", "auto")
    per_step = [milliseconds(seconds[n] / case.steps) if n in seconds else "" for n in names]
    pairs = [
        *(("model.fit", "blocks"), ("by hand", "blocks"), ("peer", "blocks")),
        ("model.fit", "auto"),
    ]
    ratios = [
        interval(seconds[other] / seconds[ours]) if other in seconds else ""
        for other, ours in pairs
    ]
    return [case.name, *per_step, *ratios]


def whole(steps: int, fuse: Any) -> float:
    """The seconds of a run of a model that is new."""
    model = CASES[0].compiled()
    arrays = {**CASES[0].arrays(), "epochs": 1}
    began = time.perf_counter()
    kp.fit(model, **arrays, total_steps=steps, seed=0, fuse=fuse)
    return time.perf_counter() - began


def whole_runs(rounds: int) -> None:
    """Prints what the choice costs, or gains, where runs are short."""
    rows = []
    for steps in (20, 200, 2_000):
        sides = {fuse: partial(whole, steps, fuse) for fuse in (False, "auto", True)}
        seconds = interleave(sides, rounds)
        rows.append(
            [
                f"{steps:,}",
                *(milliseconds(taken) for taken in seconds.values()),
                *(interval(seconds[fuse] / seconds[False]) for fuse in ("auto", True)),
            ]
        )
    header = (
        "steps",
        "fuse=False, ms",
        'fuse="auto", ms',
        "fuse=True, ms",
        'time, fuse="auto" / fuse=False (90 % interval)',
        "fuse=True / fuse=False",
    )
    table(f"Whole runs of a new model, tiny dense, {rounds} rounds", header, rows)


def main() -> None:
    rounds = rounds_asked(default=15)
    say_where()
    failures: list[str] = []
    rows = []
    for case in filter(lambda case: is_asked_for(case.name), CASES):
        differences, way = check(case)
        failures += differences
        rows.append([*measure(case, rounds), way])
        # Whoever ends the script early has these.
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    header = (
        "model",
        "model.fit, ms a step",
        f"model.fit, {TOGETHER} in one, ms",
        "by hand, ms",
        f"{PEER or 'a peer'}, ms",
        "kp.fit, ms",
        "kp.fit(fuse=True), ms",
        'kp.fit(fuse="auto"), ms',
        "fuse=True / model.fit in steps/s (90 % interval)",
        "fuse=True / by hand",
        f"fuse=True / {PEER or 'a peer'}",
        'fuse="auto" / model.fit',
        "way of fuse=True",
    )
    table(f"Steps in blocks, {rounds} rounds", header, rows)
    if is_asked_for("whole runs"):
        whole_runs(rounds)
    leave(failures)


if __name__ == "__main__":
    main()
