"""A search on scikit-learn's digits that is killed twice, and one that is left alone.

    python examples/tune_digits.py [FOLDER]

The first is killed in its second and in its fourth trial (SIGKILL), and started again each time.
Both end with the same parameters and the same values.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

import keras
import optuna
from sklearn.datasets import load_digits

import keras_patterns as kp

TRIALS, STEPS, STEPS_PER_EPOCH = 5, 120, 40
# The steps after which a process is killed, over all trials that it trains.
KILLS = (170, 210)


class KillAfter(keras.callbacks.Callback):
    """Kills this process after so many steps."""

    left = float("inf")

    def on_train_batch_begin(self, batch, logs=None):
        KillAfter.left -= 1
        if KillAfter.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def get_config(self):
        return {}

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def objective(trial):
    x, y = load_digits(return_X_y=True)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    units = trial.suggest_int("units", 16, 64)
    dropout = trial.suggest_float("dropout", 0.0, 0.5)
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dropout(dropout)]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10, "softmax")])
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    trial.fit(
        model,
        (x / 16).astype("float32"),
        y,
        validation_split=0.2,
        plan=kp.StepPlan(STEPS, STEPS_PER_EPOCH),
        verbose=0,
        callbacks=[KillAfter()],
        checkpoint={"every_steps": 10},
    )


def search(folder, kill_after=float("inf")):
    KillAfter.left = kill_after
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    how = {"direction": "maximize", "monitor": "val_accuracy", "seed": 0}
    return kp.tune(objective, folder, n_trials=TRIALS, **how)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        spawn = multiprocessing.get_context("spawn")
        for kill_after in (*KILLS, float("inf")):
            process = spawn.Process(target=search, args=(folder / "killed", kill_after))
            process.start()
            process.join()
            print(f"The process ended with {process.exitcode}.")
        left_alone = search(folder / "left alone")
        killed = search(folder / "killed")
        print(killed)
        pairs = zip(killed.trials, left_alone.trials, strict=True)
        same = all((one.params, one.value) == (two.params, two.value) for one, two in pairs)
        print("Equal to the search that was left alone." if same else "NOT EQUAL.")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
