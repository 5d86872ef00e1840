"""Checkpoints on disk: atomic, checked byte by byte, deduplicated, retained by policy."""

from .entry import Checkpoint, Entry, Report
from .errors import DamagedCheckpoint, NewerFormat, StoreError, StoreInUse
from .export import export_weights
from .files import Tensor
from .manifest import Manifest, Position, Score
from .retention import Candidate, Retention
from .store import CheckpointStore
from .writer import BackgroundWriter

__all__ = [
    "BackgroundWriter",
    "Candidate",
    "Checkpoint",
    "CheckpointStore",
    "DamagedCheckpoint",
    "Entry",
    "Manifest",
    "NewerFormat",
    "Position",
    "Report",
    "Retention",
    "Score",
    "StoreError",
    "StoreInUse",
    "Tensor",
    "export_weights",
]
