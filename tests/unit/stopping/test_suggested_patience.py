"""The patience that is read off a curve: known noise and progress, no scale, and what it is
worth."""

import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_patterns as kp
from keras_patterns.stopping import Observation

pytestmark = pytest.mark.once

CURVES = st.lists(st.integers(-100, 100).map(lambda n: n / 4), min_size=8, max_size=40)


def line(slope, noise, epochs, seed=0):
    return 10 - slope * np.arange(epochs) + np.random.default_rng(seed).normal(0, noise, epochs)


@pytest.mark.parametrize("slope", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("noise", [0.1, 0.01])
def test_noise_and_progress_of_a_known_curve(slope, noise):
    found = kp.suggest_patience(line(slope, noise, 400))
    assert found.noise == pytest.approx(noise, rel=0.15)
    assert found.min_delta == found.noise
    assert found.progress == pytest.approx(slope, rel=0.05)
    assert found.patience == 1 + np.ceil(5 * found.noise / found.progress)


def test_noise_on_a_bent_curve():
    values = np.exp(-np.arange(60) / 10) + np.random.default_rng(1).normal(0, 0.02, 60)
    assert kp.suggest_patience(values).noise == pytest.approx(0.02, rel=0.3)


@given(CURVES, st.integers(-8, 8), st.sampled_from(["min", "max"]))
def test_no_scale_and_no_direction(values, exponent, mode):
    expected = kp.suggest_patience(values, mode=mode)
    scale = 2.0**exponent
    scaled = kp.suggest_patience([scale * value for value in values], mode=mode)
    assert (scaled.patience, scaled.min_delta) == (expected.patience, scale * expected.min_delta)
    shifted = kp.suggest_patience([value + 64 for value in values], mode=mode)
    assert (shifted.patience, shifted.min_delta) == (expected.patience, expected.min_delta)
    turned = kp.suggest_patience(
        [-value for value in values], mode="max" if mode == "min" else "min"
    )
    assert (turned.patience, turned.min_delta) == (expected.patience, expected.min_delta)
    assert 1 <= expected.patience <= len(values)


def test_no_noise_needs_little_patience():
    assert kp.suggest_patience(10 - np.arange(10.0)).patience == 1
    assert kp.suggest_patience([3.0] * 10).patience == 1
    assert kp.suggest_patience(np.exp(-0.3 * np.arange(12))).patience <= 5


def test_more_noise_needs_more_patience():
    found = [kp.suggest_patience(line(0.1, noise, 200)).patience for noise in (0.0, 0.02, 0.1, 0.5)]
    assert found == sorted(set(found))


def test_what_is_lost_in_noise_is_said():
    found = kp.suggest_patience(np.random.default_rng(0).normal(0, 1, 12))
    assert found.patience == 12
    assert "too slowly to be told from noise in 12 epochs" in str(found)


def test_a_curve_that_overfits_is_read_up_to_its_best():
    falling = line(0.1, 0.02, 20)
    rising = falling[-1] + 0.2 * np.arange(1, 40)
    found = kp.suggest_patience([*falling, *rising])
    assert found.progress == pytest.approx(0.1, rel=0.1)
    assert "(epochs 1" in found.reasoning


@pytest.mark.parametrize("slope", [0.1, 0.3, 1.0, 3.0])
def test_it_seldom_stops_a_run_that_still_improves(slope):
    """Noise of 1; read off 100 epochs of each of 100 runs, and used in 100 others."""
    stopped = 0
    for seed in range(100):
        found = kp.suggest_patience(line(slope, 1.0, 100, seed))
        rule = kp.Patience(found.patience, min_delta=found.min_delta)
        state = rule.begin()
        for at, value in enumerate(line(slope, 1.0, 100, seed=1000 + seed), start=1):
            state, decision = rule.observe(state, Observation(value, at), "min")
            if decision.stop:
                stopped += 1
                break
    assert stopped <= 5


def test_what_it_takes():
    values = line(0.1, 0.05, 20).tolist()
    expected = kp.suggest_patience(values)
    logs = {"val_loss": values, "val_accuracy": [-value for value in values]}
    assert (
        kp.suggest_patience(logs)
        == kp.suggest_patience(types.SimpleNamespace(history=logs))
        == expected
    )
    assert kp.suggest_patience(logs, "val_accuracy").patience == expected.patience
    assert kp.suggest_patience([float("nan"), *values, float("inf")]) == expected
    assert str(expected).startswith(
        f"patience={expected.patience}, min_delta={expected.min_delta:.3g}: the noise of val_loss "
        "is "
    )


def test_arguments_are_checked():
    with pytest.raises(
        ValueError,
        match=(
            r"needs at least 8 epochs with a finite 'val_loss'. Received 7; train some more "
            r"first"
        ),
    ):
        kp.suggest_patience([1.0] * 7 + [float("nan")])
    with pytest.raises(ValueError, match=r"the history has only \['loss'\]. Name one of these"):
        kp.suggest_patience({"loss": [1.0] * 9})
    with pytest.raises(ValueError, match=r"Received an array of shape \(4, 2\)"):
        kp.suggest_patience(np.ones((4, 2)))
    with pytest.raises(ValueError, match='say mode="min" or "max"'):
        kp.suggest_patience([1.0] * 9, "val_score")
