"""KerasTuner's Hyperband, whose trials are runs of `kp.fit`: one that is promoted goes on with its
optimizer and its place in the data, and one that was killed goes on where it was.

    python examples/hyperband_keras_tuner.py [FOLDER]

KerasTuner's own loop trains a promoted trial with a new optimizer, and begins a killed one again.
A `HyperModel` of yours is used as it is. The parameters are drawn by KerasTuner, which after a kill
may draw others than without one.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import keras
import keras_tuner
from sklearn.datasets import load_digits

import keras_patterns as kp

EPOCHS = 9


class ResumingHyperband(keras_tuner.Hyperband):
    """Its trials are saved in their folders, and a promoted one begins with a copy of its parent's.

    `search(x, y, ...)` takes what `kp.fit` takes, but for the number of epochs.
    """

    def run_trial(self, trial, *data, **how):
        asked = trial.hyperparameters.values
        folder = self.folder_of(trial)
        if "tuner/trial_id" in asked and not folder.exists():
            # A name of its own first, so that a kill leaves no half of a copy.
            unfinished = folder.with_name("copy")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(self.folder_of(self.oracle.trials[asked["tuner/trial_id"]]), unfinished)
            unfinished.rename(folder)
        model = self.hypermodel.build(trial.hyperparameters)
        monitor = self.oracle.objective.name
        how["callbacks"] = [*how.get("callbacks", []), kp.Checkpoint(folder, monitor=monitor)]
        # One seed for all: a trial that goes on has the order of the data that it had.
        history = kp.fit(model, *data, **how, epochs=asked["tuner/epochs"], seed=0)
        best = min if self.oracle.objective.direction == "min" else max
        return {monitor: best(history.history[monitor])}

    def folder_of(self, trial):
        # KerasTuner forgets what it has drawn for a trial that is killed early, and draws anew.
        drawn = json.dumps(trial.hyperparameters.values, sort_keys=True)
        name = f"run-{hashlib.sha256(drawn.encode()).hexdigest()[:12]}"
        return Path(self.get_trial_dir(trial.trial_id), name)


def build(asked):
    keras.utils.set_random_seed(0)
    units = asked.Choice("units", [16, 32])
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((64,)), *layers])
    rate = asked.Float("rate", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


def search(folder, **how):
    """Starts the search, or goes on with it."""
    x, y = load_digits(return_X_y=True)
    tuner = ResumingHyperband(
        build,
        keras_tuner.Objective("val_loss", "min"),
        max_epochs=EPOCHS,
        factor=3,
        seed=0,
        directory=folder,
        project_name="search",
    )
    tuner.search(x / 16, y, batch_size=64, validation_split=0.2, verbose=0, **how)
    return tuner


def main(folder):
    tuner = search(folder)
    (best,) = tuner.oracle.get_best_trials(1)
    print(f"best of {len(tuner.oracle.trials)} trials: val_loss {best.score:.6f}")
    print(best.hyperparameters.values)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
