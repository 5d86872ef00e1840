"""The keyed permutation: a bijection, well mixed, and the same on every release."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_patterns.data import BatchOrder, Permutation

pytestmark = pytest.mark.once

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 100, 1023, 1024, 1025, 4096, 4097, 65_536]


def whole(size, seed, stream=0):
    return Permutation(size, seed, stream)(np.arange(size))


@pytest.mark.parametrize("size", SIZES)
def test_bijection(size):
    for stream in range(3):
        assert np.array_equal(np.sort(whole(size, 5, stream)), np.arange(size))


@given(size=st.integers(1, 5000), seed=st.integers(0, 2**70), stream=st.integers(0, 2**40))
@settings(max_examples=50, deadline=None)
def test_bijection_for_any_size(size, seed, stream):
    assert np.array_equal(np.sort(whole(size, seed, stream)), np.arange(size))


@pytest.mark.parametrize("size", [2**31 - 1, 2**33, 2**33 + 1, 10**12 + 39, 2**60])
def test_large_sizes_have_no_collisions_and_cover_the_range(size):
    positions = np.arange(100_000) * (size // 100_000)
    elements = Permutation(size, seed=1)(positions)
    assert elements.dtype == np.int64
    assert len(np.unique(elements)) == len(positions)
    assert elements.min() >= 0
    assert elements.max() < size
    counts, _ = np.histogram(elements, bins=64, range=(0, size))
    assert_uniform(counts)
    # Neighbours in the order are not neighbours in the data.
    near = Permutation(size, seed=1)(np.arange(100_000))
    assert np.median(np.abs(np.diff(near))) > size / 8


def test_where_the_positions_are_asked_together_makes_no_difference():
    order = Permutation(10_007, seed=3)
    together = order(np.arange(10_007))
    alone = [order(np.array([position]))[0] for position in range(0, 10_007, 501)]
    assert alone == together[::501].tolist()


def assert_uniform(counts):
    """Check Pearson's statistic against five standard deviations of chi-square."""
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2).sum() / expected
    freedom = counts.size - 1
    assert abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5, statistic / freedom


@pytest.mark.parametrize("size", [2, 3, 5, 6, 7, 8, 12, 17, 50])
def test_every_element_comes_to_every_position_equally_often(size):
    seeds = 2000
    counts = np.zeros((size, size))
    for seed in range(seeds):
        counts[np.arange(size), whole(size, seed)] += 1
    # Rows and columns sum to `seeds`: (size - 1)**2 degrees of freedom.
    statistic = ((counts - seeds / size) ** 2).sum() / (seeds / size)
    freedom = (size - 1) ** 2
    assert abs(statistic - freedom * size / (size - 1)) < 5 * (2 * freedom) ** 0.5 + 1


@pytest.mark.parametrize("size", [3, 4, 5])
def test_all_permutations_are_equally_likely(size):
    everyone = list(itertools.permutations(range(size)))
    found = Counter(tuple(whole(size, 11, stream).tolist()) for stream in range(3000))
    assert set(found) == set(everyone)
    assert_uniform(np.array([found[one] for one in everyone]))


def test_pairs_of_neighbours_are_equally_likely():
    size, counts = 9, Counter()
    for seed in range(2000):
        counts.update(itertools.pairwise(whole(size, seed).tolist()))
    assert len(counts) == size * (size - 1)
    assert_uniform(np.array(list(counts.values())))


def test_seeds_and_passes_differ():
    orders = {
        whole(1000, seed, stream).tobytes() for seed in (0, 1, 2**32, 2**64) for stream in range(8)
    }
    assert len(orders) == 32
    assert abs(np.corrcoef(whole(10_000, 0, 0), whole(10_000, 0, 1))[0, 1]) < 0.05
    assert abs(np.corrcoef(whole(10_000, 0, 0), whole(10_000, 1, 0))[0, 1]) < 0.05


def test_golden_values():
    """A checkpoint of one release goes on in another: these values are part of its format."""
    assert whole(10, 0).tolist() == GOLDEN[0]
    assert whole(7, 123, 4).tolist() == GOLDEN[1]
    assert Permutation(1_000_003, 42, 9)(np.arange(6)).tolist() == GOLDEN[2]
    far = np.array([0, 1, 2**32, 2**33 - 1])
    assert Permutation(2**33, 2**65, 1)(far).tolist() == GOLDEN[3]


GOLDEN = [
    [3, 6, 8, 5, 4, 1, 7, 9, 2, 0],
    [1, 5, 6, 4, 3, 0, 2],
    [668917, 627998, 17825, 351080, 608316, 606672],
    [3588575168, 4379450989, 4447971999, 5905096999],
]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1), ValueError, "`size` must be at least 1. Received: 0"),
        ((2**60 + 1, 1), ValueError, r"at most 2\*\*60. Received: 1152921504606846977"),
        ((5, -1), ValueError, "`seed` must be at least 0. Received: -1"),
        ((5, None), TypeError, r"`seed` must be a whole number. Received: None \(NoneType\)"),
        ((5, 1, -1), ValueError, "`stream` must be at least 0"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        Permutation(*arguments)


@pytest.mark.parametrize("positions", [[5], [-1], [0, 7]])
def test_positions_outside(positions):
    with pytest.raises(IndexError, match=r"must be in range\(5\). Received"):
        Permutation(5, 0)(np.array(positions))


@pytest.mark.parametrize("shuffle", [True, False, "batch"])
@given(examples=st.integers(1, 12_000), steps=st.integers(1, 200), data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_pass_covers_each_example_once(shuffle, examples, steps, data):
    batch_size = -(-examples // steps)
    order = BatchOrder(examples, batch_size, shuffle, seed=4)
    number = data.draw(st.integers(0, 10**6))
    steps = range(number * order.steps_per_pass, (number + 1) * order.steps_per_pass)
    batches = [order.indices(step) for step in steps]
    seen = np.concatenate(batches)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches[-1]) == examples - (order.steps_per_pass - 1) * batch_size
    assert np.array_equal(np.sort(seen), np.arange(examples))


def test_shuffle_batch_moves_nothing_out_of_its_batch():
    order = BatchOrder(10, 4, "batch", seed=1)
    batches = [order.indices(step).tolist() for step in range(30)]
    assert [sorted(batch) for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] * 10
    assert len({tuple(batch) for batch in batches[::3]}) > 1


def test_a_batch_does_not_depend_on_what_was_asked_before():
    order = BatchOrder(50_000, 7, True, seed=2)
    steps = [0, 7142, 600, 7143, 3, 20_000, 0]
    jumping = [order.indices(step).tolist() for step in steps]
    assert jumping == [BatchOrder(50_000, 7, True, 2).indices(step).tolist() for step in steps]


def test_batch_order_errors():
    with pytest.raises(ValueError, match=r'`shuffle` must be True, False or "batch"\. Received: 1'):
        BatchOrder(5, 2, 1)
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1\. Received: 0"):
        BatchOrder(5, 0, True)
    with pytest.raises(ValueError, match="Received: step=-1"):
        BatchOrder(5, 2, True).indices(-1)
