"""What does a momentum that follows a schedule cost, over the constant momentum of the same optimizer?

Both train the same model on the same arrays with `model.fit`, at a rate that follows a schedule. On torch, Keras updates all
weights at once with its own classes, and one by one with any other class: the more variables, the more that would show.

Equal results: with a schedule that stands still, both must end with the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np
from _measure import interleave, leave, milliseconds, ratio, rounds_asked, say_where, table
from keras import layers

import keras_patterns as kp

STEPS, BATCH = 100, 32
RATE, MOMENTUM = 0.01, 0.9


class Standing(keras.optimizers.schedules.LearningRateSchedule):
    """The same at each step, but computed there."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, step: object) -> object:
        return keras.ops.cast(step, "float32") * 0 + self.value

    def get_config(self) -> dict[str, float]:
        return {"value": self.value}


keras.saving.register_keras_serializable("bench_momentum")(Standing)


def model(depth: int, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((32,)), *(layers.Dense(32, "tanh") for _ in range(depth)), layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def timed(model: keras.Model) -> Callable[[], float]:
    random = np.random.default_rng(0)
    x = random.normal(size=(STEPS * BATCH, 32)).astype("float32")
    y = x.sum(1, keepdims=True)

    def fit() -> float:
        begun = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, verbose=0)
        return time.perf_counter() - begun

    return fit


def optimizers(name: str) -> tuple[keras.optimizers.Optimizer, keras.optimizers.Optimizer]:
    if name == "Adam":
        plain = keras.optimizers.Adam(Standing(RATE), beta_1=MOMENTUM)
    else:
        plain = keras.optimizers.SGD(Standing(RATE), momentum=MOMENTUM)
    return plain, kp.with_momentum_schedule(plain, Standing(MOMENTUM))


def main() -> None:
    rounds = rounds_asked(7)
    say_where()
    rows, failures = [], []
    for name in ("SGD", "Adam"):
        for depth in (2, 40):
            models = [model(depth, optimizer) for optimizer in optimizers(name)]
            seconds = interleave(dict(zip(("Keras", "scheduled"), map(timed, models), strict=True)), rounds)
            cells = [milliseconds(values / STEPS) for values in seconds.values()]
            rows.append([f"{name}, {2 * depth + 2} variables", *cells, ratio(seconds["scheduled"], seconds["Keras"])])
            fresh = [model(depth, optimizer) for optimizer in optimizers(name)]
            weights = []
            for one in fresh:
                one.fit(np.ones((64, 32), "float32"), np.ones((64, 1), "float32"), verbose=0)
                weights.append(one.get_weights())
            if not all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*weights, strict=True)):
                failures.append(f"{name}, {depth} layers: the weights with and without a schedule")
    table("One step: ms, and the scheduled over the plain", ["optimizer", "Keras", "scheduled momentum", "ratio"], rows)
    leave(failures)


if __name__ == "__main__":
    main()
