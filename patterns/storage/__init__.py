"""Checkpoints on disk: atomic, checked byte by byte, deduplicated, retained by policy."""

from .document import read_document
from .entry import Entry, Report, StoredCheckpoint
from .errors import (
    DamagedCheckpointError,
    MissingCheckpointError,
    NewerFormatError,
    StoreError,
    StoreInUseError,
    SystemRefusalError,
)
from .export import export_weights
from .files import Tensor
from .manifest import Manifest, Position, Score
from .parts import export_checkpoint
from .phases import phase_folder, phases_in
from .retention import Candidate, Retention
from .store import CheckpointFolder
from .writer import BackgroundWriter

__all__ = [
    "BackgroundWriter",
    "Candidate",
    "CheckpointFolder",
    "DamagedCheckpointError",
    "Entry",
    "Manifest",
    "MissingCheckpointError",
    "NewerFormatError",
    "Position",
    "Report",
    "Retention",
    "Score",
    "StoreError",
    "StoreInUseError",
    "StoredCheckpoint",
    "SystemRefusalError",
    "Tensor",
    "export_checkpoint",
    "export_weights",
    "phase_folder",
    "phases_in",
    "read_document",
]
