"""One checkpoint is one folder: published atomically, read back, deleted."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .._util.schema import SchemaError
from .checked import CheckedFiles, FileState
from .errors import DamagedCheckpointError, SystemRefusalError, refusals, says_no_file
from .files import (
    EncodedTensor,
    TensorRow,
    read_file,
    write_file,
)
from .layout import Donor, lay_out
from .manifest import FILE_NAME, MANIFEST, Manifest, Position
from .plain_files import sync_folder, write_durably

_LARGE_BYTES = 1 << 16
_LEFTOVER = re.compile(r"\.(?:tmp|trash)-(.+)-[0-9a-f]{8}")


def write_folder(
    target: Path,
    draft: Manifest,
    stored: Mapping[str, EncodedTensor],
    donor: Donor | None,
    checked: CheckedFiles,
) -> None:
    """Publishes a checkpoint under its name, or leaves nothing.

    Args:
        target: the folder to be; must not exist.
        draft: the manifest, its tables still empty.
        stored: the tensors by key.
        donor: where unchanged files may be linked from.
        checked: the files that were read before; a file is read once before it is linked.

    Raises:
        SystemRefusalError: the system refused; what else is in the parent folder is as it was.
    """
    temporary = _sibling(target, ".tmp")
    try:
        with refusals(target, "write the checkpoint"):
            temporary.mkdir()
            manifest = _write_files(temporary, draft, stored, donor, checked)
            write_durably(temporary / MANIFEST, [manifest.dump()])
            sync_folder(temporary)
            os.rename(temporary, target)
            sync_folder(target.parent)
    finally:
        # Gone already if the checkpoint was published.
        shutil.rmtree(temporary, ignore_errors=True)


def read_folder(folder: Path, check: Callable[..., Any]) -> tuple[Manifest, dict[str, np.ndarray]]:
    """Reads a checkpoint and checks each of its bytes, and its document by `check`;
    DamagedCheckpointError if one is not as it must be.
    """
    manifest = Manifest.load(folder)
    arrays: dict[str, np.ndarray] = {}
    for part in _read_files(folder, manifest):
        arrays |= part
    tensors = {key: arrays[key] for key in manifest.tensors}
    _check_document(folder, manifest, tensors, check)
    return manifest, tensors


def check_folder(folder: Path, check: Callable[..., Any]) -> Manifest:
    """Checks a checkpoint as `read_folder` does, a file at a time."""
    manifest = Manifest.load(folder)
    tensors: dict[str, np.ndarray] = {}
    for part in _read_files(folder, manifest):
        # Of large ones only that they are there: no check of a document looks into them.
        tensors |= {
            key: array.copy() if array.nbytes < _LARGE_BYTES else np.empty(0, array.dtype)
            for key, array in part.items()
        }
    _check_document(folder, manifest, tensors, check)
    return manifest


def _check_document(
    folder: Path, manifest: Manifest, tensors: Mapping[str, np.ndarray], check: Callable[..., Any]
) -> None:
    try:
        check(manifest.document, tensors, manifest.position)
    except SchemaError as error:
        what = f"its document is not as it must be ({error})"
        raise DamagedCheckpointError(folder, MANIFEST, what) from error


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
    with refusals(folder, f"set the {why} checkpoint aside"):
        os.rename(folder, _sibling(folder, why))


def delete_folders(folders: Mapping[Path, Manifest]) -> list[Path]:
    """Deletes checkpoints of one parent folder, in this order; returns those that it left alone,
    since a foreign file is in them.
    """
    trash = {}
    foreign = []
    for folder, manifest in folders.items():
        own = {*manifest.files, MANIFEST}
        if own.issuperset(os.listdir(folder)):
            os.rename(folder, to := _sibling(folder, ".trash"))
            trash[to] = own
        else:
            foreign.append(folder)
    if trash:
        # A loss of power must not bring back the name of a checkpoint whose files are deleted.
        sync_folder(next(iter(trash)).parent)
    for to, own in trash.items():
        _delete(to, own)
    return foreign


def clear_leftovers(directory: Path) -> None:
    """Deletes what killed writers left: our temporary folders, if only our files are in them."""
    for item in list(os.scandir(directory)):
        match = _LEFTOVER.fullmatch(item.name)
        if match and Position.parse(match[1]) and item.is_dir(follow_symlinks=False):
            inside = list(os.scandir(item.path))
            if all(_is_own(file) for file in inside):
                _delete(Path(item.path), [file.name for file in inside])


def states(folder: Path) -> dict[str, FileState] | None:
    """The state of each file of a checkpoint, by its name; None if there is no such folder."""
    try:
        with os.scandir(folder) as items:
            return {item.name: FileState.of(item.path) for item in items}
    except OSError as error:
        if says_no_file(error):
            # Where one file has just gone, the folder is on its way to the trash.
            return None
        raise SystemRefusalError(folder, "list the checkpoint", error) from error


def tables(manifest: Manifest) -> dict[str, dict[str, TensorRow]]:
    """The rows of the tensors in each file, by the name of the file."""
    found: dict[str, dict[str, TensorRow]] = {name: {} for name in manifest.files}
    for key, row in manifest.tensors.items():
        found[row.file][key] = row
    return found


def _read_files(folder: Path, manifest: Manifest) -> Iterator[dict[str, np.ndarray]]:
    for name, table in tables(manifest).items():
        yield read_file(folder / name, manifest.files[name], table)


def _write_files(
    folder: Path,
    draft: Manifest,
    stored: Mapping[str, EncodedTensor],
    donor: Donor | None,
    checked: CheckedFiles,
) -> Manifest:
    files = {}
    rows = {}
    layout = lay_out(stored, donor)
    of_donor = tables(donor.manifest) if donor else {}
    for name, keys in (layout.links | layout.writes).items():
        linked = None
        if donor and name in layout.links:
            source, row = donor.folder / name, donor.manifest.files[name]
            if checked.is_sound(source, row, of_donor[name]) and _link(source, folder / name):
                linked = row
        files[name] = linked or write_file(folder / name, [stored[key] for key in keys])
        rows.update({key: stored[key].row(name) for key in keys})
    return replace(draft, tensors={key: rows[key] for key in stored}, files=files)


def _link(source: Path, path: Path) -> bool:
    try:
        os.link(source, path)
    except OSError:
        # No hard links here, or too many of them: the same bytes are in memory.
        return False
    return True


def _is_own(file: os.DirEntry[str]) -> bool:
    named = file.name == MANIFEST or FILE_NAME.fullmatch(file.name)
    return bool(named) and file.is_file(follow_symlinks=False)


def _sibling(folder: Path, kind: str) -> Path:
    return folder.with_name(f"{kind}-{folder.name}-{secrets.token_hex(4)}")


def _delete(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()
