"""The sources of the site: each page has its place, each public name its entry. The checks of the
built site can fail.
"""

import re
import runpy
import zlib

import pytest
from places import ROOT

import keras_patterns as kp

pytestmark = pytest.mark.once

DOCS = ROOT / "docs"
SOURCES = sorted([*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")])


@pytest.fixture(scope="module")
def pages():
    return runpy.run_path(str(DOCS / "site" / "pages.py"))


@pytest.fixture(scope="module")
def to_rst():
    return runpy.run_path(str(DOCS / "site" / "docstrings.py"))["to_rst"]


@pytest.fixture(scope="module")
def check():
    return runpy.run_path(str(DOCS / "site" / "check.py"))


def test_every_page_is_in_a_table_of_contents():
    listed = {DOCS / "index"}
    for page in SOURCES:
        for entries in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.S):
            names = [line for line in entries.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / name).resolve() for name in names}
    assert listed == {page.with_suffix("") for page in SOURCES}


def test_every_link_of_a_page_leads_to_a_file_on_the_code_host():
    pages = [page for page in SOURCES if page.suffix == ".md"] + sorted(ROOT.glob("*.md"))
    dead = [
        (page.relative_to(ROOT), link)
        for page in pages
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", page.read_text("utf-8"))
        if re.search(r"\.\w+$|/", link) and not (page.parent / link).exists()
    ]
    assert dead == []


def test_every_public_name_is_in_a_room(check):
    named = set()
    for page in DOCS.rglob("*.rst"):
        rooms = re.findall(
            r"^\.\. room:: (\S+)\n\n((?:   \S+(?:\n|\Z))+)", page.read_text("utf-8"), re.M
        )
        named |= {f"{module}.{name}" for module, names in rooms for name in names.split()}
    assert check["public_names"]() <= named
    assert f"keras_patterns.{kp.fit.__name__}" in named


def test_every_task_of_the_readme_is_on_the_page_of_tools():
    readme = (ROOT / "README.md").read_text("utf-8").partition("## Tasks")[2]
    tools = (DOCS / "which-tool.md").read_text("utf-8")
    tasks = readme.partition("\n## ")[0].splitlines()
    rows = "".join(line for line in tasks if line.startswith("|"))
    guides = set(re.findall(r"\]\(docs/([\w-]+\.md)", rows))
    assert len(guides) > 15
    assert guides <= set(re.findall(r"\]\(([\w-]+\.md)", tools))


@pytest.mark.parametrize(
    ("page", "text", "shown"),
    [
        ("demo", "[a](stopping.md#x)", "[a](stopping.md#x)"),
        ("demo", "[a](../CHANGELOG.md)", "[a](project/changelog.md)"),
        ("project/index", "[a](../../CHANGELOG.md#x)", "[a](changelog.md#x)"),
        ("demo", "[a](https://optuna.org)", "[a](https://optuna.org)"),
        ("demo", "[a](../noxfile.py)", "[a](https://github.com/{}/blob/main/noxfile.py)"),
        ("demo", "<!-- host -->\nb\n<!-- end host -->\n<!-- site\nc\n-->\n", "c\n"),
        (
            "demo",
            "`<!-- host -->` and `<!-- end host -->`",
            "`<!-- host -->` and `<!-- end host -->`",
        ),
    ],
)
def test_a_page_is_shown_with_links_that_hold_on_the_site(pages, page, text, shown):
    assert pages["site_text"](page, text) == shown.format("keras-patterns/keras-patterns")


def test_a_whole_file_is_shown_with_links_from_its_place(pages):
    text = pages["site_text"]("project/contributing", "a line for the code host")
    assert text.startswith("# Contributing\n")
    assert "(../walk.md)" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("of |a| and `|b|`", r"of \|a\| and `|b|`"),
        (">>> print(1 | 2)\n3\n", ">>> print(1 | 2)\n3\n"),
        ("[a\nb](https://c.d)", "`a b <https://c.d>`__"),
        ("    kp.StoreError: If so.", "    keras_patterns.StoreError: If so."),
        (
            "References:\n    A. B, C,\n        D.\n    E. F.",
            "References:\n    - A. B, C,\n      D.\n    - E. F.",
        ),
    ],
)
def test_a_docstring_becomes_what_docutils_reads(to_rst, text, shown):
    assert to_rst(text) == shown


