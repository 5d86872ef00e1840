"""Outputs of the frozen part of a model, computed once, for its head to be trained on."""

from .cache import CachedFeatures, cache_features

__all__ = ["CachedFeatures", "cache_features"]
