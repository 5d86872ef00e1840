"""Optimizers: their rates, momenta and factors, and what they know when what is trained changes."""

from .groups import groups_below
from .layerwise import layerwise_rates
from .layerwise_class import rate_factor_of
from .momentum import one_cycle, with_momentum_schedule

__all__ = [
    "groups_below",
    "layerwise_rates",
    "one_cycle",
    "rate_factor_of",
    "with_momentum_schedule",
]
