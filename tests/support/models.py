"""The conformance table: small real models, each with what it is trained on, that every exactness
test goes through.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from steps import OneStep, TwoOptimizers

import keras_patterns as kp
from keras_patterns.backends import current

Callbacks = Callable[[], list[keras.callbacks.Callback]]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        make_model: Returns a new compiled model.
        arguments: Of `kp.fit`; what holds state is a function that makes it anew.
        steps: Steps of the whole run.
        needs: The capability without which the backend cannot run it.
        saved: Whether it cannot do without a kp.Checkpoint.
        gaps: By backend, why it cannot work there: strict expected failures.
    """

    make_model: Callable[[], keras.Model]
    arguments: dict[str, Any]
    steps: int
    needs: str = ""
    saved: bool = False
    gaps: dict[str, str] = field(default_factory=dict)


# Data.

_rng = np.random.default_rng(20)
FEATURES = _rng.normal(size=(44, 6)).astype("float32")
LABELS = _rng.integers(0, 3, 44)
IMAGES = _rng.normal(size=(40, 6, 6, 1)).astype("float32")
SEQUENCES = _rng.normal(size=(48, 5, 4)).astype("float32")
WEIGHTS = _rng.uniform(0.5, 2.0, 44).astype("float32")
NUMBERS = _rng.normal(size=(44, 1)).astype("float32")
# One value of one example, which is in the batches 2 and 7 of the order of seed 0.
SPOILED = FEATURES.copy()
SPOILED[26, 2] = np.nan

VALIDATION = {"validation_data": (FEATURES[:12], LABELS[:12])}
# 44 examples in batches of 8: six steps a pass, the last of four examples. Epochs of four steps do
# not fall in with it.
TRAIN = {"x": FEATURES, "y": LABELS, "batch_size": 8, "total_steps": 8, "epochs": 2}


# Models.


def classifier(*hidden: keras.Layer, inputs: tuple[int, ...] = (6,)) -> keras.Sequential:
    return keras.Sequential([keras.Input(inputs), *hidden, layers.Dense(3, activation="softmax")])


def compiled(model: keras.Model, optimizer: Any = "adam", **arguments: Any) -> keras.Model:
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **arguments)
    return model


def regressor(*hidden: keras.Layer, optimizer: Any = "adam", **arguments: Any) -> keras.Model:
    """Of four numbers."""
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(1)])
    model.compile(optimizer, "mse", **arguments)
    return model


def digit_net(*hidden: keras.Layer) -> keras.Sequential:
    """Not compiled."""
    body = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten()]
    return keras.Sequential(
        [keras.Input((8, 8, 1)), *body, *hidden, layers.Dense(10, activation="softmax")]
    )


def dense() -> keras.Model:
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 3, 0.9)
    hidden = (
        layers.Dense(8, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.3, seed=5),
    )
    return compiled(classifier(*hidden), keras.optimizers.Adam(rate))


def unseeded_dropout() -> keras.Model:
    return compiled(classifier(layers.Dense(8), layers.Dropout(0.4), layers.GaussianNoise(0.1)))


