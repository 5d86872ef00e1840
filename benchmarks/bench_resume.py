"""What does it cost to go on: at the start of a run, and to reach a far step of the data?

- From the call of `kp.fit` until the first new step begins, and until it is done, with a checkpoint
  to go on from and with an empty folder, beside `model.fit` and beside its way to go on, Keras's
  BackupAndRestore. In between it is compiled.
- From nothing to the first batch, at step 10 and at step 10,000,000 of the same shuffled arrays.

Equal results: a run that was left in the middle and went on ends bit for bit as one that was not;
the far batch is the one that the step says.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from _measure import (
    interleave,
    interval,
    leave,
    milliseconds,
    ratio,
    rounds_asked,
    same_bits,
    say_where,
    table,
)

import keras_patterns as kp
from keras_patterns.data import ArraySource

NEAR, FAR = 10, 10_000_000


class Left(Exception):
    """Leaves a run."""


class LeaveAt(keras.callbacks.Callback):
    """Notes when the first step begins and when it is done, and leaves the run at its n-th one."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._left, self.times = count, {"begins": 0.0, "is done": 0.0}

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.times["begins"] = self.times["begins"] or time.perf_counter()
        self._left -= 1
        if self._left == 0:
            raise Left

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        # Where the framework runs ahead, the numbers are waited for.
        float(logs["loss"])
        self.times["is done"] = self.times["is done"] or time.perf_counter()

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


def make_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(128, activation="relu") for _ in range(10)]
    model = keras.Sequential([keras.Input((32,)), *hidden, keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def arrays(examples: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(examples, 32)).astype("float32"), random.integers(0, 10, examples)


def begin_plainly(until: str, backup: Path | None = None, leave_at: int = 2) -> float:
    """The seconds until the first step of `model.fit` begins or is done.

    Args:
        until: "begins" or "is done".
        backup: A folder for Keras's BackupAndRestore. Defaults to None: without it.
        leave_at: The step at which the run is left.
    """
    model, watch, (x, y) = make_model(), LeaveAt(leave_at), arrays(1000)
    keeps = [keras.callbacks.BackupAndRestore(backup)] if backup else []
    began = time.perf_counter()
    with contextlib.suppress(Left):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[*keeps, watch])
    return watch.times[until] - began


def train(folder: Path, leave_at: int = 0, until: str = "begins") -> tuple[keras.Model, float]:
    """Trains 100 steps, or leaves them; returns the model and the seconds until the first step
    begins or is done.
    """
    model, watch, (x, y) = make_model(), LeaveAt(leave_at), arrays(1000)
    checkpoint = kp.Checkpoint(folder, every_steps=50)
    began = time.perf_counter()
    with contextlib.suppress(Left), contextlib.redirect_stdout(None):
        kp.fit(
            model, x, y, total_steps=100, epochs=2, seed=0, verbose=0, callbacks=[checkpoint, watch]
        )
    return model, watch.times[until] - began


def starts(rounds: int) -> list[str]:
    """Prints how long a run takes to begin; returns what was not equal."""
    root = Path(tempfile.mkdtemp())
    whole, _ = train(root / "whole")
    train(root / "left", leave_at=75)
    # 32 steps are an epoch: its backup is made once, at the end of the first one.
    begin_plainly("begins", root / "kept", leave_at=40)

    def fresh(until: str) -> float:
        shutil.rmtree(root / "fresh", ignore_errors=True)
        return train(root / "fresh", 2, until)[1]

    def resumed(until: str) -> float:
        shutil.rmtree(root / "again", ignore_errors=True)
        shutil.copytree(root / "left", root / "again")
        return train(root / "again", 2, until)[1]

    def restored(until: str) -> float:
        shutil.rmtree(root / "again", ignore_errors=True)
        shutil.copytree(root / "kept", root / "again")
        return begin_plainly(until, root / "again")

    for until in ("begins", "is done"):
        ways = {
            "model.fit": begin_plainly,
            "model.fit, from a BackupAndRestore": restored,
            "from nothing": fresh,
            "from a checkpoint": resumed,
        }
        seconds = interleave({name: partial(way, until) for name, way in ways.items()}, rounds)
        rows = [
            [name, milliseconds(taken), interval(taken / seconds["model.fit"])]
            for name, taken in seconds.items()
        ]
        table(
            f"Until the first step of 22 weights {until}, {rounds} rounds",
            ("a run of", "ms", "ratio to model.fit (90 % interval)"),
            rows,
        )
    went_on, _ = train(root / "left")
    shutil.rmtree(root)
    return (
        []
        if same_bits(whole.get_weights(), went_on.get_weights())
        else ["a run that went on ended with other weights"]
    )


def seeks(rounds: int) -> list[str]:
    """Prints how long the first batch takes; returns what was not equal."""
    x, y = arrays(1_000_000)

    def first_batch(step: int) -> float:
        source = ArraySource(x, y, batch_size=32, seed=0)
        began = time.perf_counter()
        next(source.batches(step))
        return time.perf_counter() - began

    seconds = interleave(
        {f"{step:,}": lambda step=step: first_batch(step) for step in (NEAR, FAR)}, rounds
    )
    rows = [
        [name, milliseconds(taken), ratio(taken, seconds[f"{NEAR:,}"])]
        for name, taken in seconds.items()
    ]
    table(
        f"First batch of 1,000,000 examples, {rounds} rounds",
        ("at step", "ms", "ratio (quartiles)"),
        rows,
    )
    inputs, _ = next(ArraySource(x, y, batch_size=32, seed=0).batches(FAR))
    order = ArraySource(np.arange(len(x)), batch_size=32, seed=0).batch(FAR)[0]
    return [] if same_bits([inputs], [x[order]]) else ["the far batch holds other examples"]


def main() -> None:
    rounds = rounds_asked(default=15)
    say_where()
    leave(starts(rounds) + seeks(rounds))


if __name__ == "__main__":
    main()
