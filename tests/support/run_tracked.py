"""A run with trackers in a process of its own: `python run_tracked.py FOLDER TRACKER... [--kill
PLACE N]`.

It goes on where an earlier process left it. `--kill` ends it with SIGKILL: before a step, while the
N-th checkpoint is published, or once it is and its rows are being sent.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
from killers import KillAt, kill, kill_while_saving

import keras_patterns as kp


class KillWhenPublished(kp.Hook):
    """Kills this process once a checkpoint is on disk, and rows are handed over or not."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count

    def on_published(self, position: Any, settled_step: int) -> None:
        self.left -= 1
        if not self.left:
            kill()

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


class Together(kp.Hook):
    """Waits at each boundary until the trackers have what they were given."""

    def __init__(self, trackers: list[Any]) -> None:
        super().__init__()
        self.trackers = [one for one in trackers if isinstance(one, kp.trackers.Tracking)]

    def on_check(self, step: int) -> None:
        for one in self.trackers:
            one._courier._thread.submit(lambda: None).result()

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


class Naive(keras.callbacks.Callback):
    """Writes each epoch to TensorBoard as most people would: the control."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        from tensorboardX import SummaryWriter

        # A file each, closed at once: its thread must not be killed with the row.
        with SummaryWriter(
            str(self.folder / "logs" / "naive"), filename_suffix=f".{os.getpid()}.{epoch}"
        ) as writer:
            writer.add_scalar("loss", logs["loss"], epoch)

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


def tracker(kind: str, folder: Path) -> keras.callbacks.Callback:
    """A tracker that keeps what it gets in the folder."""
    if kind == "naive":
        return Naive(folder)
    if kind.startswith("tensorboard"):
        when: Any = "saved" if kind.endswith("saved") else "now"
        return kp.trackers.TensorBoard(folder / "logs", when=when)
    if kind == "wandb":
        return kp.trackers.WandB("project", init={"dir": str(folder)})
    # One database for all runs of a test: it takes seconds to make.
    return kp.trackers.MLflow(folder.name, f"sqlite:///{folder.parent / 'mlflow.db'}")


def train(folder: Path, callbacks: list[keras.callbacks.Callback], nan_at: int | None) -> Any:
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 5)).astype("float32")
    y = x.sum(1)
    if nan_at is not None:
        y[nan_at] = np.nan
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return kp.fit(
        model,
        x,
        y,
        batch_size=4,
        total_steps=60,
        epochs=4,
        validation_data=(x[:16], x[:16].sum(1)),
        log_every_steps=2,
        validate_every_steps=5,
        seed=0,
        verbose=0,
        callbacks=callbacks,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("trackers", nargs="+")
    parser.add_argument("--kill", nargs=2, metavar=("PLACE", "N"), default=("", "0"))
    parser.add_argument("--nan", type=int, help="an example whose target is no number")
    parser.add_argument("--together", action="store_true", help="wait for the trackers")
    asked = parser.parse_args()
    asked.folder.mkdir(exist_ok=True)
    place, count = asked.kill[0], int(asked.kill[1])
    callbacks = [tracker(kind, asked.folder) for kind in asked.trackers]
    if asked.together:
        callbacks.append(Together(callbacks))
    saved = kp.Checkpoint(asked.folder / "checkpoints", every_steps=7)
    if place == "step":
        callbacks.append(KillAt(count, kill))
    elif place == "published":
        callbacks.append(KillWhenPublished(count))
    elif place == "rename":
        kill_while_saving("os.rename", count)
    guard = [kp.NonFiniteGuard()] if asked.nan is not None else []
    train(asked.folder, [*guard, *callbacks, saved], asked.nan)


if __name__ == "__main__":
    main()
