"""The host stays out of the way: a run that is over holds no memory."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers

import keras_patterns as kp

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")


class Data(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(8 * index, 8 * index + 8)
        return X[rows], X[rows, :1]


class Scaled(layers.Dense):
    """A layer of one's own, with a number that moves nothing."""

    factor = 2.0

    def call(self, inputs):
        return self.factor * super().call(inputs)


def callbacks(folder):
    return {
        "none": [],
        "saved": [kp.Checkpoint(folder, every_steps=2)],
        "guarded": [kp.NonFiniteGuard(), kp.Checkpoint(folder, every_steps=2)],
        "stopped early": [kp.EarlyStopping("loss", patience=9), kp.Checkpoint(folder)],
    }


def make_model():
    model = keras.Sequential([keras.Input((4,)), Scaled(4), layers.Dropout(0.1), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def run(folder, name, model):
    """Trains, goes on in a second call, and returns what must not outlive it."""
    things = []
    for epochs in (1, 2):
        data, chosen = Data(), callbacks(folder)[name]
        kp.fit(model, data, epochs=epochs, seed=0, verbose=0, callbacks=chosen)
        things += [data, *chosen]
    return [weakref.ref(thing) for thing in things]


def still_there(references):
    gc.collect()
    return [reference() for reference in references if reference() is not None]


@pytest.mark.parametrize("name", callbacks("run"))
def test_a_model_is_freed_with_its_last_reference(tmp_path, name):
    model = make_model()
    references = [weakref.ref(model)]
    run(tmp_path, name, model)
    del model
    assert not still_there(references)


@pytest.mark.parametrize("name", callbacks("run"))
def test_data_and_callbacks_are_freed_while_the_model_lives(tmp_path, name):
    model = make_model()
    references = run(tmp_path, name, model)
    # Keras's own History stays with the model, and no callback is it.
    assert not still_there(references)
    assert model.built
