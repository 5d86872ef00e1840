"""Does `kp.fit` read other libraries' loaders as fast as `model.fit` does? What do saved positions
cost?

Both sides train the same model on the same data, for the same number of steps. The clock runs from
the first `on_epoch_begin` to the last `on_epoch_end`; CPU time is that of all threads of the
process. A ratio above 1 says that `kp.fit` is the faster one. The row of positions compares two
runs of `kp.fit` that save at the same steps, one of them without positions: there, a ratio of 0.98
is a cost of 2 %.

Equal results: unshuffled, both sides see the same batches, and must end with the same weights.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from _measure import (
    interleave,
    interval,
    is_asked_for,
    leave,
    milliseconds,
    rounds_asked,
    say_where,
    table,
)
from keras import layers

import keras_patterns as kp
from keras_patterns.data import positions

# The arithmetic of one step is the same; a framework may still choose another kernel for an array
# at another address.
TOLERANCE = 1e-6
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        name: Of the row.
        model: Makes the compiled model.
        data: Makes the arguments of `fit` that say what the data are; shuffled if asked to.
        steps: Of one epoch.
        epochs: In one measurement.
        other: Makes other data, for `kp.fit` to be compared with itself. Defaults to None.
        save_every: Steps between saves; the other side saves too, without positions. Defaults to
            None: nothing is saved, and the other side is `model.fit`.
    """

    name: str
    model: Callable[[], keras.Model]
    data: Callable[[bool], dict[str, Any]]
    steps: int
    epochs: int = 2
    save_every: int | None = None
    other: Callable[[bool], dict[str, Any]] | None = None


class Stopwatch(keras.callbacks.Callback):
    """Seconds, and seconds of the processor, from the first epoch's begin to the last one's end. It
    listens to no batch, so it delays none.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch == 0:
            self.began = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.perf_counter(), time.process_time()
        self.seconds, self.cpu_seconds = (a - b for a, b in zip(now, self.began, strict=True))

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


def dense() -> keras.Model:
    """So small that the host is what takes the time."""
    keras.utils.set_random_seed(0)
    return compiled(
        [keras.Input((32,)), layers.Dense(64, activation="relu"), layers.Dense(CLASSES)]
    )


def convolutional() -> keras.Model:
    """Large enough that the arithmetic is what takes the time."""
    keras.utils.set_random_seed(0)
    blocks = [
        layer
        for n in (32, 64)
        for layer in (layers.Conv2D(n, 3, activation="relu"), layers.MaxPooling2D())
    ]
    return compiled(
        [
            keras.Input((32, 32, 3)),
            layers.Rescaling(1 / 255),
            *blocks,
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )


def compiled(parts: list[Any]) -> keras.Model:
    model = keras.Sequential(parts)
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    return model


def vectors(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(count, 32)).astype("float32"), random.integers(0, CLASSES, count)


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    shape = (count, 32, 32, 3)
    return random.integers(0, 256, shape, "uint8"), random.integers(0, CLASSES, count)


def tf_data(make: Callable[[], Any], batch_size: int, buffer: int = 1_000) -> Any:
    """A `tf.data.Dataset` of arrays, shuffled through a buffer and read ahead."""

    def data(shuffled: bool) -> dict[str, Any]:
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices(make())
        dataset = dataset.shuffle(buffer) if shuffled else dataset
        return {"x": dataset.batch(batch_size).prefetch(2)}

    return data


def in_arrays(make: Callable[[], Any], batch_size: int) -> Any:
    def data(shuffled: bool) -> dict[str, Any]:
        x, y = make()
        return {"x": x, "y": y, "batch_size": batch_size, "shuffle": shuffled}

    return data


class Slices(keras.utils.PyDataset):
    """Batches by their number; each takes some seconds of waiting, as for a disk."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray, batch_size: int, wait: float = 0, workers: int = 1
    ) -> None:
        super().__init__(workers=workers)
        self._x, self._y, self._batch_size, self._wait = x, y, batch_size, wait

    def __len__(self) -> int:
        return len(self._x) // self._batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(index * self._batch_size, (index + 1) * self._batch_size)
        if self._wait:
            time.sleep(self._wait)
        return self._x[part], self._y[part]


