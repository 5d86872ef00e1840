"""Which parts of a model are trained."""

from .parts import freeze, unfreeze
from .table import TrainableTable, trainable_table
from .trained import Trained

__all__ = ["TrainableTable", "Trained", "freeze", "trainable_table", "unfreeze"]
