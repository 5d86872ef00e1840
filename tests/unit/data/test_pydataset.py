"""PyDatasets: order, hooks once a pass, workers; all repeatable from any step."""

import multiprocessing
import random
import threading

import numpy as np
import pytest
from pydatasets import Noisy, Numbers

from keras_patterns.data import PyDatasetSource, make_source

pytestmark = pytest.mark.once


class Endless(Numbers):
    num_batches = None


class Reshuffled(Numbers):
    """Changes its order after each pass, and writes down what happens."""

    def __init__(self, *args, **workers):
        super().__init__(*args, **workers)
        self.order = np.arange(self.length)
        self.calls = []
        self.items = []

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")
        np.random.shuffle(self.order)

    def __getitem__(self, index):
        self.items.append(len(self.calls))
        return np.array([self.order[index]]), np.array([0])


def take(iterator, count):
    return [[part.tolist() for part in next(iterator)] for _ in range(count)]


def indices(iterator, count):
    return [batch[0][0] for batch in take(iterator, count)]


def test_each_pass_takes_each_index_once_in_another_order():
    source = PyDatasetSource(Numbers(20), seed=3)
    assert (source.steps_per_pass, source.random_access) == (20, True)
    found = indices(source.batches(0), 60)
    passes = [found[:20], found[20:40], found[40:]]
    assert [sorted(one) for one in passes] == [list(range(20))] * 3
    assert len({tuple(one) for one in passes}) == 3
    assert [source.batch(step)[0][0] for step in (41, 3)] == [found[41], found[3]]
    assert indices(PyDatasetSource(Numbers(20), seed=4).batches(0), 60) != found


@pytest.mark.parametrize("shuffle", [False, "batch"])
def test_without_shuffle(shuffle):
    source = PyDatasetSource(Numbers(3), shuffle=shuffle)
    assert indices(source.batches(2), 5) == [2, 0, 1, 2, 0]


def test_endless():
    source = PyDatasetSource(Endless())
    assert (source.steps_per_pass, source.random_access) == (None, True)
    assert indices(source.batches(5), 3) == [5, 6, 7]
    assert source.batch(10**6)[0].tolist() == [10**6]


def test_what_items_draw_depends_on_the_step_alone():
    random.seed(5)
    np.random.seed(5)
    before = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    uninterrupted = take(PyDatasetSource(Noisy(), seed=1).batches(0), 10)
    assert (random.random(), np.random.random()) == before
    source = PyDatasetSource(Noisy(), seed=1)
    assert take(source.batches(6), 4) == uninterrupted[6:]
    assert len({str(noise) for _, noise in uninterrupted}) == 10


