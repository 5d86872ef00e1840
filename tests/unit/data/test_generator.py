"""Generators: skipped ahead aloud, with a random stream of their own; and which data is served."""

import random

import keras
import numpy as np
import pytest

from keras_patterns.data import (
    ArraySource,
    DataExhaustedError,
    IterableLoader,
    LoaderSource,
    PyDatasetSource,
    RandomStream,
    make_source,
)

pytestmark = pytest.mark.once


def count(stop):
    for number in range(stop):
        yield np.array([number]), np.array([number % 2])


class Numbers(keras.utils.PyDataset):
    num_batches = 3


def in_order(iterable, **more):
    return LoaderSource(IterableLoader(iterable), **more)


def noise():
    while True:
        yield (np.array([random.random(), np.random.random(), random.gauss(0, 1)]),)


def take(iterator, number):
    return [next(iterator)[0].tolist() for _ in range(number)]


def test_batches_go_on_from_a_step(capsys):
    assert take(in_order(count(9)).batches(0), 4) == [[0], [1], [2], [3]]
    assert capsys.readouterr().out == ""
    source = in_order(count(9))
    batches = source.batches(5)
    out = capsys.readouterr().out
    assert out.startswith("keras-patterns: running the generator again up to step 5: 5 batches")
    assert "5/5" in out
    assert take(batches, 2) == [[5], [6]]
    assert take(source.batches(8), 1) == [[8]]


def test_skipping_in_silence(capsys):
    assert take(in_order(count(9), verbose=False).batches(5), 1) == [[5]]
    assert capsys.readouterr().out == ""


def test_a_generator_cannot_go_back():
    source = in_order(count(9))
    take(source.batches(0), 3)
    with pytest.raises(ValueError, match="is at step 3 and cannot go back to step 2"):
        source.batches(2)
    with pytest.raises(ValueError, match="`start` must be at least 0"):
        source.batches(-1)
    with pytest.raises(RuntimeError, match="can only be had in order"):
        source.batch(3)


def test_a_generator_that_ends_before_the_place_to_go_on_says_where():
    with pytest.raises(DataExhaustedError, match="ended at step 3, and the run goes on at step 4"):
        in_order(count(3), verbose=False).batches(4)


def test_the_batches_of_a_generator_end_with_it():
    assert len(list(in_order(count(3)).batches(0))) == 3


def test_an_iterable_is_begun_again_where_it_ends():
    class Loader:
        def __iter__(self):
            return count(3)

    assert take(in_order(Loader()).batches(0), 7) == [[0], [1], [2], [0], [1], [2], [0]]
    assert list(in_order(range(0)).batches(0)) == []


def test_what_a_generator_draws_is_repeatable_from_its_initial_state():
    source = in_order(noise())
    batches, found = source.batches(0), []
    for _ in range(6):
        found += take(batches, 1)
        random.random(), np.random.random()
    np.random.seed(99)
    again = in_order(noise(), stream=RandomStream(state=source.random_state), verbose=False)
    assert take(again.batches(4), 2) == found[4:]
    assert len({str(one) for one in found}) == 6


def test_a_generator_leaves_the_global_states_alone():
    random.seed(3)
    np.random.seed(3)
    expected = [random.gauss(0, 1), np.random.normal(), random.gauss(0, 1), np.random.normal()]
    random.seed(3)
    np.random.seed(3)
    source = in_order(noise())
    found = [random.gauss(0, 1), np.random.normal()]
    take(source.batches(0), 3)
    assert [*found, random.gauss(0, 1), np.random.normal()] == expected


def test_an_error_in_the_generator_leaves_the_global_states_alone():
    def broken():
        random.random()
        raise OSError("no such image")
        yield

    source = in_order(broken())
    before = random.getstate()
    with pytest.raises(OSError, match="no such image"):
        next(source.batches(0))
    assert random.getstate() == before


def test_the_stream_is_of_the_states_that_are_given():
    state = {"value": 7}

    def drawing():
        while True:
            state["value"] += 1
            yield (np.array([state["value"]]),)

    def set_state(value):
        state["value"] = value

    stream = RandomStream(lambda: state["value"], set_state)
    source = in_order(drawing(), stream=stream)
    batches = source.batches(0)
    assert take(batches, 2) == [[8], [9]]
    assert state["value"] == 7
    state["value"] = 100
    assert take(batches, 1) == [[10]]
    assert state["value"] == 100
    assert source.random_state == 7


def test_class_weight_and_fingerprint():
    source = in_order(count(9), class_weight={1: 3})
    batches = source.batches(0)
    assert [next(batches)[2].tolist() for _ in range(2)] == [[1], [3]]
    assert source.fingerprint() == {"kind": "generator", "class_weight": {"1": 3.0}}


def test_what_is_no_batch():
    with pytest.raises(ValueError, match=r"the generator must give .*Received: '5' \(int\)"):
        next(in_order(iter([5])).batches(0))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (np.ones(3), ArraySource),
        ({"a": [np.ones(3)]}, ArraySource),
        (Numbers(), PyDatasetSource),
        (count(3), LoaderSource),
        (map(tuple, []), LoaderSource),
    ],
)
def test_make_source(data, kind):
    source = make_source(data, seed=4, class_weight=None)
    assert type(source) is kind


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[1, 2], [3, 4]], "`x/0/0` is no array. .* Received: builtins.int"),
        ({"a": np.ones(3), "b": "text"}, "`x/b` is no array. .* Received: builtins.str"),
        ("text", "`x` is no array. .* Received: builtins.str"),
        (7, "`x` is no array. .* Received: builtins.int"),
        (lambda: 3, "`x` is no array. .* Received: builtins.function"),
    ],
)
def test_what_is_not_served(data, message):
    with pytest.raises(TypeError, match=message):
        make_source(data)


def test_make_source_names_the_argument_that_is_no_array():
    with pytest.raises(TypeError, match="`y/0` is no array"):
        make_source(np.ones(2), [1, 2])
    with pytest.raises(ValueError, match="`batch_size` goes with arrays only: a generator gives"):
        make_source(count(3), batch_size=2)
