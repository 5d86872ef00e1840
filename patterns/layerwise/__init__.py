"""Rates that differ from layer to layer, on any optimizer."""

from .optimizers import rate_factor_of
from .rates import layerwise_rates

__all__ = ["layerwise_rates", "rate_factor_of"]
