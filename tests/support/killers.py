"""Ways to end a run: by an error, by a signal, and inside the writing of a checkpoint."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import keras

from keras_patterns.run.blocks import Blocks

HOW = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}


class Killed(Exception):
    pass


def raise_killed() -> NoReturn:
    raise Killed


def kill() -> None:
    """Ends this process as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


class KillAt(keras.callbacks.Callback):
    """Ends the run before a step, those that are trained again counted too.

    Args:
        steps: How many have begun in this process before it.
        end: Ends it. Defaults to raising `Killed`.
    """

    def __init__(self, steps: int, end: Callable[[], None] = raise_killed) -> None:
        super().__init__()
        self._left, self._end = steps, end

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        if self._left < 0:
            self._end()

    def get_state(self) -> dict[str, int]:
        return {}

    def set_state(self, state: dict[str, int]) -> None:
        pass


class Sender(keras.callbacks.Callback):
    """Sends this process a signal at a place in its run.

    Args:
        where: `"step"`, before the step after `at` ones; `"validation"`, at the first batch of the
            validation after them.
        at: How many steps are done then.
        signals: The signals' names, sent one after the other.
    """

    def __init__(self, where: str, at: int, signals: list[str]) -> None:
        super().__init__()
        self._where, self._at, self._signals = where, at, signals
        self._before = self._batch = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._batch = batch
        if self._where == "step" and self._before + batch == self._at:
            self._send()

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        if (
            self._where == "validation"
            and batch == 0
            and self._before + self._batch + 1 == self._at
        ):
            self._send()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._before += self.params["steps"]

    def get_state(self) -> dict[str, int]:
        return {"before": self._before, "batch": self._batch}

    def set_state(self, state: dict[str, int]) -> None:
        self._before, self._batch = state["before"], state["batch"]

    def _send(self) -> None:
        for name in self._signals:
            os.kill(os.getpid(), HOW[name])


def kill_in_block(at: int) -> None:
    """Kills this process in a block of steps that has a step in it."""
    prepare = Blocks.prepare

    def prepare_or_die(self: Blocks, step: int, left: int) -> int:
        count = prepare(self, step, left)
        if step <= at < step + count:
            kill()
        return count

    Blocks.prepare = prepare_or_die  # type: ignore[method-assign]


def kill_while_saving(event_wanted: str, count: int) -> None:
    """Kills this process at the so-many-th event of a kind (`"os.rename"`, `"os.link"`, `"open"`)
    below the folder of the run.
    """
    _kill_at(count, lambda event, first, *_: event == event_wanted and "checkpoints" in str(first))


def kill_when_published(count: int) -> None:
    """Kills this process where the so-many-th checkpoint gets its name."""

    def is_published(event: str, *paths: Any) -> bool:
        return event == "os.rename" and all(
            part in str(paths[1]) for part in ("checkpoints", "run-")
        )

    _kill_at(count, is_published)


def _kill_at(count: int, is_it: Callable[..., bool]) -> None:
    """Kills this process at the so-many-th event of the audit."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if arguments and is_it(event, *arguments):
            count -= 1
            if not count:
                kill()

    sys.addaudithook(hook)
