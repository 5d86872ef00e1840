"""How does a run do on this device: the stall of a save of a gigabyte, the time from a signal to
the end of a run in blocks, the memory that blocks take, and batches that are large?

Run by gpu.sh; it runs on a CPU as well.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from typing import Any

import keras
import numpy as np
from _measure import interleave, interval, leave, milliseconds, rounds_asked, say_where, table
from bench_fuse import CASES, CLASSES, Case, by_hand, train
from bench_save import measure, stack

import keras_patterns as kp

SIGNALS = 3


def of_images() -> keras.Model:
    """A net that takes about as long for a batch as its copy to a device does."""
    hidden = [keras.layers.Conv2D(64, 5, strides=2, activation="relu") for _ in range(4)]
    pool = keras.layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((128, 128, 3)), *hidden, pool, keras.layers.Dense(10)])


# 50 MB a batch.
IMAGES = Case("images", of_images, CLASSES, (2_560, 128, 128, 3), 10, batch_size=256, epochs=4)


def gigabyte() -> keras.Model:
    """A model with as much state, two slots for each weight included."""
    return stack(layers=20, units=2_048, bias_in_last=True, metrics=["mae"])


def signal_latencies() -> list[float]:
    """Seconds from SIGTERM to the end of `kp.fit`, whose state is saved by then."""
    seconds = []
    x = np.random.default_rng(0).normal(size=(32_768, 32)).astype("float32")
    for turn in range(SIGNALS):
        model = CASES[0].compiled()
        sent: list[float] = []

        def send(sent: list[float] = sent, after: float = 4 + 0.37 * turn) -> None:
            threading.Event().wait(after)
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGTERM)

        with tempfile.TemporaryDirectory() as folder:
            sender = threading.Thread(target=send)
            sender.start()
            try:
                kp.fit(
                    model,
                    x,
                    np.zeros(len(x), "int32"),
                    epochs=1_000_000,
                    seed=0,
                    verbose=0,
                    fuse=True,
                    callbacks=[kp.Checkpoint(folder)],
                )
            except kp.RunInterrupted:
                seconds.append(time.perf_counter() - sent[0])
            sender.join()
    return seconds


def large_batches(rounds: int) -> None:
    """Prints whether the copies of batches are beside the computing."""
    models = [IMAGES.compiled() for _ in range(3)]
    seconds = interleave(
        {
            "model.fit": lambda: train(IMAGES, models[0]),
            "kp.fit": lambda: train(IMAGES, models[1], fuse=False),
            "by hand": lambda: by_hand(IMAGES, models[2], IMAGES.epochs),
        },
        rounds,
    )
    per_step = [milliseconds(taken / IMAGES.steps) for taken in seconds.values()]
    ratios = [interval(seconds[other] / seconds["kp.fit"]) for other in ("model.fit", "by hand")]
    header = (
        "model.fit, ms a step",
        "kp.fit, ms",
        "by hand, the data on the device, ms",
        "kp.fit / model.fit in steps/s (90 % interval)",
        "kp.fit / by hand",
    )
    table(f"Batches of 50 MB, {rounds} rounds", header, [[*per_step, *ratios]])


def peak_memory() -> int | None:
    """The most bytes that the device has held so far; None where it does not tell."""
    if keras.backend.backend() == "jax":
        import jax

        stats: Any = jax.devices()[0].memory_stats() or {}
        return stats.get("peak_bytes_in_use")
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return None


def device_name() -> str:
    """The name that its maker gives it."""
    if keras.backend.backend() == "jax":
        import jax

        return str(jax.devices()[0].device_kind)
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return "not told"


def main() -> None:
    rounds = rounds_asked(default=3)
    say_where()
    print(f"Device: {device_name()}")
    peaks = []
    for fuse in (False, True):
        train(CASES[1], CASES[1].compiled(), fuse)
        peaks.append(peak_memory())
    shown = ["not told" if peak is None else f"{peak / 1e6:,.1f}" for peak in peaks]
    table(f"Memory: {CASES[1].name}", ("one by one, MB", "in blocks as well, MB"), [shown])
    latencies = [f"{1e3 * one:,.0f}" for one in signal_latencies()]
    header = [f"signal {number}" for number in range(1, len(latencies) + 1)]
    table("From SIGTERM to a saved end, in blocks, ms", header, [latencies])
    large_batches(rounds)
    leave(measure("A gigabyte", gigabyte, rounds))


if __name__ == "__main__":
    main()
