"""Optimizers with schedules of their momentum, rates by layer and weights without decay; the parts
of a model that these are for; and what optimizers know when what is trained changes.
"""

from keras_patterns.backends import with_keras  # noqa: F401 - before the rest

from .layer_rates import groups_below, with_layer_rates
from .momentum import with_momentum, with_one_cycle
from .rate_factors import rate_factor_of
from .weight_decay import without_weight_decay

__all__ = [
    "groups_below",
    "rate_factor_of",
    "with_layer_rates",
    "with_momentum",
    "with_one_cycle",
    "without_weight_decay",
]
