"""HTML in which nothing that was read from a folder is anything but text."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ..._util.text import visible

# Of one text on the page.
_MOST_CHARACTERS = 2_000
_MOST_ROWS = 500
# Of nested settings.
_DEEPEST = 8


def text(value: Any, most: int = _MOST_CHARACTERS) -> str:
    """A value as text in HTML: escaped, control characters visible, cut where it is very long.

    Example:

    >>> text("<b>\\x1b")
    '&lt;b&gt;\\\\x1b'
    """
    try:
        said = value if isinstance(value, str) else str(value)
    except ValueError:  # an integer of thousands of digits
        said = f"a very long {type(value).__name__}"
    cut = said[:most]
    shown = visible(cut, keep="\n").encode("utf-8", "backslashreplace").decode()
    more = f"... ({len(said):,} characters)" if len(said) > most else ""
    return html.escape(shown) + more


def script_json(value: Any) -> str:
    """JSON that can stand in a script element of any page: no character of it ends that, or means
    anything in HTML.
    """
    made = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for one in "<>&":
        made = made.replace(one, f"\\u{ord(one):04x}")
    return made


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], kinds: Sequence[str] = ()) -> str:
    """A table; cells of the class `Markup` stay as they are.

    Args:
        header: The names of the columns.
        rows: As many cells each; of very many the first and the last stay.
        kinds: The CSS class of each column. Defaults to none.
    """
    rows = list(rows)
    kinds = kinds or [""] * len(header)
    if len(rows) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        left = f"... {len(rows) - 2 * half:,} more ..."
        rows = [*rows[:half], [left, *[""] * (len(header) - 1)], *rows[-half:]]
    head = "".join(map(partial(_cell, "th"), header, kinds))
    body = "".join(
        "<tr>" + "".join(map(partial(_cell, "td"), row, kinds)) + "</tr>" for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


class Markup(str):
    """Text that is HTML already."""


def section(title: str, *parts: str, kind: str = "") -> str:
    """A part of the page; empty if its parts are."""
    inner = "".join(parts)
    return f'<section class="{kind}"><h2>{text(title)}</h2>{inner}</section>' if inner else ""


def pairs(rows: Sequence[tuple[str, Any]]) -> str:
    """Names and values, in as many columns as there is room for."""
    rows = [*rows[:_MOST_ROWS], *([("...", "")] if len(rows) > _MOST_ROWS else [])]
    made = (f"<div><dt>{text(name, 200)}</dt><dd>{text(value)}</dd></div>" for name, value in rows)
    return f'<dl class="pairs">{"".join(made)}</dl>' if rows else ""


def paragraph(value: Any, kind: str = "") -> str:
    """A paragraph of text."""
    return f'<p class="{kind}">{text(value)}</p>'


def flat(value: Any, place: str = "", deep: int = 0) -> list[tuple[str, Any]]:
    """Nested settings as rows of a dotted name and a value.

    Example:

    >>> flat({"a": {"b": 1}, "c": [1, 2]})
    [('a.b', 1), ('c', '[1, 2]')]
    """
    if isinstance(value, Mapping) and value and deep < _DEEPEST:
        return [
            row
            for name, one in value.items()
            for row in flat(one, f"{place}.{name}" if place else str(name), deep + 1)
        ]
    if isinstance(value, Mapping | list | tuple):
        return [(place, json.dumps(value, ensure_ascii=False))] if value else []
    return [(place, value)]


def _cell(tag: str, value: Any, kind: str) -> str:
    inner = value if isinstance(value, Markup) else text(value)
    return f'<{tag} class="{kind}">{inner}</{tag}>' if kind else f"<{tag}>{inner}</{tag}>"
