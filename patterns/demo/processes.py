"""The processes in which the demo trains, and the kills."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

PREDICTIONS = "predictions.npy"

# The images are so small that an accelerator, or a second thread, costs more time than it saves.
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "KERAS_TORCH_DEVICE": "cpu",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # It announces itself at every start, whatever the level.
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


class TrainingFailed(Exception):
    """A process of the demo ended by itself, and not well."""


class Life(NamedTuple):
    """What one process did.

    Attributes:
        first: The first step that it began; 0 if it trained nothing.
        last: The last step that it began.
        killed: Whether it was killed.
        seconds: From its start to its end.
    """

    first: int
    last: int
    killed: bool
    seconds: float


def live(folder: Path, epochs: int, backend: str, kill_at: float = math.inf) -> Life:
    """Trains in a new process, which is killed (SIGKILL) as soon as it says that it has begun a step.

    Args:
        folder: Of the checkpoints.
        epochs: Of the whole run.
        backend: On which it trains.
        kill_at: The step. Defaults to none.

    Raises:
        TrainingFailed: If the process ended with an error.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(str(folder), epochs, sender))
    begun, first, last, killed = time.monotonic(), 0, 0, False
    with _environment({**_ENVIRONMENT, "KERAS_BACKEND": backend}):
        process.start()
    sender.close()
    try:
        for last in _received(receiver):
            first = first or last
            if last >= kill_at and not killed:
                process.kill()
                killed = True
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()
    if process.exitcode and not killed:
        raise TrainingFailed(f"The process that trained on {backend} in {folder} ended with exit code {process.exitcode}.")
    return Life(first, last, killed, time.monotonic() - begun)


def _child(folder: str, epochs: int, sender: Connection) -> None:
    from .training import load_digits, train

    model = train(folder, epochs, sender.send)
    _, (images, _) = load_digits()
    np.save(Path(folder, PREDICTIONS), model.predict(images, verbose=0), allow_pickle=False)


def _received(receiver: Connection) -> Iterator[int]:
    """The steps that the child tells of, until it ends."""
    try:
        while True:
            yield receiver.recv()
    except EOFError:
        return


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets environment variables, for a process that starts meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
