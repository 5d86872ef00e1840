"""Which parts of a model are trained, and thawing them in stages during a run."""

from .gradual import GradualUnfreeze
from .parts import freeze, unfreeze
from .stages import head_then_all, last_layers_first
from .table import TrainableTable, trainable_table
from .trained import Trained

__all__ = [
    "GradualUnfreeze",
    "TrainableTable",
    "Trained",
    "freeze",
    "head_then_all",
    "last_layers_first",
    "trainable_table",
    "unfreeze",
]
