"""The weights of a checkpoint as one safetensors file of their own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from .errors import StoreError, SystemRefusalError, refusals
from .files import sync_folder, write_durably


def export_weights(weights: Mapping[str, np.ndarray], step: int, path: Path) -> None:
    """Writes the weights of a step into a new file, whole or not at all; StoreError if that cannot
    be done.
    """
    try:
        data = save(dict(weights), {"format": "np", "step": str(step)})
    except (SafetensorError, ValueError) as error:
        what = f"a file of safetensors cannot hold the weights ({error})"
        raise StoreError(path, what, "Restore them into a model, and save that.") from error
    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    try:
        # Takes the name, or finds it taken, in one step.
        open(path, "xb").close()
    except FileExistsError as error:
        raise StoreError(
            path,
            "there is a file already, and it stays as it is",
            "Give another name, or move it away.",
        ) from error
    except OSError as error:
        raise SystemRefusalError(path, "write the weights", error) from error
    left = [temporary, path]
    try:
        with refusals(path, "write the weights"):
            write_durably(temporary, [data])
            os.replace(temporary, path)
            sync_folder(path.parent)
        left.clear()
    finally:
        for one in left:
            with suppress(OSError):
                one.unlink(missing_ok=True)
