"""Tables as plain text, and for notebooks."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from .text import visible


def format_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligns rows under a header: columns of numbers to the right, all else to the left. Integers
    get separators of thousands, control characters show as escapes.

    Args:
        header: The names of the columns.
        rows: As many cells each.

    Example:

    >>> print(format_table(["name", "bytes"], [["kernel", 1024], ["bias", 8]]))
    name    bytes
    ------  -----
    kernel  1,024
    bias        8
    """
    texts = _texts(rows)
    columns = list(zip(header, *texts, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [_is_of_numbers(column[1:]) for column in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [header, ["-" * width for width in widths], *texts]
    )


def html_table(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table in HTML, with what the cells hold as text. A column whose cells are all empty is left
    out. A notebook aligns all cells to the right: columns that are not of numbers say that theirs
    stand on the left.

    Example:

    >>> html_table(["bytes", "caution"], [[1024, ""]])
    '<table><tr><th>bytes</th></tr><tr><td>1,024</td></tr></table>'
    >>> html_table(["name"], [["a < b"]]).partition("<td")[2]
    ' style="text-align:left">a &lt; b</td></tr></table>'
    """
    lines = [[str(name) for name in header], *_texts(rows)]
    all_columns = list(zip(*lines, strict=True))
    columns = [column for column in all_columns if any(column[1:])] or all_columns
    styles = [
        "" if _is_of_numbers(column[1:]) else ' style="text-align:left"' for column in columns
    ]

    def row(cells: Iterable[str], tag: str) -> str:
        made = (
            f"<{tag}{style}>{html.escape(cell)}</{tag}>"
            for cell, style in zip(cells, styles, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    first, *others = zip(*columns, strict=True)
    return f"<table>{row(first, 'th')}{''.join(row(cells, 'td') for cells in others)}</table>"


def _texts(rows: Iterable[Iterable[Any]]) -> list[list[str]]:
    return [
        [f"{cell:,}" if type(cell) is int else visible(str(cell)) for cell in row] for row in rows
    ]


def _is_of_numbers(cells: Iterable[str]) -> bool:
    return all(re.fullmatch(r"[0-9., ]*", cell) for cell in cells)


def html_lines(*lines: str) -> str:
    """Lines of text in HTML, those that are empty left out.

    Example:

    >>> html_lines("a < b", "")
    '<p>a &lt; b</p>'
    """
    made = (html.escape(visible(line)) for text in lines for line in text.split("\n") if line)
    return "".join(f"<p>{line}</p>" for line in made)
