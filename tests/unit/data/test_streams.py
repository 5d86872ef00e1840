"""Random states that are seeded for a while."""

import random

import numpy as np
import pytest

from keras_patterns.data.streams import (
    _layout_is_known,
    global_state,
    seeded,
    set_global_state,
    stream_words,
)

pytestmark = pytest.mark.once

WORDS = stream_words(3, 1, 4)


def numpy_state():
    state = np.random.get_state(legacy=False)
    return {**state, "state": {"key": state["state"]["key"].tolist(), "pos": state["state"]["pos"]}}


def test_the_layout_of_numpys_generator_is_known():
    assert _layout_is_known()


@pytest.mark.parametrize("draws", range(4))
@pytest.mark.parametrize("later", range(4))
def test_numpys_state_is_what_numpy_says_and_is_put_back(draws, later):
    np.random.seed(7)
    np.random.normal(size=draws)  # of an odd number NumPy keeps one more
    before = numpy_state()
    state = global_state()
    assert numpy_state() == before
    kind, key, *others = state["numpy"]
    assert (kind, key.tolist(), *others) == tuple(
        one.tolist() if isinstance(one, np.ndarray) else one for one in np.random.get_state()
    )
    expected = np.random.normal(size=700).tolist()
    np.random.normal(size=later)
    set_global_state(state)
    assert numpy_state() == before
    assert np.random.normal(size=700).tolist() == expected


def test_a_global_state_of_another_generator_of_the_same_kind():
    theirs = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.MT19937(5))
    try:
        state = global_state()
        expected = np.random.normal(size=3).tolist()
        set_global_state(state)
        assert np.random.normal(size=3).tolist() == expected
    finally:
        np.random.set_bit_generator(theirs)


@pytest.mark.parametrize("position", [-1, 625, 2**31])
def test_a_place_outside_of_the_words_is_left_to_numpy(position):
    before = global_state()
    kind, key, _, *others = before["numpy"]
    wrong = (kind, key, position, *others)

    def outcome(put):
        try:
            put()
            return numpy_state()
        except (ValueError, OverflowError) as error:
            return str(error)
        finally:
            set_global_state(before)

    expected = outcome(lambda: np.random.set_state(wrong))
    assert outcome(lambda: set_global_state({**before, "numpy": wrong})) == expected


def test_a_seeded_block_draws_what_the_seeds_say():
    np.random.seed(WORDS)
    random.seed(int.from_bytes(WORDS.astype("<u4").tobytes(), "little"))
    expected = np.random.normal(size=700).tolist(), random.random()
    with seeded(WORDS):
        assert (np.random.normal(size=700).tolist(), random.random()) == expected


@pytest.mark.parametrize("draws", range(8))
def test_after_a_seeded_block_all_is_as_before(draws):
    np.random.seed(7)
    np.random.normal(size=draws)  # of an odd number NumPy keeps one more
    generator = np.random.get_bit_generator()
    before = numpy_state(), random.getstate()
    with seeded(WORDS):
        np.random.normal()
        random.random()
    assert (numpy_state(), random.getstate()) == before
    assert np.random.get_bit_generator() is generator


def test_a_seeded_block_may_stand_in_another_one():
    with seeded(WORDS):
        expected = np.random.random(4).tolist()
    with seeded(WORDS):
        first = np.random.random(2).tolist()
        with seeded(stream_words(9)):
            np.random.random()
        assert first + np.random.random(2).tolist() == expected


def test_another_bit_generator_of_numpys_is_put_back_as_well():
    theirs = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(5))
    try:
        np.random.normal()
        before = str(np.random.get_state(legacy=False))
        with seeded(WORDS):
            drawn = np.random.random()
        assert str(np.random.get_state(legacy=False)) == before
    finally:
        np.random.set_bit_generator(theirs)
    with seeded(WORDS):
        assert np.random.random() == drawn