def py_dataset(make: Callable[[], Any], batch_size: int, wait: float = 0, workers: int = 1) -> Any:
    def data(shuffled: bool) -> dict[str, Any]:
        return {"x": Slices(*make(), batch_size, wait, workers), "shuffle": shuffled}

    return data


def data_loader(make: Callable[[], Any], batch_size: int, work: float = 0, workers: int = 0) -> Any:
    """A PyTorch DataLoader, each of whose examples takes some seconds of work."""

    def data(shuffled: bool) -> dict[str, Any]:
        import torch

        class Worked(torch.utils.data.TensorDataset):
            def __getitem__(self, index: int) -> Any:
                until = time.perf_counter() + work
                while time.perf_counter() < until:
                    pass
                return super().__getitem__(index)

        kind = Worked if work else torch.utils.data.TensorDataset
        examples = kind(*map(torch.from_numpy, make()))
        loader = torch.utils.data.DataLoader(
            examples, batch_size=batch_size, shuffle=shuffled, num_workers=workers
        )
        return {"x": loader}

    return data


def generator(make: Callable[[], Any], batch_size: int) -> Any:
    def data(shuffled: bool) -> dict[str, Any]:
        def batches() -> Iterator[Any]:
            slices = Slices(*make(), batch_size)
            while True:
                yield from (slices[index] for index in range(len(slices)))

        return {"x": batches()}

    return data


def around_grain(make: Callable[[], Any]) -> Any:
    """The same as `in_grain`, through a generator around it."""

    def data(shuffled: bool) -> dict[str, Any]:
        def batches() -> Iterator[Any]:
            while True:
                yield from in_grain(make)(shuffled)["x"]

        return {"x": batches()}

    return data


def in_grain(make: Callable[[], Any]) -> Any:
    """A `grain.MapDataset` of batches of 32."""

    def data(shuffled: bool) -> dict[str, Any]:
        import grain

        x, y = make()
        dataset = grain.MapDataset.range(len(x))
        dataset = dataset.seed(0).shuffle() if shuffled else dataset
        return {"x": dataset.map(lambda index: (x[index], y[index])).batch(32)}

    return data


def small(count: int = 16_384) -> tuple[np.ndarray, np.ndarray]:
    return vectors(count)


def few_images() -> tuple[np.ndarray, np.ndarray]:
    return images(2_048)


def many_images() -> tuple[np.ndarray, np.ndarray]:
    return images(16_384)


# What each backend is measured on: the kinds of data that its users have.
CASES = {
    "tensorflow": [
        Case("tf.data, dense", dense, tf_data(small, 32), 512),
        Case("tf.data, convolutional", convolutional, tf_data(few_images, 64), 32),
    ],
    "jax": [],
    "torch": [
        Case("DataLoader, dense", dense, data_loader(small, 32), 512),
        Case("DataLoader, convolutional", convolutional, data_loader(few_images, 64), 32),
        Case("DataLoader, 1 ms an example", dense, data_loader(lambda: small(512), 32, 1e-3), 16),
        Case(
            "DataLoader, 1 ms an example, two workers",
            dense,
            data_loader(lambda: small(2_048), 32, 1e-3, workers=2),
            64,
        ),
    ],
}
EVERYWHERE = [
    Case("arrays, dense", dense, in_arrays(small, 32), 512),
    Case("arrays, convolutional", convolutional, in_arrays(few_images, 64), 32),
    Case("PyDataset, dense", dense, py_dataset(small, 32), 512),
    Case(
        "PyDataset, 4 ms a batch, two workers",
        dense,
        py_dataset(lambda: small(4_096), 32, 4e-3, workers=2),
        128,
    ),
    Case("generator, dense", dense, generator(small, 32), 512),
]
GRAIN = [Case("Grain, dense", dense, in_grain(small), 512, other=around_grain(small))]
SAVING = {
    "tensorflow": [
        Case(
            "tf.data, shuffle(10_000) of images, saved every 50 steps",
            convolutional,
            tf_data(many_images, 64, 10_000),
            256,
            epochs=25,
            save_every=50,
        )
    ],
    "jax": [],
    "torch": [],
}


