"""The weights of a model that exists: penalties, dropout rates, initial values, counts."""

from .counting import ParameterCounts, ParameterRow, count_parameters
from .penalties import regularize
from .starting import initialize

__all__ = ["ParameterCounts", "ParameterRow", "count_parameters", "initialize", "regularize"]
