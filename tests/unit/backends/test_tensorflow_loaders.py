"""tf.data as data of a run: read before it runs; found again, replayed or refused, and why."""

import keras
import numpy as np
import pytest

from keras_patterns.backends.loaders import open_loader, renewer
from keras_patterns.data import DataExhaustedError, LoaderSource, make_source, positions

tf = pytest.importorskip("tensorflow")

COUNT = 24
Dataset = tf.data.Dataset


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(1)


def numbers():
    return Dataset.range(COUNT)


def noisy(n):
    return tf.cast(n, tf.float32) + tf.random.uniform(())


def with_layer():
    layer = keras.layers.GaussianNoise(0.5, seed=1)
    return lambda n: layer(tf.cast(n, tf.float32), training=True)


def with_generator():
    generator = tf.random.Generator.from_seed(3)
    return lambda n: tf.cast(n, tf.float32) + generator.uniform(())


def times_variable():
    variable = tf.Variable(2, dtype=tf.int64)
    return lambda n: n * variable


def counted(count):
    variable = tf.Variable(count, dtype=tf.int64)
    return numbers().map(lambda n: n + variable.assign_add(1)).batch(4)


def generated():
    return Dataset.from_generator(
        lambda: iter(range(COUNT)), output_signature=tf.TensorSpec((), tf.int64)
    )


def taken(batches, count):
    return [next(batches)[0].tolist() for _ in range(count)]


def as_lists(batch):
    return [leaf.tolist() for leaf in keras.tree.flatten(batch)]


def in_a_whole_run(dataset, count=20):
    return taken(make_source(dataset).batches(0), count)


SAVED = {
    "shuffle": lambda: numbers().shuffle(9).batch(4),
    "shuffle with a seed": lambda: numbers().shuffle(9, seed=3).batch(4),
    "cache after shuffle": lambda: numbers().shuffle(9).cache().batch(4),
    "parallel map": lambda: numbers().map(lambda n: n * 2, num_parallel_calls=2).batch(4),
    "interleave": lambda: (
        numbers()
        .interleave(lambda n: Dataset.range(n), num_parallel_calls=2, deterministic=True)
        .batch(4)
    ),
    "window": lambda: numbers().window(3).flat_map(lambda window: window.batch(3)),
    "sample_from_datasets": lambda: Dataset.sample_from_datasets(
        [numbers(), numbers()], [0.5, 0.5], seed=2, stop_on_empty_dataset=True
    ).batch(4),
    "zip with random numbers": lambda: (
        Dataset.zip(numbers(), Dataset.random(seed=3, rerandomize_each_iteration=True))
        .shuffle(7)
        .batch(4)
    ),
    "two shuffles": lambda: numbers().concatenate(numbers().shuffle(5)).batch(4),
    "shuffle, twice": lambda: numbers().shuffle(9).repeat(2).batch(5),
    "shuffles in a function": lambda: (
        numbers()
        .shuffle(5)
        .flat_map(lambda n: Dataset.range(n % 4 + 1).shuffle(3, seed=1))
        .batch(4)
    ),
    "group_by_window": lambda: numbers().group_by_window(
        lambda n: n % 2, lambda key, window: window.batch(3), window_size=3
    ),
    "padded_batch": lambda: (
        numbers().map(lambda n: tf.ones([n % 5 + 1], tf.int64) * n).padded_batch(4)
    ),
    "scan": lambda: numbers().scan(np.int64(0), lambda state, n: (state + n, state)).batch(4),
    "unbatch": lambda: numbers().batch(5).unbatch().batch(4),
    "repeat": lambda: numbers().shuffle(9).batch(4).repeat(),
    "a variable that is read": lambda: numbers().map(times_variable()).batch(4),
}


@pytest.mark.parametrize("name", SAVED)
def test_batches_go_on_from_a_saved_position(name, monkeypatch):
    monkeypatch.setattr(positions, "SHARE", float("inf"))
    dataset = SAVED[name]()
    source = make_source(dataset)
    source.keeps_positions = True
    batches = source.batches(0)
    taken(batches, 11)
    state = source.position(11)
    expected = taken(batches, 9)
    other = make_source(dataset)
    other.take_over(state)
    assert 0 < state["position"]["step"] <= 11
    assert taken(other.batches(11), 9) == expected


@pytest.mark.parametrize("name", SAVED)
def test_each_position_gives_the_rest_of_its_pass_and_the_next(name):
    """TensorFlow leaves the seeds of a shuffle that has ended out of a state."""
    dataset = SAVED[name]()
    loader = open_loader(dataset)
    count = loader.steps_per_pass or 12
    batches, states, expected = loader.open(1), [], []
    for _ in range(2 * count + 2):
        states.append(loader.get_state())
        expected.append(as_lists(next(batches)))
    assert sum(state is not None for state in states) > count // 2
    expected += [as_lists(next(batches)) for _ in range(count + 2)]
    for place, state in enumerate(states):
        if state is not None:
            rest = open_loader(dataset).set_state(1, state)
            found = [as_lists(next(rest)) for _ in range(count + 2)]
            assert found == expected[place : place + count + 2], place


