"""Batches that are left out: those after them move up, wherever one begins."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydatasets import Numbers

from keras_patterns.data import ArraySource, PyDatasetSource, Skipped

pytestmark = pytest.mark.once

SKIPPED = st.sets(st.integers(0, 30), max_size=12)
SOURCE = ArraySource(np.arange(7), batch_size=2, seed=1)


def skipped_of(numbers, examples=(), source=SOURCE):
    skipped = Skipped(source)
    for number in numbers:
        skipped.leave_out(number)
    if examples:
        # Found in a batch that holds them, as they are.
        first = next(
            number
            for number in itertools.count()
            if set(examples) & set(source.indices(number).tolist())
        )
        skipped.leave_out(first, examples)
    return skipped


def taken(skipped, start, stop):
    return [batch[0].tolist() for batch in itertools.islice(skipped.batches(start), stop - start)]


@given(SKIPPED)
def test_steps_get_the_other_batches_in_order(numbers):
    skipped = skipped_of(numbers)
    others = (number for number in itertools.count() if number not in numbers)
    assert [skipped.number_of(step) for step in range(40)] == list(itertools.islice(others, 40))


@given(SKIPPED, st.sets(st.integers(0, 6), max_size=2), st.integers(0, 20))
def test_the_same_batches_wherever_it_begins(numbers, examples, start):
    whole = taken(skipped_of(numbers, examples), 0, 25)
    assert taken(skipped_of(numbers, examples), start, 25) == whole[start:]
    # What was looked up on the way makes no difference, nor does what a checkpoint keeps of it.
    used = skipped_of(numbers, examples)
    assert [SOURCE.batch(used.number_of(step))[0].tolist() for step in range(25)] == whole
    assert taken(Skipped(SOURCE, json.loads(json.dumps(used.state))), start, 25) == whole[start:]


@given(st.sets(st.integers(0, 6), min_size=1, max_size=2))
def test_no_batch_holds_a_broken_example(examples):
    batches = taken(skipped_of((), examples), 0, 12)
    assert not examples & {example for batch in batches for example in batch}


def test_the_workers_of_a_dataset_end_with_it():
    source = PyDatasetSource(Numbers(5), shuffle=False)
    batches = skipped_of({1}, source=source).batches(0)
    assert [next(batches)[0].tolist() for _ in range(4)] == [[0], [2], [3], [4]]
    batches.close()
    assert next(batches, None) is None
    skipped_of({1}).batches(0).close()
