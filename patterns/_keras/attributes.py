"""Attributes of an instance that stand before those of its class for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT = object()


def replace_attribute(instance: Any, name: str, value: Any) -> Callable[[], None]:
    """Gives an instance an attribute, such as a method of its own.

    It is not set through the instance's class: Keras would track it as a part of the state.

    Returns:
        A function that puts back what the instance had under this name, if anything.

    Example:

    >>> class Door:
    ...     def knock(self):
    ...         return "nobody"
    >>> door = Door()
    >>> restore = replace_attribute(door, "knock", lambda: "come in")
    >>> door.knock()
    'come in'
    >>> restore()
    >>> door.knock()
    'nobody'
    """
    attributes = vars(instance)
    before = attributes.get(name, _ABSENT)
    attributes[name] = value

    def restore() -> None:
        if before is _ABSENT:
            attributes.pop(name, None)
        else:
            attributes[name] = before

    return restore


@contextmanager
def replaced(instance: Any, name: str, value: Any) -> Iterator[None]:
    """Within it, an instance has another attribute; see `replace_attribute`."""
    restore = replace_attribute(instance, name, value)
    try:
        yield
    finally:
        restore()
