"""Transfer learning: new heads, pretrained weights, cached features, freezing and thawing."""

from .features import CachedFeatures, cache_features
from .freezing import (
    GradualUnfreeze,
    TrainableTable,
    freeze,
    head_then_all,
    last_layers_first,
    trainable_table,
    unfreeze,
)
from .heads import replace_head
from .loading import LoadReport, LoadRow, load_pretrained
from .recipe import fine_tune

__all__ = [
    "CachedFeatures",
    "GradualUnfreeze",
    "LoadReport",
    "LoadRow",
    "TrainableTable",
    "cache_features",
    "fine_tune",
    "freeze",
    "head_then_all",
    "last_layers_first",
    "load_pretrained",
    "replace_head",
    "trainable_table",
    "unfreeze",
]
