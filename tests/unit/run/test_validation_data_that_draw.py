"""Validation on data that shuffle and draw at random: a run that goes on validates as if it had
never been stopped.
"""

import random

import keras
import numpy as np
import pytest

import keras_patterns as kp
from keras_patterns.testing import assert_same_state, run_state

pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


class Noisy(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = np.random.permutation(24)[:8]
        return X[rows] + np.float32(random.random()), Y[rows]


class Drawn:
    """An iterable, of a length that nobody knows."""

    def __iter__(self):
        for _ in range(3):
            rows = np.random.permutation(24)[:8]
            yield X[rows] + np.float32(random.random()), Y[rows]


def torch_loader(**arguments):
    torch = pytest.importorskip("torch")

    class Shaken(torch.utils.data.Dataset):
        def __init__(self):
            self.generator = torch.Generator()

        def __len__(self):
            return 24

        def __getitem__(self, place):
            shake = torch.rand(4) + torch.rand(4, generator=self.generator) + random.random()
            return torch.from_numpy(X[place]) + shake, Y[place]

    return torch.utils.data.DataLoader(Shaken(), batch_size=7, shuffle=True, **arguments)


def torch_stream(**arguments):
    torch = pytest.importorskip("torch")

    class Streamed(torch.utils.data.IterableDataset):
        def __iter__(self):
            for row, target in zip(X, Y, strict=True):
                yield row + torch.rand(4).numpy(), target

    return torch.utils.data.DataLoader(Streamed(), batch_size=8, **arguments)


DATA = {
    "a PyDataset": Noisy,
    "an iterable": Drawn,
    "a DataLoader": torch_loader,
    "a DataLoader with workers": lambda: torch_loader(num_workers=1, persistent_workers=True),
    "a DataLoader of a stream": torch_stream,
    "a DataLoader of a stream, with workers that persist": lambda: torch_stream(
        num_workers=1, persistent_workers=True
    ),
}


class Broken(RuntimeError):
    pass


class BreaksAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Broken

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def train(make_data, folder=None, break_at=0, seed=1):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile("adam", "mse", metrics=["mae"])
    callbacks = [BreaksAt(break_at), *([kp.Checkpoint(folder, every_steps=1)] if folder else [])]
    history = kp.fit(
        model,
        X,
        Y,
        batch_size=4,
        epochs=3,
        seed=0,
        verbose=0,
        validation_data=make_data(),
        validate_every_steps=4,
        callbacks=callbacks,
    )
    return run_state(model, history)


@pytest.mark.sampled(3, "every_step", "tensorflow")
@pytest.mark.parametrize("make_data", DATA.values(), ids=DATA)
def test_a_resume_validates_as_without_one(make_data, tmp_path):
    expected = train(make_data, tmp_path / "whole")
    with pytest.raises(Broken):
        train(make_data, tmp_path / "broken", break_at=11)
    assert_same_state(train(make_data, tmp_path / "broken", seed=3), expected)


@pytest.mark.sampled(3, "every_step", "tensorflow")
@pytest.mark.parametrize("make_data", DATA.values(), ids=DATA)
def test_each_validation_draws_anew(make_data):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = kp.fit(
        model, X, Y, batch_size=24, epochs=2, seed=0, verbose=0, validation_data=make_data()
    )
    first, second = history.history["val_loss"]
    assert first != second


@pytest.mark.sampled(3, "every_step", "tensorflow")
@pytest.mark.parametrize("make_data", DATA.values(), ids=DATA)
def test_a_selection_ranks_the_same_each_time(make_data, tmp_path):
    train(make_data, tmp_path)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    data = make_data()
    first, second = (kp.select_checkpoint(tmp_path, model, data, verbose=0).rows for _ in range(2))
    assert first == second
