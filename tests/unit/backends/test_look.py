"""The look at the first batch of a library's data."""

import importlib.util
import random

import numpy as np
import pytest

from keras_patterns.backends.loaders._look import watched_randomness


def torch_rand():
    import torch

    torch.rand(3)


def torch_normal():
    import torch

    torch.randn(1)


DRAWS = {
    "Python": [random.random, lambda: random.gauss(0, 1)],
    "NumPy": [np.random.random, lambda: np.random.normal(size=3)],
    "PyTorch": [torch_rand, torch_normal],
}
CASES = [(name, draw) for name, draws in DRAWS.items() for draw in draws]


@pytest.mark.parametrize(("name", "draw"), CASES)
def test_a_draw_from_a_global_state_is_named_and_taken_back(name, draw):
    if name == "PyTorch":
        pytest.importorskip("torch")
    with watched_randomness() as moved:
        assert moved() == []
        draw()
        assert moved() == [name]
    with watched_randomness() as again:
        draw()
        draw()
        assert again() == [name]


def test_what_is_drawn_in_a_look_is_drawn_again_after_it():
    def draws():
        drawn = [random.random(), np.random.normal(), np.random.random()]
        if importlib.util.find_spec("torch"):
            import torch

            drawn.append(torch.randn(3).tolist())
        return drawn

    with watched_randomness():
        expected = draws()
    assert draws() == expected
