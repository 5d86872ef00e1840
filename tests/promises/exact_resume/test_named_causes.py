"""Exact resume: where it is not, `assert_resumes_exactly` says which object ended otherwise."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers
from models import FEATURES, LABELS, TRAIN, compiled, small

from keras_patterns.backends import current
from keras_patterns.testing import assert_resumes_exactly

SHORT = {**TRAIN, "total_steps": 6, "epochs": 3}


def batch(index, factor):
    return FEATURES[8 * index : 8 * index + 8] * np.float32(factor), LABELS[8 * index :][:8]


class Iterating(keras.utils.PyDataset):
    """Takes the next of some numbers for each item."""

    num_batches = 5

    def __init__(self):
        super().__init__()
        self.factors = iter([1.0 + number for number in range(40)])

    def __getitem__(self, index):
        return batch(index, next(self.factors))


class Remembering(keras.utils.PyDataset):
    """Depends on what was asked for before."""

    num_batches = 5

    def __init__(self):
        super().__init__()
        self.seen = []

    def __getitem__(self, index):
        self.seen.append(index)
        return batch(index, len(self.seen))


def count_from(start):
    for number in itertools.count(start):
        yield batch(number % 5, number)


STARTS = itertools.count()


class Tuning(keras.callbacks.Callback):
    """Tells nobody how far it has come."""

    def __init__(self):
        super().__init__()
        self.far = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.far += 1
        self.model.optimizer.learning_rate = 0.01 * self.far


PLANTED = {
    "iterator": ({"x": Iterating, "total_steps": 6, "epochs": 3}, "x/factors"),
    "list": ({"x": Remembering, "total_steps": 6, "epochs": 3}, "x/seen"),
    "generator": (
        {"x": lambda: count_from(next(STARTS)), "total_steps": 6, "epochs": 3},
        "x/number",
    ),
    "callback": ({**SHORT, "callbacks": lambda: [Tuning()]}, "callbacks/Tuning/far"),
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.filterwarnings("ignore:The state of Tuning is not in the checkpoint")
def test_an_object_that_is_not_carried_is_named(kind):
    arguments, place = PLANTED[kind]
    with pytest.raises(AssertionError, match="killed at step 3 and resumed ends in") as caught:
        assert_resumes_exactly(lambda: compiled(small()), **arguments, kill_at=3)
    said = "\n".join([str(caught.value), *caught.value.__notes__])
    assert f"  {place}: expected" in said


@pytest.mark.skipif(current().runs_python, reason="the code of a step runs in each")
@pytest.mark.filterwarnings("ignore:kp.fit. a resumed run will differ")
def test_a_generator_of_a_traced_layer_is_named():
    class Noise(layers.Layer):
        def __init__(self):
            super().__init__()
            self.rng = np.random.default_rng(1)

        def call(self, inputs):
            return inputs + float(self.rng.normal())

    def make_model():
        body = [keras.Input((6,)), Noise(), layers.Dense(3, activation="softmax")]
        return compiled(keras.Sequential(body))

    with pytest.raises(AssertionError) as caught:
        assert_resumes_exactly(make_model, **SHORT, kill_at=3)
    assert "held/model/layers/0/rng/state/state" in str(caught.value)
