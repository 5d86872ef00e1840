"""What does a step of the learning-rate finder cost over one of `model.fit`? Do blocks pay? Is the
rate that it suggests a good one? Do its rules agree?

Sweeps: the same one is made one step at a time, and with `fuse`, from a model that was just made to
the result, all compiling counted. Equal results: their losses must be the same bits.

Steps: both train the same model on the same arrays, in batches of the same size. The clock runs
from the twentieth step to the last, so that compiling does not count. Equal results: the finder's
losses must be those of single `train_on_batch` steps with fresh metrics.

Rates: small nets on scikit-learn's digits and breast cancer, over several seeds. From the same
start, each is trained for the same number of steps at the suggestion, at a thirtieth of it and at
thirty times it; the loss over all training data decides.

Rules: on these nets and on that of the demo, which rules are sure of a rate, and how far do their
rates lie apart?
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
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
    say_where,
    table,
)
from keras import layers
from sklearn.datasets import load_breast_cancer, load_digits

import keras_patterns as kp
from keras_patterns.cli.demo import training
from keras_patterns.data import make_source
from keras_patterns.finder import LearningRateSweep
from keras_patterns.finder import run as finder
from keras_patterns.finder.rules import RULES

STEPS, FROM_STEP = 400, 20
BATCH = 32
TRAINED_STEPS, SEEDS = 300, range(5)
SWEPT_SEEDS = range(20)
SWEEP_STEPS = (200, 2_000)
WAYS: dict[str, Any] = {"one by one": False, "in blocks, if that pays": "auto", "in blocks": True}
FACTORS = {"1/30 of it": 1 / 30, "the suggestion": 1.0, "30 times it": 30.0}


class Clock(keras.callbacks.Callback):
    """The seconds from one step to the end of the last."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == FROM_STEP:
            self.begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self.begun


