"""Batches of arrays: each example once a pass, the same batch for the same step, Keras's rules."""

import itertools

import keras
import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.trainers.data_adapters.array_slicing import train_validation_split

from keras_patterns.data import (
    ArraySource,
    check_validation_data,
    make_source,
    split_validation,
)

pytestmark = pytest.mark.once


def leaves(batch):
    return [None if leaf is None else leaf.tolist() for leaf in keras.tree.flatten(batch)]


def take_from(source, start, count):
    return [leaves(batch) for batch, _ in zip(source.batches(start), range(count), strict=False)]


@given(
    examples=st.integers(1, 200),
    batch_size=st.integers(1, 60),
    shuffle=st.sampled_from([True, False, "batch"]),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_passes_and_seeking(examples, batch_size, shuffle, data):
    x = np.arange(examples)
    source = ArraySource(x, -x, batch_size=batch_size, shuffle=shuffle, seed=3)
    steps = source.steps_per_pass
    assert steps == -(-examples // batch_size)
    start = data.draw(st.integers(0, 2 * steps))
    uninterrupted = take_from(source, 0, 3 * steps)
    for begin in range(0, 3 * steps, steps):
        inputs = [batch[0] for batch in uninterrupted[begin : begin + steps]]
        assert sorted(itertools.chain(*inputs)) == x.tolist()
        assert all(len(batch) == batch_size for batch in inputs[:-1])
    assert all(targets == [-i for i in inputs] for inputs, targets in uninterrupted)
    fresh = ArraySource(x, -x, batch_size=batch_size, shuffle=shuffle, seed=3)
    assert take_from(fresh, start, 3 * steps - start) == uninterrupted[start:]
    assert leaves(fresh.batch(start)) == (uninterrupted + uninterrupted[:1])[start]


def test_passes_and_seeds_differ():
    x = np.arange(100)
    source = ArraySource(x, batch_size=100, seed=1)
    orders = [leaves(source.batch(step)) for step in range(3)]
    orders.append(leaves(ArraySource(x, batch_size=100, seed=2).batch(0)))
    assert len({str(order) for order in orders}) == 4


def test_same_batches_on_every_backend():
    (x,) = ArraySource(np.arange(1000), batch_size=6, seed=11).batch(400)
    assert x.tolist() == GOLDEN


GOLDEN = [78, 471, 251, 317, 895, 212]


def test_structures_keep_their_shape_and_lists_become_tuples():
    x = {"image": np.ones((6, 2, 2)), "more": [np.arange(6), (np.arange(6) * 2,)], "none": None}
    source = ArraySource(x, [np.arange(6), np.arange(6)], np.arange(6), batch_size=4, shuffle=False)
    inputs, targets, weights = source.batch(1)
    assert list(inputs) == ["image", "more", "none"]
    assert inputs["image"].shape == (2, 2, 2)
    assert isinstance(inputs["more"], tuple)
    assert inputs["more"][1][0].tolist() == [8, 10]
    assert inputs["none"] is None
    assert leaves(targets) == [[4, 5], [4, 5]]
    assert leaves(weights) == [[4, 5], [4, 5]]
    assert isinstance(targets, tuple)
    assert isinstance(weights, tuple)


def test_default_batch_size_is_that_of_keras():
    assert ArraySource(np.ones(33)).batch_size == 32


def test_floats_become_floatx_and_nothing_else_changes():
    x = {
        "f8": np.ones(3),
        "f2": np.ones(3, "float16"),
        "big": np.arange(3, dtype=">i4"),
        "u1": np.arange(3, dtype="uint8"),
        "bool": np.ones(3, bool),
        "text": np.array(["a", "b", "c"]),
        "object": np.array(["a", "b", "c"], object),
    }
    (batch,) = ArraySource(x, shuffle=False).batch(0)
    floatx = keras.config.floatx()
    assert {name: str(array.dtype) for name, array in batch.items()} == {
        "f8": floatx,
        "f2": floatx,
        "big": "int32",
        "u1": "uint8",
        "bool": "bool",
        "text": "<U1",
        "object": "object",
    }
    assert batch["big"].tolist() == [0, 1, 2]


def test_a_batch_is_a_copy():
    x = np.zeros((4, 2), "float32")
    for shuffle in (True, False):
        ArraySource(x, shuffle=shuffle).batch(0)[0][:] = 1
    assert not x.any()


class Frame:
    """What the source uses of a pandas DataFrame or Series."""

    iloc = None

    def __init__(self, array):
        self._array = np.asarray(array)
        self.ndim = self._array.ndim

    def to_numpy(self):
        return self._array

    def __array__(self, dtype=None, copy=None):
        return self._array


def test_pandas():
    source = ArraySource(Frame([[1, 2], [3, 4]]), Frame([5, 6]), shuffle=False)
    assert leaves(source.batch(0)) == [[[1, 2], [3, 4]], [[5], [6]]]
    frame = pandas.DataFrame({"a": [1, 3], "b": [2.0, 4.0]}, index=[7, 9])
    source = make_source(frame, frame["a"], shuffle=False)
    assert leaves(source.batch(0)) == [[[1, 2], [3, 4]], [[1], [3]]]


@pytest.fixture
def on_disk(tmp_path):
    """A file of 4 GiB with holes."""
    return np.memmap(tmp_path / "x", np.float32, "w+", shape=(2**28, 4))


def test_a_memory_map_is_read_a_batch_at_a_time(on_disk):
    on_disk[5] = 1
    source = ArraySource(on_disk, batch_size=4, shuffle=False)
    assert leaves(source.batch(1))[0][1] == [1, 1, 1, 1]
    assert type(source.batch(1)[0]) is np.ndarray
    shuffled = ArraySource(on_disk, batch_size=4)
    assert shuffled.batch(10**7)[0].shape == (4, 4)
    assert shuffled.fingerprint()["examples"] == 2**28
    (train, _, _), (validation, _, _) = split_validation(on_disk, None, None, 0.25)
    assert (len(train), len(validation)) == (3 * 2**26, 2**26)
    assert isinstance(train, np.memmap)


def fingerprint(x, *rest, **options):
    return ArraySource(x, *rest, **options).fingerprint()


def test_fingerprint_says_what_the_data_is():
    x = np.arange(6.0).reshape(3, 2)
    found = fingerprint({"a": x, "b": None}, np.arange(3, dtype="int8"), class_weight={1: 2})
    digest = found["arrays"]["x/a"].pop("digest")
    assert len(digest) == 32
    found["arrays"]["y"].pop("digest")
    assert found == {
        "kind": "arrays",
        "examples": 3,
        "batch_size": 32,
        "shuffle": True,
        "class_weight": {"1": 2.0},
        "arrays": {
            "x/a": {"shape": [3, 2], "dtype": "float64"},
            "x/b": None,
            "y": {"shape": [3], "dtype": "int8"},
        },
    }
    assert digest == fingerprint(np.asfortranarray(x))["arrays"]["x"]["digest"]


@given(st.integers(0, 199))
@settings(max_examples=20, deadline=None)
def test_fingerprint_of_small_arrays_sees_every_change(place):
    x = np.zeros((200, 3))
    before = fingerprint(x)
    assert before == fingerprint(x.copy())
    x[place, place % 3] = 1e-300
    assert fingerprint(x) != before
    assert fingerprint(x[:-1]) != fingerprint(x)


def test_fingerprint_of_strings_is_of_their_content():
    first, second = (np.array(["".join("ab"), "c"], object) for _ in range(2))
    assert fingerprint(first) == fingerprint(second)
    assert fingerprint(first) != fingerprint(second[::-1])


def test_fingerprint_of_large_arrays_reads_a_sample(tmp_path):
    x = np.zeros((2**16, 513), np.uint8)
    before = fingerprint(x)
    on_disk = np.memmap(tmp_path / "x", np.uint8, "w+", shape=x.shape)
    assert fingerprint(on_disk) == before
    for row in (0, -1):
        x[row] = 1
        assert fingerprint(x) != before
        x[row] = 0
    x[1::2] = 1
    assert fingerprint(x) != before


@pytest.mark.parametrize(
    "y",
    [
        np.array([0, 2, 1, 7]),
        np.array([[0], [2], [1], [7]]),
        np.array([0.0, 2.0, 1.4, 6.6]),
        np.eye(8)[[0, 2, 1, 7]],
        np.eye(8, dtype="float32")[[0, 2, 1, 7]],
    ],
)
def test_class_weight_is_that_of_keras(y):
    source = ArraySource(np.ones(4), y, class_weight={0: 0.5, 2: 3, 7: 2}, shuffle=False)
    _, _, weights = source.batch(0)
    assert weights.tolist() == [0.5, 3, 1, 2]
    assert weights.dtype == keras.config.floatx()


X = np.ones((4, 2))


def objects(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ArraySource(X, X[:3]), ValueError, "Received: `x` has 4, `y` has 3"),
        (lambda: ArraySource({"a": X, "b": X[1:]}), ValueError, "`x/a` has 4, `x/b` has 3"),
        (lambda: ArraySource(X, X, X[:2, 0]), ValueError, "`sample_weight` has 2"),
        (lambda: ArraySource(X[:0]), ValueError, "holds no example. Received: x of length 0"),
        (lambda: ArraySource(None), ValueError, "the data holds no array"),
        (lambda: ArraySource(np.float32(1)), ValueError, r"`x` must have an axis .* shape \(\)"),
        (lambda: ArraySource([1, 2]), TypeError, "`x/0` is no array.*Received: builtins.int"),
        (lambda: ArraySource({"a": "b"}), TypeError, "`x/a` is no array.*Received: builtins.str"),
        (lambda: ArraySource(X, X.astype(object)), TypeError, "`y` is no array of numbers.*float"),
        (
            lambda: ArraySource(objects([1, 2], [3])),
            TypeError,
            "Received: list in an array.*pad_sequences",
        ),
        (
            lambda: ArraySource(objects("a", None)),
            TypeError,
            "NoneType in an array of dtype object",
        ),
        (lambda: ArraySource(X[:, 0].astype("M8[s]")), TypeError, r"of dtype datetime64\[s\]"),
        (lambda: ArraySource(np.zeros(3, "f4,i4")), TypeError, "Received: void in.*Convert it"),
        (lambda: ArraySource(X, batch_size=0), ValueError, "`batch_size` must be at least 1"),
        (lambda: ArraySource(X, batch_size=2.0), TypeError, r"Received: 2.0 \(float\)"),
        (lambda: ArraySource(X, shuffle="yes"), ValueError, "`shuffle` must be .*'yes'"),
        (lambda: ArraySource(X, seed=-1), ValueError, "`seed` must be at least 0. Received: -1"),
        (lambda: ArraySource(X).batch(-1), ValueError, "Received: step=-1"),
        (lambda: ArraySource(X, None, X[:, 0]), ValueError, "`sample_weight` .* Received: y=None"),
        (
            lambda: ArraySource(X, class_weight={0: 1}),
            ValueError,
            "`class_weight` was given without targets",
        ),
        (
            lambda: ArraySource(X, X, X[:, 0], class_weight={0: 1}),
            ValueError,
            "cannot be given at the same time",
        ),
        (
            lambda: ArraySource(X, (X, X), class_weight={0: 1}),
            ValueError,
            "single output. Received: y=a tuple of 2",
        ),
        (
            lambda: ArraySource(X, np.ones((4, 2, 3)), class_weight={0: 1}),
            ValueError,
            r"one label an example.*Received: y of shape \(1, 2, 3\)",
        ),
        (
            lambda: ArraySource(X, X, class_weight=[1, 2]),
            TypeError,
            "dict of class number to weight. Received: a list of 2",
        ),
        (
            lambda: ArraySource(X, X, class_weight={"cat": 1}),
            TypeError,
            "`class` must be a whole number. Received: 'cat'",
        ),
        (
            lambda: ArraySource(X, X, class_weight={0: float("nan")}),
            ValueError,
            "finite number, at least 0. Received: nan for class 0",
        ),
        (
            lambda: ArraySource(X, (X, X), X),
            ValueError,
            r"several outputs must have the shape \(examples,\). Received: \(4, 2\)",
        ),
        (
            lambda: ArraySource(X, (X, X), (X[:, 0],)),
            ValueError,
            "must be one array, or have the structure of `y`",
        ),
    ],
)
def test_errors_say_what_was_given(make, error, message):
    with pytest.raises(error, match=message):
        make()


