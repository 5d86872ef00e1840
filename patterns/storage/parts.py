"""The parts of a stored checkpoint that can be looked at without a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._util.paths import bound_path
from .document import VARIABLES
from .entry import Entry, StoredCheckpoint
from .errors import StoreError
from .export import export_weights
from .store import CheckpointFolder


def plain_parts(document: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a document by section, in every format that was ever written."""
    if "begun" in document:
        return dict(document)
    return {
        name: section.get("content", section) if isinstance(section, dict) else section
        for name, section in document.items()
    }


def weights_in(checkpoint: StoredCheckpoint) -> dict[str, np.ndarray]:
    """The weights of a checkpoint by their keys in the model, whatever else it holds.

    Raises:
        StoreError: If it does not tell which tensors are weights, or lacks one of them.
    """
    section = checkpoint.document.get("variables")
    roles = section.get("content", section) if isinstance(section, dict) else None
    if not isinstance(roles, dict):
        what = "it does not say which tensors are weights"
        raise StoreError(checkpoint.entry.folder, what, "Give a checkpoint of kp.Checkpoint.")
    keys = [key for key, role in roles.items() if role == "weight"]
    missing = [key for key in keys if VARIABLES + key not in checkpoint.tensors]
    if missing:
        what = f"the weight {missing[0]!r}, which it names, is not in it"
        raise StoreError(checkpoint.entry.folder, what, "Give another checkpoint.")
    return {key: checkpoint.tensors[VARIABLES + key] for key in keys}


def export_checkpoint(
    store: CheckpointFolder, path: str | os.PathLike[str], step: int | None = None
) -> Entry:
    """Writes the weights of a checkpoint into a new `.safetensors` file.

    Args:
        store: Where the checkpoint is.
        path: The file; an existing one is never overwritten.
        step: Of the newest run. Defaults to None: the newest sound checkpoint.

    Returns:
        The checkpoint that they are from.

    Raises:
        StoreError: If there is no such checkpoint, it is damaged, or the file cannot be written.
    """
    path = bound_path(path)
    checkpoint = store.newest_sound()[0] if step is None else store.read_at(step)
    if checkpoint is None:
        raise StoreError.empty(store.label, "no sound checkpoint is there")
    weights, rows = weights_in(checkpoint), checkpoint.entry.manifest.tensors
    names = {key: rows[VARIABLES + key].path for key in weights}
    export_weights(weights, names, checkpoint.position.step, path)
    return checkpoint.entry
