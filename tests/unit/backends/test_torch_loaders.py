"""The adapter of PyTorch's DataLoader, on every backend beside which torch is installed."""

import functools
import itertools
import random
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_patterns.data import make_source
from keras_patterns.run.streams import generator_stream
from keras_patterns.state.item_caller import ItemCaller

torch = pytest.importorskip("torch")
utils = torch.utils.data
# JAX warns of every fork.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

EXAMPLES = 23
WEIGHTS = [1.0] * 10 + [3.0] * 13
SEEDING = functools.partial(ItemCaller, names_moving=True)


class Drawing(utils.Dataset):
    """Draws from every generator that there is."""

    def __init__(self):
        self.own = np.random.default_rng(3)
        self.torch = torch.Generator()

    def __len__(self):
        return EXAMPLES

    def __getitem__(self, place):
        drawn = [random.random(), np.random.normal(), self.own.random(), torch.rand(1).item()]
        return torch.tensor([place, *drawn, torch.rand(1, generator=self.torch).item()]), place


class Streamed(utils.IterableDataset):
    """Has no places."""

    def __iter__(self):
        for place in range(EXAMPLES):
            yield torch.tensor([place, random.random(), np.random.normal(), torch.rand(1).item()])


class Counting(utils.Sampler):
    """Another order each time it is asked, whatever the seeds are."""

    asked = 0

    def __len__(self):
        return EXAMPLES

    def __iter__(self):
        self.asked += 1
        return iter(np.random.default_rng(self.asked).permutation(EXAMPLES).tolist())


class ByEpoch(Counting):
    def set_epoch(self, epoch):
        self.asked = epoch


class Growing(utils.Sampler):
    """One batch more in each pass, drawn from the global states."""

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter([[0, 1]] * (self.epoch + 1))


class Keyed(utils.Sampler):
    def __iter__(self):
        return iter(["a", "b"])


def global_states():
    numpy = np.random.get_state(legacy=False)
    state = (numpy["state"]["key"].tolist(), numpy["state"]["pos"], numpy["gauss"])
    return random.getstate(), state, torch.get_rng_state().tolist()


def mixed(examples):
    """A collate function that draws."""
    x, y = utils.default_collate(examples)
    return x + random.random() + torch.rand(1), y


def source_of(loader, **arguments):
    source = make_source(loader, seed=5, seeding=SEEDING, verbose=False, **arguments)
    if hasattr(source, "keeps_positions"):
        source.keeps_positions = True
    return source


def batches_of(loader, start=0, count=12, **arguments):
    batches = source_of(loader, **arguments).batches(start)
    found = [
        [np.asarray(keras.ops.convert_to_numpy(part)).tolist() for part in batch]
        for batch in itertools.islice(batches, count)
    ]
    batches.close()
    return found


def batches(sampler):
    return utils.BatchSampler(sampler, batch_size=5, drop_last=True)


LOADERS = {
    "shuffled": lambda: {"batch_size": 5, "shuffle": True},
    "in order": lambda: {"batch_size": 5},
    "drop_last": lambda: {"batch_size": 5, "shuffle": True, "drop_last": True},
    "a collate function": lambda: {"batch_size": 5, "shuffle": True, "collate_fn": mixed},
    "weighted": lambda: {
        "batch_size": 5,
        "sampler": utils.WeightedRandomSampler(WEIGHTS, 19),
    },
    "weighted, with a generator": lambda: {
        "batch_size": 5,
        "sampler": utils.WeightedRandomSampler(WEIGHTS, 19, generator=torch.Generator()),
    },
    "with replacement": lambda: {
        "batch_size": 5,
        "sampler": utils.RandomSampler(range(EXAMPLES), replacement=True, num_samples=31),
    },
    "a subset": lambda: {
        "batch_size": 5,
        "sampler": utils.SubsetRandomSampler([3, 5, 7, 11, 13, 17, 19]),
    },
    "a batch sampler": lambda: {"batch_sampler": batches(utils.RandomSampler(range(EXAMPLES)))},
    "a sampler with set_epoch": lambda: {"batch_size": 5, "sampler": ByEpoch()},
}


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_a_batch_is_a_function_of_the_step(make):
    whole = batches_of(utils.DataLoader(Drawing(), **make()))
    for start in (11, 0, 5):
        again = batches_of(utils.DataLoader(Drawing(), **make()), start, 12 - start)
        assert again == whole[start:]
    length = source_of(utils.DataLoader(Drawing(), **make())).steps_per_pass
    assert length == len(utils.DataLoader(Drawing(), **make()))


@pytest.mark.parametrize("name", [name for name in LOADERS if name != "in order"])
def test_each_pass_has_an_order_of_its_own(name):
    source = source_of(utils.DataLoader(Drawing(), **LOADERS[name]()))
    passes = [
        [source.indices(number * source.steps_per_pass + i) for i in range(source.steps_per_pass)]
        for number in range(2)
    ]
    assert not np.array_equal(*(np.concatenate(order) for order in passes))


