"""What makes one text serve both the code host and the site.

- `<!-- site` ... `-->`: cards and tables of contents, which the code host does not show. This
  mark and the next one stand alone in their lines.
- `<!-- host -->` ... `<!-- end host -->`: what the site shows by other means.
- A page of `WHOLE_FILES` is that file of the repository.
- A link to a file outside of docs/ leads to the page that shows it, or to the code host.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
HOST = "https://github.com/keras-patterns/keras-patterns/blob/main"
WHOLE_FILES = {
    "project/benchmarks": "benchmarks/RESULTS.md",
    "project/changelog": "CHANGELOG.md",
    "project/code-of-conduct": "CODE_OF_CONDUCT.md",
    "project/contributing": "CONTRIBUTING.md",
    "project/repeat-benchmarks": "benchmarks/README.md",
    "project/security": "SECURITY.md",
}
SHOWN_AT = {file: page for page, file in WHOLE_FILES.items()}
FOR_SITE = re.compile(r"^<!-- site\n(.*?)^-->\n?", re.S | re.M)
FOR_HOST = re.compile(r"^<!-- host -->\n.*?^<!-- end host -->\n?", re.S | re.M)
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def site_text(page: str, text: str) -> str:
    """The text of a page as the site shows it.

    Args:
        page: Its path below docs/, without `.md`.
        text: As it stands in the file of the page.
    """
    file = WHOLE_FILES.get(page, f"docs/{page}.md")
    if page in WHOLE_FILES:
        text = (ROOT / file).read_text(encoding="utf-8")
    text = FOR_HOST.sub("", FOR_SITE.sub(r"\1", text))
    return LINK.sub(lambda link: link[1] + target(page, file, link[2]) + link[3], text)


def target(page: str, file: str, link: str) -> str:
    """The target on the site of a link in a file."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(file), link))
    if not (ROOT / path).exists():
        return link
    if path in SHOWN_AT:
        path = f"docs/{SHOWN_AT[path]}.md"
    if not path.startswith("docs/") or path.endswith(".py"):
        return f"{HOST}/{path}"
    return posixpath.relpath(path, posixpath.dirname(f"docs/{page}"))


def on_source(app: Sphinx, page: str, content: list[str]) -> None:
    if Path(app.env.doc2path(page)).suffix == ".md":
        content[0] = site_text(page, content[0])
    if page in WHOLE_FILES:
        app.env.note_dependency(str(ROOT / WHOLE_FILES[page]))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", on_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
