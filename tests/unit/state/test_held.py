"""States that a checkpoint holds for generators and values are checked before they are put back."""

import collections
import functools
import itertools
import random
import types

import keras
import numpy as np
import pytest

from keras_patterns._keras import layers
from keras_patterns.state.codec import decode, encode
from keras_patterns.state.held import HeldStates
from keras_patterns.state.item_caller import ItemCaller
from keras_patterns.state.snapshot import StateMismatchError
from keras_patterns.state.values import MovingValues
from keras_patterns.state.walk import walk

pytestmark = pytest.mark.once

MAKE = {
    **{
        kind.__name__: (lambda kind=kind: np.random.Generator(kind(1)))
        for kind in (
            *(np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM),
            *(np.random.Philox, np.random.SFC64),
        )
    },
    "RandomState": lambda: np.random.RandomState(1),
    "Random": lambda: random.Random(1),
    "SeedGenerator": lambda: keras.random.SeedGenerator(1),
}


def drawn(thing):
    if isinstance(thing, keras.random.SeedGenerator):
        return keras.ops.convert_to_numpy(keras.random.normal((), seed=thing)).item()
    # Of 32 bits, so that half a word is left over.
    many = [thing.gauss(0, 1)] if isinstance(thing, random.Random) else thing.normal(size=3)
    bits = getattr(thing, "integers", lambda *_, **__: 0)(9, dtype=np.uint32)
    return [*many, int(bits)]


def through_json(states):
    arrays = {}
    return decode(encode(states, "held", arrays), arrays)


@pytest.mark.parametrize("kind", MAKE)
def test_a_generator_goes_on_where_it_was(kind):
    thing = MAKE[kind]()
    held = HeldStates({"callbacks/A": {"rng": thing}})
    drawn(thing)
    states = through_json(held.states())
    expected = [drawn(thing) for _ in range(4)]
    held.restore(states)
    assert [drawn(thing) for _ in range(4)] == expected
    assert all(place.startswith("callbacks/A/rng") for place in states)


def leaves(state, path=()):
    if isinstance(state, dict):
        for key, value in state.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, state


def changed(state, path, value):
    if not path:
        return value
    return {**state, path[0]: changed(state[path[0]], path[1:], value)}


WRONG = [None, -1, 10**9, 10**400, "0x3b9aca00", "-1", "MT19937", [], {}, np.zeros(3), float("nan")]


@pytest.mark.parametrize("kind", MAKE)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(kind):
    thing = MAKE[kind]()
    held = HeldStates({"callbacks/A": {"rng": thing}})
    ((place, saved),) = held.states().items()
    for path, value in leaves(saved):
        for wrong in WRONG:
            if type(wrong) is type(value) and path[-1] not in ("pos", "buffer_pos", "kind"):
                continue
            if path[-1] == "gauss" and isinstance(wrong, float | None):
                continue
            with pytest.raises(StateMismatchError, match=r"callbacks/A/rng"):
                held.restore({place: changed(saved, path, wrong)})
    for wrong in WRONG:
        with pytest.raises(StateMismatchError):
            held.restore({place: wrong})
    assert drawn(thing) == drawn(MAKE[kind]())


def test_two_generators_of_one_source_are_one():
    bits = np.random.PCG64(1)
    pair = [np.random.Generator(bits), np.random.Generator(bits)]
    assert list(HeldStates({"x": pair}).find()) == ["x/0"]


def test_what_is_new_or_gone_is_named(capsys):
    held = HeldStates({"x": {"a": random.Random(1)}})
    held.restore({"x/b": {"kind": "random.Random", "state": {}}})
    assert capsys.readouterr().out.splitlines() == [
        "keras-patterns: x/a (random.Random) has no state in the checkpoint, and starts here.",
        "keras-patterns: x/b is not there any more, and its state is gone.",
    ]


# Where the walk looks.

GLOBAL = random.Random(1)


class Slots:
    __slots__ = ("rng",)

    def __init__(self, rng):
        self.rng = rng


class OnClass:
    rng = random.Random(1)


class ByName:
    def draw(self):
        return [GLOBAL.random() for _ in range(2)]


def default(rng=random.Random(1)):  # noqa: B008
    return rng


def keyword(*, rng=random.Random(1)):  # noqa: B008
    return rng


def local_to_a_generator():
    rng = random.Random(1)
    while True:
        yield rng.random()


def started():
    generator = local_to_a_generator()
    next(generator)
    return generator


class Own:
    def __init__(self, value):
        self.value = value

    def method(self):
        return self.value


