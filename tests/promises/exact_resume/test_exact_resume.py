"""Exact resume: a run killed after any step ends as the run that is not killed, in every bit."""

import re

import keras
import numpy as np
import pytest
from models import CASES, FEATURES, TRAIN, compiled, dense, runnable, two_optimizers

import keras_patterns as kp
from keras_patterns.backends import current
from keras_patterns.testing import (
    assert_deterministic,
    assert_resumes_exactly,
    assert_same_state,
    differences,
)

# Whose state moves between the ends of epochs, too.
EVERY_STEP = {
    *("dense", "generator", "gradient accumulation", "moving average", "mixed precision"),
    *("early stopping", "Prechelt", "validation by steps", "planted NaN", "thawing"),
}


def steps_of(name):
    """After which a case is killed: each step, or one of so many, where each start is traced anew.
    The first one differs from case to case. The session every_step kills each case at each step.
    """
    often = name in EVERY_STEP
    every = {"torch": 1, "jax": 2 if often else 4, "tensorflow": 3 if often else 6}[current().name]
    return range(1 + list(CASES).index(name) % every, CASES[name].steps, every)


@pytest.mark.parametrize(
    ("case", "steps"),
    [
        pytest.param(*param.values, steps_of(param.id), id=param.id, marks=param.marks)
        for param in runnable()
    ],
)
def test_killed_at_one_step_after_the_other(case, steps):
    assert_resumes_exactly(case.make_model, **case.arguments, kill_at=steps)


@pytest.mark.parametrize(
    "case", runnable(["dense", "generator", "user's callback", "shorter last epoch", "fused steps"])
)
def test_steps_since_the_last_checkpoint_are_trained_again(case):
    assert_resumes_exactly(case.make_model, **case.arguments, kill_at=case.steps - 2, every_steps=3)


