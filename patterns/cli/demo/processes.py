"""The processes in which the demo trains, and the kills."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..._util.errors import KerasPatternsError
from ..._util.text import write_text

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


class TrainingFailedError(KerasPatternsError):
    """A process of the demo ended by itself, and not well."""


class TrainingProcess(NamedTuple):
    """The course of one process of the demo.

    Attributes:
        first: The first step that it began; 0 if it trained nothing.
        last: The step that it began last.
        killed: Whether it was killed.
        seconds: From its start to its end.
    """

    first: int
    last: int
    killed: bool
    seconds: float


def find_rate(picture: Path, backend: str) -> float:
    """Sweeps the learning rate in a new process, which prints the sweep and writes its picture;
    returns the suggested rate.
    """
    (rate,) = run_to_its_end("swept the learning rate", _sweep, backend, str(picture))
    return rate


def select(folder: Path, backend: str) -> None:
    """Evaluates the checkpoints of a run in a new process, which prints the table."""
    run_to_its_end("chose among the checkpoints", _select, backend, str(folder))


def train_in_process(
    folder: Path, rate: float, epochs: int, backend: str, kill_at: float = math.inf
) -> TrainingProcess:
    """Trains in a new process, which is killed (SIGKILL) as soon as it says that it has begun a
    step.

    Args:
        folder: Of the checkpoints.
        rate: The highest learning rate.
        epochs: Of the whole run.
        backend: On which it trains.
        kill_at: The step. Defaults to none.
    """
    return run_until_killed(
        f"trained in {folder}", _train, backend, kill_at, str(folder), rate, epochs
    )


def run_until_killed(
    what: str, work: Callable[..., None], backend: str, kill_at: float, *arguments: Any
) -> TrainingProcess:
    """Works in a new process, which is killed (SIGKILL) as soon as it tells that it has begun a
    step.

    Args:
        what: It does, for an error.
        work: A function of a module. It is called with the arguments and with what takes the number
            of each step, `send`.
        backend: On which it works.
        kill_at: The step; infinity for none.
        arguments: Of `work`.
    """
    started = time.monotonic()
    first = 0
    last = 0
    killed = False
    process, receiver = _start(work, backend, *arguments)
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
    if not killed:
        _check_ended_well(process, what, backend)
    return TrainingProcess(first, last, killed, time.monotonic() - started)


def run_to_its_end(
    what: str, work: Callable[..., None], backend: str, *arguments: Any
) -> list[Any]:
    """All that a new process tells, which ends by itself.

    Args:
        what: It does, for an error.
        work: A function of a module. It is called with the arguments and with what it tells by,
            `send`.
        backend: On which it works.
        arguments: Of `work`.
    """
    process, receiver = _start(work, backend, *arguments)
    found = list(_received(receiver))
    process.join()
    _check_ended_well(process, what, backend)
    return found


def _check_ended_well(process: BaseProcess, what: str, backend: str) -> None:
    if process.exitcode:
        raise TrainingFailedError(
            f"The process that {what} on {backend} ended with exit code {process.exitcode}."
        )


def _start(
    work: Callable[..., None], backend: str, *arguments: Any
) -> tuple[BaseProcess, Connection]:
    """Starts a process on a backend, and returns it with what it tells."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(*arguments, sender))
    with environment(KERAS_BACKEND=backend):
        process.start()
    sender.close()
    return process, receiver


def _sweep(picture: str, sender: Connection) -> None:
    from .training import find_rate

    sweep = find_rate()
    write_text(sweep)
    axes: Any = sweep.plot()
    axes.figure.savefig(picture, pil_kwargs={"optimize": True})
    sender.send(sweep.suggest())


def _select(folder: str, sender: Connection) -> None:
    from .training import select

    select(folder)
    sender.close()


def _train(folder: str, rate: float, epochs: int, sender: Connection) -> None:
    from .training import load_digits, train

    model = train(folder, rate, epochs, sender.send)
    _, (images, _), _ = load_digits()
    np.save(Path(folder, PREDICTIONS), model.predict(images, verbose=0), allow_pickle=False)


def _received(receiver: Connection) -> Iterator[Any]:
    """Yields what the child tells, until it ends."""
    try:
        while True:
            yield receiver.recv()
    except EOFError:
        return


@contextmanager
def environment(**more: str) -> Iterator[None]:
    """Sets the environment variables of the demo, and more, for a process that starts or a
    framework that is imported meanwhile.
    """
    before = dict(os.environ)
    os.environ.update(_ENVIRONMENT, **more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
