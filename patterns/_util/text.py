"""Text for people: on any terminal, whatever it was read from."""

from __future__ import annotations

import sys
from typing import TextIO


def visible(text: str, keep: str = "") -> str:
    """Text in which control characters show as escapes, so that a name out of a file cannot steer
    the terminal, nor look like a line of its own.

    Control characters are those that move, colour or hide something, such as ESC, a newline, or a
    mark that turns the direction of writing; and the stand-ins for bytes that are no text.

    Args:
        text: From anywhere.
        keep: Control characters that stay as they are. Defaults to none.

    Example:

    >>> print(visible("red \\x1b[31m, two\\nlines, läuft"))
    red \\x1b[31m, two\\nlines, läuft
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape").decode("ascii")
        for one in text
    )


def short(value: object) -> str:
    """A value in few signs.

    Example:

    >>> short(0.0123456), short(64), short("adam")
    ('0.01235', '64', 'adam')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def encodable(text: str, file: TextIO | None) -> str:
    """Text in which what a file cannot take shows as escapes."""
    # There is no file under `pythonw`, and one in memory has no encoding.
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def write_line(text: str = "", file: TextIO | None = None) -> None:
    """Prints a line, its control characters as escapes, and what the terminal cannot show, too.

    Args:
        text: One line.
        file: Where to. Defaults to None: the standard output of now.
    """
    file = sys.stdout if file is None else file
    print(encodable(visible(text), file), file=file, flush=True)


def write_text(text: object) -> None:
    """Prints lines, as `write_line` does."""
    for line in str(text).split("\n"):
        write_line(line)
