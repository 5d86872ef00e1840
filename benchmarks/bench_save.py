"""How long does the training wait for a save, and what else does a save cost, in copies of the
state?

The unit is one copy of the same variables into buffers that are kept, by the plainest loop over
Keras's public API. Everything is measured between two steps of one `kp.fit`, in turn, each time
after a step that changed the state:

- stall: how long the training waits. Writing of an earlier save never overlaps.
- durable: until the checkpoint is on disk (fsync), the stall included.
- restore: until a model that is built holds what was saved.

The peers write in the foreground: Keras's `save_weights` and `save` (what `ModelCheckpoint` calls),
and safetensors.

Equal results: what is on disk after the run, and what it restores to, is bit for bit what the model
holds.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
from _measure import leave, milliseconds, ratio, rounds_asked, same_bits, say_where, table
from safetensors.numpy import load_file, save_file

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.run.checkpoints import Checkpoints

WARM_UP = 2


def large() -> keras.Model:
    """303 MB in 51 variables."""
    return stack(layers=8, units=1777, bias_in_last=False, metrics=["mae"])


def many() -> keras.Model:
    """1.3 MB in 2,410 variables."""
    return stack(layers=400, units=16, bias_in_last=True, metrics=["mae", "mse", "mape"])


def stack(layers: int, units: int, bias_in_last: bool, metrics: list[str]) -> keras.Model:
    inputs = outputs = keras.Input((units,))
    for left in reversed(range(layers)):
        outputs = keras.layers.Dense(units, use_bias=bias_in_last or left > 0)(outputs)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse", metrics=metrics)
    model.optimizer.build(model.trainable_variables)
    return model


class Copy:
    """The unit: one copy of the state into buffers that are kept."""

    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []

    def __call__(self, variables: Sequence[keras.Variable]) -> float:
        self.buffers = self.buffers or [
            np.array(keras.ops.convert_to_numpy(variable.value)) for variable in variables
        ]
        began = time.perf_counter()
        for buffer, variable in zip(self.buffers, variables, strict=True):
            np.copyto(buffer, keras.ops.convert_to_numpy(variable.value))
        return time.perf_counter() - began


class Peer:
    """A way to save in the foreground.

    Args:
        folder: Where to.
        name: The name of its file.
        save: Takes a model and a path.
        restore: Likewise.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        save: Callable[[Any, str], Any],
        restore: Callable[[Any, str], Any],
    ) -> None:
        self.path, self._save, self._restore = folder / name, save, restore

    def save(self, model: keras.Model) -> tuple[float, float]:
        """Returns the seconds of the stall, and until it is on disk."""
        began = time.perf_counter()
        self._save(model, str(self.path))
        stall = time.perf_counter() - began
        with open(self.path, "rb+") as file:
            os.fsync(file.fileno())
        return stall, time.perf_counter() - began

    def restore(self, model: keras.Model) -> None:
        self._restore(model, str(self.path))


def every_variable(model: keras.Model) -> list[keras.Variable]:
    return [
        *model.variables,
        *model.optimizer.variables,
        *(v for m in model.metrics for v in m.variables),
    ]


def save_tensors(model: keras.Model, path: str) -> None:
    arrays = [
        np.asarray(keras.ops.convert_to_numpy(variable.value)) for variable in every_variable(model)
    ]
    save_file({str(index): array for index, array in enumerate(arrays)}, path)


def load_tensors(model: keras.Model, path: str) -> None:
    arrays = load_file(path)
    for index, variable in enumerate(every_variable(model)):
        variable.assign(arrays[str(index)])


