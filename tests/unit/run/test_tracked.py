"""State of a loop of one's own that is put back."""

import json
import random

import keras
import numpy as np
import pytest

from keras_patterns.run.tracked import _accessors
from keras_patterns.state.codec import decode, encode


class WithState:
    """Has a state as PyTorch's objects have one."""

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_tensors_come_back_as_tensors_and_arrays_as_arrays():
    tensor, array = keras.ops.arange(3.0), np.arange(4)
    get, _ = _accessors("it", WithState({"one": [tensor], "other": (array,), "steps": 3}))
    saved = {"one": [np.arange(3, dtype="float32") + 1], "other": (array + 1,), "steps": 4}
    assert get()["steps"] == 3
    for live in (get(), {}):
        thing = WithState(live)
        _accessors("it", thing)[1](saved)
        assert keras.ops.is_tensor(thing.state["one"][0])
        assert keras.ops.convert_to_numpy(thing.state["one"][0]).tolist() == [1, 2, 3]
        assert isinstance(thing.state["other"][0], np.ndarray) == bool(live)
        assert thing.state["steps"] == 4


@pytest.mark.parametrize(
    ("generator", "draw"),
    [
        (np.random.default_rng(1), "random"),
        (np.random.RandomState(1), "random_sample"),
        (random.Random(1), "random"),
    ],
)
def test_a_generator_goes_on_where_it_stood(generator, draw):
    get, put = _accessors("noise", generator)
    arrays = {}
    saved = json.loads(json.dumps(encode(get(), "noise", arrays)))
    expected = [getattr(generator, draw)() for _ in range(3)]
    put(decode(saved, arrays))
    assert [getattr(generator, draw)() for _ in range(3)] == expected


def test_a_generator_of_pytorch_goes_on_where_it_stood():
    torch = pytest.importorskip("torch")
    if keras.backend.backend() != "torch":
        pytest.skip("It belongs to another framework.")
    generator = torch.Generator().manual_seed(3)
    get, put = _accessors("noise", generator)
    saved = get()
    expected = torch.rand(3, generator=generator)
    put(saved)
    assert torch.equal(torch.rand(3, generator=generator), expected)
    get, put = _accessors("all", (torch.get_rng_state, torch.set_rng_state))
    saved = get()
    expected = torch.rand(3)
    put(saved)
    assert torch.equal(torch.rand(3), expected)
