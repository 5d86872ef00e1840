"""Selecting layers and variables of a model, the same way everywhere: the argument `where`.

| `where` | selects |
| --- | --- |
| a string | what its glob matches: `"block5_*"`, `"*/kernel"` |
| a layer, a variable | itself, with all inside it |
| a function | the layers, at any level, for which it returns True |
| a number, a slice | by depth: `0` is the first layer with weights, `slice(-3)` all but three |
| a list or tuple of these | all that any of them selects |

A path is the names of the layers from below the model down, joined by `/`, and that of the
variable: `vgg19/block5_conv1/kernel`. In a subclassed model, the names of its attributes are as
good as those of its layers. A glob matches a path as a whole, or from any `/` on; its `*` goes
across `/`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import keras

from keras_patterns.backends import current

from .. import _keras
from .._util.models import check_built
from .depth import depths

# Recursive, so a string.
Where: TypeAlias = (
    "str | keras.Layer | keras.Variable | Callable[[keras.Layer], bool]"
    " | int | slice | Sequence[Where]"
)

_SHOWN = 5


@dataclass(frozen=True)
class Node:
    """A layer inside a model.

    Attributes:
        layer: The layer.
        path: Its names from below the model down.
        aliases: Other paths to it, by names of attributes.
        above: The layers that hold it, the outermost first.
    """

    layer: keras.Layer
    path: str
    aliases: tuple[str, ...] = ()
    above: tuple[keras.Layer, ...] = ()

    @property
    def own(self) -> list[keras.Variable]:
        """The variables that it holds itself, those of layers inside it left out."""
        return _keras.own_variables(self.layer)

    @property
    def paths(self) -> tuple[str, ...]:
        """All of its paths."""
        return (self.path, *self.aliases)


@dataclass(frozen=True)
class Selection:
    """The layers and variables that `where` selects.

    Attributes:
        nodes: The layers that are selected as a whole, with those inside them, in the model's
            order.
        variables: All selected variables, those of the layers included, in the model's order.
        weights: Those of them that layers train unless they are frozen: statistics are left out.
    """

    nodes: list[Node]
    variables: list[keras.Variable]
    weights: list[keras.Variable]


def nodes_of(model: keras.Model) -> list[Node]:
    """Every layer inside a model, at any level, in the model's order; one that holds others stands
    before them.
    """
    found: list[Node] = []
    seen: set[int] = set()

    def visit(parent: keras.Layer, paths: tuple[str, ...], above: tuple[keras.Layer, ...]) -> None:
        for layer in _keras.sublayers(parent):
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            names = _names_in(parent, layer)
            here = tuple(
                dict.fromkeys(
                    f"{path}/{name}" if path else name for name in names for path in paths
                )
            )
            found.append(Node(layer, here[0], here[1:], above))
            visit(layer, here, (*above, layer))

    visit(model, ("",), ())
    return found


def variable_paths(model: keras.Model) -> dict[int, str]:
    """The path of each variable, by its `id`."""
    rows = [
        (variable, f"{node.path}/{variable.name}")
        for node in nodes_of(model)
        for variable in node.own
    ]
    rows += [(variable, variable.name) for variable in _keras.own_variables(model)]
    return {id(variable): path for variable, path in rows}


def select(caller: str, model: keras.Model, where: Where) -> Selection:
    """The layers and variables that `where` selects in a built model.

    Args:
        caller: The function that was called, for messages.
        model: The model.
        where: See the module.

    Raises:
        TypeError: If `model` is no model, or `where` is of another type.
        ValueError: If a part of `where` selects nothing; the message lists near names.
    """
    check_built(caller, model)
    nodes = nodes_of(model)
    whole: set[int] = set()
    single: set[int] = set()
    for part in _flat(where):
        layers, variables = _matching(caller, model, nodes, part)
        if not layers and not variables:
            raise ValueError(
                f"{caller}: {part!r} selects nothing in {model.name!r}.{_near_names(nodes, part)}"
            )
        whole |= layers
        single |= variables
    chosen = [
        node
        for node in nodes
        if id(node.layer) in whole or any(id(layer) in whole for layer in node.above)
    ]
    inside = {id(variable) for node in chosen for variable in node.own}
    everything = [
        *_keras.own_variables(model),
        *(variable for node in nodes for variable in node.own),
    ]
    if id(model) in whole:
        inside |= {id(variable) for variable in everything}
        chosen = nodes
    selected = [variable for variable in everything if id(variable) in inside | single]
    trained = {
        id(weight)
        for layer in (model, *(node.layer for node in nodes))
        for weight in _keras.weights_made_trainable(layer)
    }
    return Selection(
        chosen, selected, [variable for variable in selected if id(variable) in trained]
    )


def _names_in(parent: keras.Layer, layer: keras.Layer) -> list[str]:
    """The names of a layer inside another one: its own, and where Keras has no graph the attributes
    that hold it.
    """
    if isinstance(parent, keras.Model) and _keras.is_graph(parent):
        return [layer.name]
    attributes = current().attributes(parent).items()
    return list(
        dict.fromkeys(
            [
                layer.name,
                *(n for n, value in attributes if value is layer and not n.startswith("_")),
            ]
        )
    )


def _flat(where: Where) -> Iterator[Any]:
    if isinstance(where, list | tuple | set | frozenset):
        for part in where:
            yield from _flat(part)
    else:
        yield where


def _matching(
    caller: str, model: keras.Model, nodes: Sequence[Node], part: Any
) -> tuple[set[int], set[int]]:
    """The layers and the variables that one part of `where` selects, by their `id`."""
    if isinstance(part, str):
        return _matching_glob(model, nodes, part)
    if isinstance(part, keras.Layer):
        inside = {id(node.layer) for node in nodes} | {id(model)}
        return {id(part)} & inside, set()
    if isinstance(part, keras.Variable):
        return set(), {id(part)} & {id(variable) for variable in model.variables}
    if isinstance(part, int | slice) and not isinstance(part, bool):
        return _at_depth(model, part), set()
    if callable(part):
        return {id(node.layer) for node in nodes if part(node.layer)}, set()
    raise TypeError(
        f"{caller}: `where` must be a glob on a path, a layer, a variable, a function of a layer, "
        f"a depth (a number or a slice), or a list of these. Received: {part!r} "
        f"({type(part).__name__})."
    )


def _matching_glob(
    model: keras.Model, nodes: Sequence[Node], pattern: str
) -> tuple[set[int], set[int]]:
    def fits(paths: Iterable[str]) -> bool:
        return any(
            fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}") for path in paths
        )

    layers = {id(node.layer) for node in nodes if fits(node.paths)}
    rows = [(node.paths, variable) for node in nodes for variable in node.own]
    variables = {
        id(variable)
        for paths, variable in rows
        if fits(f"{path}/{variable.name}" for path in paths)
    }
    variables |= {id(variable) for variable in _keras.own_variables(model) if fits([variable.name])}
    return layers, variables


def _at_depth(model: keras.Model, part: int | slice) -> set[int]:
    found = depths(model)
    count = 1 + max(found.values(), default=-1)
    wanted = (
        set(range(count)[part]) if isinstance(part, slice) else {part + count if part < 0 else part}
    )
    return {layer for layer, depth in found.items() if depth in wanted}


def _near_names(nodes: Sequence[Node], part: Any) -> str:
    paths = list(
        dict.fromkeys(
            path
            for node in nodes
            for path in (node.path, *(f"{node.path}/{v.name}" for v in node.own))
        )
    )
    if not isinstance(part, str):
        return (
            " Its layers are "
            f"{', '.join(map(repr, paths[:_SHOWN]))}{', ...' if len(paths) > _SHOWN else '.'}"
        )
    bare = part.strip("*/")
    # The last names too: they are what a person remembers.
    by_name = {path.rpartition("/")[2]: path for path in reversed(paths)} | {
        path: path for path in paths
    }
    near = dict.fromkeys(by_name[name] for name in difflib.get_close_matches(bare, by_name, _SHOWN))
    shown = list(near) or paths[:_SHOWN]
    return (
        f" Near names are {', '.join(map(repr, shown))}."
        if near
        else f" Its layers are {', '.join(map(repr, shown))}, ..."
    )


def describe(where: Where) -> str:
    """A selection in words that are the same in every process."""
    if isinstance(where, list | tuple | set | frozenset):
        return ", ".join(describe(part) for part in where)
    if isinstance(where, keras.Layer):
        return repr(where.name)
    if isinstance(where, keras.Variable):
        return repr(where.path)
    if isinstance(where, int):
        return f"depth {where}"
    if isinstance(where, slice):
        bounds = ["" if bound is None else str(bound) for bound in (where.start, where.stop)]
        return f"depths {':'.join(bounds)}"
    return repr(where) if isinstance(where, str) else getattr(where, "__name__", "a function")
