"""Keras's random functions, conditions and rates on PyTorch, with their values on the device."""

import keras
import numpy as np
import pytest
from keras import ops, random

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="Keras runs on another backend"
)

DRAWS = {
    "uniform": lambda seed: random.uniform((3, 2), seed=seed),
    "uniform of one": lambda seed: random.uniform((), seed=seed),
    "normal": lambda seed: random.normal((3, 2), 1.0, 2.0, seed=seed),
    "truncated normal": lambda seed: random.truncated_normal((3, 2), seed=seed),
    "integers": lambda seed: random.randint((9,), 0, 100, seed=seed),
    "dropout": lambda seed: random.dropout(ops.ones((40,)), 0.4, seed=seed),
    "shuffled": lambda seed: random.shuffle(ops.arange(12), seed=seed),
}


def on_device():
    from keras_patterns.backends._torch_values import values_on_device

    return values_on_device()


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_numbers_are_drawn_without_a_read(name):
    from keras_patterns.backends._torch_blocks import _NoReads

    seeds = [random.SeedGenerator(7) for _ in range(2)]
    expected = [DRAWS[name](seeds[0]).tolist() for _ in range(3)]
    with on_device(), _NoReads():
        found = [DRAWS[name](seeds[1]) for _ in range(3)]
    assert [one.tolist() for one in found] == expected
    np.testing.assert_array_equal(*(ops.convert_to_numpy(one.state.value) for one in seeds))


@pytest.mark.parametrize("holds", [True, False])
def test_a_condition_chooses_what_is_returned_and_written(holds):
    outcomes = []
    for inside in (False, True):
        first, second = (
            keras.Variable(values, trainable=False) for values in ([1.0, 2.0], [3.0, 4.0])
        )

        def if_true(first=first):
            first.assign_add(first * 10)
            return ops.sum(first)

        def if_false(first=first, second=second):
            second.assign(second - first)
            first.assign(first * 0)
            return ops.sum(second)

        condition = ops.convert_to_tensor(holds)
        if inside:
            with on_device():
                chosen = ops.cond(condition, if_true, if_false)
        else:
            chosen = ops.cond(condition, if_true, if_false)
        outcomes.append([float(chosen), first.numpy().tolist(), second.numpy().tolist()])
    assert outcomes[0] == outcomes[1]


def test_conditions_stand_inside_one_another():
    total = keras.Variable(0.0, trainable=False)
    three, five = ops.convert_to_tensor(3), ops.convert_to_tensor(5)
    with on_device():
        ops.cond(
            three < five,
            lambda: ops.cond(three > five, lambda: total.assign(1.0), lambda: total.assign(2.0)),
            lambda: total.assign(3.0),
        )
    assert float(total.value) == 2.0


def test_all_is_as_before_outside():
    from keras.src.backend.torch import core
    from keras.src.backend.torch import random as module

    before = module.torch, module.torch_seed_generator, core.cond, torch._foreach_add_

    @on_device()
    def fail():
        assert module.torch is not torch
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    after = module.torch, module.torch_seed_generator, core.cond, torch._foreach_add_
    assert all(a is b for a, b in zip(before, after, strict=True))