def train(case: Case, model: keras.Model, by: str, shuffled: bool = True) -> Stopwatch:
    """Trains by `model.fit`, by `kp.fit`, or by `kp.fit` without positions."""
    stopwatch, folder = Stopwatch(), tempfile.mkdtemp()
    make = case.other if by == "a generator" and case.other else case.data
    arguments = {**make(shuffled), "steps_per_epoch": case.steps, "epochs": case.epochs}
    callbacks: list[Any] = [stopwatch]
    if by == "model.fit":
        if "y" in arguments:
            # Keras begins the arrays anew at each epoch, and kp.fit has a pass an epoch.
            del arguments["steps_per_epoch"]
        elif hasattr(arguments["x"], "repeat"):
            arguments["x"] = arguments["x"].repeat()
        model.fit(**{"shuffle": False, **arguments}, verbose=0, callbacks=callbacks)
    else:
        if case.save_every:
            callbacks.append(kp.Checkpoint(folder, every_steps=case.save_every))
        with share_of_positions(0 if by == "no positions" else positions.SHARE):
            kp.fit(model, **arguments, verbose=0, callbacks=callbacks, seed=0)
    shutil.rmtree(folder)
    return stopwatch


@contextmanager
def share_of_positions(share: float) -> Iterator[None]:
    """Within it, positions may take so large a part of the time; 0 takes none."""
    usual, positions.SHARE = positions.SHARE, share or math.ulp(0.0)
    try:
        yield
    finally:
        positions.SHARE = usual


def check(case: Case) -> list[str]:
    """Trains both sides unshuffled; returns how they differ."""
    models = case.model(), case.model()
    for model, by in zip(models, sides_of(case), strict=True):
        train(case, model, by, shuffled=False)
    pairs = zip(*(model.get_weights() for model in models), strict=True)
    difference = max(float(np.abs(a - b).max()) for a, b in pairs)
    return [] if difference <= TOLERANCE else [f"{case.name}: weights differ by {difference:.1e}"]


def sides_of(case: Case) -> tuple[str, str]:
    if case.other:
        return "a generator", "kp.fit"
    return ("no positions", "kp.fit") if case.save_every else ("model.fit", "kp.fit")


def measure(case: Case, rounds: int) -> list[str]:
    """One row of the table."""
    cpu: dict[str, list[float]] = {by: [] for by in sides_of(case)}
    models = {by: case.model() for by in cpu}

    def side(by: str) -> Callable[[], float]:
        def run() -> float:
            stopwatch = train(case, models[by], by)
            cpu[by].append(stopwatch.cpu_seconds)
            return stopwatch.seconds

        return run

    seconds = interleave({by: side(by) for by in cpu}, rounds)
    steps = case.steps * case.epochs
    other, ours = sides_of(case)
    # The first call of each is not counted.
    used = {by: np.array(values[1:]) for by, values in cpu.items()}
    return [
        case.name,
        *(milliseconds(seconds[by] / steps) for by in (other, ours)),
        *(milliseconds(used[by] / steps) for by in (other, ours)),
        interval(seconds[other] / seconds[ours]),
        interval(used[other] / used[ours]),
    ]


def main() -> None:
    rounds = rounds_asked(default=15)
    say_where()
    backend = keras.backend.backend()
    # Before the weights of its first model Keras draws a seed for itself.
    dense()
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}")
    failures: list[str] = []
    for title, other, cases in (
        ("Steps per second", "model.fit", CASES[backend] + EVERYWHERE),
        ("The cost of positions", "no positions", SAVING[backend]),
        ("Grain, and a generator around it", "a generator", GRAIN),
    ):
        rows = []
        for case in filter(lambda case: is_asked_for(case.name), cases):
            failures += check(case)
            rows.append(measure(case, rounds))
        header = (
            "data",
            f"{other}, ms a step",
            "kp.fit, ms a step",
            f"{other}, CPU ms",
            "kp.fit, CPU ms",
            f"steps/s, kp.fit / {other} (90 % interval)",
            "the same by CPU time",
        )
        if rows:
            table(f"{title}, {rounds} rounds", header, rows)
    leave(failures)


if __name__ == "__main__":
    main()
