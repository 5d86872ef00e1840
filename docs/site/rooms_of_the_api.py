"""The directive `room`: public names of a module, as a table and then each with its docstring. The
directive `raised`: which of them raises which error.
"""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# Under `Raises:`, with the lines that are indented further.
RAISED = re.compile(r"^( +)((?:kp\.\w+(?:, )?)+): (.*(?:\n\1 +.*)*)", re.M)


class Room(SphinxDirective):
    """`.. room:: MODULE`, with a public name of it in each line."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, object]] = {}

    def run(self) -> list[nodes.Node]:
        module, names = self.arguments[0], [line.strip() for line in self.content if line.strip()]
        lines = [
            f".. currentmodule:: {module}",
            "",
            ".. autosummary::",
            "   :nosignatures:",
            "",
            *(f"   {name}" for name in names),
            "",
        ]
        for name in names:
            item = getattr(import_module(module), name)
            if inspect.isclass(item):
                bases = ["   :show-inheritance:"] if has_public_base(item) else []
                lines += [f".. autoclass:: {name}", "   :members:", *bases, ""]
            else:
                lines += [f".. autofunction:: {name}", ""]
        return self.parse_text_to_nodes(StringList(lines, source=self.get_source_info()[0]))


class Raised(SphinxDirective):
    """`.. raised::`, a table of errors, of who raises each, and when."""

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", ""]
        rows = [("error", "raised by", "when")]
        for error, name, when in sorted(raises(import_module("keras_patterns"))):
            rows.append((f"`kp.{error}`", f"`kp.{name}`", when))
        for first, *others in rows:
            lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
        return self.parse_text_to_nodes(StringList(lines, source=self.get_source_info()[0]))


def raises(module: object) -> Iterator[tuple[str, str, str]]:
    """Errors of this package, the public name that raises each, and when, from its docstring."""
    for name in module.__all__:
        item = getattr(module, name)
        methods = vars(item).items() if inspect.isclass(item) else ()
        public = [(f"{name}.{method}", it) for method, it in methods if method[0] != "_"]
        for place, one in [(name, item), *public]:
            docstring = one.__doc__ if callable(one) else None
            for _, errors, when in RAISED.findall(docstring or ""):
                for error in re.findall(r"kp\.(\w+)", errors):
                    yield error, place, " ".join(when.split())


def has_public_base(item: type) -> bool:
    return any(base is not object and base.__name__[0] != "_" for base in item.__bases__)


def leave_out_old_names(
    app: Sphinx, what: str, name: str, item: object, skip: bool, options: object
) -> bool | None:
    """The page on compatibility has them."""
    return True if (inspect.getdoc(item) or "").startswith("The old name of") else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("room", Room)
    app.add_directive("raised", Raised)
    app.connect("autodoc-skip-member", leave_out_old_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
