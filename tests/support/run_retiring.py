"""A run that saves and retires at every step, until it is killed; run by the test of readers.

python run_retiring.py DIRECTORY    # the store alone
python run_retiring.py DIRECTORY fit
"""

import os
import sys
from itertools import count

import numpy as np
from store_support import at, tensors

from keras_patterns.storage import CheckpointFolder, Retention


def write_for_ever(directory):
    # As fast as can be: a reader sees names, not the disk.
    os.fsync = lambda descriptor: None
    store = CheckpointFolder(directory)
    frozen = {f"frozen/{number}": np.full(50, float(number)) for number in range(5)}
    with store.lock():
        for step in count(1):
            arrays = frozen | {"moving": np.full(500, float(step))}
            score = {"monitor": "loss", "mode": "min", "value": 1.0 / step}
            store.write(at(step), {"step": step}, tensors(arrays), score=score)
            store.prune(Retention(1))
            if step == 1:
                print("started", flush=True)


def fit_for_ever(directory):
    import keras

    import keras_patterns as kp

    class Tells(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 3:
                print("started", flush=True)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.ones((64, 4), "float32")
    checkpoint = kp.Checkpoint(directory, every_steps=1, keep_last=1)
    plan = kp.StepPlan(1_000_000, steps_per_epoch=1_000_000)
    kp.fit(
        model,
        x,
        x[:, :1],
        plan=plan,
        batch_size=8,
        seed=0,
        verbose=0,
        callbacks=[checkpoint, Tells()],
    )


if __name__ == "__main__":
    (fit_for_ever if sys.argv[2:] else write_for_ever)(sys.argv[1])
