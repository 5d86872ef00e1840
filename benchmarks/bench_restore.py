"""How long does a restore take beside a plain load of the same variables?

The models are those of `bench_save.py`; the files have just been written, so they lie in memory.
`kp.CheckpointStore.restore` checks every byte, the document and that the values are finite; the
plain load is `safetensors.numpy.load_file` and an `assign` for each variable, which checks nothing.
Processor time is that of all threads: it says what is done, where the wall clock also says what
else the machine did.

Equal results: both leave the same bits in the model.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from _measure import leave, milliseconds, ratio, rounds_asked, same_bits, say_where, table
from bench_save import every_variable, large, load_tensors, many, save_tensors, values

import keras_patterns as kp

WARM_UP = 1


def measure(title: str, make: Callable[[], keras.Model], rounds: int) -> list[str]:
    """Prints one table; returns what was not equal."""
    folder = Path(tempfile.mkdtemp())
    keras.utils.set_random_seed(0)
    model = make()
    store = kp.CheckpointStore(folder / "ours")
    store.save(model, 1)
    plain, weights = str(folder / "m.safetensors"), str(folder / "m.weights.h5")
    save_tensors(model, plain)
    model.save_weights(weights)
    ways: dict[str, Callable[[], object]] = {
        "safetensors": lambda: load_tensors(model, plain),
        "kp.CheckpointStore": lambda: store.restore(model),
        ".weights.h5": lambda: model.load_weights(weights),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    before = values(every_variable(model))
    failures = []
    names = list(ways)
    for _ in range(rounds + WARM_UP):
        for name in names:
            began = time.perf_counter(), time.process_time()
            ways[name]()
            wall[name].append(time.perf_counter() - began[0])
            processor[name].append(time.process_time() - began[1])
            if name != ".weights.h5" and not same_bits(values(every_variable(model)), before):
                failures.append(f"{title}: {name} restored otherwise than saved")
        names = names[1:] + names[:1]
    taken = [
        {name: np.array(each[WARM_UP:]) for name, each in of.items()} for of in (wall, processor)
    ]
    rows = [
        [
            name,
            *(
                text
                for of in taken
                for text in (milliseconds(of[name]), ratio(of[name], of["safetensors"]))
            ),
        ]
        for name in ways
    ]
    size = f"{sum(array.nbytes for array in before) / 1e6:,.1f} MB in {len(before):,} variables"
    header = ("", "ms", "ratio (quartiles)", "processor, ms", "ratio (quartiles)")
    table(f"{title}: {size}, {rounds} rounds", header, rows)
    shutil.rmtree(folder)
    return failures


def main() -> None:
    rounds = rounds_asked(default=15)
    say_where()
    leave(measure("Large", large, rounds) + measure("Many variables", many, rounds))


if __name__ == "__main__":
    main()
