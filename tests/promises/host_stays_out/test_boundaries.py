"""The host stays out of the way: between two boundaries it reads nothing from the device."""

import keras
import numpy as np
import pytest
from models import regressor

import keras_patterns as kp


def train(callbacks, verbose):
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    data = {"batch_size": 8, "epochs": 2, "seed": 0, "verbose": verbose}
    kp.fit(regressor(), x, x[:, 0], **data, callbacks=callbacks)


@pytest.mark.parametrize("verbose", [0, 2])
def test_between_boundaries_nothing_is_read(monkeypatch, verbose):
    """Keras's own list hands the logs of each step to its callbacks, for which someone waits for
    the device.
    """
    handed = []
    monkeypatch.setattr(
        keras.callbacks.CallbackList,
        "on_train_batch_end",
        lambda *arguments: handed.append(arguments),
    )
    quiet = [
        keras.callbacks.EarlyStopping("loss"),
        keras.callbacks.ReduceLROnPlateau("loss"),
        kp.Checkpoint("runs"),
    ]
    train(quiet, verbose)
    assert handed == []

    class Asks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    train([Asks()], verbose)
    assert len(handed) == 10
