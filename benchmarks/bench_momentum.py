"""What does a momentum that follows a schedule cost, over the constant momentum of the same
optimizer?

Both train the same model on the same arrays with `model.fit`, at a rate that follows a schedule. On
torch, Keras updates all weights at once with its own classes, and one by one with any other class:
the more variables, the more that would show.

Equal results: with a schedule that stands still, both must end with the same weights.
"""

from __future__ import annotations

import keras
from _measure import interleave, leave, milliseconds, ratio, rounds_asked, say_where, table
from _tanh_net import STEPS, same_weights_after_two_steps, tanh_net, timed_fit

import keras_patterns as kp

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


def compiled(depth: int, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    model = tanh_net(depth)
    model.compile(optimizer, "mse")
    return model


def optimizers(name: str) -> tuple[keras.optimizers.Optimizer, keras.optimizers.Optimizer]:
    if name == "Adam":
        plain = keras.optimizers.Adam(Standing(RATE), beta_1=MOMENTUM)
    else:
        plain = keras.optimizers.SGD(Standing(RATE), momentum=MOMENTUM)
    return plain, kp.optimizers.with_momentum(plain, Standing(MOMENTUM))


def main() -> None:
    rounds = rounds_asked(7)
    say_where()
    rows, failures = [], []
    for name in ("SGD", "Adam"):
        for depth in (2, 40):
            models = [compiled(depth, optimizer) for optimizer in optimizers(name)]
            seconds = interleave(
                dict(zip(("Keras", "scheduled"), map(timed_fit, models), strict=True)), rounds
            )
            cells = [milliseconds(values / STEPS) for values in seconds.values()]
            rows.append(
                [
                    f"{name}, {2 * depth + 2} variables",
                    *cells,
                    ratio(seconds["scheduled"], seconds["Keras"]),
                ]
            )
            if not same_weights_after_two_steps(
                *(compiled(depth, optimizer) for optimizer in optimizers(name))
            ):
                failures.append(f"{name}, {depth} layers: the weights with and without a schedule")
    table(
        "One step: ms, and the scheduled over the plain",
        ["optimizer", "Keras", "scheduled momentum", "ratio"],
        rows,
    )
    leave(failures)


if __name__ == "__main__":
    main()
