"""What `model.fit` is fed with: exactly the batches of the source, in order, and no more of them
than it may read.
"""

import threading

import keras
import numpy as np
import pytest

from keras_patterns.backends import current
from keras_patterns.backends._read_ahead import ReadAhead
from keras_patterns.data import ArraySource

SHAPES = [4, 4, 4, 1, 4, 4, 1, 4] * 5


def batch(index):
    size = SHAPES[index]
    return {"a": np.full((size, 3), index, "float32")}, np.full((size,), index, "int32")


def feed(batches, ahead=True):
    """What the trainer of the backend iterates over."""
    data = current().feed(batches, [batch(0), batch(1)], ahead, keras.Model())
    kind = "tf_dataset" if keras.backend.backend() == "tensorflow" else "jax_iterator"
    yield from getattr(data, f"get_{kind}")()


def numbers(data):
    found = []
    for x, y in data:
        rows, y = map(keras.ops.convert_to_numpy, (x["a"], y))
        assert rows.shape == (len(y), 3)
        assert set(rows.flat) == set(y.flat)
        found.append((int(y[0]), len(y)))
    return found


@pytest.mark.parametrize("ahead", [True, False])
def test_every_batch_arrives_once_in_order_with_its_own_size(ahead):
    batches = map(batch, range(len(SHAPES)))
    assert numbers(feed(batches, ahead)) == list(enumerate(SHAPES))


def test_a_source_that_must_not_be_read_ahead_is_not():
    read = []

    def batches():
        for index in range(8):
            read.append(index)
            yield batch(index)

    data = iter(feed(batches(), ahead=False))
    next(data)
    next(data)
    assert read == [0, 1]


def test_what_comes_before_an_error_arrives():
    def batches():
        yield from map(batch, range(3))
        raise OSError("the disk is gone")

    data = iter(feed(batches()))
    assert [int(next(data)[1][0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Exception, match="the disk is gone"):
        next(data)


# Keras's own conversion, of torch tensors and of variables on TensorFlow.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
def test_tensors_of_the_backend():
    x, y = keras.ops.arange(6), keras.ops.ones((6, 2))
    source = ArraySource(x, y, batch_size=4, shuffle=False)
    assert [leaf.tolist() for leaf in source.batch(1)[:2]] == [[4, 5], [[1, 1], [1, 1]]]
    assert all(type(leaf) is np.ndarray for leaf in source.batch(0))
    variable = keras.Variable(np.arange(3.0))
    assert ArraySource(variable, shuffle=False).batch(0)[0].tolist() == [0, 1, 2]


def slow(count=40, fail_at=None):
    """Items that take long enough to be read ahead; `made` counts them."""
    for index in range(count):
        made.append(index)
        if index == fail_at:
            raise OSError("the disk is gone")
        yield index


made: list[int] = []


@pytest.fixture
def reader():
    made.clear()
    readers = []

    def read(**how):
        readers.append(ReadAhead(slow(**how), worth_it=0))
        return readers[-1]

    yield read
    for one in readers:
        one.close()


def threads():
    return [one.name for one in threading.enumerate() if one.name == "keras-patterns-batches"]


def test_read_ahead_gives_all_items_in_order(reader):
    assert list(reader()) == list(range(40))


def test_read_ahead_makes_two_items_more_than_are_taken(reader):
    items = reader()
    taken = [next(items) for _ in range(20)]
    items.close()
    assert taken == list(range(20))
    assert len(made) <= 22
    assert threads() == []


def test_read_ahead_raises_an_error_in_its_place(reader):
    items = reader(fail_at=15)
    assert [next(items) for _ in range(15)] == list(range(15))
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            next(items)


def test_items_that_are_made_fast_need_no_thread():
    items = ReadAhead(iter(range(40)), worth_it=3600)
    assert list(items) == list(range(40))
    assert threads() == []