SPARSE_FORMATS = ("csr_matrix", "csc_array", "coo_array", "lil_matrix", "dok_array", "bsr_matrix")


@pytest.mark.parametrize("kind", SPARSE_FORMATS)
def test_a_sparse_matrix_gives_the_batches_of_the_dense_one(kind):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.random.default_rng(0).integers(0, 3, size=(11, 4)).astype("float64")
    matrix = getattr(sparse, kind)(dense)
    given, expected = ({"batch_size": 4, "seed": 1} for _ in range(2))
    for step in range(5):
        np.testing.assert_array_equal(
            make_source(matrix, **given).batch(step)[0],
            make_source(dense, **expected).batch(step)[0],
        )


def test_entries_of_one_place_are_added():
    sparse = pytest.importorskip("scipy.sparse")
    twice = sparse.coo_array((np.array([2.0, 3.0]), ([1, 1], [0, 0])), shape=(2, 2))
    (batch,) = make_source(twice, shuffle=False).batch(0)
    assert batch.tolist() == [[0.0, 0.0], [5.0, 0.0]]


def test_the_fingerprint_of_a_sparse_matrix_tells_its_content():
    sparse = pytest.importorskip("scipy.sparse")
    found = [
        make_source(sparse.csr_array(np.array(rows, float))).fingerprint()["arrays"]["x"]
        for rows in ([[0, 1], [2, 0]], [[0, 1], [2, 0]], [[1, 0], [2, 0]], [[0, 1], [0, 2]])
    ]
    assert found[0] == found[1]
    assert len({one["digest"] for one in found}) == 3


