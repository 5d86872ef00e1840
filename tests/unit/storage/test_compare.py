"""Equality to the bit, and what is said of a difference."""

import numpy as np
import pytest

from keras_patterns.storage.compare import Difference, differing_tensors, differing_values

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), None),
        (np.float32([np.nan]), np.float32([np.nan]), None),
        (np.zeros((0, 3)), np.zeros((0, 3)), None),
        (np.float32(1), np.float32(1.25), "1 of 1 numbers, by 0.25 at most"),
        (np.uint8([250, 3]), np.uint8([3, 3]), "1 of 2 numbers, by 247 at most"),
        (np.array([True, False]), np.array([True, True]), "1 of 2 numbers, by 1 at most"),
        (np.float32([0.0]), np.float32([-0.0]), "1 of 1 numbers, by 0 at most"),
        (np.float32([1.0]), np.float32([np.nan]), "1 of 1 numbers, by NaN"),
        (np.complex64([1j]), np.complex64([3j]), "1 of 1 numbers, by 2 at most"),
        (np.zeros((2, 3), np.float32).T, np.zeros((2, 3), np.float32), "shape (3, 2) and (2, 3)"),
        (np.float32([1]), np.float64([1]), "dtype float32 and float64"),
        (np.float32([1]), None, "only in the first"),
        (None, np.float32([1]), "only in the second"),
    ],
)
def test_tensors(first, second, what):
    sides = [{} if side is None else {"kernel": side} for side in (first, second)]
    assert differing_tensors(*sides) == ([] if what is None else [Difference("kernel", what)])


@pytest.mark.parametrize(
    ("first", "second", "differences"),
    [
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, []),
        ({"a": float("nan")}, {"a": float("nan")}, []),
        ({"a": 1}, {"a": 1.0}, [("a", "1 and 1.0")]),
        ({"a": 1}, {"a": True}, [("a", "1 and True")]),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, [("a/1/b", "2 and 3")]),
        ({"a": [1]}, {"a": [1, 2]}, [("a", "1 and 2 entries")]),
        ({"a": [1]}, {"a": [3, 2]}, [("a", "1 and 2 entries"), ("a/0", "1 and 3")]),
        ({"a": None}, {}, [("a", "None and nothing")]),
    ],
)
def test_values(first, second, differences):
    assert differing_values(first, second) == differences
