"""Counting the weights of a model leaves no trace, and changing them changes nothing else and is
undone when it is interrupted: for every model of the table.
"""

import keras
import numpy as np
import pytest
from models import CASES, runnable

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.state.variables import find_variables
from keras_patterns.testing import assert_same_state, differences
from keras_patterns.testing.comparison import run_state

EVERY = runnable(name for name in CASES if not CASES[name].gaps)


def is_kernel(weight):
    return len(weight.shape) > 1 and "bias" not in weight.name


MODELS = {}


def built(case):
    """A model of the table with its optimizer, as before its first step; one for all tests."""
    if id(case) not in MODELS:
        keras.utils.set_random_seed(5)
        MODELS[id(case)] = build(case.make_model(), case)
    return MODELS[id(case)]


def build(model, case):
    x = case.arguments["x"]
    if callable(x):
        data = x()
        batch = data[0] if isinstance(data, keras.utils.PyDataset) else next(data)
    else:
        y = case.arguments["y"]
        batch = keras.tree.map_structure(lambda one: one[:8], (x, y))
    current().build(model, batch)
    return model


def state(model):
    return run_state(model, keras.callbacks.History())


def settings(model):
    """Penalties and rates, and the arguments by which they are saved."""
    found = {id(one): one.regularizer for one in model.weights}
    for layer in model._flatten_layers():
        names = [name for name in dir(layer) if name.endswith("_regularizer")]
        found[id(layer)] = [
            getattr(layer, name) for name in ["rate", *names] if hasattr(layer, name)
        ]
    return found


def interrupted(monkeypatch, kind, method, at, counts=lambda *_: True):
    """Has a method of a class raise KeyboardInterrupt at its so-many-th call, once."""
    real, calls = getattr(kind, method), []

    def wrapped(self, *args, **kwargs):
        if counts(*args):
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(kind, method, wrapped)


@pytest.mark.parametrize("case", EVERY)
def test_counting_leaves_everything_as_it_was(case):
    """Before the optimizer has its slots, and after."""
    keras.utils.set_random_seed(5)
    model = case.make_model()
    if model.built:
        assert_uncounted(model)
    MODELS[id(case)] = build(model, case)
    assert_uncounted(model)


def assert_uncounted(model):
    model.train_function = function = object()
    before, how = state(model), settings(model)
    assert kp.count_parameters(model).total.parameters > 0
    assert_same_state(before, state(model))
    assert settings(model) == how
    assert model.train_function is function
    model.train_function = None


@pytest.mark.filterwarnings("ignore:kp.regularize. the penalty of")
@pytest.mark.parametrize("case", EVERY)
def test_penalties_change_nothing_else_and_are_undone(case, monkeypatch):
    model = built(case)
    before, how = state(model), settings(model)
    kernels = sum(map(is_kernel, model.trainable_weights))
    with monkeypatch.context() as patch:
        interrupted(
            patch,
            keras.layers.Layer,
            "__setattr__",
            min(kernels, 2),
            lambda name, _: name.endswith("_regularizer"),
        )
        with pytest.raises(KeyboardInterrupt):
            kp.regularize(model, l2=0.1)
    assert settings(model) == how
    kp.regularize(model, l1=0.1)
    assert_same_state(before, state(model))
    penalties = [one.regularizer is not None for one in model.trainable_weights]
    assert penalties == list(map(is_kernel, model.trainable_weights))


@pytest.mark.parametrize("case", EVERY)
def test_initial_values_change_nothing_else_and_are_undone(case, monkeypatch):
    model = built(case)
    before = state(model)
    kernels = sum(map(is_kernel, model.trainable_weights))
    with monkeypatch.context() as patch:
        interrupted(patch, keras.Variable, "assign", min(kernels, 2))
        with pytest.raises(KeyboardInterrupt):
            kp.initialize(model, "he")
    assert_same_state(before, state(model))
    kp.initialize(model, "he")
    kernels = {
        f"variables/{key}"
        for key, one in find_variables(model).of("weight").items()
        if is_kernel(one) and any(one is weight for weight in model.trainable_weights)
    }
    changed = {line.split(":")[0] for line in differences(before, state(model))}
    assert changed == kernels
    assert all(np.isfinite(one).all() for one in model.get_weights())
