"""Docstrings as docutils reads them: they are written for people, with a little Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FENCE = re.compile(r"^( *)```python\n(.*?)^ *```$", re.S | re.M)
LINK = re.compile(r"\[([^]]+)\]\((https?://[^)\s]+)\)")
TABLE = re.compile(r"^( *)\|.*\|\n\1\|[-| ]+\|\n(?:\1\|.*\|\n?)+", re.M)
# Examples, tables and code keep their bars; one in a sentence would begin a substitution.
AS_IT_STANDS = re.compile(r"^ *>>> .*?(?=\n\s*\n|\Z)|^ *\|[^\n]*|`[^`]*`|\|", re.S | re.M)
# Under `Raises:`.
RAISED = re.compile(r"^ +(?:[\w.]+, )*kp\.\w+: ", re.M)
BAR = re.compile(r"(?<!\\)\|")


def to_rst(text: str) -> str:
    """The same with errors, code, tables, links and lists of sources in docutils's form."""
    text = AS_IT_STANDS.sub(lambda part: part[0] if len(part[0]) > 1 else r"\|", text)
    text = RAISED.sub(lambda names: names[0].replace("kp.", "keras_patterns."), text)
    text = FENCE.sub(lambda block: f"{block[1]}::\n\n{indented(block[2])}", text)
    text = TABLE.sub(lambda table: list_table(table[0], table[1]), text)
    text = LINK.sub(lambda link: f"`{' '.join(link[1].split())} <{link[2]}>`__", text)
    return "\n".join(sources_as_list(text.split("\n")))


def indented(text: str) -> str:
    return "".join(f"    {line}" for line in text.splitlines(keepends=True))


def list_table(table: str, margin: str) -> str:
    head, _, *rows = table.rstrip("\n").split("\n")
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        first, *others = (cell.strip().replace("\\|", "|") for cell in BAR.split(row.strip())[1:-1])
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    return "\n".join(margin + line for line in ["", *lines, ""]) + "\n"


def sources_as_list(lines: list[str]) -> Iterator[str]:
    """Under `References:`, a line that is not indented further begins a source."""
    margin = None
    for line in lines:
        text = line.lstrip()
        depth = len(line) - len(text)
        if text == "References:":
            margin = depth + 4
        elif margin is not None and text:
            if depth < margin:
                margin = None
            elif depth > margin:
                line = " " * (margin + 2) + text
            elif not text.startswith("- "):
                line = " " * margin + f"- {text}"
        yield line


def on_docstring(
    app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]
) -> None:
    lines[:] = to_rst("\n".join(lines)).split("\n")


def setup(app: Sphinx) -> dict[str, bool]:
    # Before napoleon.
    app.connect("autodoc-process-docstring", on_docstring, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
