"""What does a step of `kp.Trial.fit` cost over one of `kp.fit`? What does a search cost beside
Optuna's own loop with `model.fit`, without a kill and with one?

Steps: both train the same net on the same arrays, saved at the end of each epoch. A trial reports
there too, to a journal. Equal results: the weights must be the same. Measured is the time of the
processor, all threads together, which other programs disturb least.

Searches: the same number of trials of the same steps. `study.optimize` goes over SQLite, as its
users do; after a kill the same script is started again and asks for the trials that are missing.
Counted are the steps that are trained in all processes, and their seconds, imports included.

Populations: on scikit-learn's digits, from the same first parameters, the lowest validation loss of
a population, and that of a random search of as many trials of as many steps.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from _measure import interleave, leave, milliseconds, ratio, rounds_asked, say_where, table
from sklearn.datasets import load_digits

import keras_patterns as kp

STEPS, EPOCHS, BATCH = 2_000, 4, 32
TRIALS, TRIAL_STEPS, TRIAL_EPOCHS, KILLED_AFTER = 6, 512, 4, 1_350
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4_096, 32)).astype("float32")
Y = (X[:, 0] * X[:, 1]).astype("float32")
VALIDATION = (X[:512], Y[:512])


def make_model(rate: float = 1e-3) -> keras.Model:
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu")]
    model = keras.Sequential([keras.Input((32,)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


HOW: dict[str, Any] = {
    "batch_size": BATCH,
    "total_steps": STEPS,
    "epochs": EPOCHS,
    "validation_data": VALIDATION,
    "verbose": 0,
}


def plain(model: keras.Model, folder: str) -> None:
    saving = kp.Checkpoint(folder, keep_last=2, keep_best=1)
    kp.fit(model, X, Y, seed=0, callbacks=[Timed(), saving], **HOW)


def by_trial(model: keras.Model, folder: str) -> None:
    def objective(trial: kp.Trial) -> None:
        trial.fit(model, X, Y, seed=0, callbacks=[Timed()], **HOW)

    kp.tune(objective, folder, n_trials=1, seed=0, verbose=0)


SIDES = {"kp.fit": plain, "kp.Trial.fit": by_trial}


class Timed(keras.callbacks.Callback):
    """Seconds of the processor from the first step of the second epoch to the end of the run."""

    seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            self.begun = time.process_time()

    def on_train_end(self, logs: Any = None) -> None:
        Timed.seconds = time.process_time() - self.begun

    def get_config(self) -> dict[str, Any]:
        return {}

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


def timed(side: Callable[[keras.Model, str], None], model: keras.Model) -> Callable[[], float]:
    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            side(model, folder)
        return Timed.seconds

    return run


def cost_of_steps(rounds: int) -> list[str]:
    weights = {}
    for name, side in SIDES.items():
        keras.utils.set_random_seed(0)
        model = make_model()
        timed(side, model)()
        weights[name] = model.get_weights()
    first, second = weights.values()
    same = all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
    seconds = interleave({name: timed(side, make_model()) for name, side in SIDES.items()}, rounds)
    steps = STEPS * (EPOCHS - 1) // EPOCHS
    rows = [
        [name, milliseconds(seconds[name] / steps), ratio(seconds[name], seconds["kp.fit"])]
        for name in SIDES
    ]
    header = ("", "ms a step, of the processor", "over kp.fit (quartiles)")
    table(f"{steps} steps, {EPOCHS - 1} reports, {rounds} rounds", header, rows)
    return [] if same else ["kp.Trial.fit: other weights than kp.fit"]


# Searches, in processes of their own. An epoch is a pass over the data.
assert TRIAL_EPOCHS * len(X) == TRIAL_STEPS * BATCH


class Count(keras.callbacks.Callback):
    """Notes the steps of this process in a file, and kills it after so many."""

    done = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        Count.done += 1
        if Count.done == int(os.environ.get("KILLED_AFTER", -1)):
            note_steps()
            os.kill(os.getpid(), signal.SIGKILL)

    def get_config(self) -> dict[str, Any]:
        return {}

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


def note_steps() -> None:
    with open("steps", "a", encoding="utf-8") as file:
        print(Count.done, file=file)


def search_by_optuna() -> None:
    def objective(trial: optuna.Trial) -> float:
        model = make_model(trial.suggest_float("rate", 1e-4, 1e-2, log=True))
        history = model.fit(
            X,
            Y,
            batch_size=BATCH,
            epochs=TRIAL_EPOCHS,
            validation_data=VALIDATION,
            verbose=0,
            callbacks=[Count()],
        )
        return min(history.history["val_loss"])

    how = {"study_name": "search", "load_if_exists": True}
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(storage="sqlite:///study.db", sampler=sampler, **how)
    done = [one for one in study.trials if one.state.is_finished()]
    study.optimize(objective, n_trials=TRIALS - len(done))
    left = sum(one.state.name == "RUNNING" for one in study.trials)
    twice = TRIALS - len({str(one.params) for one in study.trials if one.state.is_finished()})
    Path("found").write_text(f"{left} {twice}", encoding="utf-8")


def search_by_tune() -> None:
    def objective(trial: kp.Trial) -> None:
        model = make_model(trial.suggest_float("rate", 1e-4, 1e-2, log=True))
        trial.fit(
            model,
            X,
            Y,
            batch_size=BATCH,
            total_steps=TRIAL_STEPS,
            epochs=TRIAL_EPOCHS,
            validation_data=VALIDATION,
            verbose=0,
            callbacks=[Count()],
        )

    study = kp.tune(objective, "search", n_trials=TRIALS, seed=0, verbose=0).study
    left = sum(one.state.name == "RUNNING" for one in study.trials)
    twice = TRIALS - len({str(one.params) for one in study.trials})
    Path("found").write_text(f"{left} {twice}", encoding="utf-8")


SEARCHES = {"study.optimize and model.fit": search_by_optuna, "kp.tune": search_by_tune}


def one_search(name: str, kill: bool) -> list[str]:
    """A row: seconds, steps, trials left RUNNING, parameters that came twice."""
    command = [sys.executable, str(Path(__file__).resolve()), "--search", name]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        if kill:
            environment = {**os.environ, "KILLED_AFTER": str(KILLED_AFTER)}
            killed = subprocess.run(command, cwd=folder, env=environment, check=False)
            assert killed.returncode == -signal.SIGKILL, killed
        subprocess.run(command, cwd=folder, check=True)
        seconds = time.perf_counter() - began
        steps = sum(map(int, Path(folder, "steps").read_text(encoding="utf-8").split()))
        left, twice = Path(folder, "found").read_text(encoding="utf-8").split()
    how = f"killed after {KILLED_AFTER:,} steps" if kill else "not killed"
    return [name, how, f"{seconds:.1f}", f"{steps:,}", left, twice]


# Populations.

SEEDS, MEMBERS, MEMBER_STEPS, EVERY = range(5), 6, 240, 40


def on_digits(trial: kp.Trial) -> None:
    x, y = load_digits(return_X_y=True)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    decay = trial.suggest_float("decay", 1e-4, 1e-1, log=True)
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((64,)), *layers])
    optimizer = keras.optimizers.AdamW(rate, weight_decay=decay)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    plan = kp.StepPlan(trial.total_steps or MEMBER_STEPS, EVERY // 2)
    trial.fit(model, (x / 16).astype("float32"), y, validation_split=0.3, plan=plan, verbose=0)


def near(params: dict[str, float], random: np.random.Generator) -> dict[str, float]:
    """As in the paper: times 0.8 or 1.2."""
    return {name: value * random.choice([0.8, 1.2]) for name, value in params.items()}


def populations() -> None:
    rows = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder, quiet():
            how = {"seed": seed, "verbose": 0}
            members = kp.population(
                on_digits,
                f"{folder}/population",
                size=MEMBERS,
                total_steps=MEMBER_STEPS,
                exploit_every_steps=EVERY,
                explore=near,
                **how,
            )
            sampler = optuna.samplers.RandomSampler
            trials = kp.tune(
                on_digits, f"{folder}/random", n_trials=MEMBERS, sampler=sampler, **how
            )
            values = [one.best.value for one in (members, trials)]
        names = ["the population", "random search"]
        best = "neither" if values[0] == values[1] else names[int(np.argmin(values))]
        rows.append([str(seed), *(f"{value:.4f}" for value in values), best])
    title = f"{MEMBERS} trials of {MEMBER_STEPS} steps, exploited every {EVERY}"
    table(title, ("seed", "population", "random search", "lower"), rows)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    keras.config.disable_interactive_logging()
    try:
        yield
    finally:
        keras.config.enable_interactive_logging()


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if sys.argv[1:2] == ["--search"]:
        SEARCHES[sys.argv[2]]()
        note_steps()
        return
    rounds = rounds_asked(default=9)
    say_where()
    failures = cost_of_steps(rounds)
    rows = [one_search(name, kill) for kill in (False, True) for name in SEARCHES]
    header = ("", "", "seconds", "steps trained", "left RUNNING", "parameters twice")
    table(f"{TRIALS} trials of {TRIAL_STEPS} steps", header, rows)
    populations()
    leave(failures)


if __name__ == "__main__":
    main()
