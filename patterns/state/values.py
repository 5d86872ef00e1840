"""Numbers and arrays in the attributes of a person's own objects: which of them training moves."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from xxhash import xxh3_128_hexdigest

from keras_patterns.backends import beside, current

from .codec import encode
from .held import access_to
from .snapshot import StateMismatchError
from .walk import CONTAINERS, REGISTERED, Node, is_registered

# Larger arrays are not looked at, nor longer lists.
_MOST_BYTES = 1 << 24
_MOST_ITEMS = 1_000
_NUMBERS = (type(None), bool, int, float, np.generic, itertools.count)
_UNREADABLE, _ABSENT = "unreadable", "absent"


class MovingValues:
    """The values that have moved since a walk saw them first.

    Args:
        nodes: Gives the nodes of a new walk.
        is_watched: Tells which nodes count, of those that a person's own objects hold. Defaults to
            all.
        counts_new: Whether a value has moved where there was none at first. Defaults to True.
    """

    def __init__(
        self,
        nodes: Callable[[], Iterator[Node]],
        is_watched: Callable[[Node], bool] = lambda node: True,
        counts_new: bool = True,
    ) -> None:
        self._nodes = nodes
        self._is_watched = is_watched
        self._counts_new = counts_new
        self._first: dict[str, str] = {}
        self._moved: set[str] = set()

    def begin(self, nodes: Iterable[Node] | None = None) -> None:
        """Takes the values as they are for those from which others move.

        Args:
            nodes: Of a walk. Defaults to None: a new one.
        """
        self._first = {node.place: digest(node.value) for node in self._watched(nodes)}

    def moved(self, nodes: Iterable[Node] | None = None) -> dict[str, Any]:
        """The values that have moved so far, by place.

        Args:
            nodes: Of a walk. Defaults to None: a new one.
        """
        found = {}
        for node in self._watched(nodes):
            if node.place not in self._moved:
                before, now = self._first.get(node.place, _ABSENT), digest(node.value)
                # A symbol where there was nothing is a by-product of the step.
                is_new = before == _ABSENT and not self._counts_new
                if before == now or is_new or (now == _UNREADABLE and before == _NOTHING):
                    continue
                self._moved.add(node.place)
            found[node.place] = node.value
        return found

    def states(self, nodes: Iterable[Node] | None = None) -> dict[str, Any]:
        """The same, without tensors."""
        return {
            place: encoded(value)
            for place, value in self.moved(nodes).items()
            if digest(value) != _UNREADABLE
        }

    def restore(self, states: Mapping[str, Any], nodes: Iterable[Node] | None = None) -> None:
        """Puts values back.

        Args:
            states: What `states` gave.
            nodes: Of a walk. Defaults to None: a new one.

        Raises:
            StateMismatchError: If one is of another kind than what stands there; nothing has been
                changed then.
        """
        fitting = [node for node in self._watched(nodes) if node.place in states]
        new = {node.place: _fitting(node, states[node.place]) for node in fitting}
        for node in fitting:
            self._moved.add(node.place)
            _put(node, new[node.place])

    def _watched(self, nodes: Iterable[Node] | None = None) -> Iterator[Node]:
        plain: dict[int, bool] = {}  # By the id of a container: one may have many items.
        for node in self._nodes() if nodes is None else nodes:
            if not node.is_own or is_registered(node) or node.place.endswith(REGISTERED):
                continue
            if not self._is_watched(node):
                continue
            owner = node.owner
            if isinstance(owner, CONTAINERS) and id(owner) not in plain:
                plain[id(owner)] = is_plain(owner)
            # A container of plain values is one of them.
            if not plain.get(id(owner), False) and is_plain(node.value):
                yield node


def is_plain(value: Any) -> bool:
    """True of a number, an array, a key, and lists and dicts of such, unless they are large."""
    if isinstance(value, dict):
        return len(value) <= _MOST_ITEMS and all(
            type(key) in (str, int) and is_plain(item) for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        return len(value) <= _MOST_ITEMS and all(map(is_plain, value))
    if isinstance(value, _NUMBERS):
        return True
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject and value.nbytes <= _MOST_BYTES
    access = access_to(value)
    if (access and not access.is_value) or not keras.ops.is_tensor(value):
        return False
    return None not in value.shape and int(np.prod(value.shape)) * 8 <= _MOST_BYTES


def digest(value: Any) -> str:
    """A text that differs where a plain value does. A symbol of a step that is traced has none."""
    arrays: dict[str, np.ndarray] = {}
    try:
        plain = repr(encode(encoded(value, copy=False), "", arrays)).encode()
    except Exception:
        # Each framework has its own error for a symbol that is read.
        return _UNREADABLE
    contents = [np.ascontiguousarray(array).reshape(-1) for array in arrays.values()]
    forms = [f"{array.dtype} {array.shape}".encode() for array in arrays.values()]
    parts: list[Any] = [plain, *forms, *(array.view(np.uint8) for array in contents if array.size)]
    return " ".join(xxh3_128_hexdigest(part) for part in parts)


def encoded(value: Any, copy: bool = True) -> Any:
    """A plain value with arrays in the place of tensors and keys."""
    if isinstance(value, dict):
        return {key: encoded(item, copy) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [encoded(item, copy) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, itertools.count):
        return {"count": [int(part) for part in re.findall(r"-?\d+", repr(value))]}
    if keras.ops.is_tensor(value):
        return {"tensor": current().tree_to_arrays([value])}
    return value.copy() if copy and isinstance(value, np.ndarray) else value


def _fitting(node: Node, saved: Any) -> Any:
    """A saved value in the form of the live one."""
    live = node.value
    is_count = isinstance(live, itertools.count)
    if is_count or is_tensor_state(saved) or (is_plain(saved) and _kind(saved) & _kind(live)):
        try:
            return _revived(saved, live)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            pass
    raise StateMismatchError(
        f"The checkpoint holds {saved!r:.80} for {node.place!r}, where {live!r:.80} stands now."
    )


def is_tensor_state(saved: Any) -> bool:
    """True of what `encoded` makes of a tensor."""
    return isinstance(saved, Mapping) and set(saved) == {"tensor"}


def _revived(saved: Any, live: Any) -> Any:
    """A saved value with tensors in it again, of the kinds that stand there now."""
    if is_tensor_state(saved):
        # Only a live one tells the kind of a key; the shape of a tensor may change.
        if keras.ops.is_tensor(live) and current().is_random_key(live):
            return current().tree_from_arrays([live], saved["tensor"])[0]
        tensor = keras.ops.convert_to_tensor(*saved["tensor"].values())
        return beside(live, tensor) if keras.ops.is_tensor(live) else tensor
    if isinstance(live, itertools.count):
        return itertools.count(*map(int, saved["count"]))
    if isinstance(saved, Mapping):
        old = live if isinstance(live, dict) else {}
        return {key: _revived(item, old.get(key)) for key, item in saved.items()}
    if isinstance(saved, list | tuple):
        items = live if isinstance(live, list | tuple) else ()
        pairs = zip(saved, [*items, *[None] * len(saved)], strict=False)
        return type(saved)(_revived(item, one) for item, one in pairs)
    return saved


def _kind(value: Any) -> set[str]:
    """The kinds that may stand in one place: a number that is not there yet is None."""
    if value is None:
        return {"number", "array", "list", "dict"}
    if isinstance(value, np.ndarray):
        return {"array"}
    if isinstance(value, dict):
        return {"dict"}
    return {"list"} if isinstance(value, list | tuple) else {"number"}


def _put(node: Node, value: Any) -> None:
    live = node.value
    if isinstance(live, list) and isinstance(value, list):
        live[:] = value
    elif isinstance(live, dict) and isinstance(value, dict):
        live.clear()
        live.update(value)
    elif node.put is not None:
        node.put(value)


_NOTHING = digest(None)
