"""The contract of sources of batches, kept by every kind of data."""

import itertools
import json
import random

import numpy as np
import pytest
from pydatasets import Noisy, Numbers

from keras_patterns.data import BatchSource, RandomStream, make_source

pytestmark = pytest.mark.once

X, Y = np.arange(17), np.arange(17) % 3
WEIGHTED = {"class_weight": {0: 2.0, 1: 1.0, 2: 0.5}}
SPREAD = {"workers": 3, "max_queue_size": 2}


class Reshuffled(Numbers):
    """Changes its order after each pass."""

    def __init__(self, *length, **workers):
        super().__init__(*length, **workers)
        self.order = np.arange(self.length)

    def on_epoch_end(self):
        np.random.shuffle(self.order)

    def __getitem__(self, index):
        return np.array([self.order[index]]), np.array([0])


def drawn():
    while True:
        yield np.array([random.random(), np.random.random()]), np.array([0, 1])


class Iterable:
    def __iter__(self):
        return ((np.array([number]), np.array([0])) for number in range(6))


def drawing_source():
    random.seed(3)
    np.random.seed(3)
    return make_source(drawn(), stream=RandomStream(), verbose=False)


# Each with the steps of a pass, and whether any batch can be had at any time.
SOURCES = {
    "arrays": (lambda: make_source(X, Y, batch_size=5), 4, True),
    "arrays in order": (lambda: make_source(X, Y, batch_size=5, shuffle=False), 4, True),
    "arrays by batch": (lambda: make_source(X, Y, batch_size=5, shuffle="batch"), 4, True),
    "arrays with weights": (lambda: make_source(X, Y, batch_size=4, **WEIGHTED), 5, True),
    "dataset": (lambda: make_source(Numbers(7)), 7, True),
    "dataset with threads": (lambda: make_source(Numbers(7, **SPREAD)), 7, True),
    "dataset that draws": (lambda: make_source(Noisy(7)), 7, True),
    "dataset that changes": (lambda: make_source(Reshuffled(7)), 7, False),
    "dataset that changes, with threads": (lambda: make_source(Reshuffled(7, **SPREAD)), 7, False),
    "generator": (drawing_source, None, False),
    "iterable": (lambda: make_source(Iterable(), verbose=False), None, False),
}


def taken(batches, count):
    return [[part.tolist() for part in batch] for batch in itertools.islice(batches, count)]


@pytest.mark.parametrize(("make", "steps", "anywhere"), SOURCES.values(), ids=SOURCES)
def test_batches_are_a_function_of_the_step(make, steps, anywhere):
    source = make()
    assert isinstance(source, BatchSource)
    assert (source.steps_per_pass, source.random_access) == (steps, anywhere)
    whole = taken(source.batches(0), 25)
    assert len(whole) == 25
    for start in (24, 0, 7, 13):
        assert taken(make().batches(start), 25 - start) == whole[start:]
    if anywhere:
        # The same source, in any order.
        for start in (19, 3, 7):
            assert [part.tolist() for part in source.batch(start)] == whole[start]
            assert taken(source.batches(start), 25 - start) == whole[start:]


@pytest.mark.parametrize(("make", "steps", "anywhere"), SOURCES.values(), ids=SOURCES)
def test_the_fingerprint_is_json_and_the_same_each_time(make, steps, anywhere):
    found = make().fingerprint()
    assert found
    assert json.loads(json.dumps(found)) == make().fingerprint()
