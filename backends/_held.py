"""Access to state that Keras does not track, such as a framework's own random generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StateAccess:
    """The way to the state of one object.

    Attributes:
        kind: The class, for the checkpoint and for people.
        get: Returns the state: arrays, numbers and strings, in dicts and lists.
        put: Puts back what `get` gave, or raises `ValueError`, `TypeError` or `RuntimeError`.
        seed: Makes a random state a function of four 32-bit words. Defaults to None: it is no
            random state.
        has_fixed_form: Whether every state has the keys, types, shapes and dtypes of the first.
            Defaults to True.
        is_value: Whether the object is a mere value, such as a tensor, which is a state where a
            module of the framework has registered it. Defaults to False.
    """

    kind: str
    get: Callable[[], Any]
    put: Callable[[Any], None]
    seed: Callable[[Any], None] | None = None
    has_fixed_form: bool = True
    is_value: bool = False


def beside(live: Any, tensor: Any) -> Any:
    """A tensor on the device of another, where a framework does not move it by itself."""
    return tensor.to(live.device) if hasattr(tensor, "to") else tensor
