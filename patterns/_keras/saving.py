"""The layout of Keras's weights files, and the names that Keras gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras.src.saving import saving_lib
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.utils.naming import to_snake_case


def saved_groups(model: keras.Model) -> dict[int, str]:
    """The group of each part of a model in Keras's weights files, by its `id`: the walk by which
    they are written.

    No public name tells what such a file holds without writing or loading one.
    """
    groups: dict[int, str] = {}

    def visit(part: Any, group: str) -> None:
        if id(part) not in groups:
            groups[id(part)] = group
            for name, child in saving_lib._walk_saveable(part):
                enter(child, f"{group}/{name}" if group else name, set())

    def enter(child: Any, group: str, above: set[int]) -> None:
        if isinstance(child, KerasSaveable):
            visit(child, group)
        elif isinstance(child, list | tuple | dict) and id(child) not in above:
            used: dict[str, int] = {}
            for item in list(child.values() if isinstance(child, dict) else child):
                if isinstance(item, KerasSaveable | list | tuple | dict):
                    kind = (
                        to_snake_case(type(item).__name__)
                        if isinstance(item, KerasSaveable)
                        else "container"
                    )
                    used[kind] = used.get(kind, -1) + 1
                    enter(
                        item,
                        f"{group}/{kind}_{used[kind]}" if used[kind] else f"{group}/{kind}",
                        above | {id(child)},
                    )

    visit(model, "")
    return groups


def automatic_names(layers: Iterable[keras.Layer]) -> frozenset[str]:
    """The beginnings of the automatic names of Keras's layers and of these."""
    own = [kind.__name__ for kind in vars(keras.layers).values() if isinstance(kind, type)]
    kinds = [*own, "Functional", "Sequential", "Model", *(type(layer).__name__ for layer in layers)]
    return frozenset(map(to_snake_case, kinds))
