"""The content of a checkpoint, the checkpoints of a folder, and all that is made of them."""

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
