"""Is the checkpoint that was chosen afterwards better than the last one, of a run that overfits?
What does choosing cost?

Better: a large dense net on scikit-learn's breast cancer data, in three parts drawn anew for each
seed. It is trained on the first for far too long, its checkpoints are compared on the second, and
the third, which nothing was chosen by, decides between the last, the chosen one, and the average of
the last ones.

Cost: over a loop that restores and evaluates each checkpoint, and then restores the best. Both must
give the same values.

Blocks: what does `fuse` gain for a small net and many batches? Each call is on a new model, so that
compiling counts. All must give the same values.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from typing import Any

import keras
import numpy as np
from _measure import (
    interleave,
    is_asked_for,
    leave,
    milliseconds,
    ratio,
    rounds_asked,
    say_where,
    table,
)
from keras import layers
from sklearn.datasets import load_breast_cancer

import keras_patterns as kp

SEEDS, STEPS, EVERY, AVERAGED = range(9), 1_000, 25, 5
TRAINED, VALIDATED = 190, 190
# Of the blocks.
EXAMPLES, SELECTED = (1_000, 5_000, 20_000), 20

Data = tuple[np.ndarray, np.ndarray]


def parts(seed: int) -> list[Data]:
    """For training, choosing and deciding; scaled by the first."""
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    cuts = np.split(order, [TRAINED, TRAINED + VALIDATED])
    mean, spread = x[cuts[0]].mean(0), x[cuts[0]].std(0)
    return [(((x[cut] - mean) / spread).astype("float32"), y[cut]) for cut in cuts]


def make_model(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((30,)), *(layers.Dense(512, "relu") for _ in range(3)), layers.Dense(2)]
    )
    model.compile(
        keras.optimizers.Adam(1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def run(folder: str, seed: int) -> tuple[keras.Model, list[Data]]:
    """Leaves the checkpoints of one run in a folder."""
    data, model = parts(seed), make_model(seed)
    callbacks = [kp.Checkpoint(folder, every_steps=EVERY, keep_last=STEPS // EVERY)]
    kp.fit(model, *data[0], total_steps=STEPS, epochs=1, seed=seed, verbose=0, callbacks=callbacks)
    return model, data


def qualities(seed: int) -> dict[str, list[float]]:
    """Loss and accuracy on the second part and on the third; of the chosen one also its step."""
    with tempfile.TemporaryDirectory() as folder:
        model, (_, validation, test) = run(folder, seed)

        def quality() -> list[float]:
            return [
                value for data in (validation, test) for value in model.evaluate(*data, verbose=0)
            ]

        found = {"the last": quality()}
        kp.average_checkpoints(folder, model, kp.CheckpointStore(folder).steps()[-AVERAGED:])
        found[f"average of the last {AVERAGED}"] = quality()
        for metric in ("accuracy", "loss"):
            step = kp.select_checkpoint(folder, model, validation, metric, verbose=0).best_step
            found[f"best by validation {metric}"] = quality()
        found["step"] = [step]
        return found


def quality_rows() -> list[list[str]]:
    seeds = [qualities(seed) for seed in SEEDS]
    last = np.array([one["the last"] for one in seeds])
    rows = []
    for name in seeds[0]:
        if name == "step":
            continue
        values = np.array([one[name] for one in seeds])
        better = [
            int((sign * values[:, column] < sign * last[:, column]).sum())
            for sign, column in ((1, 2), (-1, 3))
        ]
        wins = ["", ""] if name == "the last" else [f"{count} of {len(seeds)}" for count in better]
        rows.append([name, *(f"{value:.4f}" for value in np.median(values, axis=0)), *wins])
    steps = sorted(int(one["step"][0]) for one in seeds)
    print(f"\nThe steps chosen by the loss, of {STEPS}: {', '.join(map(str, steps))}")
    return rows


def costs(rounds: int) -> tuple[dict[str, np.ndarray], bool]:
    with tempfile.TemporaryDirectory() as folder:
        model, (_, validation, _) = run(folder, 0)
        store, results = kp.CheckpointStore(folder), {}

        def loop() -> float:
            begun, losses = time.perf_counter(), {}
            for step in store.steps():
                store.restore(model, step, weights_only=True)
                losses[step] = model.evaluate(*validation, return_dict=True, verbose=0)
            store.restore(
                model, min(losses, key=lambda step: losses[step]["loss"]), weights_only=True
            )
            results["loop"] = losses, model.get_weights()
            return time.perf_counter() - begun

        def select() -> float:
            begun = time.perf_counter()
            selection = kp.select_checkpoint(store, model, validation, verbose=0)
            seconds = time.perf_counter() - begun
            results["select"] = (
                {row.step: row.values for row in selection.rows},
                model.get_weights(),
            )
            return seconds

        seconds = interleave({"loop": loop, "select": select}, rounds)
        return seconds, _same(results["loop"], results["select"])


def small_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((30,)), layers.Dense(64, activation="relu"), layers.Dense(2)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def block_row(examples: int, rounds: int) -> tuple[list[str], bool]:
    random = np.random.default_rng(0)
    data = random.normal(size=(examples, 30)).astype("float32"), random.integers(0, 2, examples)
    found: dict[Any, kp.CheckpointSelection] = {}
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [kp.Checkpoint(folder, every_steps=1, keep_last=SELECTED)]
        plan = {"total_steps": SELECTED, "epochs": 1, "seed": 0, "verbose": 0}
        kp.fit(small_model(), *data, **plan, callbacks=callbacks)

        def select(fuse: Any) -> float:
            model = small_model()
            begun = time.perf_counter()
            found[fuse] = kp.select_checkpoint(folder, model, data, fuse=fuse, verbose=0)
            return time.perf_counter() - begun

        ways = (False, "auto", True)
        seconds = interleave({str(fuse): partial(select, fuse) for fuse in ways}, rounds)
    each = [milliseconds(seconds[str(fuse)]) for fuse in ways]
    ratios = [ratio(seconds[str(fuse)], seconds["False"]) for fuse in ways[1:]]
    same = found[False].rows == found["auto"].rows == found[True].rows
    way = found["auto"].ways[-1]["way"]
    return [f"{examples:,}", *each, *ratios, way], same


def _same(one: Any, other: Any) -> bool:
    return one[0] == other[0] and all(
        np.array_equal(a, b) for a, b in zip(one[1], other[1], strict=True)
    )


def blocks(rounds: int) -> list[str]:
    """Prints what blocks gain; returns where they differ."""
    rows, failures = [], []
    for examples in EXAMPLES:
        if not is_asked_for(f"blocks, {examples:,} examples"):
            continue
        row, same = block_row(examples, rounds)
        rows.append(row)
        failures += [] if same else [f"the values in blocks, {examples:,} examples"]
    header = ["examples", "fuse=False, ms", 'fuse="auto", ms', "fuse=True, ms"]
    header += ["auto / False", "True / False", "way of auto"]
    table(f"{SELECTED} checkpoints of a net of 2,114 weights, {rounds} rounds", header, rows)
    return failures


def qualities_table() -> None:
    header = ["weights", "validation loss", "validation accuracy", "test loss", "test accuracy"]
    header += ["test loss below the last's", "test accuracy above the last's"]
    rows = quality_rows()
    table(
        f"Breast cancer, 541 k weights, {TRAINED} examples, {STEPS} steps: medians over "
        f"{len(SEEDS)} seeds",
        header,
        rows,
    )


def costs_table(rounds: int) -> list[str]:
    """Prints what choosing costs; returns where it differs."""
    seconds, same = costs(rounds)
    count = STEPS // EVERY
    each = [milliseconds(seconds[side] / count) for side in ("loop", "select")]
    cells = [*each, ratio(seconds["select"], seconds["loop"])]
    table(
        f"One of {count} checkpoints, in ms",
        ["a loop of restore and evaluate", "kp.select_checkpoint", "ratio"],
        [cells],
    )
    return [] if same else ["the values of kp.select_checkpoint and of the loop"]


def main() -> None:
    rounds = rounds_asked(9)
    say_where()
    failures: list[str] = []
    if is_asked_for("quality"):
        qualities_table()
    if is_asked_for("cost"):
        failures += costs_table(rounds)
    leave([*failures, *blocks(rounds)])


if __name__ == "__main__":
    main()
