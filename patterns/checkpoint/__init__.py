"""What a checkpoint holds, the checkpoints of a folder, and what is made of them after a run."""

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