def test_the_batches_do_not_depend_on_the_number_of_workers():
    def loader(workers):
        return utils.DataLoader(
            Drawing(), batch_size=5, shuffle=True, collate_fn=mixed, num_workers=workers
        )

    assert batches_of(loader(2)) == batches_of(loader(1)) == batches_of(loader(0))


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_the_global_random_states_stay_as_they_are(make):
    np.random.normal()  # NumPy keeps the second one of two
    before = global_states()
    batches_of(utils.DataLoader(Drawing(), **make()))
    assert global_states() == before


def test_a_worker_sees_the_dataset_that_the_person_gave():
    def begin(worker):
        utils.get_worker_info().dataset.shift = 100

    class Shifted(utils.Dataset):
        shift = 0

        def __len__(self):
            return 4

        def __getitem__(self, place):
            return place + self.shift

    loader = utils.DataLoader(Shifted(), batch_size=2, num_workers=1, worker_init_fn=begin)
    assert batches_of(loader, count=2) == [[[100, 101]], [[102, 103]]]


def test_examples_that_are_fetched_together_are():
    class Together(utils.Dataset):
        def __len__(self):
            return 6

        def __getitems__(self, places):
            return [sum(places)] * len(places)

    assert batches_of(utils.DataLoader(Together(), batch_size=3), count=2) == [
        [[3] * 3],
        [[12] * 3],
    ]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_iterable_dataset_is_run_again(persistent, workers):
    if persistent and not workers:
        pytest.skip("there is nothing to persist")

    def source(random_state=None):
        loader = utils.DataLoader(
            Streamed(), batch_size=4, num_workers=workers, persistent_workers=persistent
        )
        record = SimpleNamespace(data={"random": random_state})
        goes_on = SimpleNamespace(record=record) if random_state else None
        return source_of(loader, stream=generator_stream(loader, goes_on))

    first = source()
    whole = [np.asarray(x).tolist() for (x,) in itertools.islice(first.batches(0), 25)]
    for draw in (random.random, np.random.random, lambda: torch.rand(1)):
        draw()
    again = source(first.random_state).batches(20)
    assert [np.asarray(x).tolist() for (x,) in itertools.islice(again, 5)] == whole[20:]


def test_class_weights_become_sample_weights():
    loader = utils.DataLoader(Drawing(), batch_size=3)
    (x, y, weights), *_ = batches_of(loader, class_weight={0: 2.0, 1: 0.5})
    assert (len(x), y, weights) == (3, [0, 1, 2], [2.0, 0.5, 1.0])


def test_other_weights_of_the_sampler_are_other_data():
    def fingerprint(weights):
        sampler = utils.WeightedRandomSampler(weights, 19)
        return source_of(utils.DataLoader(Drawing(), batch_size=5, sampler=sampler)).fingerprint()

    assert fingerprint(WEIGHTS) == fingerprint(WEIGHTS)
    assert fingerprint(WEIGHTS) != fingerprint(WEIGHTS[::-1])


def test_other_tensors_of_a_tensor_dataset_are_other_data():
    def fingerprint(value):
        rows = torch.full((8, 2), value)
        return source_of(utils.DataLoader(utils.TensorDataset(rows), batch_size=4)).fingerprint()

    assert fingerprint(1.0) == fingerprint(1.0)
    assert fingerprint(1.0) != fingerprint(2.0)


@pytest.mark.parametrize(
    ("loader", "error", "said"),
    [
        (Drawing, TypeError, "Drawing is no loader of batches. Wrap a dataset in one"),
        (
            lambda: utils.DataLoader(Drawing(), batch_size=5, sampler=Counting()),
            ValueError,
            "another order each time.*set_epoch",
        ),
        (
            lambda: utils.DataLoader(Drawing(), batch_sampler=Growing()),
            ValueError,
            "gives 1 batches in one pass and 2 in the next",
        ),
        (
            lambda: utils.DataLoader(Drawing(), batch_size=2, sampler=Keyed()),
            ValueError,
            "places of examples",
        ),
        (
            lambda: utils.DataLoader(Streamed(), batch_size=2, num_workers=2, in_order=False),
            ValueError,
            "in_order=False",
        ),
    ],
    ids=["a dataset", "a counter", "passes of other lengths", "keys", "out of order"],
)
def test_what_cannot_be_found_again_is_refused(loader, error, said):
    with pytest.raises(error, match=said):
        source_of(loader())


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_loader_of_torchdata_is_served_by_index_and_not_with_a_state():
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    loader = stateful(Drawing(), batch_size=5, shuffle=True)
    assert source_of(loader).found_again == "by index"
    next(iter(loader))
    resumed = stateful(Drawing(), batch_size=5, shuffle=True)
    resumed.load_state_dict(loader.state_dict())
    with pytest.raises(ValueError, match="load_state_dict"):
        source_of(resumed)


def test_a_class_with_an_iter_of_its_own_is_run_again():
    class Doubled(utils.DataLoader):
        def __iter__(self):
            return (2 * batch for (batch,) in super().__iter__())

    loader = Doubled(utils.TensorDataset(torch.arange(4)), batch_size=2)
    assert "Doubled has an __iter__ of its own" in source_of(loader).found_again
    assert batches_of(loader, count=3) == [[[0, 2]], [[4, 6]], [[0, 2]]]