def test_a_table_of_a_docstring_becomes_a_list_table(to_rst):
    lines = to_rst("| a | b |\n| --- | --- |\n| 1 | 2 |\n").split("\n")
    assert [line.strip() for line in lines if "*" in line] == ["* - a", "* - 1"]


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ('<a href="#b">', "#b: no such place on that page"),
        ('<a href="c.html">', "c.html: no such file"),
        ('<script src="https://cdn.net/a.js">', "loads https://cdn.net/a.js"),
        ('<link href="//fonts.net/a.css">', "loads //fonts.net/a.css"),
        ('<p id="b"><a href="index.html#b"><a href="https://optuna.org">', None),
    ],
)
def test_a_page_that_leads_nowhere_or_asks_for_the_net_is_found(check, tmp_path, page, problem):
    (tmp_path / "index.html").write_text(page)
    names = "".join(f"{name} py:function 1 a.html -\n" for name in check["public_names"]())
    write_inventory(tmp_path / "objects.inv", names)
    assert list(check["problems"](tmp_path)) == ([f"index.html: {problem}"] if problem else [])


@pytest.mark.parametrize(
    ("style", "problem"),
    [
        ("src: url(fonts/a.woff2);", "fonts/a.woff2: no such file"),
        ('@import "b.css";', "b.css: no such file"),
        ("src: url('//fonts.net/a.woff2');", "loads //fonts.net/a.woff2"),
        ('src: url("a.css?v=1"); mask: url(#b); cursor: url(data:image/png;base64,AA)', None),
    ],
)
def test_a_style_sheet_that_names_a_missing_file_is_found(check, tmp_path, style, problem):
    (tmp_path / "index.html").write_text('<link href="a.css">')
    (tmp_path / "a.css").write_text(style)
    names = "".join(f"{name} py:function 1 a.html -\n" for name in check["public_names"]())
    write_inventory(tmp_path / "objects.inv", names)
    assert list(check["problems"](tmp_path)) == ([f"a.css: {problem}"] if problem else [])


def test_a_page_that_is_far_from_the_first_one_is_found(check, tmp_path):
    names = ["index", "a", "b", "c", "d"]
    for name, following in zip(names, names[1:] + names[:1], strict=True):
        (tmp_path / f"{name}.html").write_text(f'<a href="{following}.html">')
    write_inventory(tmp_path / "objects.inv", "")
    far = [line for line in check["problems"](tmp_path) if "clicks" in line]
    assert far == ["d.html is more than 3 clicks from index.html"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<p>pct_start=0.3", "pct_start"),
        ("<code>kp.one_cycle</code>", "kp.one_cycle"),
        ("<p>kp.optimizers.with_one_cycle, kp.StateMismatchError, warmup_fraction", None),
    ],
)
def test_a_retired_name_on_a_page_is_found(check, tmp_path, text, found):
    (tmp_path / "index.html").write_text(text)
    write_inventory(tmp_path / "objects.inv", "")
    named = [line for line in check["problems"](tmp_path) if "better name" in line]
    assert named == ([f"index.html: {found} has a better name by now"] if found else [])


def test_a_public_name_without_an_example_is_found(check, monkeypatch):
    assert list(check["without_example"]()) == []
    monkeypatch.setattr(kp.Patience, "__doc__", "Stops when nothing improves.")
    # What leads to its example has none then, either.
    assert "keras_patterns.Patience" in list(check["without_example"]())


def test_a_name_without_an_entry_is_found(check, tmp_path):
    write_inventory(tmp_path / "objects.inv", "keras_patterns.Run py:class 1 a.html -\n")
    found = list(check["problems"](tmp_path))
    assert "keras_patterns.fit is on no page" in found
    assert "keras_patterns.Run is on no page" not in found


def write_inventory(path, rows):
    path.write_bytes(b"# a\n# b\n# c\n# d\n" + zlib.compress(rows.encode()))
