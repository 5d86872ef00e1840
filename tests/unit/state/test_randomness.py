"""The global random states: taken, put back, and checked before native code sees them."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from keras_patterns.backends import current
from keras_patterns.state import (
    StateMismatchError,
    decode,
    encode,
    get_random_state,
    set_random_state,
)


def test_the_random_states_can_be_had_before_anything_has_drawn():
    code = (
        "from keras_patterns.state.randomness import get_random_state, "
        "set_random_state\nset_random_state(get_random_state())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def legacy_generator():
    """Puts NumPy's global generator back."""
    before = np.random.get_bit_generator()
    yield
    np.random.set_bit_generator(before)


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
@pytest.mark.usefixtures("legacy_generator")
def test_each_of_numpy_s_generators_goes_on_where_it_was(name):
    np.random.set_bit_generator(getattr(np.random, name)(7))
    np.random.normal(size=3)
    arrays = {}
    text = json.dumps(encode(get_random_state(), "random", arrays))
    expected = np.random.normal(size=5)
    set_random_state(decode(json.loads(text), arrays))
    assert np.random.normal(size=5).tolist() == expected.tolist()


@pytest.mark.usefixtures("legacy_generator")
def test_a_generator_that_is_not_numpy_s_own_is_refused_when_it_is_saved():
    class Own(np.random.PCG64):
        pass

    np.random.set_bit_generator(Own(7))
    with pytest.raises(ValueError, match=r"cannot be kept.*'Own' is not one of NumPy's own"):
        get_random_state()


@pytest.mark.usefixtures("legacy_generator")
def test_the_state_of_another_generator_than_the_script_s_is_refused():
    state = get_random_state()
    np.random.set_bit_generator(np.random.PCG64(7))
    with pytest.raises(StateMismatchError, match="cannot be put back"):
        set_random_state(state)


PHILOX = {
    "bit_generator": "Philox",
    "state": {"counter": np.zeros(4, np.uint64), "key": np.zeros(2, np.uint64)},
    "buffer": np.zeros(4, np.uint64),
}


@pytest.mark.parametrize(
    ("part", "change", "text"),
    [
        ("numpy", {"has_gauss": 2}, "numpy.has_gauss"),
        ("numpy", {"state": {"key": np.zeros(623, np.uint32), "pos": 1}}, "numpy.state.key"),
        ("numpy", {"state": {"key": np.zeros(624), "pos": 1}}, "numpy.state.key"),
        ("numpy", {"state": {"key": np.zeros(624, np.uint32), "pos": 625}}, "numpy.state.pos"),
        ("numpy", {"state": {"key": np.zeros(624, np.uint32), "pos": -1}}, "numpy.state.pos"),
        ("numpy", {**PHILOX, "buffer_pos": 5}, "numpy.buffer_pos"),
        ("numpy", {**PHILOX, "buffer": None}, "numpy.buffer"),
        ("numpy", {"bit_generator": "PCG64", "state": {"state": 2**128, "inc": 1}}, "128 bits"),
        ("python", {"words": np.full(625, 625, np.uint32)}, r"python.words\[624\]"),
        ("python", {"words": np.zeros(624, np.uint32)}, "python.words"),
        ("python", {"version": 2}, "python.version"),
        ("python", {"gauss": "0"}, "python.gauss"),
    ],
)
def test_a_state_that_native_code_would_believe_is_refused(part, change, text):
    state = get_random_state()
    before = random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(StateMismatchError, match=text):
        set_random_state({**state, part: {**state[part], **change}})
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize("seed", [np.zeros(3, np.uint32), np.zeros(2), "0", 7])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(StateMismatchError, match="keras"):
        set_random_state({**get_random_state(), "keras": seed})


def torch_state(left, next_word):
    state = np.zeros(5056, np.uint8)
    state[8:12].view(np.int32)[:] = left
    state[12:16].view(np.int32)[:] = 1
    state[16:24].view(np.uint64)[:] = next_word
    return state


OF_BACKENDS = {
    "torch": [
        {"cpu": torch_state(624, 624)},
        {"cpu": torch_state(2, 624)},
        {"cpu": torch_state(1, 2**32)},
        {"cpu": torch_state(0, 0)},
        {"cpu": torch_state(-5, 3)},
        {"cpu": torch_state(1, 1)[:-1]},
        {"cpu": np.zeros(5056)},
        {"cpu": None},
        {"cuda:../0": torch_state(1, 1)},
        {"disk": torch_state(1, 1)},
    ],
    "tensorflow": [
        {"generator": np.zeros(2, np.int64)},
        {"generator": np.zeros(3)},
        {"generator": "0"},
        {"eager": {"version": 3, "words": np.full(625, 625, np.uint32), "gauss": None}},
        {"eager": {"version": 3}},
    ],
}


@pytest.mark.parametrize("state", OF_BACKENDS.get(current().name, []))
def test_a_state_that_the_framework_would_believe_is_refused(state):
    with pytest.raises(StateMismatchError, match="cannot be put back"):
        set_random_state({**get_random_state(), current().name: state})


@pytest.mark.skipif(current().name != "torch", reason="its generator lays its state out so")
def test_a_generator_of_torch_takes_no_state_that_it_would_believe():
    import torch

    generator = torch.Generator().manual_seed(3)
    access = current().state_access(generator)
    before = access.get()
    for state in (torch_state(624, 624), torch_state(2, 624), before[:-1], None):
        with pytest.raises(ValueError, match="not the bytes of a generator"):
            access.put(state)
    access.put(before)
    assert access.get().tolist() == before.tolist()


@pytest.mark.skipif(current().name != "torch", reason="its generator lays its state out so")
@pytest.mark.parametrize("draws", [0, 1, 623, 624, 625, 700])
def test_every_state_of_torch_s_generator_is_put_back(draws):
    import torch

    torch.manual_seed(3)
    torch.randint(9, (draws,))
    state = get_random_state()
    expected = torch.randint(2**31, (5,)).tolist()
    set_random_state(state)
    assert torch.randint(2**31, (5,)).tolist() == expected
