"""The assertions about scores: against the simplest models, and against a recorded one."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from keras_patterns.state.randomness import get_random_state
from keras_patterns.state.snapshot import copy_values
from keras_patterns.state.variables import find_variables
from keras_patterns.testing import assert_beats_baseline, assert_no_regression, assert_same_state

pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
X = RNG.normal(size=(900, 6)).astype("float32")
# Of three signs: beyond a linear model, and hard for neighbours.
LABELS = (X[:, 0] * X[:, 1] * X[:, 2] > 0).astype("int32")
TRAIN, TEST = (X[:600], LABELS[:600]), (X[600:], LABELS[600:])
FILE = Path("score.json")


class Signs(layers.Layer):
    """The solution, or its opposite."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def call(self, inputs):
        return keras.ops.sigmoid(self.sign * inputs[:, :1] * inputs[:, 1:2] * inputs[:, 2:3])


def model_of(sign):
    model = keras.Sequential([keras.Input((6,)), Signs(sign)])
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    return model


def state_of(model):
    return {**copy_values(find_variables(model).variables), "random": str(get_random_state())}


def test_a_model_far_above_the_simple_ones_passes_and_is_left_as_it_was():
    model = model_of(1.0)
    before = state_of(model)
    assert_beats_baseline(model, *TRAIN, validation_data=TEST)
    assert_same_state(before, state_of(model))


def test_a_model_below_the_simple_ones_fails_with_the_scores_of_all():
    with pytest.raises(AssertionError) as error:
        assert_beats_baseline(model_of(-1.0), *TRAIN, validation_data=TEST)
    said = str(error.value)
    assert "the score is 0, which is not clearly above" in said
    assert "logistic regression" in said
    assert "kp.debug" in said


def test_a_score_must_be_above_the_best_by_the_margin():
    y = (X[:, 0] > 0).astype("int32")
    assert_beats_baseline(1.0, X, y, margin=0.0)
    with pytest.raises(AssertionError, match="not clearly above"):
        assert_beats_baseline(1.0, X, y, margin=0.2)


def test_the_margin_by_default_is_more_than_one_example():
    best = 0.98
    y = (X[:, 0] > 0).astype("int32")
    with pytest.raises(AssertionError, match="of logistic regression: it must be above"):
        assert_beats_baseline(best, X, y)


def test_r2_has_a_margin_of_its_own():
    y = X[:, 0] + RNG.normal(size=900)
    with pytest.raises(AssertionError, match="of ridge regression"):
        assert_beats_baseline(0.5, X, y)
    assert_beats_baseline(0.7, X, y)


def test_a_model_is_not_scored_on_what_it_was_trained_on():
    with pytest.raises(ValueError, match="validation_data="):
        assert_beats_baseline(model_of(1.0), *TRAIN)
    with pytest.raises(TypeError, match="`model` must be a number"):
        assert_beats_baseline("0.9", *TRAIN)


def test_the_first_call_records_and_says_so(capsys):
    assert_no_regression([0.90, 0.92, 0.94], FILE)
    assert "score.json: recorded the score 0.92" in capsys.readouterr().out
    record = json.loads(FILE.read_text())
    assert record == {
        "format": 1,
        "score": pytest.approx(0.92),
        "spread": pytest.approx(0.02),
        "runs": 3,
        "better": "higher",
    }
    assert [one.name for one in FILE.parent.iterdir()] == ["score.json"]


def test_a_score_within_the_spread_passes_and_leaves_the_record_alone():
    assert_no_regression([0.90, 0.92, 0.94], FILE)
    before = FILE.read_bytes()
    for score in (0.89, 0.99, [0.90, 0.91]):
        assert_no_regression(score, FILE)
    assert FILE.read_bytes() == before


def test_a_worse_score_fails_and_says_what_to_look_at():
    assert_no_regression([0.90, 0.92, 0.94], FILE)
    before = FILE.read_bytes()
    with pytest.raises(AssertionError) as error:
        assert_no_regression(0.80, FILE)
    said = str(error.value)
    assert "the score is 0.8; recorded in" in said
    assert "worse by 0.12, and may be by 0.0462" in said
    assert "Look at what changed since in the raw data" in said
    assert FILE.read_bytes() == before


def test_where_lower_is_better_a_higher_score_fails():
    assert_no_regression(0.5, FILE, better="lower")
    assert_no_regression(0.4, FILE, better="lower")
    assert_no_regression(0.55, FILE, better="lower", tolerance=0.1)
    with pytest.raises(AssertionError, match=r"worse by 0\.1"):
        assert_no_regression(0.6, FILE, better="lower")
    with pytest.raises(ValueError, match="was recorded with better='lower'"):
        assert_no_regression(0.6, FILE)


def test_it_records_anew_when_asked():
    assert_no_regression(0.9, FILE)
    assert_no_regression(0.8, FILE, record=True)
    assert_no_regression(0.8, FILE)


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("score", [float("nan"), float("inf"), True, "0.9", [], [0.9, None]])
def test_no_score_never_loses_the_record(score, record):
    assert_no_regression(0.9, FILE)
    before = FILE.read_bytes()
    with pytest.raises((TypeError, ValueError), match="`score`"):
        assert_no_regression(score, FILE, record=record)
    assert FILE.read_bytes() == before


GOOD = {"format": 1, "score": 0.9, "spread": 0.0, "runs": 1, "better": "higher"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is no record of a score"),
        (b"\xff\xfe", "is no record of a score"),
        (b"[" * 5000, "is no record of a score"),
        (b"3" * 20_000, "it has more than 10,000 bytes"),
        (json.dumps({**GOOD, "score": "0.9"}).encode(), r"score: expected `float`"),
        (json.dumps({**GOOD, "score": float("nan")}).encode(), "no number of JSON"),
        (json.dumps({**GOOD, "spread": -1.0}).encode(), "spread"),
        (json.dumps({**GOOD, "runs": 0}).encode(), "runs"),
        (json.dumps({**GOOD, "more": 1}).encode(), "more"),
        (json.dumps({**GOOD, "format": 2}).encode(), "format"),
    ],
)
@pytest.mark.parametrize("record", [False, True])
def test_a_file_that_is_no_record_is_refused_and_left_as_it_is(text, said, record):
    FILE.write_bytes(text)
    with pytest.raises(ValueError, match=said):
        assert_no_regression(0.95, FILE, record=record)
    assert FILE.read_bytes() == text


def test_a_record_that_cannot_be_written_stays(monkeypatch):
    assert_no_regression(0.9, FILE)
    before = FILE.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        assert_no_regression(0.8, FILE, record=True)
    monkeypatch.undo()
    assert FILE.read_bytes() == before
    assert [one.name for one in Path().iterdir()] == ["score.json"]
