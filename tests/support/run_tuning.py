"""Runs a search in the folder of the process, and may be killed in it.

python run_tuning.py SEARCH FOLDER [--after STEPS] [--signal N] [--storage URL] [--trials N]
    [--workers N] [--beside]

With `--beside` another process works on the search, which is the one that is killed; this one
begins when that is at its first step. With `--workers` each file in the folder `kills` is for a
worker that reads it, and says after how many steps that dies.

It prints what each trial ended with, as JSON: {number: [state, value, parameters, reports]}.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna

import keras_patterns as kp

optuna.logging.set_verbosity(optuna.logging.ERROR)

EXAMPLES, BATCH, EPOCHS = 64, 8, 4
# Steps of a trial.
STEPS = EXAMPLES // BATCH * EPOCHS


class SendAfter(keras.callbacks.Callback):
    """Sends this process a signal in the train step after so many, all trials counted."""

    left: int | None = None
    signum = signal.SIGKILL
    may_claim = True
    # Closed at the first step.
    began: int | None = None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if SendAfter.may_claim and multiprocessing.parent_process() is not None:
            SendAfter.left, SendAfter.may_claim = claimed(), False
        if SendAfter.began is not None:
            os.close(SendAfter.began)
            SendAfter.began = None
        if SendAfter.left is not None:
            SendAfter.left -= 1
            if SendAfter.left == -1:
                os.kill(os.getpid(), SendAfter.signum)

    def get_config(self) -> dict[str, Any]:
        return {}

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


def claimed() -> int | None:
    """The steps after which a worker is to die, if there is a file that no other has read."""
    for file in sorted(Path("kills").glob("*")):
        with suppress(FileNotFoundError):
            steps = int(file.read_text())
            file.unlink()
            return steps
    return None


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * EXAMPLES, 4)).astype("float32")
    return x, (x[:, 0] * x[:, 1] + 0.1 * rng.normal(size=len(x))).astype("float32")


def train(fit: Callable[..., kp.RunHistory], rate: float, units: int, **how: Any) -> kp.RunHistory:
    x, y = data()
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.1), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(rate), "mse")
    return fit(
        model,
        x[:EXAMPLES],
        y[:EXAMPLES],
        validation_data=(x[EXAMPLES:], y[EXAMPLES:]),
        verbose=0,
        **{"batch_size": BATCH, "epochs": EPOCHS, **how},
    )


def straight(seed: int, params: dict[str, Any]) -> dict[str, Any]:
    """The History of a run of its own with the seed and the parameters of a trial."""
    keras.utils.set_random_seed(seed)
    return train(kp.fit, params["rate"], units_of(params["layers"]), seed=seed).history


def units_of(layers: int) -> int:
    return 4 + 4 * layers


SAVED = {"checkpoint": {"every_steps": 5}}


def objective(trial: kp.Trial) -> None:
    rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    # A sampler that was seeded once for both would go on elsewhere after a kill between them.
    units = units_of(trial.suggest_int("layers", 0, 2))
    train(trial.fit, rate, units, callbacks=[SendAfter()], **SAVED)


def on_grid(trial: kp.Trial) -> None:
    rate = trial.suggest_float("rate", 1e-3, 1e-1)
    units = trial.suggest_categorical("units", [4, 8])
    train(trial.fit, rate, units, callbacks=[SendAfter()], **SAVED)


def in_two_runs(trial: kp.Trial) -> None:
    """Two calls of fit, the second of which goes on with another rate."""
    rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    train(trial.fit, rate, 4, callbacks=[SendAfter()], **SAVED, epochs=2)
    train(trial.fit, rate / 2, 8, callbacks=[SendAfter()], **SAVED, epochs=2)


def budgeted(trial: kp.Trial) -> None:
    """As many steps as the search says."""
    rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    units = units_of(trial.suggest_int("layers", 0, 2))
    train(trial.fit, rate, units, callbacks=[SendAfter()], **SAVED, **planned(trial))


def planned(trial: kp.Trial) -> dict[str, Any]:
    """The arguments of fit for so many steps."""
    return {"epochs": None, "total_steps": trial.total_steps, "steps_per_epoch": 8}


def warmer(params: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    return {**params, "rate": params["rate"] * random.choice([0.8, 1.25])}


GRID = {"rate": [0.001, 0.01, 0.1], "units": [4, 8]}
PRUNER = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=8)


def tpe(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(n_startup_trials=2, seed=seed)


def cmaes(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.CmaEsSampler(n_startup_trials=1, seed=seed)


SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"sampler": optuna.samplers.RandomSampler},
    "tpe": {"sampler": tpe},
    "cmaes": {"sampler": cmaes},
    "grid": {"sampler": optuna.samplers.GridSampler(GRID), "objective": on_grid},
    "pruned": {"sampler": optuna.samplers.RandomSampler, "pruner": PRUNER},
    "two runs": {"sampler": optuna.samplers.TPESampler(seed=3), "objective": in_two_runs},
    "halving": {"search": kp.successive_halving, "n_trials": 4, "min_steps": 8, "max_steps": 16},
    "hyperband": {"search": kp.hyperband, "min_steps": 8, "max_steps": 16, "factor": 2},
    "population": {
        "search": kp.population,
        "size": 4,
        "total_steps": 24,
        "exploit_every_steps": 8,
        "explore": warmer,
    },
}


def results(study: optuna.Study) -> dict[int, list[Any]]:
    return {
        one.number: [one.state.name, one.value, one.params, one.intermediate_values]
        for one in study.trials
    }


def begin_beside() -> int:
    """0 in another process, and here its number, once it is at its first step."""
    read, SendAfter.began = os.pipe()
    if other := os.fork():
        os.close(SendAfter.began)
        SendAfter.began = None
        assert os.read(read, 1) == b""
    return other


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("search", choices=SEARCHES)
    parser.add_argument("folder")
    parser.add_argument("--after", type=int)
    parser.add_argument("--signal", type=int, default=signal.SIGKILL)
    parser.add_argument("--storage")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--beside", action="store_true")
    asked = parser.parse_args()
    other = begin_beside() if asked.beside else None
    if not other:
        SendAfter.left, SendAfter.signum = asked.after, asked.signal
    how = {"search": kp.tune, "objective": objective, **SEARCHES[asked.search]}
    search = how.pop("search")
    if search is kp.tune:
        how["n_trials"] = asked.trials
    else:
        how["objective"] = budgeted
    result = search(
        how.pop("objective"),
        asked.folder,
        storage=asked.storage,
        workers=asked.workers,
        seed=7,
        verbose=0,
        **how,
    )
    if other:
        _, status = os.waitpid(other, 0)
        assert os.waitstatus_to_exitcode(status) == (0 if asked.after is None else -asked.signal)
    if other != 0:
        print(json.dumps(results(result.study)))


if __name__ == "__main__":
    main()
