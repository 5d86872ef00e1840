"""The content of a checkpoint, the checkpoints of a folder, and all that is made of them."""

from .average import average_checkpoints
from .contents import Record
from .cursor import Cursor, Duty
from .restore import (
    lines_of_averages,
    metric_values,
    restore_variables,
    restore_weights,
    set_by_script,
)
from .rows import CheckpointSelection, SelectionRow
from .select import select_checkpoint
from .warm import warm_start

__all__ = [
    "CheckpointSelection",
    "Cursor",
    "Duty",
    "Record",
    "SelectionRow",
    "average_checkpoints",
    "lines_of_averages",
    "metric_values",
    "restore_variables",
    "restore_weights",
    "select_checkpoint",
    "set_by_script",
    "warm_start",
]
