"""Runs a search by two actors of Ray in the folder of the process.

python run_on_ray.py SEARCH FOLDER [--trials N] [--signal TRIAL-STEP]

An actor dies in each train step for which there is a file `kill-TRIAL-STEP` in the folder of the
process, which is gone then. In the step of --signal one sends SIGTERM to this process. It prints
what each trial ended with, as run_tuning.py does.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import keras
import ray
from run_tuning import SAVED, SEARCHES, planned, results, train, units_of

import keras_patterns as kp

LIMITS = {
    "num_cpus": 2,
    "object_store_memory": 80 << 20,
    "include_dashboard": False,
    "log_to_driver": False,
}


class DieAt(keras.callbacks.Callback):
    """Kills the process in the steps that files name, and in one asks the driver to end."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__()
        self._folder, self._number, self._step = folder, number, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._step += 1
        kill, stop = (
            self._folder / f"{name}-{self._number}-{self._step}" for name in ("kill", "signal")
        )
        if kill.exists():
            kill.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if stop.exists():
            driver = int(stop.read_text())
            stop.unlink()
            # The step ends when the driver has passed the signal on.
            arrived, wake = os.pipe()
            os.set_blocking(wake, False)
            before = signal.set_wakeup_fd(wake)
            os.kill(driver, signal.SIGTERM)
            os.read(arrived, 1)
            signal.set_wakeup_fd(before)

    def get_config(self) -> dict[str, Any]:
        return {}

    def get_state(self) -> dict[str, Any]:
        return {"step": self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        self._step = state["step"]


def objective(trial: kp.Trial) -> None:
    """Those of run_tuning.py, which actors are sent with this script."""
    rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    units = units_of(trial.suggest_int("layers", 0, 2))
    steps = {} if trial.total_steps is None else planned(trial)
    callbacks = [DieAt(trial.directory.parents[2], trial.number)]
    train(trial.fit, rate, units, callbacks=callbacks, **SAVED, **steps)


def fails(trial: kp.Trial) -> None:
    raise ValueError("no luck")


def dies(trial: kp.Trial) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def precision(trial: kp.Trial) -> float:
    """The bits in which a new layer computes."""
    return {"bfloat16": 16.0, "float32": 32.0}[keras.layers.Dense(1).compute_dtype]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("search", choices=SEARCHES)
    parser.add_argument("folder")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--signal", metavar="TRIAL-STEP")
    asked = parser.parse_args()
    if asked.signal:
        Path(f"signal-{asked.signal}").write_text(str(os.getpid()))
    ray.init(**LIMITS)
    how = {"search": kp.tune, "n_trials": asked.trials, **SEARCHES[asked.search]}
    search = how.pop("search")
    if search in (kp.hyperband, kp.population):
        del how["n_trials"]
    result = search(objective, asked.folder, workers=2, engine="ray", seed=7, **how)
    print(json.dumps(results(result.study)))


if __name__ == "__main__":
    main()
