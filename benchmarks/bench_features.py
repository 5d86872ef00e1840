"""How much cheaper is a step of training where a backbone is frozen, and where its outputs are
computed once?

A net of convolutional blocks, as in VGG, and a small head, trained by `kp.fit` with Adam: all of
it; its head alone, the backbone frozen; and the head alone on the outputs of the backbone from
`kp.cache_features`. To hold: a step on the outputs takes at most a fifth of a step with the frozen
backbone, and the optimizer's slots are in proportion to what is trained.

Equal results: with the frozen backbone and with its outputs, the head must end with the same
weights, within 1e-5.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np
from _measure import interleave, leave, milliseconds, ratio, rounds_asked, say_where, table
from keras import layers

import keras_patterns as kp

EXAMPLES, BATCH, STEPS = 256, 32, 24
FILTERS = (32, 64, 128)
AT_MOST = 1 / 5


def model(frozen: bool) -> keras.Model:
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((32, 32, 3))], name="backbone")
    for filters in FILTERS:
        for _ in range(2):
            for layer in (
                layers.Conv2D(filters, 3, padding="same"),
                layers.BatchNormalization(),
                layers.ReLU(),
            ):
                backbone.add(layer)
        backbone.add(layers.MaxPooling2D())
    backbone.trainable = not frozen
    head = (
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.3, seed=1),
        layers.Dense(10),
    )
    return compiled(keras.Sequential([keras.Input((32, 32, 3)), backbone, *head]))


def compiled(model: keras.Model) -> keras.Model:
    model.compile(
        keras.optimizers.Adam(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(EXAMPLES, 32, 32, 3)).astype("float32"), random.integers(
        0, 10, EXAMPLES
    )


def timed(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    def fit() -> float:
        begun = time.perf_counter()
        kp.fit(model, x, y, batch_size=BATCH, total_steps=STEPS, epochs=1, seed=0, verbose=0)
        return time.perf_counter() - begun

    return fit


def largest_difference(model: keras.Model, other: keras.Model) -> float:
    return max(
        np.abs(a - b).max() for a, b in zip(model.get_weights(), other.get_weights(), strict=True)
    )


def bytes_of(variables: list[keras.Variable]) -> int:
    return sum(int(np.prod(variable.shape)) * 4 for variable in variables)


def main() -> None:
    rounds = rounds_asked(7)
    say_where()
    x, y = data()
    whole, frozen, cached_model = model(frozen=False), model(frozen=True), model(frozen=True)
    begun = time.perf_counter()
    cached = kp.cache_features(cached_model, "backbone", x, batch_size=BATCH, verbose=0)
    computing = time.perf_counter() - begun
    head = compiled(cached.head)
    sides = {
        "all": timed(whole, x, y),
        "frozen": timed(frozen, x, y),
        "features": timed(head, cached.features, y),
    }
    seconds = interleave(sides, rounds)
    rows = []
    for name, trained in (("all", whole), ("frozen", frozen), ("features", head)):
        slots, weights = (
            bytes_of(trained.optimizer.variables[2:]),
            bytes_of(trained.trainable_variables),
        )
        cells = [
            milliseconds(seconds[name] / STEPS),
            ratio(seconds[name], seconds["all"]),
            ratio(seconds[name], seconds["frozen"]),
        ]
        rows.append([name, *cells, f"{weights:,}", f"{slots:,}", f"{slots / weights:.2f}"])
    header = [
        "trained",
        "ms a step",
        "over all",
        "over frozen",
        "trainable, bytes",
        "slots, bytes",
        "ratio",
    ]
    table(f"One step of {BATCH} examples", header, rows)
    print(f"\nThe features of {EXAMPLES} examples, compilation included: {computing:.1f} s.")
    # Each has been trained as often as the other.
    difference = largest_difference(frozen, cached_model)
    share = np.median(seconds["features"] / seconds["frozen"])
    print(
        f"Largest difference of a weight, frozen and on features: {difference:.1e}. At most a "
        f"fifth of a step: {share <= AT_MOST}."
    )
    moved = largest_difference(frozen, model(frozen=True))
    leave(
        [f"frozen and features: {difference:.1e}, of {moved:.1e} trained"]
        if not difference <= 1e-5 < moved
        else []
    )


if __name__ == "__main__":
    main()
