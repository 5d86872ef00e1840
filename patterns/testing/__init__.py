"""Assertions for a person's own tests: that a model can learn and does, that it trains the same
way twice and on each backend, and that a killed run goes on exactly.
"""

from keras_patterns.backends import with_keras  # noqa: F401 - before the rest

from .comparison import assert_same_state, differences, run_state
from .hooks import assert_restores
from .learning import (
    assert_no_leak_across_batch,
    assert_overfits_batch,
    assert_preflight_clean,
    assert_trains_every_variable,
)
from .on_backends import assert_same_on_backends
from .runs import assert_deterministic, assert_resumes_exactly
from .scores import assert_beats_baseline, assert_no_regression

__all__ = [
    "assert_beats_baseline",
    "assert_deterministic",
    "assert_no_leak_across_batch",
    "assert_no_regression",
    "assert_overfits_batch",
    "assert_preflight_clean",
    "assert_restores",
    "assert_resumes_exactly",
    "assert_same_on_backends",
    "assert_same_state",
    "assert_trains_every_variable",
    "differences",
    "run_state",
]
