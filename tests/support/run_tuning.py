"""Runs a search in the folder of the process, and may be killed in it.

python run_tuning.py SEARCH FOLDER [--kill-after STEPS] [--storage URL] [--trials N] [--workers N]

It prints what each trial ended with, as JSON: {number: [state, value, parameters]}.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from typing import Any

import keras
import numpy as np
import optuna

import keras_patterns as kp

optuna.logging.set_verbosity(optuna.logging.ERROR)

EXAMPLES, BATCH, EPOCHS = 64, 8, 4
# Steps of a trial.
STEPS = EXAMPLES // BATCH * EPOCHS


class KillAfter(keras.callbacks.Callback):
    """Sends this process SIGKILL in the train step after so many, all trials counted."""

    left: int | None = None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if KillAfter.left is not None:
            KillAfter.left -= 1
            if KillAfter.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def get_config(self) -> dict[str, Any]:
        return {}

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * EXAMPLES, 4)).astype("float32")
    return x, (x[:, 0] * x[:, 1] + 0.1 * rng.normal(size=len(x))).astype("float32")


def train(trial: kp.Trial, rate: float, units: int, **how: Any) -> kp.RunHistory:
    x, y = data()
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.1), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(rate), "mse")
    how = {"epochs": EPOCHS, "checkpoint": {"every_steps": 5}, **how}
    return trial.fit(
        model,
        x[:EXAMPLES],
        y[:EXAMPLES],
        validation_data=(x[EXAMPLES:], y[EXAMPLES:]),
        batch_size=BATCH,
        verbose=0,
        callbacks=[KillAfter()],
        **how,
    )


def objective(trial: kp.Trial) -> None:
    rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    # Between the two, a sampler that were not seeded for each would go on elsewhere after a kill.
    train(trial, rate, 4 + 4 * trial.suggest_int("layers", 0, 2))


def on_grid(trial: kp.Trial) -> None:
    train(
        trial, trial.suggest_float("rate", 1e-3, 1e-1), trial.suggest_categorical("units", [4, 8])
    )


GRID = {"rate": [0.001, 0.01, 0.1], "units": [4, 8]}
SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"sampler": optuna.samplers.RandomSampler},
    "tpe": {"sampler": lambda seed: optuna.samplers.TPESampler(n_startup_trials=2, seed=seed)},
    "cmaes": {"sampler": lambda seed: optuna.samplers.CmaEsSampler(n_startup_trials=1, seed=seed)},
    "grid": {"sampler": optuna.samplers.GridSampler(GRID), "objective": on_grid},
    "pruned": {
        "sampler": optuna.samplers.RandomSampler,
        "pruner": optuna.pruners.MedianPruner(n_startup_trials=1),
    },
}


def results(study: optuna.Study) -> dict[int, list[Any]]:
    return {one.number: [one.state.name, one.value, one.params] for one in study.trials}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("search", choices=SEARCHES)
    parser.add_argument("folder")
    parser.add_argument("--kill-after", type=int)
    parser.add_argument("--storage")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    KillAfter.left = asked.kill_after
    how = {"objective": objective, **SEARCHES[asked.search]}
    result = kp.tune(
        how.pop("objective"),
        asked.folder,
        n_trials=asked.trials,
        storage=asked.storage,
        workers=asked.workers,
        seed=7,
        verbose=0,
        **how,
    )
    print(json.dumps(results(result.study)))


if __name__ == "__main__":
    main()