def convolutional() -> keras.Model:
    # Of the random layers, these compile quickly.
    augmentation = (layers.RandomFlip(), layers.RandomContrast(0.3, value_range=(-4, 4)))
    hidden = (
        *augmentation,
        layers.Conv2D(3, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
    )
    return compiled(classifier(*hidden, inputs=(6, 6, 1)), keras.optimizers.SGD(0.05, momentum=0.9))


def augmented() -> keras.Model:
    """It is augmented in two ways, one of which takes a factor."""
    augmentation = (layers.RandomFlip(), layers.RandomContrast(0.9, value_range=(-4, 4)))
    hidden = (layers.Reshape((2, 3, 1)), *augmentation, layers.Flatten())
    return compiled(classifier(*hidden))


def recurrent(layer: type[keras.Layer]) -> keras.Model:
    inputs = keras.Input(batch_shape=(8, 5, 4))
    outputs = layers.Dense(1)(layer(6, stateful=True)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("rmsprop", "mse")
    return model


def small() -> keras.Sequential:
    return classifier(layers.Dense(8, activation="relu"), layers.Dropout(0.2))


def frozen_body() -> keras.Model:
    hidden = (
        layers.Dense(8, name="first"),
        layers.BatchNormalization(name="norm"),
        layers.Dropout(0.3),
    )
    return compiled(
        classifier(*hidden),
        keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3),
    )


def mixed_precision() -> keras.Model:
    hidden = (
        layers.Dense(8, dtype="mixed_float16"),
        layers.BatchNormalization(dtype="mixed_float16"),
    )
    inner = keras.optimizers.Adam(0.01)
    # It doubles every three steps, and halves when the gradients overflow.
    optimizer = keras.optimizers.LossScaleOptimizer(
        inner, initial_scale=2.0**16, dynamic_growth_steps=3
    )
    return compiled(classifier(*hidden), optimizer)


def averaged(overwrite: int | None = 3) -> keras.Model:
    return compiled(
        small(),
        keras.optimizers.Adam(
            0.01, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=overwrite
        ),
    )


def one_cycle() -> keras.Model:
    return compiled(small(), kp.optimizers.with_one_cycle("adamw", 0.05, total_steps=8))


def layerwise() -> keras.Model:
    model = small()
    return compiled(
        model,
        kp.optimizers.with_layer_rates(
            keras.optimizers.Adam(kp.schedules.OneCycle(0.05, total_steps=8)), model, decay=0.5
        ),
    )


def layerwise_cycle() -> keras.Model:
    """A cycle around rates by layer, around weights without decay, around an optimizer that scales
    the loss; and a penalty.
    """
    model = small()
    kp.regularize(model, l1=0.001, l2=0.01)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW(), initial_scale=4.0)
    optimizer = kp.optimizers.without_weight_decay(optimizer, model)
    optimizer = kp.optimizers.with_layer_rates(optimizer, model, decay=0.5)
    return compiled(model, kp.optimizers.with_one_cycle(optimizer, 0.05, total_steps=8))


def cycled() -> keras.Model:
    """Killed in the middle of a cycle, of both schedules, on the way up and on the way down."""
    rate = kp.schedules.Warmup(
        2, kp.schedules.CyclicalLearningRate(0.01, 0.2, step_size=2, mode="triangular2")
    )
    optimizer = keras.optimizers.SGD(rate, nesterov=True)
    return compiled(
        small(),
        kp.optimizers.with_momentum(
            optimizer, kp.schedules.CyclicalMomentum(0.7, 0.9, step_size=3)
        ),
    )


def two_inputs() -> keras.Model:
    inputs = {"left": keras.Input((6,), name="left"), "right": keras.Input((6,), name="right")}
    hidden = layers.Dropout(0.2)(layers.Concatenate()([inputs["left"], inputs["right"]]))
    outputs = {
        "kind": layers.Dense(3, activation="softmax", name="kind")(hidden),
        "size": layers.Dense(1, name="size")(hidden),
    }
    model = keras.Model(inputs, outputs)
    losses = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
    model.compile("adam", losses, weighted_metrics={"kind": "accuracy", "size": "mae"})
    return model


def backbone() -> keras.Model:
    """Its layers have the names that every other one's have."""
    inputs = keras.Input((6,), name="input")
    outputs = layers.Dropout(0.3, seed=1, name="drop")(
        layers.Dense(8, activation="relu", name="dense")(inputs)
    )
    return keras.Model(inputs, outputs, name="backbone")


def two_backbones() -> keras.Model:
    inputs = keras.Input((6,))
    left, right = backbone(), backbone()
    # Keras wants other names for the two models themselves, nothing more.
    left.name, right.name = "left", "right"
    outputs = layers.Dense(3, activation="softmax")(layers.Add()([left(inputs), right(inputs)]))
    return compiled(keras.Model(inputs, outputs), keras.optimizers.SGD(0.05, momentum=0.9))


