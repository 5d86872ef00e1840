"""Thawing a model in stages, during a run."""

from .callback import GradualUnfreeze
from .plans import head_then_all, last_layers_first

__all__ = ["GradualUnfreeze", "head_then_all", "last_layers_first"]