def test_sparse_targets_and_weights_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.eye_array(4).tocsr()
    with pytest.raises(TypeError, match=r"`y` is sparse or ragged.*`\.toarray\(\)`"):
        make_source(X, matrix)
    with pytest.raises(TypeError, match=r"`sample_weight` is sparse or ragged"):
        make_source(X, X, matrix)


def test_sparse_batches_of_a_generator_are_made_dense():
    sparse = pytest.importorskip("scipy.sparse")

    def batches():
        while True:
            yield sparse.eye_array(3).tocsr(), np.ones(3)

    x, y = next(make_source(batches()).batches(0))
    np.testing.assert_array_equal(x, np.eye(3))
    assert y.tolist() == [1, 1, 1]


def test_a_sparse_matrix_is_cut_like_a_dense_one():
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.arange(10.0).reshape(5, 2)
    (x, _, _), (later, _, _) = split_validation(sparse.coo_array(dense), None, None, 0.4)
    np.testing.assert_array_equal(x.toarray(), dense[:3])
    np.testing.assert_array_equal(later.toarray(), dense[3:])


@pytest.mark.parametrize("weights", [{-1: 2.0, 1: 0.5}, {-1.0: 2.0, np.float32(1): 0.5}])
def test_classes_are_those_that_equal_the_labels(weights):
    labels = np.array([-1.0, 1.0, -1.0, 0.0])
    source = make_source(X, labels, batch_size=4, shuffle=False, class_weight=weights)
    assert source.batch(0)[2].tolist() == [2.0, 0.5, 2.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({"p": {0: 1.0}}, ValueError, "single output, as in Keras. Received: a dict for 'p'"),
        ({"1": 1.0}, TypeError, "`class` must be a whole number. Received: '1'"),
        ({0.5: 1.0}, TypeError, "`class` must be a whole number. Received: 0.5"),
        ({0: "heavy"}, ValueError, "a finite number, at least 0. Received: heavy for class 0"),
        ({0: None}, ValueError, "a finite number, at least 0. Received: None for class 0"),
    ],
)
def test_class_weights_that_no_label_could_match(weights, error, message):
    with pytest.raises(error, match=message):
        make_source(X, X[:, 0], class_weight=weights)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (object(), TypeError, "Received: builtins.object"),
        (([1.0, 2.0], X), TypeError, "with a float, which is no array"),
        ((X, X[:2]), ValueError, "`validation_data/x` has 4, `validation_data/y` has 2"),
        ((X, X, X, X), ValueError, "received 4 parts"),
        (iter([X]), TypeError, "Received: builtins.list_iterator"),
    ],
)
def test_validation_data_is_looked_at_before_the_first_epoch(data, error, message):
    with pytest.raises(error, match=message):
        check_validation_data("validation_data", data)


@given(
    examples=st.integers(1, 300),
    split=st.floats(0, 1, exclude_min=True, exclude_max=True),
)
@settings(max_examples=100, deadline=None)
def test_split_is_that_of_keras(examples, split):
    data = ({"a": np.arange(examples)}, [np.arange(examples) * 2], None)
    try:
        expected = train_validation_split(data, split)
    except ValueError:
        with pytest.raises(ValueError, match=f"of {examples} examples leaves"):
            split_validation(*data, split)
        return
    assert [leaves(part) for part in split_validation(*data, split)] == [
        leaves(part) for part in expected
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, None, None, 0.0), "both excluded. Received: 0.0"),
        ((X, None, None, 1), "both excluded. Received: 1"),
        ((X, None, None, True), "Received: True"),
        ((X, None, None, 0.9), "leaves 0 to train and 4 to validate"),
        ((X, X[:2], None, 0.5), "`x` has 4, `y` has 2"),
        ((iter([]), None, None, 0.5), "arrays and tensors only. Received: x of type list_iterator"),
    ],
)
def test_split_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_validation(*arguments)
