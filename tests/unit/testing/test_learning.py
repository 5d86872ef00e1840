"""The assertions about learning: a model that passes, and one that fails and says where to look."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_patterns.state.randomness import get_random_state
from keras_patterns.state.snapshot import copy_values
from keras_patterns.state.variables import find_variables
from keras_patterns.testing import (
    assert_no_leak_across_batch,
    assert_overfits_batch,
    assert_preflight_clean,
    assert_same_state,
    assert_trains_every_variable,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
LABELS = (X[:, 0] > 0).astype("int32") + (X[:, 1] > 0)


def net(*hidden, rate=0.01, last="softmax"):
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(3, activation=last)])
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def usual():
    return net(
        layers.Dense(16, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.5)
    )


def rounded():
    return net(layers.Dense(8), layers.Lambda(ops.round))


def centred():
    inputs = keras.Input((4,))
    return keras.Model(inputs, inputs - ops.mean(inputs, axis=0))


def state_of(model):
    return {**copy_values(find_variables(model).variables), "random": str(get_random_state())}


@pytest.mark.parametrize(
    "look",
    [
        lambda model: assert_overfits_batch(model, X, LABELS, steps=100),
        lambda model: assert_preflight_clean(model, X, LABELS),
        lambda model: assert_trains_every_variable(model, X, LABELS),
        lambda model: assert_no_leak_across_batch(model, X),
    ],
    ids=["overfits", "preflight", "trains", "leak"],
)
def test_a_sound_model_passes_and_is_left_bit_for_bit_as_it_was(look):
    model = usual()
    model.fit(X, LABELS, verbose=0)
    before = state_of(model)
    look(model)
    assert_same_state(before, state_of(model))


def test_a_function_may_make_the_model_that_memorises():
    assert_overfits_batch(usual, X, LABELS, steps=100)


def test_a_batch_that_is_not_memorised_is_reported_with_the_rate_that_would_do():
    with pytest.raises(AssertionError) as error:
        assert_overfits_batch(net(rate=1e-6), X, LABELS, steps=60)
    said = str(error.value)
    assert "assert_overfits_batch: in 60 steps the model has not memorised one batch." in said
    assert "plateaus. At the rate of 1e-06 the loss of one batch falls by 0% in 60 steps" in said
    assert "Try next: Use a learning rate of about 1.0e-03" in said
    assert "Dense at layers/0" in said


def test_a_finding_of_the_preflight_fails_with_its_remedy():
    with pytest.raises(AssertionError, match=r"error, output_activation: .*softmax"):
        assert_preflight_clean(net(last=None), X, LABELS)


def test_findings_below_the_severity_and_those_to_skip_pass():
    model = net(layers.Dense(8, activation="relu"))
    with pytest.raises(AssertionError, match="warning, input_scale"):
        assert_preflight_clean(model, 30 * X, LABELS)
    assert_preflight_clean(model, 30 * X, LABELS, severity="error")
    assert_preflight_clean(model, 30 * X, LABELS, skip=["input_scale"])
    with pytest.raises(ValueError, match="`severity` must be one of 'error', 'warning', 'note'"):
        assert_preflight_clean(net(), X, LABELS, severity="bad")


def test_variables_that_no_gradient_reaches_are_named():
    with pytest.raises(AssertionError) as error:
        assert_trains_every_variable(rounded(), X, LABELS)
    said = str(error.value)
    assert "2 of 4 trainable variables are not trained" in said
    assert "layers/0/kernel (sequential/dense/kernel, 4 x 8): the gradient is 0" in said
    assert "layers/0/bias" in said
    assert "layers/2" not in said
    assert "a step without a derivative" in said


def test_a_gradient_that_is_not_finite_is_named():
    spoilt = X.copy()
    spoilt[3] = np.nan
    with pytest.raises(AssertionError, match=r"layers/0/kernel .*: the gradient is not finite"):
        assert_trains_every_variable(net(), spoilt, LABELS)


def test_what_is_frozen_need_not_be_trained_but_not_everything_may_be():
    model = rounded()
    model.layers[0].trainable = False
    assert_trains_every_variable(model, X, LABELS)
    model.trainable = False
    with pytest.raises(AssertionError, match="no variable of 'sequential' is trainable"):
        assert_trains_every_variable(model, X, LABELS)


def test_data_that_do_not_fit_the_model_are_said_to_be_so():
    with pytest.raises(ValueError, match="there is no gradient of 'sequential' on these data"):
        assert_trains_every_variable(net(), X, LABELS + 5)


def test_outputs_that_depend_on_other_rows_are_found():
    with pytest.raises(AssertionError) as error:
        assert_no_leak_across_batch(centred(), X)
    assert "the outputs of 8 of 8 rows move" in str(error.value)
    assert "a mean" in str(error.value)


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 7])
def test_a_row_that_depends_on_one_other_row_is_found(distance):
    inputs = keras.Input((4,))
    mask = np.zeros((8, 1), "float32")
    mask[0] = 1
    model = keras.Model(inputs, inputs + ops.roll(inputs, distance, axis=0) * mask)
    with pytest.raises(AssertionError, match=r"of 1 of 8 rows move .* row 0 the most"):
        assert_no_leak_across_batch(model, X)


def test_an_output_without_a_row_for_each_example_mixes_rows():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, ops.reshape(inputs, (-1, 8)))
    with pytest.raises(AssertionError, match=r"8 rows give an output of shape \(4, 8\)"):
        assert_no_leak_across_batch(model, X)


def test_layers_that_draw_at_random_in_inference_are_no_leak():
    class AlwaysNoise(layers.Layer):
        def __init__(self):
            super().__init__()
            self.seeds = keras.random.SeedGenerator(0)

        def call(self, inputs):
            return inputs + keras.random.normal(ops.shape(inputs), seed=self.seeds)

    model = keras.Sequential([keras.Input((4,)), AlwaysNoise()])
    assert_no_leak_across_batch(model, X)


def test_rows_that_are_all_equal_show_nothing():
    with pytest.raises(ValueError, match="all rows of `x` are equal"):
        assert_no_leak_across_batch(centred(), np.ones((8, 4)))


def test_a_fixed_batch_and_inputs_by_name_are_kept_to():
    inputs = {name: keras.Input((4,), batch_size=6, name=name) for name in "ab"}
    model = keras.Model(inputs, {"sum": inputs["a"] + inputs["b"]})
    assert_no_leak_across_batch(model, {"a": X, "b": X})


class Reconstructs(keras.Model):
    """It has no targets."""

    def __init__(self, is_detached):
        super().__init__()
        self.code, self.back = layers.Dense(2), layers.Dense(4)
        self.is_detached = is_detached

    def call(self, x):
        code = self.code(x)
        return self.back(ops.stop_gradient(code) if self.is_detached else code)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(y_pred - x))


@pytest.mark.parametrize("is_detached", [False, True])
def test_a_model_without_targets_trains_every_variable(is_detached):
    model = Reconstructs(is_detached)
    model.compile("adam")
    if not is_detached:
        assert_trains_every_variable(model, X)
        return
    with pytest.raises(AssertionError, match="2 of 4 trainable variables are not trained"):
        assert_trains_every_variable(model, X)