UNSOUND = {
    "sample_from_datasets and choose_from": lambda: Dataset.sample_from_datasets(
        [numbers(), numbers()], [0.5, 0.5], seed=2
    ).batch(4),
    "CacheDatasetV2 goes on from files": lambda: numbers().cache("cached").batch(4),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_a_state_that_tensorflow_does_not_go_on_from_is_not_used(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = UNSOUND[name]()
    source = make_source(dataset, verbose=False)
    assert source.found_again.startswith(f"by running it again from its start ({name}")
    expected = taken(source.batches(0), 20)
    assert taken(make_source(dataset, verbose=False).batches(9), 11) == expected[9:]


REPLAYED = {
    "AssignVariableOp": lambda: numbers().map(with_layer()).batch(4),
    "AssignAddVariableOp": lambda: counted(0),
    "RandomUniform": lambda: numbers().map(noisy).batch(4),
    "RngReadAndSkip": lambda: numbers().map(with_generator()).batch(4),
    "PyFunc": lambda: generated().batch(4),
    "EagerPyFunc": lambda: (
        numbers().map(lambda n: tf.py_function(lambda a: a * 2, [n], tf.int64)).batch(4)
    ),
}


@pytest.mark.parametrize("name", REPLAYED)
def test_what_has_a_state_of_its_own_is_run_again_and_named(name):
    dataset = REPLAYED[name]()
    source = make_source(dataset, verbose=False)
    said = f"by running it again from its start (TensorFlow cannot save the state of {name}"
    assert source.found_again.startswith(said), source.found_again
    expected = taken(source.batches(0), 14)
    assert taken(make_source(dataset, verbose=False).batches(5), 9) == expected[5:]


@pytest.mark.parametrize(
    ("named", "make"),
    [
        (
            "ParallelInterleaveDatasetV4 gives its elements in the order in which they are ready",
            lambda: (
                numbers()
                .interleave(Dataset.range, num_parallel_calls=2, deterministic=False)
                .batch(4)
            ),
        ),
        (
            "RandomUniform is called by several threads of ParallelMapDatasetV2",
            lambda: numbers().map(noisy, num_parallel_calls=2).batch(4),
        ),
        ("its options say deterministic=False", lambda: sloppy(numbers().batch(4))),
    ],
    ids=["interleave", "parallel random map", "options"],
)
def test_what_cannot_be_found_again_is_refused_where_a_run_is_saved(named, make):
    source = make_source(make())
    with pytest.raises(ValueError, match=named):
        source.keeps_positions = True
    source.keeps_positions = False


def sloppy(dataset):
    options = tf.data.Options()
    options.deterministic = False
    return dataset.with_options(options)


def test_a_shuffle_without_any_seed_is_refused_where_a_run_is_saved():
    tf.random.set_seed(None)
    source = make_source(numbers().shuffle(9).batch(4))
    with pytest.raises(ValueError, match="ShuffleDatasetV3 has no seed"):
        source.keeps_positions = True


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (TypeError, r"single examples.*\.batch\(n\)", numbers),
        (TypeError, "gives datasets", lambda: numbers().window(3)),
        (TypeError, "is an iterator of", lambda: iter(numbers().batch(4))),
        (ValueError, "it is empty", lambda: numbers().take(0).batch(4)),
    ],
    ids=["examples", "windows", "iterator", "empty"],
)
def test_what_gives_no_batches_is_refused(error, message, make):
    with pytest.raises(error, match=message):
        make_source(make())


def test_lengths():
    known, unknown = numbers().batch(4), numbers().filter(lambda n: n > 3).batch(4)
    endless = numbers().batch(4).repeat()
    sources = [make_source(dataset) for dataset in (known, unknown, endless)]
    assert [source.steps_per_pass for source in sources] == [6, None, None]
    assert [source.is_of_unknown_length for source in sources] == [False, True, False]


def test_the_first_pass_is_read_alone_where_its_length_is_to_be_learnt():
    source = make_source(numbers().filter(lambda n: n > 3).batch(4))
    source.stops_after_pass = True
    assert [x.tolist()[0] for (x,) in source.batches(0)] == [4, 8, 12, 16, 20]
    source.stops_after_pass = False
    assert taken(source.batches(5), 6)[-1] == [4, 5, 6, 7]


def test_sparse_and_ragged_batches_are_made_dense():
    dense = np.eye(4, dtype="float32")
    sparse = Dataset.from_tensors(tf.sparse.from_dense(dense))
    ragged = Dataset.from_tensors(tf.ragged.constant([[1, 2], [3]]))
    assert in_a_whole_run(sparse, 1) == [dense.tolist()]
    assert in_a_whole_run(ragged, 1) == [[[1, 2], [3, 0]]]


