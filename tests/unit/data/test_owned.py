"""Data that fill the same arrays again for each batch: batches are read ahead of their steps."""

import itertools

import keras
import numpy as np
import pytest

import keras_patterns as kp
from keras_patterns.data.owned import Owned

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = X.sum(1, keepdims=True)
BATCHES = [(X[start : start + 8], Y[start : start + 8]) for start in (0, 8, 16)]


def as_it_is(array):
    return array


def as_tensor(array):
    """It has the memory of the array on PyTorch."""
    return keras.ops.convert_to_tensor(array)


def filled(count=1, form=as_it_is):
    """The batches again and again, in arrays that are filled in turn."""
    room = [(np.empty((8, 4), "float32"), np.empty((8, 1), "float32")) for _ in range(count)]
    for (x, y), (own_x, own_y) in zip(itertools.cycle(BATCHES), itertools.cycle(room)):
        own_x[:], own_y[:] = x, y
        yield form(own_x), form(own_y)


class Filled(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.room = np.empty((8, 4), "float32"), np.empty((8, 1), "float32")

    def __len__(self):
        return len(BATCHES)

    def __getitem__(self, index):
        for own, given in zip(self.room, BATCHES[index], strict=True):
            own[:] = given
        return self.room


class Passes:
    def __iter__(self):
        return itertools.islice(filled(), len(BATCHES))


def weights_after(data, **how):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    kp.fit(model, data, **{"total_steps": 40, "epochs": 2, "seed": 0, "verbose": 0, **how})
    return model.get_weights()


DATA = {
    "generator": filled,
    "two arrays in turn": lambda: filled(2),
    "tensors": lambda: filled(1, as_tensor),
    "PyDataset": Filled,
    "iterable": Passes,
}


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("name", DATA)
def test_each_step_has_its_own_batch(name, fuse):
    how = {"shuffle": False} if name == "PyDataset" else {}
    expected = weights_after(itertools.cycle(BATCHES))
    for one, other in zip(expected, weights_after(DATA[name](), fuse=fuse, **how), strict=True):
        np.testing.assert_array_equal(one, other)


def test_validation_data_that_fill_the_same_arrays_again():
    def scores(data):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        how = {"validation_data": data, "validation_steps": 3, "seed": 0, "verbose": 0}
        return kp.fit(model, X, Y, epochs=2, **how).history["val_loss"]

    assert scores(filled()) == scores(one for one in itertools.cycle(BATCHES))


@pytest.mark.once
def test_what_is_new_each_time_is_copied_twice_alone():
    owned = Owned()
    items = [(np.full(3, number), None) for number in range(5)]
    copies = [owned(item)[0] is not item[0] for item in items]
    assert copies == [True, True, False, False, False]


@pytest.mark.once
def test_the_memory_of_an_array_that_is_gone_is_no_reason_to_copy():
    owned = Owned()
    for number in range(3):
        owned(np.full(1000, number))
    last = np.zeros(1000)
    assert owned(last) is last


def test_tensors_that_numpy_cannot_read_are_copied_as_well():
    torch = pytest.importorskip("torch")
    for tensor in (torch.zeros(4, dtype=torch.bfloat16), torch.zeros(4, requires_grad=True)):
        owned = Owned()
        assert all(owned(tensor) is not tensor for _ in range(4))


def test_parts_of_one_tensor_that_do_not_overlap_are_taken_as_they_are():
    torch = pytest.importorskip("torch")
    rows, owned = torch.zeros(12, 4), Owned()
    parts = [rows[start : start + 2] for start in range(0, 12, 2)]
    found = list(map(owned, parts))
    assert all(map(torch.equal, found, parts))
    assert found[-1] is parts[-1]
    sparse = torch.eye(3).to_sparse()
    assert torch.equal(Owned()(sparse).to_dense(), torch.eye(3))
