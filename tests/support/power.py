"""A file system that loses what was not synchronised: the states in which a loss of power may
leave a folder.

Each call that changes the folder is recorded as it happens. Until a folder is synchronised, any of
the changes to its names may be lost, whatever their order; until a file is, its bytes are.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The names that one call changes in a folder: what each leads to from then on, None for nothing.
Change = dict[str, "Node | None"]
# ("file", number, bytes) or ("folder", ((name, state), ...)).
State = Any
MOST_PENDING = 7


@dataclass(eq=False)
class Node:
    """A file or a folder, as the programs see it and as the disk has it.

    Attributes:
        names: Of a folder: where each name leads. None of a file.
        lasting: Of a folder, the names that are on disk; of a file, the bytes that are.
        pending: The changes of the names since.
    """

    names: dict[str, Node] | None = None
    lasting: Any = b""
    pending: list[Change] = field(default_factory=list)

    @classmethod
    def folder(cls) -> Node:
        return cls({}, {})

    def change(self, change: Change) -> None:
        self.names = applied(self.names, change)
        self.pending.append(change)

    def sync(self, content: bytes) -> None:
        if self.names is None:
            self.lasting = content
        else:
            self.lasting = dict(self.names)
            self.pending.clear()

    def states(self) -> Iterator[State]:
        """All that may be left of it, less what begins with a dot, which no reader looks at."""
        if self.names is None:
            yield "file", id(self), self.lasting
            return
        shown = [_shown(change) for change in self.pending]
        shown = [change for change in shown if change]
        assert len(shown) <= MOST_PENDING, "too many changes to try each set of them"
        seen = set()
        for kept in itertools.product((True, False), repeat=len(shown)):
            names = _shown(self.lasting)
            for change, is_kept in zip(shown, kept, strict=True):
                names = applied(names, change) if is_kept else names
            items = sorted(names.items())
            if (key := tuple((name, id(node)) for name, node in items)) not in seen:
                seen.add(key)
                for insides in itertools.product(*(node.states() for _, node in items)):
                    found = zip([name for name, _ in items], insides, strict=True)
                    yield "folder", tuple(found)


def _shown(names: dict[str, Any]) -> dict[str, Any]:
    return {name: node for name, node in names.items() if not name.startswith(".")}


def applied(names: dict[str, Node], change: Change) -> dict[str, Node]:
    merged = names | change
    return {name: node for name, node in merged.items() if node is not None}


class Disk:
    """Records what is done in a folder.

    Args:
        root: The folder; it exists, and is empty.

    Attributes:
        calls: Those that changed anything, in order.
        deaf_to: What is not synchronised though it is asked for: "file", "folder", or the first
            part of a name.
        after_call: Is called after each.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = Node.folder()
        self.calls: list[str] = []
        self.deaf_to = ""
        self.after_call = lambda: None

    def find(self, path: Path) -> Node | None:
        node: Node | None = self.tree
        for name in path.relative_to(self.root).parts:
            node = (node.names or {}).get(name) if node else None
        return node

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An event of `sys.audit`, which comes before what it tells of."""
        names = arguments[:1] if event == "open" else arguments
        paths = [Path(one) for one in names if isinstance(one, str | os.PathLike)]
        if not paths or not all(self.root in path.parents for path in paths):
            return
        path, folder = paths[0], self.find(paths[0].parent)
        known = self.find(path)
        if event == "open":
            if arguments[2] & os.O_CREAT and known is None and folder:
                folder.change({path.name: Node()})
            else:
                return
        elif event == "os.mkdir":
            if known or not folder:
                return
            folder.change({path.name: Node.folder()})
        elif event in ("os.remove", "os.rmdir"):
            if not known:
                return
            folder.change({path.name: None})
        elif event == "os.link":
            self.find(paths[1].parent).change({paths[1].name: known})
        elif event == "os.rename":
            assert paths[0].parent == paths[1].parent
            folder.change({path.name: None, paths[1].name: known})
        else:
            return
        self._end_call(f"{event} {' '.join(one.name for one in paths)}")

    def note_sync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not path.is_relative_to(self.root):
            return
        kind = "folder" if path.is_dir() else "file"
        node = self.find(path)
        if node and self.deaf_to not in (kind, path.name, path.name.partition("-")[0]):
            node.sync(path.read_bytes() if kind == "file" else b"")
            self._end_call(f"fsync {path.name}")

    def _end_call(self, call: str) -> None:
        self.calls.append(call)
        self.after_call()


def build(state: State, path: Path, links: dict[int, Path] | None = None) -> None:
    """Makes what a loss of power may have left; two names of one file stay one file."""
    links = {} if links is None else links
    kind, *content = state
    if kind == "folder":
        path.mkdir()
        for name, inside in content[0]:
            build(inside, path / name, links)
    elif content[0] in links:
        os.link(links[content[0]], path)
    else:
        path.write_bytes(content[1])
        links[content[0]] = path


@contextmanager
def recorded(root: Path, monkeypatch: Any) -> Iterator[Disk]:
    """Records what this process does in a folder, while it is entered."""
    disk, is_on, fsync = Disk(root), True, os.fsync

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if is_on:
            disk.note(event, arguments)

    def recorded_fsync(descriptor: int) -> None:
        fsync(descriptor)
        disk.note_sync(descriptor)

    # It cannot be taken off again, so it is told to be quiet.
    sys.addaudithook(hook)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", recorded_fsync)
        try:
            yield disk
        finally:
            is_on = False
