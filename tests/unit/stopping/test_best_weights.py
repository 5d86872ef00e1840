"""Best weights that a checkpoint holds: it stays as long as it is needed, and nothing is held
twice.
"""

import warnings

import keras
import numpy as np

import keras_patterns as kp
from keras_patterns.stopping.best_weights import InCheckpoint, InMemory

_rng = np.random.default_rng(1)
X = _rng.normal(size=(40, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


class Dictates(keras.callbacks.Callback):
    """Puts a value into the logs of each epoch."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.values[epoch]

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def train(values, *more, seed=1, **arguments):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    stopping = kp.EarlyStopping(
        "score", mode="min", patience=99, restore_best_weights=True, verbose=0, **arguments
    )
    kp.fit(
        model,
        X,
        Y,
        batch_size=8,
        epochs=len(values),
        seed=0,
        verbose=0,
        callbacks=[Dictates(values), stopping, *more],
    )
    return model, stopping


def test_the_checkpoint_of_the_best_stays_and_goes_when_there_is_a_better_one():
    checkpoint = kp.Checkpoint("run", every_steps=1000, keep_last=1)
    model, stopping = train([5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 8.0], checkpoint)
    assert isinstance(stopping.best_weights, InCheckpoint)
    assert stopping.best_step == 20
    # The best, the end, and a second copy that shares no file with it.
    assert {20, 35} <= set(kp.CheckpointStore("run").steps())
    assert 5 not in kp.CheckpointStore("run").steps()
    other, held = train([5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 8.0])
    assert isinstance(held.best_weights, InMemory)
    for found, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_no_checkpoint_carries_a_second_model():
    train([3.0, 2.0, 4.0], kp.Checkpoint("run"))
    store = kp.CheckpointStore("run")
    _, record = store.read_record()
    assert record.callbacks["EarlyStopping"]["checkpoint"] == [1, 10, 1]
    assert not [
        key
        for key in store.read(store.latest()).tensors
        if key.startswith("callbacks/EarlyStopping")
    ]


def test_a_finished_run_gives_them_again():
    first, _ = train([3.0, 2.0, 4.0], kp.Checkpoint("run"))
    again, _ = train([3.0, 2.0, 4.0], kp.Checkpoint("run"), seed=7)
    for found, expected in zip(again.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_damaged_one_is_warned_of_and_the_run_ends_with_the_last():
    train([3.0, 2.0, 4.0], kp.Checkpoint("run"))
    store = kp.CheckpointStore("run")
    (file, *_) = sorted((store.directory / store.at(10).folder.name).glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    # Not by pytest.warns, which raises whatever else a framework warns of and the settings ignore.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, _ = train([3.0, 2.0, 4.0], kp.Checkpoint("run"))
    (said,) = [str(warning.message) for warning in caught if "best weights" in str(warning.message)]
    assert said.startswith(
        "The best weights cannot be read, and the model keeps those that it has: "
    )
    assert "step-000000010" in said
    last = store.read(store.at(15)).tensors["variables/layers/1/kernel"]
    np.testing.assert_array_equal(model.layers[1].get_weights()[0], last)


def test_nothing_is_saved_more_often_where_they_are_not_to_be_put_back():
    stopping = kp.EarlyStopping("loss", patience=99)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    checkpoint = kp.Checkpoint("run", every_steps=1000)
    kp.fit(model, X, Y, batch_size=8, epochs=4, seed=0, verbose=0, callbacks=[stopping, checkpoint])
    assert kp.CheckpointStore("run").steps() == [20]
