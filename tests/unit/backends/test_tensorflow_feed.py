"""Batches that a compiled step on TensorFlow pulls from Python by itself."""

import gc

import keras
import numpy as np
import pytest

from keras_patterns.backends import current

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow fetches inside the step"
)


class Traced(keras.layers.Layer):
    """Counts how often the step is traced, and keeps which inputs there were."""

    traces = 0

    def call(self, inputs):
        type(self).traces += 1
        return inputs


def compiled(**arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), Traced(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", **arguments)
    Traced.traces = 0
    return model


def batch(size, value=1.0):
    return np.full((size, 3), value, "float32"), np.ones((size, 1), "float32")


def train(model, batches, steps, **arguments):
    data = current().feed(iter(batches), batches[:2], False, model)
    logs = model.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False, **arguments)
    data.close()
    return logs.history["loss"]


@pytest.mark.parametrize("arguments", [{}, {"steps_per_execution": 3}, {"jit_compile": True}])
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_it_trains_as_keras_does(arguments):
    batches = [batch(4, value) for value in (1.0, -2.0, 3.0, 0.5, 2.0, 4.0)]
    x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
    ours, theirs = compiled(**arguments), compiled(**arguments)
    assert (
        train(ours, batches, 6)
        == theirs.fit(x, y, batch_size=4, shuffle=False, verbose=0).history["loss"]
    )
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_step_is_traced_once_for_all_feeds_of_a_form():
    model = compiled()
    for _ in range(3):
        train(model, [batch(4), batch(4), batch(2)], 3)
    # One trace may be made to learn the shapes.
    first, Traced.traces = Traced.traces, 0
    train(model, [batch(4), batch(2)], 2)
    assert first in (1, 2)
    assert Traced.traces == 0


def test_a_feed_beside_another_one_of_the_same_model_reads_its_own():
    model = compiled()
    outer = current().feed(iter([batch(2, 1.0), batch(2, 5.0)]), [batch(2)], False, model)
    iterator = iter(outer.get_tf_dataset())
    assert np.asarray(next(iterator)[0])[0, 0] == 1.0
    train(model, [batch(2, 7.0)], 1)
    assert np.asarray(next(iterator)[0])[0, 0] == 5.0


def test_what_nobody_uses_any_more_holds_no_data():
    model, data = compiled(), [batch(2)]
    feed = current().feed(iter(data), data, False, model)
    pulled = feed.get_tf_dataset()
    del feed
    gc.collect()
    assert list(pulled.batches) == []


def test_an_empty_place_stays_empty():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            first, second = inputs
            assert second is None
            return self.dense(first)

    for steps in (1, 2):
        model = Two()
        model.compile("sgd", "mse", steps_per_execution=steps)
        x, y = batch(4)
        train(model, [((x, None), y)] * 4, 4)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (((np.ones((4, 3)), None), np.ones((4, 1))), "structure"),
        ((np.ones((4, 5)), np.ones((4, 1))), r"shape \(4, 5\); expected \(None, 3\)"),
        ((None, np.ones((4, 1))), "None in the place of"),
    ],
)
def test_a_batch_of_another_form_is_refused(second, message):
    model = compiled()
    data = current().feed(iter([batch(4), second]), [batch(4)] * 2, False, model)
    with pytest.raises(Exception, match=message):
        model.fit(data, steps_per_epoch=2, verbose=0)
