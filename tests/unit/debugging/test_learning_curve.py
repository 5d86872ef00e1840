"""kp.learning_curve: bias and variance, the draws, the picture."""

import random

import keras
import numpy as np
import pytest

import keras_patterns as kp
from keras_patterns.state.randomness import get_random_state
from keras_patterns.testing import differences
from keras_patterns.testing.comparison import flat_state

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 20)).astype("float32")
QUIET = {"verbose": 0}


def line(rate=0.02):
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse", metrics=["mae"])
    return model


def same_random_state(before):
    now = dict(flat_state(get_random_state(), ""))
    return not differences(before, now)


@pytest.mark.once
def test_noise_on_few_examples_is_variance():
    """Twenty weights for noise: less than for so many examples, it is learnt by heart."""
    curve = kp.learning_curve(
        line,
        X[:60],
        RANDOM.normal(size=60),
        sizes=[8, 24],
        epochs=60,
        validation_split=0.5,
        **QUIET,
    )
    assert curve.verdict == "variance"
    assert curve.gap == pytest.approx(curve.validation[-1, 0] - curve.training[-1, 0])
    assert "Variance: with all examples the gap is " in repr(curve)


@pytest.mark.once
def test_what_a_line_cannot_follow_is_bias():
    curve = kp.learning_curve(line, X, (X**2).sum(axis=1), sizes=[80, 160, 320], epochs=30, **QUIET)
    assert curve.verdict == "bias"
    assert "Bias: with all examples the gap is " in repr(curve)


def test_figures_come_from_the_scores():
    scores = np.array([[4.0, 6.0], [3.0, 3.0], [1.0, 3.0]])
    curve = kp.LearningCurve([10, 20, 40], scores - 1, scores, "loss", "min")
    assert curve.gap == 1.0
    # 5, 3, 2 on average: 1.5 a doubling.
    assert curve.gain_per_doubling == pytest.approx(1.5)
    # A fifth of 2 is below the gap, but not two errors of 1.
    assert curve.verdict == "bias"
    more = kp.LearningCurve([10, 20, 40], -scores + 1, -scores, "accuracy", "max")
    assert more.gap == 1.0
    assert more.gain_per_doubling == pytest.approx(1.5)


def test_the_same_seed_gives_the_same_curve_and_no_state_moves():
    def curve(seed, repeats=2):
        more = {"sizes": [16, 32], "repeats": repeats, "epochs": 1, "seed": seed, "batch_size": 8}
        return kp.learning_curve(line, X[:64], X[:64, 0], **more, **QUIET)

    random.random(), np.random.uniform(), keras.random.uniform(())
    before = dict(flat_state(get_random_state(), ""))
    one = curve(0)
    assert same_random_state(before)
    other, third = curve(0), curve(1, repeats=1)
    np.testing.assert_array_equal(one.validation, other.validation)
    assert not np.array_equal(one.validation[:, :1], third.validation)
    # Each repeat has other examples and other weights.
    assert one.validation[0, 0] != one.validation[0, 1]


class Failing(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        raise KeyboardInterrupt


def test_an_interruption_leaves_the_random_states_as_they_were():
    before = dict(flat_state(get_random_state(), ""))
    with pytest.raises(KeyboardInterrupt):
        kp.learning_curve(line, X, X[:, 0], callbacks=[Failing()], **QUIET)
    assert same_random_state(before)


@pytest.mark.once
def test_every_size_gets_the_steps_of_the_largest_and_its_own_examples():
    seen = []

    class Counting(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.params["epochs"] * self.params["steps"])

    curve = kp.learning_curve(
        line,
        X[:80],
        X[:80, 0],
        batch_size=5,
        epochs=4,
        metric="mae",
        validation_data=(X[80:90], X[80:90, 0]),
        callbacks=[Counting()],
        **QUIET,
    )
    assert curve.sizes == [5, 10, 20, 40, 80]
    assert seen == [64] * 5


def test_its_picture():
    scores = np.array([[4.0, 6.0], [3.0, 3.0], [1.0, 3.0]])
    axes = kp.LearningCurve([10, 20, 40], scores - 1, scores, "loss", "min").plot()
    assert axes.get_xlabel() == "examples"
    assert axes.get_ylabel() == "loss"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["10", "20", "40"]


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"sizes": [10]}, ValueError, "`sizes` must be two numbers or more"),
        ({"sizes": [20, 10]}, ValueError, "`sizes` must be two numbers or more"),
        ({"sizes": [10, 999]}, ValueError, "at most 320, the examples that train"),
        ({"sizes": [1.5, 3]}, TypeError, "`sizes` must be a whole number"),
        ({"repeats": 0}, ValueError, "`repeats` must be at least 1"),
        ({"metric": "mape"}, ValueError, "the model has no metric 'mape'. It has .'loss', 'mae'."),
        ({"metric": "score"}, ValueError, "whether less or more of 'score' is better"),
        ({"build": lambda: 3}, TypeError, "`build` must make a Keras model"),
        ({"build": lambda: keras.Sequential()}, ValueError, "`build` must compile the model"),
        ({"y": X[:9]}, ValueError, "the same number of examples"),
    ],
)
def test_arguments_are_checked(changed, error, said):
    how = {"build": line, "x": X, "y": X[:, 0], "epochs": 1, "sizes": [2, 4], **changed}
    with pytest.raises(error, match=said):
        kp.learning_curve(**how, **QUIET)


def test_a_model_that_is_not_new_is_refused():
    model = line()
    with pytest.raises(ValueError, match="`build` must make a new model each time"):
        kp.learning_curve(lambda: model, X, X[:, 0], epochs=1, sizes=[2, 4], **QUIET)
