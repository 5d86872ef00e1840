"""Exact resume: neither equal paths of variables nor other automatic names matter; given names that
have exchanged their places are refused.
"""

import keras
import numpy as np
import pytest
from models import CASES, two_backbones

import keras_patterns as kp
from keras_patterns.testing import assert_resumes_exactly, assert_same_state, run_state


def test_variables_of_equal_paths_have_keys_of_their_own():
    paths = [variable.path for variable in two_backbones().trainable_variables]
    assert len(set(paths)) < len(paths)
    assert_resumes_exactly(two_backbones, **CASES["two backbones"].arguments, kill_at=3)


def test_automatic_names_make_no_difference():
    """The first model's last layer is called as the layers in the backbones, the second one's is
    not.
    """

    def trained():
        keras.utils.set_random_seed(0)
        model = two_backbones()
        return model, run_state(
            model, kp.fit(model, **CASES["two backbones"].arguments, seed=0, verbose=0)
        )

    (first, expected), (second, found) = trained(), trained()
    assert [v.path for v in first.trainable_variables] != [
        v.path for v in second.trainable_variables
    ]
    assert_same_state(expected, found)


X = [np.random.default_rng(seed).normal(size=(16, 4)).astype("float32") for seed in (0, 1)]
Y = X[0].sum(1, keepdims=True)


def towers(first="left", second="right", *, made=(0, 1), order=(0, 1)):
    """A model of two inputs with a layer each, made in some order and joined in some order."""
    inputs = [keras.Input((4,)), keras.Input((4,))]
    layers = {}
    for one in made:
        layers[one] = keras.layers.Dense(3, name=(first, second)[one])
    outputs = [layers[one](inputs[one]) for one in range(2)]
    joined = keras.layers.Concatenate()([outputs[one] for one in order])
    model = keras.Model(inputs, keras.layers.Dense(1)(joined))
    model.compile("adam", "mse")
    return model


def trained(model, folder="run", **arguments):
    return kp.fit(
        model,
        X,
        Y,
        batch_size=8,
        epochs=2,
        seed=0,
        verbose=0,
        callbacks=[kp.Checkpoint(folder, every_steps=2, keep_last=None, **arguments)],
    )


WAYS = {
    "resume": trained,
    "resume from the weights": lambda model: trained(model, resume="weights"),
    "restore": lambda model: kp.CheckpointStore("run").restore(model),
    "restore of the weights": lambda model: kp.CheckpointStore("run").restore(
        model, weights_only=True
    ),
    "warm start": lambda model: kp.warm_start("run", model),
    "selection": lambda model: kp.select_checkpoint("run", model, (X, Y), verbose=0),
    "average": lambda model: kp.average_checkpoints("run", model),
}


@pytest.mark.parametrize("way", WAYS)
def test_layers_that_have_exchanged_their_places_are_refused(way):
    trained(towers())
    model = towers(order=(1, 0))
    before = model.get_weights()
    with pytest.raises(kp.StateMismatchError, match="exchanged their places") as caught:
        WAYS[way](model)
    assert "layers/2/bias was 'left/bias', which stands at layers/3/bias" in str(caught.value)
    for one, found in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, found)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (towers, towers),
        (towers, lambda: towers(made=(1, 0))),
        # Names of other layers than these, and one that another one had.
        (towers, lambda: towers("old", "new")),
        (towers, lambda: towers("right", "new")),
        (lambda: towers("tower_1", "tower_2"), lambda: towers("tower_2", "tower_3")),
        # Automatic names go by the order in which the layers are made.
        (lambda: towers(None, None), lambda: towers(None, None, made=(1, 0))),
    ],
)
def test_new_names_and_automatic_ones_are_not(then, now):
    made = then()
    trained(made)
    found = now()
    kp.CheckpointStore("run").restore(found)
    for one, other in zip(made.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("source", ["run", "exported.safetensors"])
def test_the_way_out_takes_the_weights_over_by_name(source):
    """As the error says."""
    made, other = towers(), towers(order=(1, 0))
    trained(made)
    if source == "exported.safetensors":
        kp.CheckpointStore("run").export(source)
    kp.load_pretrained(other, source, where=["left", "right"])
    for name in ("left", "right"):
        one, found = (model.get_layer(name).get_weights() for model in (made, other))
        np.testing.assert_array_equal(one[0], found[0])
