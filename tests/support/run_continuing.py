"""One process of test_continuing.py: `python run_continuing.py run FOLDER`, or `go-on
FOLDER...`.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from killers import KillAt, Killed
from models import compiled, digit_net

import keras_patterns as kp
from keras_patterns.state.variables import find_variables

TOTAL_STEPS, KILLED_AT = 20, 10


def make_model():
    keras.utils.set_random_seed(7)
    return compiled(digit_net(), keras.optimizers.Adam(1e-3))


def train(folder, *extra):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype("float32") / 16
    callbacks = [
        keras.callbacks.ReduceLROnPlateau(patience=1),
        kp.Checkpoint(folder, every_steps=KILLED_AT),
        *extra,
    ]
    model = make_model()
    plan = kp.StepPlan(TOTAL_STEPS, steps_per_epoch=8)
    history = kp.fit(
        model,
        x,
        y,
        plan=plan,
        batch_size=32,
        seed=5,
        callbacks=callbacks,
        validation_data=(x[:64], y[:64]),
        verbose=0,
    )
    return model, history


def dump(path, model, history):
    arrays = {
        key: keras.ops.convert_to_numpy(v.value)
        for key, v in find_variables(model).variables.items()
    }
    arrays |= {f"history/{name}": np.array(values) for name, values in history.history.items()}
    np.savez(path, **{key.replace("/", "|"): value for key, value in arrays.items()})


def main(command, *folders):
    for folder in map(Path, folders):
        if command == "run":
            dump(folder / "whole.npz", *train(folder / "whole"))
            try:
                train(folder / "killed", KillAt(KILLED_AT))
            except Killed:
                continue
            raise AssertionError("the run was not killed")
        dump(folder / "resumed.npz", *train(folder / "killed"))


if __name__ == "__main__":
    main(*sys.argv[1:])
