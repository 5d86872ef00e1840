"""`kp.batches`: the batches that a run trains on, without training."""

import itertools

import keras
import numpy as np
import pytest

import keras_patterns as kp

pytestmark = pytest.mark.once

X = np.arange(40, dtype="float32").reshape(10, 4)
Y = np.arange(10, dtype="float32")


class Drawing:
    """Batches with numbers drawn at random; keeps those that it gave."""

    def __init__(self):
        self.given = []

    def __iter__(self):
        for number in range(7):
            batch = np.full((2, 4), number + np.random.rand(), "float32")
            self.given.append(batch)
            yield batch, np.ones((2, 1), "float32")


def trained(data, folder, **arguments):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    checkpoint = kp.Checkpoint(folder, every_steps=2, keep_last=30)
    kp.fit(model, data, verbose=0, callbacks=[checkpoint], **arguments)


def inputs(steps, count):
    return [batch[0].tolist() for _, batch in itertools.islice(steps, count)]


def test_the_steps_and_batches_of_arrays_are_those_of_the_seed():
    whole = list(itertools.islice(kp.batches(X, Y, batch_size=3, seed=3), 9))
    assert [step for step, _ in whole] == list(range(9))
    later = kp.batches(X, Y, batch_size=3, seed=3, start=5)
    assert inputs(later, 4) == [batch[0].tolist() for _, batch in whole[5:]]
    other = kp.batches(X, Y, batch_size=3, seed=4, start=5)
    assert inputs(other, 4) != [batch[0].tolist() for _, batch in whole[5:]]


def test_a_store_knows_the_seed_of_its_run(tmp_path):
    trained(X, tmp_path, y=Y, batch_size=3, epochs=2, seed=8)
    from_store = kp.batches(X, Y, store=tmp_path, batch_size=3, start=2)
    assert inputs(from_store, 5) == inputs(kp.batches(X, Y, batch_size=3, seed=8, start=2), 5)


def test_an_iterable_gives_what_it_gave_in_the_run(tmp_path):
    data = Drawing()
    trained(data, tmp_path, epochs=3)
    for start in (0, 5, 10):
        shown = inputs(kp.batches(Drawing(), store=tmp_path, start=start), 6)
        assert shown == [batch.tolist() for batch in data.given[start : start + 6]]


def test_global_random_states_are_left_alone():
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    inputs(kp.batches(Drawing(), seed=0, start=2), 6)
    assert np.random.get_state()[1].tolist() == before


def test_other_data_than_the_run_had_are_refused(tmp_path):
    trained(X, tmp_path, y=Y, batch_size=3, epochs=1, seed=8)
    with pytest.raises(kp.ResumeRefusedError, match="its batches would be others"):
        kp.batches(X + 1, Y, store=tmp_path, batch_size=3)


def test_without_a_seed_or_a_store_it_says_what_is_missing():
    with pytest.raises(ValueError, match=r"Say seed=.* or store="):
        kp.batches(X, Y)
    with pytest.raises(ValueError, match="`start` must be at least 0"):
        kp.batches(X, Y, seed=0, start=-1)


def test_an_empty_store_is_named(tmp_path):
    with pytest.raises(kp.StoreError):
        kp.batches(X, store=tmp_path)
