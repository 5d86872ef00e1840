"""One life of the run of test_storm.py: `python run_storm.py TOTAL_STEPS [STATE]`, in the folder of
the run.
"""

import sys

import keras
import numpy as np
from keras import layers
from models import compiled, digit_net
from run_case import dumped

import keras_patterns as kp
from keras_patterns import testing


class Tells(keras.callbacks.Callback):
    """Prints each step as it begins; its checkpoint is being written then."""

    def on_train_batch_begin(self, batch, logs=None):
        print("step", flush=True)


def main(total_steps, state=None):
    keras.utils.set_random_seed(0)
    model = compiled(digit_net(layers.Dense(300, "relu"), layers.Dropout(0.5, seed=1)))
    data = np.random.default_rng(0)
    x, y = data.random((64, 8, 8, 1), "float32"), data.integers(0, 10, 64)
    callbacks = [keras.callbacks.ReduceLROnPlateau("loss", patience=2)]
    extra = (
        [] if state == "reference.json" else [kp.Checkpoint("checkpoints", every_steps=1), Tells()]
    )
    plan = kp.StepPlan(int(total_steps), steps_per_epoch=7)
    history = kp.fit(
        model, x, y, plan=plan, batch_size=8, seed=0, verbose=0, callbacks=[*callbacks, *extra]
    )
    if state:
        with open(state, "w", encoding="utf-8") as file:
            file.write(dumped(testing.run_state(model, history, callbacks)))


if __name__ == "__main__":
    main(*sys.argv[1:])
