"""Code that is a public name, such as `kp.fit` or `kp.fit(fuse="auto")`, leads to its entry."""

import re

from docutils import nodes
from sphinx.application import Sphinx

PUBLIC_NAME = re.compile(r"(?:kp|keras_patterns)\.([\w.]+)(?:\(.*\))?", re.S)


def link_public_names(app: Sphinx, tree: nodes.document, page: str) -> None:
    objects = app.env.domains["py"].objects
    for code in list(tree.findall(nodes.literal)):
        named = PUBLIC_NAME.fullmatch(code.astext())
        name = f"keras_patterns.{named[1]}" if named else None
        if name not in objects or in_link_or_heading(code):
            continue
        where = objects[name]
        uri = app.builder.get_relative_uri(page, where.docname) + f"#{where.node_id}"
        link = nodes.reference("", "", internal=True, refuri=uri)
        code.replace_self(link)
        link += code


def in_link_or_heading(node: nodes.Node) -> bool:
    while node := node.parent:
        if isinstance(node, nodes.reference | nodes.title):
            return True
    return False


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", link_public_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
