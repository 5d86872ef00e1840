"""Optimizers with schedules of their momentum and rates by layer, and what they know when what is
trained changes.
"""

from keras_patterns.backends import with_keras  # noqa: F401 - before the rest

from .layer_rates import groups_below, with_layer_rates
from .momentum import with_momentum, with_one_cycle
from .rate_factors import rate_factor_of

__all__ = [
    "groups_below",
    "rate_factor_of",
    "with_layer_rates",
    "with_momentum",
    "with_one_cycle",
]
