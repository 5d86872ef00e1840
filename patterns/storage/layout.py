"""The plan of a new checkpoint's files: those it links from an older one, and those it writes.

Checkpoints take turns: the donor of links is the second-newest complete one, so every other
checkpoint shares its unchanged files and neighbours share none. One damaged file never takes all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import combinations, count
from pathlib import Path
from typing import NamedTuple

from .files import EncodedTensor
from .manifest import FILE_NAME, Manifest

# An unchanged tensor of this size gets a file of its own: the change of another one must not
# make it be written again.
OWN_FILE_BYTES = 1 << 20

Inode = tuple[int, int]


@dataclass(frozen=True)
class Donor:
    """An older checkpoint whose files may be linked into a new one.

    Args:
        folder: the older checkpoint.
        manifest: its manifest.
        files: the names of those of its files that may be linked.
    """

    folder: Path
    manifest: Manifest
    files: frozenset[str]


class Layout(NamedTuple):
    """The keys of the tensors in each file: `links` are files of the donor, `writes` are new."""

    links: dict[str, list[str]]
    writes: dict[str, list[str]]


def lay_out(stored: Mapping[str, EncodedTensor], donor: Donor | None) -> Layout:
    """Plans the files of a checkpoint.

    A file of the donor is linked if all its tensors are unchanged. What is unchanged but lies
    among changed tensors, and what is said to stay as it is, goes into a file of its own, which
    later checkpoints can link. The rest goes into one file.
    """
    old = donor.manifest.tensors if donor else {}
    stable = {
        key
        for key, new in stored.items()
        if key in old and new.row(old[key].file)._replace(path="") == old[key]._replace(path="")
    }
    groups: dict[str, list[str]] = {name: [] for name in sorted(donor.files)} if donor else {}
    for key, row in old.items():
        if row.file in groups:
            groups[row.file].append(key)
    links = {name: keys for name, keys in groups.items() if keys and stable.issuperset(keys)}
    linked = {key for keys in links.values() for key in keys}
    settled = stable | {key for key, new in stored.items() if new.stable}
    rest = [key for key in stored if key in settled and key not in linked]
    large = [[key] for key in rest if stored[key].data.nbytes >= OWN_FILE_BYTES]
    small = [key for key in rest if stored[key].data.nbytes < OWN_FILE_BYTES]
    moving = [key for key in stored if key not in settled]
    writes = _name_files("stable", [*large, small], links) | _name_files("tensors", [moving], links)
    return Layout(links, writes)


def choose_donor(newest_first: Iterator[Donor], damaged: Set[Inode]) -> Donor | None:
    """The second of the complete checkpoints, less what it shares with the first or a damaged one.

    Args:
        newest_first: the complete checkpoints that are not known to be damaged; two are taken.
        damaged: the files of those that are.
    """
    newest = next(newest_first, None)
    donor = next(newest_first, None)
    if newest is None or donor is None:
        return None
    own = inodes(donor.folder)
    free = own.keys() - inodes(newest.folder).keys() - damaged
    files = {own[inode] for inode in free} & donor.files
    return Donor(donor.folder, donor.manifest, frozenset(files))


def second_copy(kept: list[Path], doomed: list[Path]) -> Path | None:
    """The one of the doomed that must stay, so that two of those that stay share no file.

    Args:
        kept: the checkpoints that stay anyway, oldest first.
        doomed: the others, oldest first.
    """
    files = [inodes(folder).keys() for folder in kept]
    if len(files) < 2 or any(one.isdisjoint(other) for one, other in combinations(files, 2)):
        return None
    apart = (folder for folder in reversed(doomed) if files[-1].isdisjoint(inodes(folder)))
    return next(apart, None)


def inodes(folder: Path) -> dict[Inode, str]:
    """The identity of each tensor file; two checkpoints that link one file share it."""
    found = {}
    with os.scandir(folder) as items:
        for item in items:
            if FILE_NAME.fullmatch(item.name) and item.is_file(follow_symlinks=False):
                # os.stat: on Windows the directory's own record has no inode number.
                status = os.stat(item.path, follow_symlinks=False)
                found[status.st_dev, status.st_ino] = item.name
    return found


def _name_files(
    kind: str, groups: Iterable[list[str]], taken: Collection[str]
) -> dict[str, list[str]]:
    names = (name for n in count(1) if (name := f"{kind}-{n}.safetensors") not in taken)
    return dict(zip(names, filter(None, groups), strict=False))
