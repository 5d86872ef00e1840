"""A net of equal layers whose step is short, so that what an optimizer adds to it shows."""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

STEPS, BATCH, WIDTH = 100, 32, 32


def tanh_net(depth: int) -> keras.Model:
    """`depth` hidden layers and a head, with the same weights each time."""
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(WIDTH, "tanh", name=f"layer_{number}") for number in range(depth)]
    return keras.Sequential([keras.Input((WIDTH,)), *hidden, layers.Dense(1, name="head")])


def timed_fit(model: keras.Model) -> Callable[[], float]:
    """A function that trains the model for `STEPS` steps and returns the seconds that it took."""
    x = np.random.default_rng(0).normal(size=(STEPS * BATCH, WIDTH)).astype("float32")
    y = x.sum(1, keepdims=True)

    def fit() -> float:
        begun = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
        return time.perf_counter() - begun

    return fit


def same_weights_after_two_steps(one: keras.Model, other: keras.Model) -> bool:
    """Whether two new models end alike."""
    for model in (one, other):
        model.fit(
            np.ones((64, WIDTH), "float32"),
            np.ones((64, 1), "float32"),
            batch_size=BATCH,
            verbose=0,
        )
    return all(
        np.allclose(a, b, rtol=1e-4, atol=1e-5)
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True)
    )