def test_iterators_of_others_change_nothing():
    dataset = numbers().shuffle(9).batch(4)
    expected = in_a_whole_run(dataset)
    list(dataset)
    assert in_a_whole_run(dataset) == expected


@pytest.mark.parametrize("make", [SAVED["cache after shuffle"], lambda: counted(0)])
def test_copies_that_are_read_in_turn_change_nothing_in_each_other(make):
    dataset = make()
    expected = in_a_whole_run(dataset, 9)
    first, second = (make_source(dataset, verbose=False).batches(0) for _ in range(2))
    pairs = [(taken(first, 1), taken(second, 1)) for _ in range(9)]
    assert [[one[0] for one in side] for side in zip(*pairs, strict=True)] == [expected, expected]


def test_a_variable_that_the_pipeline_moves_stays_as_it_is_outside():
    variable = tf.Variable(0, dtype=tf.int64)
    dataset = numbers().map(lambda n: n + variable.assign_add(1)).batch(4)
    in_a_whole_run(dataset)
    assert variable.numpy() == 0


def fingerprint(make, seed=1):
    keras.utils.set_random_seed(seed)
    return make_source(make()).fingerprint()


@pytest.mark.parametrize("name", SAVED)
def test_a_pipeline_that_is_made_again_has_the_same_fingerprint(name):
    assert fingerprint(SAVED[name]) == fingerprint(SAVED[name])


def test_another_global_seed_is_another_order_where_the_data_depend_on_it():
    assert fingerprint(SAVED["shuffle"], 1)["seeds"] != fingerprint(SAVED["shuffle"], 2)["seeds"]
    assert fingerprint(SAVED["interleave"], 1) == fingerprint(SAVED["interleave"], 2)


@pytest.mark.parametrize(
    ("part", "make"),
    [
        ("constants", lambda n: numbers().shuffle(9 + n).batch(4)),
        ("batches", lambda n: numbers().batch(4 + n, drop_remainder=True)),
        ("functions", lambda n: numbers().map(lambda value: value * (2 + n)).batch(4)),
        ("operations", lambda n: (numbers().cache() if n else numbers()).batch(4)),
        ("constants", lambda n: counted(n)),
        # Where it is not given, it is the number of the processor's cores.
        ("constants", lambda n: numbers().interleave(Dataset.range, cycle_length=1 + n).batch(4)),
        ("constants", lambda n: Dataset.from_tensor_slices(np.arange(8) * (n + 1)).batch(4)),
    ],
)
def test_other_data_have_another_fingerprint(part, make):
    first, second = fingerprint(lambda: make(0)), fingerprint(lambda: make(1))
    assert first[part] != second[part]


def test_how_far_and_by_how_many_threads_is_read_ahead_may_change():
    def make(threads, ahead):
        return numbers().map(lambda n: n * 2, num_parallel_calls=threads).batch(4).prefetch(ahead)

    assert fingerprint(lambda: make(2, 1)) == fingerprint(lambda: make(3, 5))


def hostile_states():
    loader = open_loader(numbers().shuffle(9).batch(4))
    next(loader.open(0))
    written = loader.get_state()["iterator"].tobytes()
    random = np.random.default_rng(0)
    yield None
    yield {}
    yield {"iterator": "text"}
    yield {"iterator": np.zeros(0, "uint8")}
    yield {"iterator": np.zeros(999, "uint8")}
    yield {"iterator": np.zeros((3, 3), "float32")}
    for length in range(0, len(written), 97):
        yield {"iterator": np.frombuffer(written[:length], "uint8")}
    yield {"iterator": random.integers(0, 256, len(written), "uint8")}
    yield {"iterator": np.frombuffer(written.replace(b"Shuffle", b"Shuffla"), "uint8")}
    # A vector of numbers.
    yield {"iterator": np.frombuffer(tf.io.serialize_tensor([1, 2]).numpy(), "uint8")}


def test_what_is_no_position_is_refused():
    loader = open_loader(numbers().shuffle(9).batch(4))
    for state in hostile_states():
        with pytest.raises(ValueError, match="position"):
            loader.set_state(0, state)


def test_a_position_of_another_pipeline_is_refused():
    loader = open_loader(numbers().batch(4))
    next(loader.open(0))
    state = loader.get_state()
    other = open_loader(numbers().shuffle(9).batch(4))
    with pytest.raises(ValueError, match=r"none of a tf\.data\.Dataset as it is now"):
        other.set_state(0, state)


def test_data_that_end_before_the_place_are_refused():
    source = LoaderSource(open_loader(generated().take(0).batch(4)), verbose=False)
    with pytest.raises(DataExhaustedError):
        source.batches(3)


def test_a_dataset_that_draws_is_renewed_for_each_validation():
    dataset = numbers().shuffle(9).batch(4)
    renew = renewer(dataset)
    first, second = ([x.numpy().tolist() for x in renew()] for _ in range(2))
    assert first == second
    plain = numbers().cache().batch(4)
    assert renewer(plain)() is plain