def two_halves(
    first: keras.optimizers.Optimizer, second: keras.optimizers.Optimizer
) -> keras.Model:
    model = classifier(layers.Dense(8, name="body"), layers.Dropout(0.2))
    return compiled(
        model,
        keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(second, {".*body.*": first})),
    )


def custom_step() -> keras.Model:
    model = OneStep(small())
    model.compile("adam")
    return model


def two_optimizers() -> keras.Model:
    model = TwoOptimizers(
        small(), classifier(layers.Dense(4)), keras.optimizers.SGD(0.1, momentum=0.9)
    )
    model.compile("adam")
    return model


class Scaled(keras.Sequential):
    """Its loss is taken times a number that is no variable."""

    scale = 1.0

    def compute_loss(self, *how, **named):
        return super().compute_loss(*how, **named) * self.scale


class Underscored(keras.Model):
    """Two names that differ by an underscore, and a metric beside Keras's `_loss_tracker`."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self._head = layers.Dense(3), layers.Dense(3)
        self.loss_tracker = keras.metrics.Mean()

    def call(self, inputs: Any) -> Any:
        return keras.ops.softmax(self.head(inputs) + 2 * self._head(inputs))

    def compute_loss(self, *args: Any, **named: Any) -> Any:
        loss = super().compute_loss(*args, **named)
        self.loss_tracker.update_state(3 * loss)
        return loss


# Callbacks.


class Wanderer(keras.callbacks.Callback):
    """Sets a rate that depends on all it has seen and on every global random state."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = np.zeros(2)
        self.rates: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.seen[0] += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        drawn = float(keras.ops.convert_to_numpy(keras.random.uniform(())))
        self.seen[1] += random.random() + np.random.uniform() + drawn
        self.rates.append(0.001 * (1 + float(self.seen.sum()) % 1))
        self.model.optimizer.learning_rate = self.rates[-1]

    def get_state(self) -> dict[str, Any]:
        return {"seen": self.seen, "rates": self.rates}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seen, self.rates = state["seen"].copy(), list(state["rates"])


def schedules() -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * (0.9 if epoch else 1.0)),
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, min_delta=10.0, cooldown=2),
        keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(
            "best.weights.h5", save_best_only=True, save_weights_only=True
        ),
        keras.callbacks.CSVLogger("log.csv"),
    ]


def stops_early() -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.EarlyStopping("loss", min_delta=10.0, patience=2, restore_best_weights=True)
    ]


def guarded() -> list[keras.callbacks.Callback]:
    return [kp.NonFiniteGuard(every_steps=2, rate_factor=0.25), *schedules()]


def guarded_schedule() -> list[keras.callbacks.Callback]:
    return [kp.NonFiniteGuard(), keras.callbacks.CSVLogger("log.csv")]


def early_stopping() -> list[keras.callbacks.Callback]:
    return [kp.EarlyStopping(rule=kp.Patience(2, min_delta=10.0), restore_best_weights=True)]


def thawing() -> list[keras.callbacks.Callback]:
    """A stage inside an epoch and one at the end of an epoch."""
    return [kp.GradualUnfreeze({3: "norm", 4: "first"}, batch_norm="adapt")]


def switching() -> list[keras.callbacks.Callback]:
    """Weaker inside an epoch, off at its end, on again in the next one."""
    weaker = {2: {"factor": 0.1}, 4: "off", 6: "on"}
    flip = kp.SwitchAugmentation({5: "off"}, "random_flip*")
    return [kp.SwitchAugmentation(weaker, "random_contrast*"), flip]


