"""Choosing among the checkpoints of a run after it: the best one, an average of several, or one to
begin a new run from.
"""

from .average import average_checkpoints
from .rows import CheckpointSelection, SelectionRow
from .select import select_checkpoint
from .warm import warm_start

__all__ = [
    "CheckpointSelection",
    "SelectionRow",
    "average_checkpoints",
    "select_checkpoint",
    "warm_start",
]