def test_what_cannot_be_resumed_exactly_is_not_deterministic():
    """A layer whose random numbers come from elsewhere; the error says so."""

    class Hidden(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.scale = float(np.random.default_rng().uniform(1, 2))

        def call(self, inputs):
            return inputs * self.scale

    def make_model():
        model = keras.Sequential([keras.Input((6,)), Hidden(), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    data = {
        "x": CASES["dense"].arguments["x"],
        "y": np.ones((44, 1)),
        "batch_size": 8,
        "total_steps": 4,
        "epochs": 2,
    }
    with pytest.raises(
        AssertionError,
        match=r"^Two uninterrupted runs end in different states\. \d+ of \d+ parts differ:\n  ",
    ):
        assert_deterministic(make_model, **data)
    with pytest.raises(
        AssertionError, match="killed at step 2 and resumed ends in another state"
    ) as caught:
        assert_resumes_exactly(make_model, **data, kill_at=2)
    named, determined = caught.value.__notes__
    assert re.search(r"^  model/layers/0/scale: expected '1\.\d+' \(str\), found '1\.", named, re.M)
    assert determined == (
        "Two uninterrupted runs differ as well, so no resume can be exact: see "
        "assert_deterministic."
    )


def test_a_deterministic_model():
    assert_deterministic(CASES["dense"].make_model, **CASES["dense"].arguments)


def test_a_log_file_holds_each_row_once(tmp_path, monkeypatch):
    def rows(folder, **how):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        case = CASES["Keras's callbacks"]
        assert_resumes_exactly(case.make_model, **case.arguments, **how)
        return (tmp_path / folder / "log.csv").read_text(encoding="utf-8").splitlines()

    found = rows("often", kill_at=[2, 4, 8], every_steps=2)
    assert [row.split(",")[0] for row in found] == ["epoch", "0", "1", "2"]
    assert found == rows("once", kill_at=1)


@pytest.mark.parametrize(
    ("expected", "found", "line"),
    [
        (0.0, -0.0, "a: expected 0.0 (float), found -0.0 (float)"),
        (1, 1.0, "a: expected 1 (int), found 1.0 (float)"),
        (np.float32([0, 1]), np.float32([-0.0, 1]), "a: 1 of 2 elements differ, by up to 0"),
        (np.float32([1]), np.float64([1]), "a: expected float32[1] [1.0], found float64[1] [1.0]"),
        (
            np.zeros((2, 1)),
            np.zeros((1, 2)),
            "a: expected float64[2, 1] [0.0, 0.0], found float64[1, 2] [0.0, 0.0]",
        ),
    ],
)
def test_a_difference_in_any_bit_is_named(expected, found, line):
    assert differences({"a": expected}, {"a": found}) == [line]
    assert differences({"a": expected}, {"a": expected}) == []


def test_what_only_one_state_has_is_named():
    assert differences({"a": 1}, {"b": 2}) == ["a: missing", "b: not expected, found 2 (int)"]


def test_equal_nan_is_equal():
    assert_same_state(
        {"a": np.float32([np.nan]), "b": float("nan")},
        {"a": np.float32([np.nan]), "b": float("nan")},
    )


def test_only_the_first_ten_differences_are_named():
    with pytest.raises(
        AssertionError,
        match=r"The states differ\. 12 of 12 parts differ:\n(?s:.*)\.\.\. and 2 more$",
    ):
        assert_same_state({str(i): 0 for i in range(12)}, {str(i): 1 for i in range(12)})


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        (
            {"kill_at": 3, "every_steps": 4},
            ValueError,
            "nothing is saved by step 3 with every_steps=4",
        ),
        (
            {"kill_at": [3, 2]},
            ValueError,
            r"one step or several in rising order; received \[3, 2\]",
        ),
        ({"kill_at": 0}, ValueError, "`kill_at` must be at least 1. Received: 0"),
        ({"kill_at": 99}, ValueError, "kill_at=99, but the run was over before it began that step"),
        (
            {"kill_at": 2, "callbacks": [keras.callbacks.TerminateOnNaN()]},
            TypeError,
            "a function without arguments that returns",
        ),
    ],
)
def test_arguments_are_checked(how, error, message):
    with pytest.raises(error, match=message):
        assert_resumes_exactly(
            CASES["two backbones"].make_model, **CASES["two backbones"].arguments, **how
        )


@pytest.mark.skipif(current().carries_attribute_optimizers, reason="this backend carries them")
def test_an_optimizer_that_the_backend_does_not_carry_is_refused():
    with pytest.raises(
        ValueError,
        match=(
            r"keeps an optimizer of its own at 'second_optimizer'.*MultiOptimizer that holds them "
            r"all"
        ),
    ):
        kp.fit(two_optimizers(), **CASES["two optimizers"].arguments)


def test_the_optimizer_of_a_backbone_that_was_compiled_by_itself_is_none_to_carry():
    backbone = dense()
    model = compiled(
        keras.Sequential(
            [keras.Input(FEATURES.shape[1:]), backbone, keras.layers.Dense(3, "softmax")]
        ),
        "adam",
    )
    assert len(kp.fit(model, **TRAIN, seed=0, verbose=0).epoch) == 2


@pytest.mark.skipif(current().fuses_steps, reason="this backend runs several")
def test_fused_steps_that_the_backend_does_not_run_are_refused():
    with pytest.raises(
        ValueError, match=r"was compiled with steps_per_execution=4; this backend runs one"
    ):
        kp.fit(CASES["fused steps"].make_model(), **CASES["fused steps"].arguments)


@pytest.mark.parametrize("claim", [assert_deterministic, assert_resumes_exactly])
def test_a_model_that_is_not_new_is_refused(claim):
    """Another run would begin where the one before has left it."""
    model = CASES["dense"].make_model()
    how = {"kill_at": 2} if claim is assert_resumes_exactly else {}
    with pytest.raises(ValueError, match="`make_model` must return a new model each time"):
        claim(lambda: model, **CASES["dense"].arguments, **how)
