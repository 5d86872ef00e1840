"""What do rates that differ from layer to layer cost, over the same optimizer with one rate for
all?

The peer is `keras.optimizers.MultiOptimizer` with one optimizer for each group. All train the same
model on the same arrays with `model.fit`. On torch, Keras updates all weights of an optimizer at
once: with factors, all weights of a group.

Equal results: with factors and by the peer, fresh models must end with the same weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import keras
from _measure import interleave, leave, milliseconds, ratio, rounds_asked, say_where, table
from _tanh_net import STEPS, same_weights_after_two_steps, tanh_net, timed_fit

import keras_patterns as kp

RATE, DECAY = 1e-3, 0.9
KINDS = {
    "SGD": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "AdamW": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.01),
}


def plain(
    model: keras.Model, make: Callable[[float], keras.optimizers.Optimizer]
) -> keras.optimizers.Optimizer:
    return make(RATE)


def layerwise(
    model: keras.Model, make: Callable[[float], keras.optimizers.Optimizer]
) -> keras.optimizers.Optimizer:
    return kp.optimizers.with_layer_rates(make(RATE), model, decay=DECAY)


def several(
    model: keras.Model, make: Callable[[float], keras.optimizers.Optimizer]
) -> keras.optimizers.Optimizer:
    count = len(model.layers)
    own = {
        f".*{re.escape(layer.name)}/.*": make(RATE * DECAY ** (count - 1 - n))
        for n, layer in enumerate(model.layers[:-1])
    }
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(make(RATE), own))


SIDES = {"Keras": plain, "layerwise": layerwise, "MultiOptimizer": several}


def compiled(depth: int, kind: str, side: str) -> keras.Model:
    model = tanh_net(depth)
    model.compile(SIDES[side](model, KINDS[kind]), "mse")
    return model


def main() -> None:
    rounds = rounds_asked(7)
    say_where()
    rows, failures = [], []
    for kind in KINDS:
        for depth in (2, 12, 40):
            seconds = interleave(
                {side: timed_fit(compiled(depth, kind, side)) for side in SIDES}, rounds
            )
            cells = [milliseconds(values / STEPS) for values in seconds.values()]
            ratios = [
                ratio(seconds[side], seconds["Keras"]) for side in ("layerwise", "MultiOptimizer")
            ]
            rows.append([f"{kind}, {2 * depth + 2} variables, {depth + 1} groups", *cells, *ratios])
            if not same_weights_after_two_steps(
                *(compiled(depth, kind, side) for side in ("layerwise", "MultiOptimizer"))
            ):
                failures.append(
                    f"{kind}, {depth} layers: the weights with factors and by a MultiOptimizer"
                )
    header = ["optimizer", *SIDES, "layerwise / Keras", "MultiOptimizer / Keras"]
    table("One step: ms, and the ratios to the plain optimizer", header, rows)
    leave(failures)


if __name__ == "__main__":
    main()
