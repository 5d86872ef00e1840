"""A model that exists: penalties, dropout rates, initial values, counts, augmentation by steps."""

from .augmentation import SwitchAugmentation
from .counting import ParameterCounts, ParameterRow, count_parameters
from .penalties import regularize
from .starting import initialize

__all__ = [
    "ParameterCounts",
    "ParameterRow",
    "SwitchAugmentation",
    "count_parameters",
    "initialize",
    "regularize",
]
