"""The learning-rate range test: a sweep of the rate, and what can be read off its curve."""

from .run import find_learning_rate
from .sweep import LearningRateSweep, Suggestions

__all__ = ["LearningRateSweep", "Suggestions", "find_learning_rate"]
