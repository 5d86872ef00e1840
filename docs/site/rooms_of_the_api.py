"""The directive `room`: public names of a module, as a table and then each with its docstring."""

import inspect
from importlib import import_module
from typing import ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


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


def has_public_base(item: type) -> bool:
    return any(base is not object and base.__name__[0] != "_" for base in item.__bases__)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("room", Room)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
