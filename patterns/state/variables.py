"""Where each variable of a model stands: the key that identifies it in a checkpoint.

Names do not identify: two backbones share their paths, and running a notebook cell again renames
every layer. The place in the object tree does: attribute names and list positions from the model
down, as `.weights.h5` walks it. A slot of an optimizer is identified by the optimizer's place, the
slot's name and the key of the variable that it serves.

A key drops the underscores with which an attribute begins, unless another one of the same object
has that name: `head` and `_head` keep theirs.
"""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import keras

from keras_patterns.backends import current

from .. import _keras
from .._util.errors import KerasPatternsError

Role = Literal["weight", "metric", "optimizer"]

_NODES = (
    keras.Layer,
    keras.Metric,
    keras.Loss,
    keras.optimizers.Optimizer,
    keras.random.SeedGenerator,
)
_CONTAINERS = (list, tuple, dict)
_PARTS = (keras.Variable, *_NODES, *_CONTAINERS)

# Attributes in which Keras and torch keep second references to what stands in a better-named
# attribute as well. They are read last, so that only what stands nowhere else takes its key from
# them.
SECOND_REFERENCES = frozenset(
    {
        *(
            "_layers",
            "_metrics",
            "_variables",
            "_trainable_variables",
            "_non_trainable_variables",
            "_seed_generators",
        ),
        *("_functional", "_operations", "_tracker"),
        *("_modules", "_parameters", "_buffers", "_torch_params"),
    }
)
# Attributes in which Keras notes how its layers are called and connected: no variable stands there
# that is not elsewhere too.
BOOK_KEEPING = frozenset(
    {
        *("_inbound_nodes", "_outbound_nodes", "_nodes_by_depth", "_operations_by_depth"),
        *("call_signature_parameters", "_call_has_context_arg", "_build_shapes_dict"),
    }
)


class StateKeyError(KerasPatternsError, ValueError):
    """Two variables of a model would have one key, or one has none."""


@dataclass(frozen=True)
class VariableIndex:
    """The variables and optimizers of a model by their places, as a walk over it found them.

    Attributes:
        variables: Every variable that training reads or moves, by its key, such as
            `"layers/0/kernel"` or `"optimizer/momentums[layers/0/kernel]"`; in an order that is the
            same in every process.
        roles: What each key is: `"weight"` (anything a layer holds, seeds and recurrent states
            included), `"metric"` or `"optimizer"`.
        optimizers: The optimizers by their place, outer ones before those inside them.
    """

    variables: dict[str, keras.Variable] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    optimizers: dict[str, keras.optimizers.Optimizer] = field(default_factory=dict)

    def of(self, *roles: Role) -> dict[str, keras.Variable]:
        """The variables of some roles, by key."""
        return {
            key: variable for key, variable in self.variables.items() if self.roles[key] in roles
        }

    def built_on(self) -> dict[str, list[str]]:
        """For each built optimizer, the ordered keys of the variables that it trains."""
        key_of = {id(variable): key for key, variable in self.variables.items()}

        def key(variable: keras.Variable, place: str) -> str:
            if id(variable) not in key_of:
                raise StateKeyError(
                    f"The optimizer at {place!r} trains the variable {variable.path!r}, which "
                    "stands nowhere in the model. Keep what holds it in an attribute of the model, "
                    "a layer, or a list or dict of one."
                )
            return key_of[id(variable)]

        return {
            place: [key(variable, place) for variable in _keras.trained_variables(optimizer)]
            for place, optimizer in self.optimizers.items()
            if optimizer.built
        }

    def first_steps(self) -> dict[str, dict[str, int]]:
        """For each optimizer, how many steps it had made when it began with a variable, by key;
        those of 0 are left out.
        """
        key_of = {id(variable): key for key, variable in self.variables.items()}
        found = {
            place: _keras.first_steps(optimizer) for place, optimizer in self.optimizers.items()
        }
        return {
            place: {key_of[one]: step for one, step in steps.items()}
            for place, steps in found.items()
            if steps
        }


def find_variables(model: keras.Model) -> VariableIndex:
    """Walks over `model` and gives every variable its key.

    Covers weights, seed generators, recurrent states, metrics (compiled ones and attributes), the
    optimizer and its slots, and optimizers kept as attributes.

    Args:
        model: A Keras model, compiled or not. What is not built yet is not found.

    Raises:
        StateKeyError: If two variables would have one key.
    """
    walk = _Walk()
    # Metrics and optimizers refer to the layers' variables, hence they wait until every layer has
    # its key.
    waiting: list[tuple[str, Any]] = [("", model)]
    kinds: dict[Role, type] = {
        "weight": keras.Model,
        "metric": keras.Metric,
        "optimizer": keras.optimizers.Optimizer,
    }
    for role, kind in kinds.items():
        later = (keras.Metric, keras.optimizers.Optimizer) if role == "weight" else ()
        waiting += walk.visit(
            [entry for entry in waiting if isinstance(entry[1], kind)], role, later
        )
    return walk.index


