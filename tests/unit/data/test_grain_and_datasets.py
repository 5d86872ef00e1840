"""Grain's and Hugging Face's data: what is refused before the first step, and what is said."""

import grain
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from loaders import grain_loader, grain_map, hf_rows

from keras_patterns.data import RandomStream, make_source

pytestmark = pytest.mark.once


def rows(**columns):
    return Dataset.from_dict({"y": [1, 2], **columns})


GENERATOR = np.random.default_rng(0)


def own_draws():
    data = grain.MapDataset.range(12).map(lambda n: np.full(3, n + GENERATOR.normal())).batch(4)
    return data.to_iter_dataset()


@pytest.mark.parametrize(
    ("make", "columns", "error", "text"),
    [
        (lambda: grain_map(batched=False), {}, ValueError, r"single examples.*`\.batch\(32\)`"),
        (lambda: iter(grain_map().to_iter_dataset()), {}, TypeError, "gives no batches"),
        (
            lambda: grain_map(draws=True).to_iter_dataset(),
            {},
            ValueError,
            r"draws from the global random numbers of NumPy in threads.*random_map",
        ),
        (lambda: grain_map(), {"y": "label"}, ValueError, "goes with arrays only"),
        (lambda: DatasetDict({"train": rows()}), {}, TypeError, r"x\['train'\]"),
        (lambda: rows(t=["a", "b"]), {"y": "y"}, ValueError, "'t' of .* holds text"),
        (lambda: rows(t=[[1], [2, 3]]), {"y": "y"}, ValueError, "'t' of .* different lengths"),
        (lambda: rows(t=[1, 2]), {"y": "z"}, ValueError, "no column 'z'; its columns are 'y', 't'"),
        (lambda: rows(t=[1, 2]), {"y": np.ones(2)}, TypeError, "names of its columns"),
        (
            lambda: rows(t=[1, 2]).to_iterable_dataset().shuffle(buffer_size=2),
            {"y": "y"},
            ValueError,
            r"shuffled without a seed.*\.shuffle\(seed=",
        ),
        (
            lambda: rows(t=[1, 2]).to_iterable_dataset().batch(2),
            {"y": "y", "batch_size": 2},
            ValueError,
            "gives batches already",
        ),
    ],
)
def test_refused_by_name_with_the_way_out(make, columns, error, text):
    with pytest.raises(error, match=text):
        make_source(make(), **columns)


def test_a_generator_of_ones_own_in_threads_is_refused_by_its_place():
    stream = RandomStream()
    stream.held_places = ("x/_parents/0/_map_fn/GENERATOR",)
    with pytest.raises(
        ValueError, match=r"a generator of its own \(x/_parents/0/_map_fn/GENERATOR"
    ):
        make_source(own_draws(), stream=stream)


@pytest.mark.parametrize("state", [None, 3, {}, {"next_index": "a"}, {"next_index": -1}, {"a": 1}])
def test_a_position_of_other_data_is_an_error(state):
    loader = make_source(grain_map().to_iter_dataset()).loader
    with pytest.raises(ValueError, match="position"):
        list(loader.set_state(0, state))


def test_a_default_repr_of_a_source_does_not_stop_a_resume():
    saved, other = (make_source(grain_loader(0)).loader for _ in range(2))
    batches = saved.open(0)
    next(batches)
    state, expected = saved.get_state(), next(batches)
    np.testing.assert_array_equal(next(other.set_state(0, state))[0], expected[0])


def test_the_identity_of_rows_is_their_content():
    def said(data):
        return make_source(data, y="label", batch_size=6).fingerprint()

    assert said(hf_rows()) == said(hf_rows().map(lambda row: row))
    assert said(hf_rows()) != said(hf_rows().select(range(1, 42)))
