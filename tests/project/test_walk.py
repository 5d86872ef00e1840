"""Every stay of docs/walk.md is a function of the package."""

import ast
import re

import pytest
from places import ROOT

PAGE = (ROOT / "docs" / "walk.md").read_text(encoding="utf-8")
STAYS = re.findall(r"^\| \d \| `(\w[\w/]*\.py)`: `([\w.]+)` \|", PAGE, flags=re.M)


def functions(path):
    """Functions and methods of a module, these as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            names = (child.name for child in node.body if isinstance(child, ast.FunctionDef))
            found |= {f"{node.name}.{name}" for name in names}
    return found


@pytest.mark.parametrize(("module", "function"), STAYS)
def test_a_stay_of_the_walk_is_a_function(module, function):
    assert function in functions(ROOT / "patterns" / module)


def test_each_walk_has_at_most_eight_stays():
    assert len(STAYS) > 30
    assert not re.search(r"^\| 9 \|", PAGE, flags=re.M)
