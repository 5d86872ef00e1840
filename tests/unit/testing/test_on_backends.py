"""assert_same_on_backends: a model that is the same on each backend, and one that is not."""

import re

import branching
import keras
import numpy as np
import pytest
from keras import layers

from keras_patterns.testing import assert_same_on_backends, on_backends

X = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
Y = {"left": X[:, :2], "right": X[:, :3]}


@pytest.mark.cross
def test_a_model_that_predicts_and_trains_the_same_passes():
    model = branching.make()
    before = model.get_weights()
    assert_same_on_backends(model, X, Y, steps=2)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.cross
def test_a_function_that_makes_the_model_passes():
    """Each process draws other initial weights, and gets those of the first."""
    assert_same_on_backends(branching.make, X, backends=["jax", "torch"])


@pytest.mark.cross
def test_a_layer_that_asks_for_the_backend_is_found():
    model = branching.make(branching.Branching)
    with pytest.raises(AssertionError) as failed:
        assert_same_on_backends(model, X, backends=["jax", "torch"])
    said = str(failed.value)
    (line,) = [one for one in said.splitlines() if "differ between" in one]
    place = re.match(
        r"  output/right: 6 of 18 values differ between jax and torch, most of all at \[(\d), 0\]: "
        r"(\S+) and (\S+)$",
        line,
    )
    assert place, said
    assert float(place[3]) == pytest.approx(2 * float(place[2]), rel=1e-4)
    assert "ask for the backend" in said


@pytest.mark.cross
def test_a_model_that_a_backend_cannot_load_is_an_error():
    class Hidden(branching.Same):
        """Of no module that can be imported, or of no place in it."""

    said = r"jax cannot run the model: .*(<locals>|No module)(.|\n)*classes stand in a module"
    with pytest.raises(AssertionError, match=said):
        assert_same_on_backends(branching.make(Hidden), X, backends=["jax", "torch"])


@pytest.mark.once
def test_one_backend_alone_does_not_pass(monkeypatch):
    monkeypatch.setattr(on_backends, "installed", lambda: ["jax"])
    with pytest.raises(AssertionError, match="nothing was compared, since there is jax alone"):
        assert_same_on_backends(branching.make(), X)


def dropping():
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, name="drop"), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def not_compiled():
    return keras.Sequential([keras.Input((4,)), layers.Dense(1)])


@pytest.mark.once
@pytest.mark.parametrize(
    ("model", "arguments", "error", "said"),
    [
        (None, {}, TypeError, "must be a Keras model"),
        (dropping, {"y": X[:, :1], "steps": 1}, ValueError, "'drop' draws random numbers"),
        (not_compiled, {"y": X[:, :1], "steps": 1}, ValueError, "is not compiled"),
        (dropping, {"steps": 1}, ValueError, "steps=1 needs `y`"),
        (dropping, {"steps": -1}, ValueError, "`steps`"),
        (dropping, {"rtol": -1}, ValueError, "`rtol`"),
        (dropping, {"backends": "jax"}, TypeError, "must be a list of names"),
        (dropping, {"backends": ["mxnet"]}, ValueError, "names 'mxnet', and installed are"),
        (lambda: dropping(), {}, ValueError, "must stand in a module, at its top"),
    ],
)
def test_arguments_are_checked(model, arguments, error, said, monkeypatch):
    monkeypatch.setattr(on_backends, "installed", lambda: ["jax", "torch"])
    with pytest.raises(error, match=said):
        assert_same_on_backends(model, X, **arguments)
