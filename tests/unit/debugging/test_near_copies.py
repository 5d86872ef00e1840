"""Copies with noise on both sides of a split are told from rows that are near by chance."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

from keras_patterns.debugging.copies import are_near_copies

pytestmark = pytest.mark.once

RANDOM = np.random.default_rng(0)
DIGITS = load_digits().data


def found(x, shuffled=True):
    rows = x.reshape(len(x), -1)
    order = RANDOM.permutation(len(x)) if shuffled else np.arange(len(x))
    cut = len(x) * 4 // 5
    return are_near_copies([rows[order[:cut]]], [rows[order[cut:]]])


def noisy(x, noise, times=4):
    many = np.repeat(x, times, axis=0)
    return many + RANDOM.normal(0, noise, many.shape)


COPIES = {
    "digits": noisy(DIGITS, 0.4),
    "pairs of digits": noisy(DIGITS, 0.4, times=2),
    "float32": noisy(DIGITS, 0.1).astype("float32"),
    "bytes": np.clip(noisy(DIGITS * 15, 4), 0, 255).astype("uint8"),
    "images": noisy(RANDOM.normal(size=(200, 144)), 0.2),
    "far from zero": noisy(RANDOM.normal(size=(300, 20)), 1e-3) + 1e4,
    "standardised columns": noisy(RANDOM.normal(size=(1000, 8)), 1e-2),
    "brighter or darker": np.repeat(DIGITS, 3, 0) * RANDOM.uniform(0.98, 1.02, (3 * 1797, 1)),
}
WAVE = np.sin(np.arange(3000) * 0.05) + RANDOM.normal(0, 0.1, 3000)
APART = {
    "digits": DIGITS,
    "digits that are moved or mirrored": np.concatenate([DIGITS, DIGITS[:, ::-1]]),
    "iris": load_iris().data,
    "wine": load_wine().data,
    "breast cancer": load_breast_cancer().data,
    "diabetes": load_diabetes().data,
    **{f"normal, {n} columns": RANDOM.normal(size=(2500, n)) for n in (1, 2, 3, 4, 5, 8, 32)},
    **{f"lognormal, {n} columns": RANDOM.lognormal(0, 2, (2500, n)) for n in (4, 8)},
    "uniform": RANDOM.uniform(size=(2500, 4)),
    "a grid": np.stack(np.meshgrid(*[np.linspace(0, 1, 7)] * 4), -1).reshape(-1, 4),
    "zeros and ones": RANDOM.integers(0, 2, (2500, 10)).astype(float),
    "counts": RANDOM.poisson(1, (2500, 30)).astype(float),
    "words": (RANDOM.random((2500, 300)) < 0.03).astype(float),
    "windows of a series": np.lib.stride_tricks.sliding_window_view(WAVE, 24),
    "a smooth series": np.lib.stride_tricks.sliding_window_view(np.sin(np.arange(2500) * 0.05), 24),
    "clusters": RANDOM.normal(size=(2500, 8)) * 0.1
    + RANDOM.normal(size=(6, 8))[np.arange(2500) % 6],
    "all the same": np.ones((1000, 5)),
    "not finite": np.where(RANDOM.random((1000, 5)) < 0.01, np.nan, 1.0),
    "few": RANDOM.normal(size=(300, 5)),
    "ids": np.repeat(RANDOM.integers(0, 1000, (400, 12)), 4, axis=0),
}


@pytest.mark.parametrize("x", COPIES.values(), ids=COPIES)
def test_copies_on_both_sides_are_seen(x):
    assert found(x)


@pytest.mark.parametrize("x", COPIES.values(), ids=COPIES)
def test_copies_on_one_side_are_none(x):
    assert not found(x, shuffled=False)


@pytest.mark.parametrize("x", APART.values(), ids=APART)
def test_rows_that_are_near_by_chance_are_none(x):
    assert not found(x)


def test_parts_of_other_widths_are_not_compared():
    assert not are_near_copies([DIGITS], [DIGITS[:, :5]])


def test_inputs_of_several_arrays_are_compared_together():
    x = noisy(DIGITS, 0.4)[RANDOM.permutation(4 * 1797)]
    parts = [x[:, :10], x[:, 10:]]
    assert are_near_copies([one[:6000] for one in parts], [one[6000:] for one in parts])