class Boundary:
    """Takes the place of `Checkpoints.save`: measures something else at each step, in turn.

    Args:
        folder: Where peers write.
        rounds: How often each is measured.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        self.peers = {
            ".weights.h5": Peer(
                folder,
                "m.weights.h5",
                lambda m, p: m.save_weights(p),
                lambda m, p: m.load_weights(p),
            ),
            ".keras": Peer(
                folder, "m.keras", lambda m, p: m.save(p), lambda m, p: keras.models.load_model(p)
            ),
            "safetensors": Peer(folder, "m.safetensors", save_tensors, load_tensors),
        }
        self.stalls: dict[str, list[float]] = {
            "copy": [],
            "kp.Checkpoint": [],
            **{name: [] for name in self.peers},
        }
        self.durable: dict[str, list[float]] = {name: [] for name in self.stalls}
        self.steps = (rounds + WARM_UP) * len(self.stalls)
        self._copy, self._original = Copy(), Checkpoints.save
        self._turns = islice(self._names(), self.steps)

    def _names(self) -> Iterator[str]:
        names = list(self.stalls)
        while True:
            yield from names
            names = names[1:] + names[:1]

    def __call__(self, checkpoints: Checkpoints, callbacks: Any, *state: Any) -> None:
        name = next(self._turns, None)
        if name is None:
            self._original(checkpoints, callbacks, *state)
            return
        if name == "kp.Checkpoint":
            began = time.perf_counter()
            self._original(checkpoints, callbacks, *state)
            stall = time.perf_counter() - began
            checkpoints.wait()
            durable = time.perf_counter() - began
        else:
            current().sync(callbacks.model)
            stall, durable = self._measure(name, callbacks.model)
        self.stalls[name].append(stall)
        self.durable[name].append(durable)

    def _measure(self, name: str, model: keras.Model) -> tuple[float, float]:
        if name != "copy":
            return self.peers[name].save(model)
        stall = self._copy(every_variable(model))
        return stall, stall

    def seconds(self, of: dict[str, list[float]]) -> dict[str, np.ndarray]:
        return {name: np.array(values[WARM_UP:]) for name, values in of.items()}


def measure(title: str, make: Callable[[], keras.Model], rounds: int) -> list[str]:
    """Prints one table; returns what was not equal."""
    folder = Path(tempfile.mkdtemp())
    boundary = Boundary(folder, rounds)
    keras.utils.set_random_seed(0)
    model = make()
    x = (
        np.random.default_rng(0)
        .normal(size=(boundary.steps + 2, *model.input_shape[1:]))
        .astype("float32")
    )
    checkpoint = kp.Checkpoint(folder / "ours", every_steps=1, keep_last=1)
    with mock.patch.object(Checkpoints, "save", lambda *state: boundary(*state)):
        kp.fit(model, x, x, batch_size=1, epochs=1, seed=0, verbose=0, callbacks=[checkpoint])
    restores, failures = restore(boundary, checkpoint, model, make, title)
    stalls, durable = boundary.seconds(boundary.stalls), boundary.seconds(boundary.durable)
    newest = checkpoint.store.latest().folder
    sizes = {"copy": 0, "kp.Checkpoint": sum(f.stat().st_size for f in newest.iterdir())}
    sizes |= {name: peer.path.stat().st_size for name, peer in boundary.peers.items()}
    rows = [
        [
            name,
            milliseconds(stalls[name]),
            ratio(stalls[name], stalls["copy"]),
            milliseconds(durable[name]) if sizes[name] else "",
            f"{1e3 * restores[name]:,.0f}" if sizes[name] else "",
            f"{sizes[name] / 1e6:,.1f}" if sizes[name] else "",
        ]
        for name in stalls
    ]
    header = (
        "",
        "stall, ms",
        "stall / copy (quartiles)",
        "durable, ms",
        "restore, ms",
        "MB on disk",
    )
    arrays = values(every_variable(model))
    size = f"{sum(array.nbytes for array in arrays) / 1e6:,.1f} MB in {len(arrays):,} variables"
    table(f"{title}: {size}, {rounds} rounds", header, rows)
    shutil.rmtree(folder)
    return failures


def restore(
    boundary: Boundary,
    checkpoint: kp.Checkpoint,
    trained: keras.Model,
    make: Callable[[], keras.Model],
    title: str,
) -> tuple[dict[str, float], list[str]]:
    """Seconds to restore, the better of two, and what was restored otherwise than it was saved."""
    ways: dict[str, Callable[[keras.Model], Any]] = {
        name: peer.restore for name, peer in boundary.peers.items()
    }
    ways["kp.Checkpoint"] = checkpoint.store.restore
    seconds, fresh = {}, make()
    for name, way in ways.items():
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            way(fresh)
            taken.append(time.perf_counter() - began)
        seconds[name] = min(taken)
    # Ours came last. Metrics are no part of what a model is restored to; those on disk are compared
    # below.
    pairs = [
        [values(part) for part in (model.variables, model.optimizer.variables)]
        for model in (fresh, trained)
    ]
    failures = (
        []
        if all(same_bits(a, b) for a, b in zip(*pairs, strict=True))
        else [f"{title}: restored otherwise than saved"]
    )
    on_disk = checkpoint.store.read(checkpoint.store.latest()).tensors.values()
    saved = {(array.shape, array.tobytes()) for array in on_disk}
    if not all(
        (value.shape, value.tobytes()) in saved for value in values(every_variable(trained))
    ):
        failures.append(f"{title}: a variable is not on disk")
    return seconds, failures


def values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [np.asarray(keras.ops.convert_to_numpy(variable.value)) for variable in variables]


def main() -> None:
    rounds = rounds_asked(default=12)
    say_where()
    failures = measure("Large", large, rounds) + measure("Many variables", many, rounds)
    leave(failures)


if __name__ == "__main__":
    main()
