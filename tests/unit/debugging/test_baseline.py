"""kp.baseline: the simplest models, and what stands beside them."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_patterns as kp

pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 4)).astype("float32")
LABELS = np.digitize(X[:, 0], [-0.6, 0.6])


def scores(*arguments, **more):
    found = kp.baseline(*arguments, **more)
    return found.metric, {row.name: row.score for row in found.rows}


def test_classes():
    metric, found = scores(X, LABELS)
    assert metric == "accuracy"
    assert list(found) == ["most frequent class", "logistic regression", "nearest neighbours"]
    assert found["most frequent class"] < 0.55
    assert found["logistic regression"] > 0.8


def test_one_hot_rows_are_classes():
    assert scores(X, keras.utils.to_categorical(LABELS)) == scores(X, LABELS)


def test_numbers():
    metric, found = scores(X, 3 * X[:, 0] - X[:, 1])
    assert metric == "R2"
    assert found["mean"] == pytest.approx(0, abs=0.05)
    assert found["ridge regression"] == pytest.approx(1, abs=0.01)


def test_labels_that_do_not_exclude_each_other():
    metric, found = scores(X, (X > 0).astype("float32"))
    assert metric == "accuracy of labels"
    assert found["logistic regression"] > 0.95


@pytest.mark.parametrize("rare", [0, 1])
def test_classes_that_are_all_one_need_no_fit(rare):
    """A label that so few have that none of those that are fitted on does; or all do."""
    x = np.random.default_rng(0).normal(size=(100, 3))
    labels = (x > 0).astype(int)
    labels[:, 1] = rare
    assert kp.baseline(x, labels).best.score > 0.8
    assert [row.score for row in kp.baseline(x, labels[:, 1]).rows] == [1.0] * 3


def test_the_scores_are_of_the_validation_data_where_there_are_some():
    flipped = (X[:100], (LABELS[:100] + 1) % 3)
    assert scores(X, LABELS, validation_data=flipped)[1]["logistic regression"] < 0.2
    found = kp.baseline(X, LABELS, validation_split=0.4)
    assert found.examples == 200
    np.testing.assert_array_equal(np.sort(found.test[1]), np.sort(LABELS[300:]))


def test_none_of_the_examples_that_it_is_scored_on_was_fitted():
    x = np.arange(400.0)[:, None]
    y = np.random.default_rng(1).permutation(400) % 2
    assert scores(x, y)[1]["nearest neighbours"] < 0.7


def test_a_known_result_stands_in_the_table():
    found = kp.baseline(X, LABELS, known={"a paper": 0.97})
    assert found.rows[-1] == type(found.rows[-1])("a paper", 0.97, True)
    assert found.best.name == "logistic regression"
    assert "a paper              0.970  known" in repr(found)
    assert ">a paper</td>" in found._repr_html_()


def test_the_score_of_a_net_on_the_same_examples():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.compile(
        keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(X, LABELS, epochs=10, verbose=0)
    found = kp.baseline(X, LABELS)
    x, y = found.test
    expected = (model.predict(x, verbose=0).argmax(1) == y).mean()
    assert found.score(model) == pytest.approx(expected)
    with pytest.raises(ValueError, match="outputs of shape"):
        kp.baseline(X, X[:, 0]).score(model)


def test_images_and_dicts_are_flattened():
    images = {"image": X.reshape(500, 2, 2, 1), "more": X[:, :1]}
    assert scores(images, LABELS)[1]["logistic regression"] > 0.8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X[:5], LABELS[:5]), ValueError, "5 examples are too few"),
        ((X, [LABELS, LABELS]), TypeError, "`y` one array"),
        ((iter([]), LABELS), TypeError, "`x` must be arrays"),
        ((X, LABELS.astype(str)), TypeError, "`y` must be numbers. Received an array of <U"),
    ],
)
def test_data_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        kp.baseline(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"task": "words"}, ValueError, "`task` must be one of"),
        ({"known": {"a paper": "good"}}, TypeError, r"`known\['a paper'\]` must be a number"),
        ({"validation_data": X}, ValueError, "received 500 parts|must be arrays"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises((error, TypeError), match=message):
        kp.baseline(X, LABELS, **arguments)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        kp.baseline(X, LABELS)
