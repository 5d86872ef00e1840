"""The command `keras-patterns report`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from ..._util.text import write_line
from ...storage import StoreError
from ...storage.errors import refusals
from ...storage.plain_files import open_plain, replace_durably
from .page import MARK, make_page
from .reading import FolderFacts, read_folder_facts

_KEPT = "What was there before is untouched."


def report(arguments: argparse.Namespace) -> int:
    """Writes the page of some folders; with `--watch` again and again, until their runs end."""
    out = Path(arguments.out)
    _check_out(out)
    if not arguments.watch:
        folders = [read_folder_facts(directory) for directory in arguments.directories]
        for folder in folders:
            if folder.is_empty:
                exists = Path(folder.label).is_dir()
                what = "nothing to report on is there" if exists else "there is no such folder"
                raise StoreError.empty(folder.label, what)
        _write(out, folders, None)
        return 0
    write_line(f"keras-patterns: {out} follows the run until it ends; Ctrl-C ends this earlier.")
    found: dict[str, FolderFacts] = {}
    try:
        while True:
            folders = _read_on(arguments.directories, found)
            if all(folder.is_over for folder in folders):
                break
            _replace(out, make_page(folders, arguments.every))
            time.sleep(arguments.every)
    finally:
        # A page that no longer reloads itself, also after Ctrl-C.
        _write(out, _read_on(arguments.directories, found), None)
    return 0


def _read_on(directories: Sequence[str], found: dict[str, FolderFacts]) -> list[FolderFacts]:
    """The folders now. One that has gone away, with its disk or for good, is as it was found: no
    page of it is lost.
    """
    for directory in directories:
        facts = read_folder_facts(directory)
        if not facts.is_empty or directory not in found:
            found[directory] = facts
    return [found[directory] for directory in directories]


def _write(out: Path, folders: Sequence[FolderFacts], reload_seconds: float | None) -> None:
    page = make_page(folders, reload_seconds)
    _replace(out, page)
    write_line(f"The report is in {out} ({len(page.encode()):,} bytes).")


def _replace(out: Path, page: str) -> None:
    """Puts a page in the place of an older one: whoever reads it meanwhile sees one or the
    other. Another file may have got its name meanwhile.
    """
    _check_out(out)
    with refusals(out, "write the report", _KEPT):
        replace_durably(out, page.encode())


def _check_out(out: Path) -> None:
    """Raises if there is a file that is no report."""
    try:
        with open_plain(out, any_folder=True) as file:
            begins = file.read(len(MARK))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError.failed(out, "write the report", error) from error
    if begins != MARK.encode():
        what = "a file that is no report is there"
        raise StoreError(out, what, "Give another name with -o. It was not changed.")
