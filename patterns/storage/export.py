"""The weights of a checkpoint as one safetensors file of their own."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from .errors import StoreError, refusals
from .plain_files import is_there, sync_folder, write_durably

# Of a text in the file: the names of the weights by their places, as JSON.
NAMES = "names"
# There are no hard links on this file system.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def export_weights(
    weights: Mapping[str, np.ndarray], names: Mapping[str, str], step: int, path: Path
) -> None:
    """Writes the weights of a step into a new file, whole or not at all; StoreError if that cannot
    be done.

    Args:
        weights: By their places in the model.
        names: Keras's paths of them, likewise.
        step: Theirs.
        path: The file.
    """
    about = {"format": "np", "step": str(step), NAMES: json.dumps(dict(names))}
    try:
        data = save(dict(weights), about)
    except (SafetensorError, ValueError) as error:
        what = f"a file of safetensors cannot hold the weights ({error})"
        raise StoreError(path, what, "Restore them into a model, and save that.") from error
    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    if is_there(path):
        raise _taken(path)
    try:
        with refusals(path, "write the weights", "Nothing was left behind."):
            write_durably(temporary, [data])
            _publish(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Gives a file its name, in one step and for good, unless the name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if is_there(path):
            raise _taken(path) from error
        os.rename(temporary, path)
    try:
        sync_folder(path.parent)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _taken(path: Path) -> StoreError:
    what = "there is a file already, and it stays as it is"
    return StoreError(path, what, "Give another name, or move it away.")