WAYS = {
    "attribute": Own,
    "property of a list of dicts": lambda rng: [{"a": (rng,)}],
    "deque": lambda rng: collections.deque([rng]),
    "slots": Slots,
    "class": lambda rng: OnClass(),
    "global": lambda rng: ByName(),
    "global of a function": lambda rng: lambda: GLOBAL.random(),
    "closure": lambda rng: lambda: rng.random(),
    "default": lambda rng: default,
    "keyword": lambda rng: keyword,
    "partial": lambda rng: functools.partial(print, rng),
    "method": lambda rng: Own(rng).method,
    "iterator": lambda rng: map(lambda _: rng.random(), itertools.count()),  # noqa: C417
    "chain": lambda rng: itertools.chain([1], (rng.random() for _ in range(3))),
    "generator": lambda rng: started(),
    "namespace": lambda rng: types.SimpleNamespace(rng=rng),
    "wrapped": lambda rng: functools.wraps(default)(functools.partial(default)),
    "set": lambda rng: {rng},
    "layer": lambda rng: keras.layers.Lambda(lambda x: x + rng.random()),
    "callback": lambda rng: keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: rng.random()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_generator_is_found(way):
    found = HeldStates({"x": WAYS[way](random.Random(1))}).find()
    assert [type(thing) for thing, _ in found.values()] == [random.Random]


def test_places_are_the_same_in_each_walk_and_a_circle_ends():
    first = Own(None)
    first.value = [first, random.Random(1), random.Random(2)]
    held = HeldStates({"x": first})
    assert list(held.find()) == list(held.find()) == ["x/value/1", "x/value/2"]


def test_arrays_and_libraries_are_not_looked_into():
    nodes = list(walk({"x": [np.zeros(10**6), keras, np.random, "a" * 10**6]}))
    assert len(nodes) == 5


# Values.


class Values:
    def __init__(self):
        self.number, self.list, self.nested, self.none = 1, [1.0], {"a": {"b": (1, 2)}}, None
        self.array, self.count, self.still = np.zeros(2), itertools.count(), 3

    def move(self):
        self.number += 1
        self.list.append(2.5)
        self.nested["a"]["c"] = next(self.count)
        self.none = (self.none or 0) + 1
        self.array += 1

    def seen(self):
        return self.number, self.list, self.nested, self.none, self.array.tolist()


def watched(values):
    moving = MovingValues(lambda: walk({"x": values}))
    moving.begin()
    return moving


def test_values_that_have_moved_are_put_back():
    values = Values()
    moving = watched(values)
    values.move()
    states = through_json(moving.states())
    assert sorted(states) == [
        f"x/{n}" for n in ("array", "count", "list", "nested", "none", "number")
    ]
    values.move()
    expected = values.seen()
    fresh = Values()
    watched(fresh).restore(states)
    fresh.move()
    assert fresh.seen() == expected


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("number", [1]), ("list", 3), ("nested", [1]), ("number", "a"), ("count", 3), ("array", 1)],
)
def test_values_of_another_kind_are_refused(name, wrong):
    with pytest.raises(StateMismatchError, match=f"for 'x/{name}', where"):
        watched(Values()).restore({f"x/{name}": wrong})


# Items of a dataset.


def test_an_item_depends_on_its_words_alone():
    dataset = types.SimpleNamespace(rng=np.random.default_rng(1), late=None)
    words = [np.arange(4, dtype=np.uint32) + n for n in range(3)]

    def make():
        dataset.late = dataset.late or random.Random(9)
        return dataset.rng.random(), dataset.late.random(), random.random(), np.random.random()

    before = random.random(), dataset.rng.bit_generator.state
    first = [ItemCaller(dataset)(one, make) for one in words]
    assert dataset.rng.bit_generator.state == before[1]
    dataset.late = None
    assert [ItemCaller(dataset)(one, make) for one in reversed(words)] == first[::-1]
    numbers = [number for item in first for number in item[:3]]
    assert len(set(numbers)) == len(numbers)


def test_a_worker_makes_no_variable_to_look_into_a_dataset(monkeypatch):
    """It would lie on the device: a process that was forked cannot use it, one that was spawned
    would take its memory.
    """
    layers._attributes.cache_clear()

    class Own(keras.losses.Huber):
        pass

    class Dataset:
        rng = np.random.default_rng(0)

        def __init__(self):
            self.held = Own(), keras.layers.Rescaling(2.0)

    def refuse(*_, **__):
        raise AssertionError("a variable is made")

    dataset = Dataset()
    monkeypatch.setattr(keras.Variable, "__init__", refuse)
    words = np.arange(4, dtype=np.uint32)
    assert ItemCaller(dataset, names_moving=True)(words, dataset.rng.random) > 0
