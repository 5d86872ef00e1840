"""Writes docs/promises.md, the promises of the project and the tests that keep them:
`python docs/promises.py`.

The tests of a promise are those of the files below tests/promises whose docstring begins with its
name and a colon. The rest of that line says what the file shows. A test says what it shows in the
first sentence of its docstring, or in its name.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "promises.md"
TESTS = ROOT / "tests" / "promises"

PROMISES = {
    "Exact resume": (
        "A run that is killed after any step and resumed in a new process ends with every "
        "variable, slot, seed, metric, callback field and History entry equal to those of the "
        "run that was not killed, bit for bit, wherever two runs that were not killed equal each "
        "other."
    ),
    "Nothing lost": (
        "`kill -9` at any instant leaves the newest complete checkpoint readable. A flipped bit "
        "is found and named. A full disk, a read-only folder or a wrong model is a clear error, "
        "and what was on disk stays. No checkpoint can run code."
    ),
    "Any backend": (
        "Weights, slots, step, data position and the states of callbacks carry over from any "
        "backend to any other. Without random layers the training agrees within the tolerance "
        "of floats."
    ),
    "The host stays out of the way": (
        "With every pattern on, steps per second are those of plain `model.fit` or better "
        "(benchmarks/bench_steps.py)."
    ),
    "Saving is nearly free": (
        "The loop waits for one copy of the state (benchmarks/bench_save.py). Variables that did "
        "not change are not written again at every checkpoint."
    ),
    "Loud": (
        "An argument is checked where it is given. An error says what was asked, what was found "
        "and what to do. Nothing is silently corrected, dropped or ignored."
    ),
}


def page() -> str:
    """The text of the page.

    Raises:
        ValueError: A file's docstring names no promise, or a promise has no test.
    """
    files: dict[str, list[str]] = {name: [] for name in PROMISES}
    for path in sorted(TESTS.rglob("test_*.py")):
        name, shown, tests = read(path)
        if name not in files:
            raise ValueError(f"{path}: the docstring must begin with one of {list(PROMISES)}")
        where = path.relative_to(ROOT).as_posix()
        files[name] += [f"**{shown}** [{path.name}](../{where})", "", *tests, ""]
    if untested := [name for name, lines in files.items() if not lines]:
        raise ValueError(f"no test keeps {untested}")
    lines = ["# The promises, and the tests that keep them", "", "Made by docs/promises.py.", ""]
    for name, promise in PROMISES.items():
        lines += [f"## {name}", "", promise, "", *files[name]]
    return "\n".join(lines).rstrip() + "\n"


def read(path: Path) -> tuple[str, str, list[str]]:
    """The promise that a file of tests is for, what it shows of it, and a line for each test."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name, _, shown = (ast.get_docstring(tree) or "").split("\n")[0].partition(": ")
    tests = [f"- {sentence(node)}" for node in ast.walk(tree) if is_test(node)]
    return name, shown[:1].upper() + shown[1:], tests


def is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def sentence(function: ast.FunctionDef) -> str:
    """The name in words, with the sessions of its marks; then what its docstring adds."""
    words = function.name.removeprefix("test_").replace("_s_", "'s ").replace("_", " ")
    marks = [mark for mark in marks_of(function) if mark in ("storm", "every_step", "fuzz")]
    said = f"{words[0].upper()}{words[1:]}" + "".join(f" (`nox -s {mark}`)" for mark in marks)
    first = (ast.get_docstring(function) or "").replace("\n", " ")
    first = re.split(r"(?<=\.) ", first)[0].rstrip(".")
    return f"{said}: {first}." if first else f"{said}."


def marks_of(function: ast.FunctionDef) -> list[str]:
    return [
        ast.unparse(decorator).removeprefix("pytest.mark.").split("(")[0]
        for decorator in function.decorator_list
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
