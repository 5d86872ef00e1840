"""What does it cost that each thawed part counts its own steps, once everything is thawed?

The peer is the same model, trained whole from the start. All train on the same arrays with
`model.fit`. On torch, Keras updates all weights at once: with counts of their own, those that were
thawed together.

Equal results: SGD with momentum corrects nothing by a count, so there a fresh model must end with
the weights of the peer.
"""

from __future__ import annotations

import keras
from _measure import interleave, leave, milliseconds, ratio, rounds_asked, say_where, table
from _tanh_net import STEPS, same_weights_after_two_steps, tanh_net, timed_fit

import keras_patterns as kp

KINDS = {
    "SGD": lambda: keras.optimizers.SGD(1e-3, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(1e-3),
}
STAGES = {"Keras": 0, "1 stage": 1, "5 stages": 5}


def thawed(depth: int, kind: str, stages: int) -> keras.Model:
    """A model that is trained whole, all but the head of it thawed in stages, one a step."""
    model = tanh_net(depth)
    kp.freeze(model, slice(-1) if stages else [])
    model.compile(KINDS[kind](), "mse")
    model.optimizer.build(model.trainable_variables)
    for stage in range(stages):
        model.optimizer.iterations.assign(stage + 1)
        kp.unfreeze(model, [f"layer_{number}" for number in range(stage, depth, stages)])
    return model


def main() -> None:
    rounds = rounds_asked(7)
    say_where()
    rows, failures = [], []
    for kind in KINDS:
        for depth in (10, 40):
            seconds = interleave(
                {side: timed_fit(thawed(depth, kind, stages)) for side, stages in STAGES.items()},
                rounds,
            )
            cells = [milliseconds(values / STEPS) for values in seconds.values()]
            rows.append(
                [
                    f"{kind}, {2 * depth + 2} variables",
                    *cells,
                    *(ratio(seconds[side], seconds["Keras"]) for side in list(STAGES)[1:]),
                ]
            )
            if kind == "SGD" and not same_weights_after_two_steps(
                thawed(depth, kind, 5), thawed(depth, kind, 0)
            ):
                failures.append(
                    f"{kind}, {depth} layers: the weights of what was thawed and of what was "
                    "trained whole"
                )
    header = ["optimizer", *STAGES, *(f"{side} / Keras" for side in list(STAGES)[1:])]
    table(
        "One step: ms, and the ratios to a model that was trained whole from the start",
        header,
        rows,
    )
    leave(failures)


if __name__ == "__main__":
    main()