class TimedListener(finder.SweepListener):
    """The finder's own, with the same clock."""

    clock = Clock()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_begin(batch, logs)
        self.clock.on_train_batch_begin(batch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        self.clock.on_epoch_end(epoch)


def dense() -> keras.Model:
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(256, "relu"), layers.Dense(256, "relu"), layers.Dense(10)]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def convolutional() -> keras.Model:
    hidden = [
        layers.Reshape((8, 8, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.Conv2D(32, 3, activation="relu"),
    ]
    model = keras.Sequential(
        [
            keras.Input((64,)),
            *hidden,
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def step_costs(make: Callable[[], keras.Model], rounds: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    x, y = (
        random.normal(size=(STEPS * BATCH, 64)).astype("float32"),
        random.integers(0, 10, STEPS * BATCH),
    )
    fitted, swept = make(), make()

    def fit() -> float:
        clock = Clock()
        fitted.fit(x, y, batch_size=BATCH, callbacks=[clock], verbose=0)
        return clock.seconds

    def find() -> float:
        kp.find_learning_rate(
            swept, x, y, batch_size=BATCH, steps=STEPS, stop_rate=1e-3, divergence=1e9, verbose=0
        )
        return TimedListener.clock.seconds

    finder.SweepListener = TimedListener  # type: ignore[misc]
    return interleave({"model.fit": fit, "finder": find}, rounds)


def sweep_rows(rounds: int) -> tuple[list[list[str]], bool]:
    """Whole sweeps of the dense net one by one, in blocks if that pays, and in blocks; and whether
    their losses differ.
    """
    random = np.random.default_rng(0)
    x = random.normal(size=(STEPS * BATCH, 64)).astype("float32")
    y = random.integers(0, 10, STEPS * BATCH)
    rows, differ = [], False
    for steps in SWEEP_STEPS:
        losses: dict[object, np.ndarray] = {}

        def sweep(fuse: Any, steps: int = steps, losses: Any = losses) -> float:
            keras.utils.set_random_seed(0)
            model, start = dense(), time.perf_counter()
            found = kp.find_learning_rate(
                model, x, y, batch_size=BATCH, steps=steps, stop_rate=1e-2, fuse=fuse, verbose=0
            )
            losses[fuse] = found.losses
            return time.perf_counter() - start

        seconds = interleave({name: partial(sweep, fuse) for name, fuse in WAYS.items()}, rounds)
        differ |= any(one.tobytes() != losses[False].tobytes() for one in losses.values())
        one_by_one = seconds["one by one"]
        others = [interval(seconds[name] / one_by_one) for name in list(WAYS)[1:]]
        rows.append([f"{steps:,}", milliseconds(one_by_one), *others])
    return rows, differ


def losses_differ(make: Callable[[], keras.Model]) -> bool:
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    keras.utils.set_random_seed(0)
    model = make()
    sweep = kp.find_learning_rate(model, x, y, batch_size=BATCH, stop_rate=1e-2, verbose=0)
    source, expected = make_source(x, y, batch_size=BATCH, seed=0), []
    for step, rate in enumerate(sweep.rates):
        model.optimizer.learning_rate = rate
        model.reset_metrics()
        expected.append(model.train_on_batch(*source.batch(step), return_dict=True)["loss"])
    return not np.allclose(sweep.losses, expected, rtol=1e-5)


def digits() -> tuple[np.ndarray, np.ndarray, int]:
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y, 10


def cancer() -> tuple[np.ndarray, np.ndarray, int]:
    x, y = load_breast_cancer(return_X_y=True)
    return ((x - x.mean(0)) / x.std(0)).astype("float32"), y, 2


def classifier(optimizer: str, features: int, classes: int) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((features,)),
            layers.Dense(64, "relu"),
            layers.Dropout(0.2),
            layers.Dense(classes),
        ]
    )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def rate_rows() -> list[list[str]]:
    rows = []
    for load in (digits, cancer):
        x, y, classes = load()
        for optimizer in ("sgd", "adam"):
            rates, losses = [], {name: [] for name in FACTORS}
            for seed in SEEDS:
                keras.utils.set_random_seed(seed)
                model = classifier(optimizer, x.shape[1], classes)
                sweep = kp.find_learning_rate(model, x, y, seed=seed, verbose=0)
                rates.append(sweep.suggest())
                for name, factor in FACTORS.items():
                    keras.utils.set_random_seed(seed)
                    model = classifier(optimizer, x.shape[1], classes)
                    model.optimizer.learning_rate = rates[-1] * factor
                    kp.fit(model, x, y, total_steps=TRAINED_STEPS, epochs=1, seed=seed, verbose=0)
                    # What is no number has diverged.
                    losses[name].append(np.nan_to_num(model.evaluate(x, y, verbose=0), nan=np.inf))
            ours = np.array(losses["the suggestion"])
            wins = sum(
                (ours < np.array(losses[name])).astype(int)
                for name in FACTORS
                if name != "the suggestion"
            )
            shown = [f"{np.median(losses[name]):.3g}" for name in FACTORS]
            rows.append(
                [
                    f"{load.__name__}, {optimizer}",
                    f"{np.median(rates):.2e}",
                    *shown,
                    f"{(wins == 2).sum()} of {len(SEEDS)}",
                ]
            )
    return rows


def swept(make: Callable[[], keras.Model], x: np.ndarray, y: np.ndarray) -> Callable[[int], Any]:
    def sweep(seed: int) -> LearningRateSweep:
        keras.utils.set_random_seed(seed)
        return kp.find_learning_rate(make(), x, y, batch_size=BATCH, seed=seed, verbose=0)

    return sweep


def demo(seed: int) -> LearningRateSweep:
    """A sweep as the demo makes it, from other initial weights."""
    (x, y), _, _ = training.load_digits()
    model = training.make_model()
    keras.utils.set_random_seed(seed)
    model = keras.models.clone_model(model)
    model.compile("adam", "sparse_categorical_crossentropy")
    return kp.find_learning_rate(model, x, y, batch_size=training.BATCH_SIZE, seed=seed, verbose=0)


def sweeps() -> dict[str, Callable[[int], LearningRateSweep]]:
    """By name, what sweeps a net from a seed."""
    found: dict[str, Callable[[int], LearningRateSweep]] = {"the demo's": demo}
    x, y, _ = digits()
    found["dense"], found["convolutional"] = swept(dense, x, y), swept(convolutional, x, y)
    for load in (digits, cancer):
        for optimizer in ("sgd", "adam"):
            x, y, classes = load()

            def make(
                optimizer: str = optimizer, features: int = x.shape[1], classes: int = classes
            ) -> keras.Model:
                return classifier(optimizer, features, classes)

            found[f"{load.__name__}, {optimizer}"] = swept(make, x, y)
    return found


def rule_rows() -> list[list[str]]:
    rows = []
    for name, sweep in sweeps().items():
        found = [sweep(seed).suggestions() for seed in SWEPT_SEEDS]
        spreads = [one.spread for one in found]
        sure = [f"{sum(rule in one for one in found)}" for rule in RULES]
        rows.append([name, *sure, f"{np.median(spreads):.1f}", f"{max(spreads):.1f}"])
    return rows


def main() -> None:
    rounds = rounds_asked(7)
    say_where()
    rows, failures = [], []
    sweeps_in_blocks, differ = sweep_rows(rounds)
    if differ:
        failures.append("the losses of sweeps in blocks and one by one")
    table(
        "A whole sweep of the dense net: ms one by one, and the others over it (90 % intervals)",
        ["steps", *WAYS],
        sweeps_in_blocks,
    )
    for name, make in {
        "dense, 84 k parameters": dense,
        "convolutional, 15 k parameters": convolutional,
    }.items():
        seconds = step_costs(make, rounds)
        each = {side: values / (STEPS - FROM_STEP) for side, values in seconds.items()}
        cells = [
            milliseconds(each["model.fit"]),
            milliseconds(each["finder"]),
            ratio(each["finder"], each["model.fit"]),
        ]
        rows.append([name, *cells])
        if losses_differ(make):
            failures.append(f"{name}: the finder's losses and those of train_on_batch")
    table(
        "One step: ms of model.fit, ms of the finder, the finder over model.fit",
        ["model", "model.fit", "finder", "ratio"],
        rows,
    )
    title = f"Training loss after {TRAINED_STEPS} steps, medians over {len(SEEDS)} seeds"
    header = [
        "data, optimizer",
        "suggestion",
        *(f"at {name}" for name in FACTORS),
        "best of the three in",
    ]
    table(title, header, rate_rows())
    title = f"Rules that are sure, of {len(SWEPT_SEEDS)} sweeps; how far their rates lie apart"
    table(title, ["net", *RULES, "median", "at most"], rule_rows())
    leave(failures)


if __name__ == "__main__":
    main()