def prechelt() -> list[keras.callbacks.Callback]:
    """Strips that end, a lowest value and a count of rises, none of which stops it."""
    rule = (
        kp.GeneralizationLoss(1e6)
        | kp.ProgressQuotient(1e6, strip=2)
        | (kp.SuccessiveRises(9, strip=1) & kp.Patience(1))
    )
    return [kp.EarlyStopping(rule=rule, restore_best_weights=True, unit="steps")]


# Data that holds state.


class Reshuffled(keras.utils.PyDataset):
    """Draws its order from the global state at the end of each pass, and noise for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.order = np.arange(40)

    @property
    def num_batches(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * 8 : index * 8 + 8]
        return FEATURES[chosen] + np.random.normal(size=(8, 6)).astype("float32"), LABELS[chosen]

    def on_epoch_end(self) -> None:
        np.random.shuffle(self.order)


class Flipped(keras.utils.PyDataset):
    """Uses a random layer of its own."""

    num_batches = 5
    flip = layers.RandomFlip("horizontal", seed=4)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        images = self.flip(IMAGES[index * 8 : index * 8 + 8], training=True)
        return keras.ops.convert_to_numpy(images), LABELS[index * 8 : index * 8 + 8]


def drawn_batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
        chosen = [random.randrange(44) for _ in range(8)]
        yield FEATURES[chosen] + np.random.normal(size=(8, 6)).astype("float32"), LABELS[chosen]


def counted_batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number in itertools.count():
        yield FEATURES[number % 30 : number % 30 + 8], LABELS[number % 30 : number % 30 + 8]


def user_callbacks() -> list[keras.callbacks.Callback]:
    return [Wanderer()]


DICTIONARIES = {
    "x": {"left": FEATURES, "right": FEATURES[::-1]},
    "y": {"kind": LABELS, "size": NUMBERS},
}
SERIES = {
    "x": SEQUENCES,
    "y": NUMBERS[:8].repeat(6, axis=0),
    "batch_size": 8,
    "total_steps": 8,
    "epochs": 2,
    "shuffle": False,
}
IN_PLACE = (
    "Keras 3.15 on torch cannot train a stateful LSTM at all: a variable needed for the gradient "
    "is modified in place."
)

CASES = {
    "dense": Case(dense, {**TRAIN, **VALIDATION, "log_every_steps": 3}, 8),
    "unseeded dropout": Case(unseeded_dropout, TRAIN, 8),
    "convolutional": Case(
        convolutional, {**TRAIN, "x": IMAGES, "y": LABELS[:40], **{"validation_split": 0.2}}, 8
    ),
    "stateful recurrent": Case(lambda: recurrent(layers.SimpleRNN), SERIES, 8),
    "stateful LSTM": Case(lambda: recurrent(layers.LSTM), SERIES, 8, gaps={"torch": IN_PLACE}),
    "custom train_step": Case(custom_step, TRAIN, 8),
    "two optimizers": Case(two_optimizers, TRAIN, 8, needs="carries_attribute_optimizers"),
    "multi optimizer": Case(
        lambda: two_halves(keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(0.01)),
        TRAIN,
        8,
    ),
    "mixed precision": Case(mixed_precision, TRAIN, 8),
    "gradient accumulation": Case(
        lambda: compiled(small(), keras.optimizers.Adam(0.01, gradient_accumulation_steps=3)),
        TRAIN,
        8,
    ),
    "moving average": Case(averaged, {**TRAIN, **VALIDATION}, 8),
    "dictionaries": Case(
        two_inputs,
        {**TRAIN, **DICTIONARIES, "sample_weight": {"kind": WEIGHTS, "size": WEIGHTS[::-1]}},
        8,
    ),
    "class weight": Case(
        lambda: compiled(small(), "adamw"), {**TRAIN, "class_weight": {0: 0.3, 2: 3.0}}, 8
    ),
    "fused steps": Case(
        lambda: compiled(small(), steps_per_execution=4),
        {**TRAIN, "total_steps": 12, "epochs": 2},
        12,
        needs="fuses_steps",
    ),
    "Keras's callbacks": Case(
        lambda: compiled(small()),
        {**TRAIN, **VALIDATION, "total_steps": 9, "epochs": 3, "callbacks": schedules},
        9,
    ),
    "stops early": Case(
        lambda: compiled(small()),
        {**TRAIN, "total_steps": 12, "epochs": 6, "callbacks": stops_early},
        6,
    ),
    "early stopping": Case(
        lambda: compiled(small()),
        {**TRAIN, **VALIDATION, "total_steps": 12, "epochs": 6, "callbacks": early_stopping},
        6,
    ),
    "Prechelt": Case(
        lambda: compiled(small()),
        {**TRAIN, **VALIDATION, "validate_every_steps": 3, "callbacks": prechelt},
        8,
    ),
    "swapped averages": Case(
        lambda: averaged(None),
        {
            **TRAIN,
            **VALIDATION,
            "callbacks": lambda: [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
        },
        8,
    ),
    "user's callback": Case(
        lambda: compiled(small()), {**TRAIN, "epochs": 4, "callbacks": user_callbacks}, 8
    ),
    "PyDataset": Case(
        lambda: compiled(small()), {"x": Reshuffled, "total_steps": 8, "epochs": 2}, 8
    ),
    "random layer in a PyDataset": Case(
        lambda: compiled(classifier(layers.Flatten(), inputs=(6, 6, 1))),
        {"x": Flipped, "total_steps": 8, "epochs": 2},
        8,
    ),
    "underscores": Case(lambda: compiled(Underscored()), TRAIN, 8),
    "generator": Case(
        lambda: compiled(small()),
        {
            "x": drawn_batches,
            "validation_data": counted_batches,
            "validation_steps": 2,
            "total_steps": 8,
            "epochs": 4,
            "validation_freq": 2,
        },
        8,
    ),
    "one cycle": Case(one_cycle, {**TRAIN, **VALIDATION}, 8),
    "cycled momentum": Case(cycled, TRAIN, 8),
    "layerwise rates": Case(layerwise, TRAIN, 8),
    "one cycle around layerwise rates": Case(layerwise_cycle, TRAIN, 8),
    "validation by steps": Case(
        dense, {**TRAIN, **VALIDATION, "validate_every_steps": 3, "log_every_steps": 2}, 8
    ),
    "planted NaN": Case(
        unseeded_dropout, {**TRAIN, **VALIDATION, "x": SPOILED, "callbacks": guarded}, 8, saved=True
    ),
    "planted NaN, scheduled rate": Case(
        dense,
        {**TRAIN, "x": SPOILED, "log_every_steps": 3, "callbacks": guarded_schedule},
        8,
        saved=True,
    ),
    "thawing": Case(
        frozen_body, {**TRAIN, **VALIDATION, "log_every_steps": 3, "callbacks": thawing}, 8
    ),
    "switched augmentation": Case(augmented, {**TRAIN, "callbacks": switching}, 8),
    "two backbones": Case(two_backbones, TRAIN, 8),
    "Muon": Case(lambda: compiled(small(), keras.optimizers.Muon(0.01)), TRAIN, 8),
    "Adafactor": Case(lambda: compiled(small(), keras.optimizers.Adafactor(0.01)), TRAIN, 8),
    "shorter last epoch": Case(
        lambda: compiled(small(), "nadam"), {**TRAIN, "total_steps": 7, "epochs": 2}, 7
    ),
}


def runnable(names: Any = CASES) -> list[Any]:
    """Cases as parameters of a test: those that the backend can run, with the known gaps as strict
    expected failures.
    """
    name = current().name
    chosen = [
        (key, CASES[key])
        for key in names
        if not CASES[key].needs or getattr(current(), CASES[key].needs)
    ]
    return [
        pytest.param(
            case,
            id=key,
            marks=[pytest.mark.xfail(reason=case.gaps[name], strict=True)]
            if name in case.gaps
            else [],
        )
        for key, case in chosen
    ]
