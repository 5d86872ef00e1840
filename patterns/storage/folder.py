"""One checkpoint is one folder: published atomically, read back, deleted."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .._util.schema import SchemaError
from .errors import DamagedCheckpointError, StoreError
from .files import (
    EncodedTensor,
    FileRow,
    TensorRow,
    read_file,
    sync_folder,
    write_durably,
    write_file,
)
from .layout import Donor, lay_out
from .manifest import FILE_NAME, MANIFEST, Manifest, Position

_LEFTOVER = re.compile(r"\.(?:tmp|trash)-(.+)-[0-9a-f]{8}")


def write_folder(
    target: Path, draft: Manifest, stored: Mapping[str, EncodedTensor], donor: Donor | None
) -> None:
    """Publishes a checkpoint under its name, or leaves nothing.

    Args:
        target: the folder to be; must not exist.
        draft: the manifest, its tables still empty.
        stored: the tensors by key.
        donor: where unchanged files may be linked from.

    Raises:
        StoreError: the system refused; what else is in the parent folder is as it was.
    """
    temporary = _sibling(target, ".tmp")
    try:
        temporary.mkdir()
        manifest = _write_files(temporary, draft, stored, donor)
        write_durably(temporary / MANIFEST, [manifest.dump()])
        sync_folder(temporary)
        os.rename(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise StoreError.failed(target, "write the checkpoint", error) from error
    finally:
        # Gone already if the checkpoint was published.
        shutil.rmtree(temporary, ignore_errors=True)


def read_folder(folder: Path, check: Callable[..., Any]) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Reads a checkpoint and checks each of its bytes, and its document by `check`;
    DamagedCheckpointError if one is not as it must be.
    """
    manifest = Manifest.load(folder)
    tables: dict[str, dict[str, TensorRow]] = {name: {} for name in manifest.files}
    for key, row in manifest.tensors.items():
        tables[row.file][key] = row
    arrays: dict[str, np.ndarray] = {}
    for name, table in tables.items():
        arrays |= read_file(folder / name, manifest.files[name], table)
    tensors = {key: arrays[key] for key in manifest.tensors}
    try:
        check(manifest.document, tensors, manifest.position)
    except SchemaError as error:
        what = f"its document is not as it must be ({error})"
        raise DamagedCheckpointError(folder, MANIFEST, what) from error
    return manifest, tensors


def is_same(found: Manifest, draft: Manifest, stored: Mapping[str, EncodedTensor]) -> bool:
    """Tells whether a checkpoint on disk is the one that would be written."""
    rows = {key: stored[key].row(row.file) for key, row in found.tensors.items() if key in stored}
    # As text, since NaN is not equal to itself.
    texts = [
        json.dumps([one.document, one.score, one.needs], sort_keys=True) for one in (found, draft)
    ]
    return rows == found.tensors and rows.keys() == stored.keys() and texts[0] == texts[1]


def set_aside(folder: Path, why: str = "damaged") -> None:
    """Renames a checkpoint, by default as a damaged one, so that the store does not see it; all of
    it stays.
    """
    try:
        os.rename(folder, _sibling(folder, why))
    except OSError as error:
        raise StoreError.failed(folder, f"set the {why} checkpoint aside", error) from error


def delete_folder(folder: Path, manifest: Manifest) -> bool:
    """Deletes a checkpoint unless its folder holds a foreign file; says whether it did."""
    own = {*manifest.files, MANIFEST}
    if not own.issuperset(os.listdir(folder)):
        return False
    trash = _sibling(folder, ".trash")
    os.rename(folder, trash)
    _delete(trash, own)
    return True


def clear_leftovers(directory: Path) -> None:
    """Deletes what killed writers left: our temporary folders, if only our files are in them."""
    for item in list(os.scandir(directory)):
        match = _LEFTOVER.fullmatch(item.name)
        if match and Position.parse(match[1]) and item.is_dir(follow_symlinks=False):
            inside = list(os.scandir(item.path))
            if all(_is_own(file) for file in inside):
                _delete(Path(item.path), [file.name for file in inside])


def signature(folder: Path) -> list[tuple[str, int, int, int]]:
    """Changes whenever a file in the folder does, as far as the file system tells."""
    try:
        with os.scandir(folder) as items:
            found = [(item.name, os.stat(item.path, follow_symlinks=False)) for item in items]
    except OSError:
        return []
    return sorted((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found)


def _write_files(
    folder: Path, draft: Manifest, stored: Mapping[str, EncodedTensor], donor: Donor | None
) -> Manifest:
    files = {}
    rows = {}
    layout = lay_out(stored, donor)
    for name, keys in (layout.links | layout.writes).items():
        linked = _link(folder / name, donor) if donor and name in layout.links else None
        files[name] = linked or write_file(folder / name, [stored[key] for key in keys])
        rows.update({key: stored[key].row(name) for key in keys})
    return replace(draft, tensors={key: rows[key] for key in stored}, files=files)


def _link(path: Path, donor: Donor) -> FileRow | None:
    source = donor.folder / path.name
    row = donor.manifest.files[path.name]
    try:
        if source.stat().st_size != row.bytes:
            return None
        os.link(source, path)
        return row
    except OSError:
        # No hard links here, or too many of them: the same bytes are in memory.
        return None


def _is_own(file: os.DirEntry[str]) -> bool:
    named = file.name == MANIFEST or FILE_NAME.fullmatch(file.name)
    return bool(named) and file.is_file(follow_symlinks=False)


def _sibling(folder: Path, kind: str) -> Path:
    return folder.with_name(f"{kind}-{folder.name}-{secrets.token_hex(4)}")


def _delete(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()
