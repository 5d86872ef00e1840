"""Checks a built site: `python docs/site/check.py build/site`.

Every public name has an entry and an example, every link inside the site leads somewhere, every
file that a page or a style sheet loads is there, every page is three clicks from the first one or
nearer, no page asks for anything from the net, no old name is back, and the whole is small.
Exit code 1 where that is not so.
"""

import inspect
import re
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urldefrag

MOST_BYTES = 30_000_000
MOST_CLICKS = 3
MODULES = ("", ".optimizers", ".schedules", ".stopping", ".testing")
ROOT = Path(__file__).resolve().parents[2]
# Names that have a better one by now, besides those of the table in docs/compatibility.md.
RETIRED = (
    *("DrivenCallback", "EpochRun", "EpochGuard", "HeldState", "note_left", "forget_left"),
    *("roll_back", "stop_is_requested", "is_called", "kp.untouched", "still-1"),
)
# These tell of old names.
TELL_OF_OLD_NAMES = {"compatibility.html", "project/changelog.html"}
# What a browser loads with a page; `href` of any other tag waits for a click.
LOADED = {"src", "srcset", "data", "poster"}
IN_STYLE = re.compile(r"(?:url\(|@import\s)\s*[\"']?([^\"')\s]+)")
IN_SCRIPT = re.compile(r"(?:import|fetch|importScripts)\s*\(?\s*[\"'`](https?://[^\"'`]+)")


class Page(HTMLParser):
    """The anchors of a page, its links, its text, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in LOADED or (tag, name) == ("link", "href"):
                self.loads.append(value or "")
            elif name in {"href", "action"} and value:
                self.links.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def problems(site: Path) -> Iterator[str]:
    """A line for each thing that is not as it must be."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    for path, page in sorted(pages.items()):
        where = path.relative_to(site)
        yield from (f"{where}: loads {url}" for url in page.loads if is_of_the_net(url))
        for link in page.links + page.loads:
            if problem := broken(path, link, pages):
                yield f"{where}: {link}: {problem}"
    for path in sorted(site.rglob("*.css")):
        for url in IN_STYLE.findall(path.read_text(encoding="utf-8")):
            if is_of_the_net(url):
                yield f"{path.relative_to(site)}: loads {url}"
            elif problem := broken(path, url, pages):
                yield f"{path.relative_to(site)}: {url}: {problem}"
    for path in sorted(site.rglob("*.js")):
        found = IN_SCRIPT.findall(path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(site)}: loads {url}" for url in found)
    for path in sorted(pages.keys() - within_reach(site / "index.html", pages)):
        yield f"{path.relative_to(site)} is more than {MOST_CLICKS} clicks from index.html"
    told = {str(path.relative_to(site)): page.text for path, page in pages.items()}
    told["README.md"] = (ROOT / "README.md").read_text(encoding="utf-8")
    old_names = retired()
    for where, text in sorted(told.items()):
        if where not in TELL_OF_OLD_NAMES:
            used = (name for name in old_names if uses(text, name))
            yield from (f"{where}: {name} has a better name by now" for name in used)
    yield from (f"{name} has no example" for name in without_example())
    documented = names_in_inventory(site / "objects.inv")
    yield from (f"{name} is on no page" for name in sorted(public_names() - documented))
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        yield f"the site has {size:,} bytes, more than {MOST_BYTES:,}"


def is_of_the_net(url: str) -> bool:
    return url.startswith(("http:", "https:", "//"))


def within_reach(first: Path, pages: dict[Path, Page]) -> set[Path]:
    """The pages to which few enough clicks lead."""
    reached = {first}
    for _ in range(MOST_CLICKS):
        reached |= {
            (path.parent / urldefrag(link).url).resolve()
            for path in reached & pages.keys()
            for link in pages[path].links
        }
    return reached


def broken(path: Path, link: str, pages: dict[Path, Page]) -> str:
    """What is wrong with a link inside the site; empty if nothing is."""
    if re.match(r"[a-z]+:|//", link):
        return ""
    name, anchor = (unquote(part) for part in urldefrag(link))
    name = name.partition("?")[0]
    goal = (path.parent / name).resolve() if name else path
    if not goal.is_file():
        return "no such file"
    if anchor and goal in pages and anchor not in pages[goal].anchors:
        return "no such place on that page"
    return ""


def names_in_inventory(path: Path) -> set[str]:
    """The Python names of an `objects.inv`."""
    content = path.read_bytes()
    for _ in range(4):
        content = content[content.index(b"\n") + 1 :]
    rows = (row.split(" ") for row in zlib.decompress(content).decode().splitlines())
    return {row[0] for row in rows if row[1].startswith("py:")}


def public_names() -> set[str]:
    """Those of each public module; what stands in two modules counts as the first one's."""
    names: set[str] = set()
    seen: set[int] = set()
    for module in MODULES:
        room = import_module("keras_patterns" + module)
        for name in room.__all__:
            item = getattr(room, name)
            if callable(item) and id(item) not in seen:
                seen.add(id(item))
                names.add(f"keras_patterns{module}.{name}")
    return names


def uses(text: str, name: str) -> bool:
    """True if a name stands in a text, and not as a part of a longer one."""
    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) is not None


def retired() -> list[str]:
    """The names that have a better one by now: those above, and those of the table."""
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    table = page.partition("| old | new |")[2].partition("\n\n")[0]
    cells = (row.split("|")[1] for row in table.splitlines()[2:])
    old = (re.findall(r"`([A-Za-z][\w.]{3,})=?`", cell) for cell in cells)
    return [*RETIRED, *(name for found in old for name in found)]


def without_example() -> Iterator[str]:
    """The public names whose docstring neither has an example nor leads to one: it names, in its
    first paragraph, the function that returns such an object, or the class to which it belongs.
    """
    names = public_names()
    docstrings = {name: inspect.getdoc(find(name)) or "" for name in names}
    shown = {name for name in names if ">>> " in docstrings[name]}
    for name in sorted(names - shown):
        first = docstrings[name].partition("\n\n")[0]
        named = re.findall(r"`(?:kp|keras_patterns)\.([\w.]+)", first)
        if not shown & {f"keras_patterns.{other}" for other in named}:
            yield name


def find(name: str) -> object:
    module, _, item = name.rpartition(".")
    return getattr(import_module(module), item)


def main() -> int:
    site = Path(sys.argv[1]).resolve()
    found = list(problems(site))
    print("\n".join(found) or f"{site}: all links, names, words and sources are in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
