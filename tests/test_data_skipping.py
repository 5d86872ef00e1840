"""Batches that are left out: those after them move up, wherever one begins."""

import itertools

import numpy as np
from datasets import Numbers
from hypothesis import given
from hypothesis import strategies as st

from keras_patterns.data import ArraySource, PyDatasetSource, batches_without, number_of_batch

SKIPPED = st.sets(st.integers(0, 30), max_size=12)


@given(SKIPPED)
def test_steps_get_the_other_batches_in_order(skipped):
    numbers = [number_of_batch(step, skipped) for step in range(40)]
    assert numbers == list(itertools.islice((number for number in itertools.count() if number not in skipped), 40))


@given(SKIPPED, st.integers(0, 20))
def test_the_same_batches_wherever_it_begins(skipped, start):
    source = ArraySource(np.arange(7), batch_size=2, seed=1)

    def taken(step):
        return [batch[0].tolist() for batch in itertools.islice(batches_without(source, skipped, step), 25 - step)]

    assert taken(start) == taken(0)[start:]
    assert taken(0) == [source.batch(number_of_batch(step, skipped))[0].tolist() for step in range(25)]


def test_the_workers_of_a_dataset_end_with_it():
    source = PyDatasetSource(Numbers(5), shuffle=False)
    batches = batches_without(source, {1}, 0)
    assert [next(batches)[0].tolist() for _ in range(4)] == [[0], [2], [3], [4]]
    batches.close()
    assert next(batches._batches, None) is None
    batches_without(ArraySource(np.arange(4)), {1}, 0).close()
