"""Rates that differ from layer to layer, on any optimizer."""

from .grouping import groups_below
from .optimizers import rate_factor_of
from .rates import layerwise_rates

__all__ = ["groups_below", "layerwise_rates", "rate_factor_of"]
