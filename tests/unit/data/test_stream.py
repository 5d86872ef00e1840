"""The stream of a run's batches: looked into, lent, taken back, and how it ends."""

import pytest

from keras_patterns.data.stream import BatchStream

pytestmark = pytest.mark.once


def stream(count, **arguments):
    return BatchStream(iter(range(count)), lambda batch: batch, **arguments)


def broken(count):
    yield from range(count)
    raise LookupError("row 3")


def test_a_look_takes_nothing():
    batches = stream(5)
    assert batches.peek(2) == [0, 1]
    assert batches.is_untouched
    assert batches.peek(3) == [0, 1, 2]
    assert batches.peek(1) == [0]
    assert list(batches) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("may_end", [False, True])
def test_what_was_read_and_not_trained_on_comes_again(may_end):
    batches = stream(9, may_end=may_end)
    loan = batches.lend(6)
    assert [next(loan) for _ in range(5)] == [0, 1, 2, 3, 4]
    batches.note_trained(2)
    assert batches.lent == 5
    batches.take_back()
    assert next(loan, None) is None
    assert list(batches.lend(20)) == [2, 3, 4, 5, 6, 7, 8]


def test_the_end_is_known_with_the_last_batch():
    batches = stream(3, may_end=True)
    loan = batches.lend(10)
    assert [(next(loan), batches.has_ended) for _ in range(3)] == [
        (0, False),
        (1, False),
        (2, True),
    ]


def test_nothing_is_read_beyond_a_loan():
    source = iter(range(9))
    batches = BatchStream(source, lambda batch: batch, may_end=True)
    assert list(batches.lend(4)) == [0, 1, 2, 3]
    assert next(source) == 4


def test_an_error_of_a_batch_comes_in_its_turn_and_stays():
    batches = BatchStream(broken(3), lambda batch: batch, may_end=True)
    loan = batches.lend(10)
    assert [next(loan) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError, match="row 3"):
        next(loan)
    batches.note_trained(3)
    batches.take_back()
    with pytest.raises(LookupError, match="row 3"):
        next(batches.lend(10))
    assert isinstance(batches.error, LookupError)


def test_a_batch_costs_the_same_however_many_came_before_it():
    """Each look at the next batch must leave nothing behind: one that did took hours of a long run,
    and then the stack of the process.
    """
    batches = stream(500_000, may_end=True)
    loan = batches.lend(500_000)
    for done, _ in enumerate(loan):
        batches.note_trained(done)
    assert batches.has_ended is False
    assert batches.lent == 500_000