def has_own_step(model: keras.Model) -> bool:
    """True if a model has a `train_step` of its own. Keras's own uses `model.optimizer` alone, for
    all that is trainable.
    """
    return type(model).train_step is not keras.Model.train_step


class _Walk:
    """Breadth-first passes over the object tree; the first, shortest way to a variable is its
    key."""

    def __init__(self) -> None:
        self.index = VariableIndex()
        self._attributes = current().attributes
        self._key_of: dict[int, str] = {}
        # Held, not only their ids: `layers` is a new list each time, and the next one could get the
        # id of one that is gone.
        self._seen: dict[int, Any] = {}

    def visit(
        self, start: Iterable[tuple[str, Any]], role: Role, later: tuple[type, ...]
    ) -> list[tuple[str, Any]]:
        """Gives keys to what is reached from `start`; returns the nodes of the kinds in `later`,
        which it passes over.
        """
        passed_over = []
        second: deque[tuple[str, Any]] = deque()
        queue = deque(start)
        while queue or second:
            place, node = (queue or second).popleft()
            if isinstance(node, keras.Variable):
                self._add(place, node, role)
            elif isinstance(node, later):
                passed_over.append((place, node))
            elif id(node) not in self._seen:
                self._seen[id(node)] = node
                for name, child, is_second in self._children(place, node):
                    if id(child) not in self._seen and id(child) not in self._key_of:
                        (second if is_second else queue).append((name, child))
        return passed_over

    def _add(self, key: str, variable: keras.Variable, role: Role) -> None:
        if id(variable) in self._key_of:
            return
        if key in self.index.variables:
            raise StateKeyError(
                f"Two variables of the model stand at {key!r}: {self.index.variables[key].path!r} "
                f"and {variable.path!r}. A checkpoint could hold one of them only. Give one of the "
                'attributes or keys on the way to them another name: "/" in a key of a dict is '
                "read as a step down."
            )
        self._key_of[id(variable)] = key
        self.index.variables[key] = variable
        self.index.roles[key] = role

    def _children(self, place: str, node: Any) -> Iterator[tuple[str, Any, bool]]:
        slots: list[str] = []
        if isinstance(node, keras.optimizers.Optimizer):
            self.index.optimizers[place] = node
            slots = [self._key_of.get(id(v), v.path) for v in _keras.trained_variables(node)]
        members = self._members(node)
        above = f"{place}/" if place else ""
        if isinstance(node, list | tuple):
            yield from ((f"{above}{name}", child, False) for name, child in members)
            return
        names = [_short(name) for name, _ in members if name not in SECOND_REFERENCES]
        repeated = {name for name in names if names.count(name) > 1} if _repeat(names) else ()
        for name, child in members:
            if isinstance(child, _CONTAINERS) and not child:
                continue
            is_second = name in SECOND_REFERENCES
            own = name if not is_second and _short(name) in repeated else _short(name)
            child_place = f"{above}{own}"
            if slots and not is_second and _are_slots(child, len(slots)):
                pairs = [
                    (key, slot) for key, slot in zip(slots, child, strict=True) if slot is not None
                ]
                yield from ((f"{child_place}[{key}]", slot, False) for key, slot in pairs)
            else:
                yield child_place, child, is_second

    def _members(self, node: Any) -> list[tuple[str, Any]]:
        """The named parts of a node in which variables may be, in an order that does not depend on
        when they were set: public names first.
        """
        if isinstance(node, list | tuple):
            return [
                (str(index), part) for index, part in enumerate(node) if _may_lead(part.__class__)
            ]
        if isinstance(node, dict):
            parts = zip(_names(node), node.values(), strict=True)
            return [(name, part) for name, part in parts if _may_lead(part.__class__)]
        attributes = self._attributes(node).items()
        members = [
            (name, part)
            for name, part in attributes
            if _may_lead(part.__class__) and name not in BOOK_KEEPING
        ]
        members.sort(key=lambda item: (item[0].startswith("_"), item[0]))
        is_graph = isinstance(node, keras.Model) and _keras.is_graph(node)
        return [("layers", node.layers), *members] if is_graph else members


@functools.lru_cache(maxsize=4096)
def _may_lead(kind: type) -> bool:
    """True of a class whose objects may be variables or hold some. Most attributes are of few
    classes, and asking about each is what costs.
    """
    return issubclass(kind, _PARTS)


def _repeat(names: list[str]) -> bool:
    return len(set(names)) < len(names)


def _short(name: str) -> str:
    return name.lstrip("_") or name


def _names(node: Mapping[Any, Any]) -> list[str]:
    """The keys of a dict as text; of those with equal texts, such as 1 and "1", the ones that are
    no text tell their type.
    """
    if all(type(key) is str for key in node):
        return [*node]
    count = Counter(map(str, node))
    return [
        f"{type(key).__name__} {key}" if count[str(key)] > 1 and type(key) is not str else str(key)
        for key in node
    ]


def _are_slots(value: Any, count: int) -> bool:
    """True if a list in an optimizer is aligned with what it trains; None stands where a variable
    has no such slot.
    """
    return (
        isinstance(value, list)
        and len(value) == count
        and all(slot is None or isinstance(slot, keras.Variable) for slot in value)
    )