@pytest.mark.parametrize("workers", [{}, {"workers": 2, "max_queue_size": 10}])
@pytest.mark.parametrize("start", [0, 1, 4, 5, 6, 14, 15])
def test_hooks_are_called_once_a_pass_and_again_after_a_seek(start, workers):
    uninterrupted = indices(PyDatasetSource(Reshuffled(), seed=6).batches(0), 20)
    assert len({tuple(uninterrupted[begin : begin + 5]) for begin in (0, 5, 10, 15)}) == 4
    np.random.random()
    dataset = Reshuffled(**workers)
    source = PyDatasetSource(dataset, seed=6)
    assert not source.random_access
    batches = source.batches(start)
    assert dataset.calls == []
    found = []
    for step in range(start, 20):
        found += indices(batches, 1)
        assert dataset.calls == ["begin", "end"] * (step // 5) + ["begin"]
    assert found == uninterrupted[start:]
    # No item was made on the wrong side of a hook.
    assert dataset.items == [2 * (step // 5) + 1 for step in range(start, 20)]


def test_a_dataset_that_changes_cannot_go_back():
    source = PyDatasetSource(Reshuffled())
    indices(source.batches(0), 7)
    assert len(indices(source.batches(5), 1)) == 1
    with pytest.raises(RuntimeError, match="Reshuffled is in pass 1 and cannot go back to pass 0"):
        next(source.batches(4))
    with pytest.raises(RuntimeError, match=r"Reshuffled has an `on_epoch_begin`.*`batches\(start"):
        source.batch(0)


def test_an_endless_dataset_has_one_pass():
    class EndlessReshuffled(Reshuffled):
        num_batches = None

        def __getitem__(self, index):
            return np.array([index]), np.array([0])

    dataset = EndlessReshuffled()
    assert indices(PyDatasetSource(dataset).batches(3), 9) == list(range(3, 12))
    assert dataset.calls == ["begin"]


def test_a_dataset_that_changes_its_length():
    class Growing(Numbers):
        def on_epoch_end(self):
            self.length += 1

    batches = PyDatasetSource(Growing(2)).batches(0)
    indices(batches, 2)
    with pytest.raises(RuntimeError, match="Growing had 2 batches and has 3 after `on_epoch_end`"):
        next(batches)


def test_threads_work_ahead_as_far_as_the_queue_goes():
    made, release, threads = [], threading.Event(), len(threading.enumerate())

    class Waiting(Numbers):
        def __getitem__(self, index):
            made.append(index)
            if index:
                assert release.wait(60)
            return super().__getitem__(index)

    batches = PyDatasetSource(Waiting(50, workers=4, max_queue_size=3), shuffle=False).batches(0)
    assert indices(batches, 1) == [0]
    release.set()
    assert indices(batches, 9) == list(range(1, 10))
    batches.close()
    assert len(threading.enumerate()) == threads
    assert max(made) <= 9 + 3
    assert sorted(made) == list(range(len(made)))


@pytest.fixture
def spawn():
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(method, force=True)


def test_processes(spawn):
    dataset = Noisy(3, workers=1, use_multiprocessing=True)
    here = take(PyDatasetSource(Noisy(3), seed=1).batches(1), 5)
    assert take(PyDatasetSource(dataset, seed=1).batches(1), 5) == here


@pytest.mark.parametrize("workers", [{}, {"workers": 2}])
def test_an_error_of_the_dataset_is_raised_at_its_step(workers):
    class Broken(Numbers):
        def __getitem__(self, index):
            if index == 2:
                raise OSError("no such image")
            return super().__getitem__(index)

    batches = PyDatasetSource(Broken(**workers), shuffle=False).batches(0)
    assert indices(batches, 2) == [0, 1]
    with pytest.raises(OSError, match="no such image"):
        next(batches)


@pytest.mark.parametrize(
    ("item", "count"),
    [
        (np.ones(3), 1),
        ({"a": np.ones(3)}, 1),
        ((np.ones(3),), 1),
        ([[np.ones(3)], np.ones(3)], 2),
        ((np.ones(3), np.ones(3), np.ones(3)), 3),
    ],
)
def test_items(item, count):
    class Items(Numbers):
        def __getitem__(self, index):
            return item

    batch = PyDatasetSource(Items()).batch(0)
    assert isinstance(batch, tuple)
    assert len(batch) == count
    assert not any(isinstance(part, list) for part in batch)


@pytest.mark.parametrize(
    ("item", "found"),
    [((1, 2, 3, 4), "a tuple of 4"), ((), "a tuple of 0"), ("x", r"'x' \(str\)"), (None, "None")],
)
def test_items_that_are_no_batch(item, found):
    class Items(Numbers):
        def __getitem__(self, index):
            return item

    with pytest.raises(ValueError, match=f"Items.__getitem__ must give .*Received: .*{found}"):
        PyDatasetSource(Items()).batch(0)


def test_class_weight():
    class Items(Numbers):
        def __getitem__(self, index):
            return (np.ones(2), np.array([0, 1])) + ((np.ones(2),) if index else ())

    source = PyDatasetSource(Items(), class_weight={1: 4}, shuffle=False)
    assert source.batch(0)[2].tolist() == [1, 4]
    with pytest.raises(ValueError, match=r"a tuple of 3, and `class_weight` needs `\(x, y\)`"):
        source.batch(1)


def test_fingerprint():
    assert PyDatasetSource(Numbers(), class_weight={3: 1}).fingerprint() == {
        "kind": "PyDataset",
        "steps_per_pass": 5,
        "shuffle": True,
        "class_weight": {"3": 1.0},
    }
    assert PyDatasetSource(Endless()).fingerprint()["shuffle"] is False


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PyDatasetSource(Numbers(0)), ValueError, "`num_batches` must be at least 1"),
        (lambda: PyDatasetSource(Numbers(), shuffle=2), ValueError, "`shuffle` must be .* 2"),
        (lambda: PyDatasetSource(Endless(), seed=-1), ValueError, "`seed` must be at least 0"),
        (
            lambda: PyDatasetSource(Numbers()).batches(-1),
            ValueError,
            "`start` must be at least 0. Received: -1",
        ),
        (
            lambda: make_source(Numbers(), np.ones(5)),
            ValueError,
            "`y` goes with arrays only: a PyDataset gives whole batches",
        ),
        (
            lambda: make_source(Numbers(), batch_size=4),
            ValueError,
            "`batch_size` goes with arrays only",
        ),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
