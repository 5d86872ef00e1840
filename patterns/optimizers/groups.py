"""The groups of a model's variables, from the inputs to the outputs, and their factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from .. import _keras
from .._util.arguments import check_number, whole_number
from ..select.depth import depths
from ..select.where import Where, nodes_of, select

ASKED = "layerwise_rates"


def check_factor(name: str, value: Any, *, most: float = float("inf")) -> float:
    """A factor of the rate, above 0."""
    if value == 0:
        raise ValueError(
            f"{ASKED}: `{name}` must be greater than 0. Received: {value!r}. What is not to be "
            "trained is frozen instead, by "
            "kp.freeze, which also saves its gradients."
        )
    number = check_number(ASKED, name, value, above=0.0)
    if number > most:
        raise ValueError(f"{ASKED}: `{name}` must be at most {most:g}. Received: {value!r}.")
    return number


def named_factors(
    model: keras.Model, variables: Sequence[keras.Variable], factors: Any
) -> list[float]:
    """The factor of each variable, of `factors` as it was given; of what is named twice the later
    one.
    """
    pairs = list(factors.items()) if isinstance(factors, Mapping) else factors
    if not (
        isinstance(pairs, list | tuple)
        and pairs
        and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs)
    ):
        raise TypeError(
            f"{ASKED}: `factors` must be a mapping from what `where` selects to a factor, or a "
            "list of such pairs, such as "
            f'[("block1_*", 0.1), (head, 10)]. Received: {factors!r}.'
        )
    found: dict[int, float] = {}
    for where, factor in pairs:
        number = check_factor(f"factors[{where!r}]", factor)
        found.update((id(variable), number) for variable in select(ASKED, model, where).variables)
    return [found.get(id(variable), 1.0) for variable in variables]


def group_numbers(
    model: keras.Model, variables: Sequence[keras.Variable], groups: int | Sequence[Where] | None
) -> tuple[list[int], int]:
    """The group of each variable, and how many groups there are."""
    if isinstance(groups, list | tuple):
        return _by_selection(model, variables, groups), len(groups)
    numbers = _by_depth(model, variables)
    count = 1 + max(numbers)
    if groups is None:
        return numbers, count
    asked = whole_number(ASKED, "groups", groups)
    if asked > count:
        raise ValueError(
            f"{ASKED}: `groups` must be at most {count}, the depths of {model.name!r}. Received: "
            f"{asked}."
        )
    return [number * asked // count for number in numbers], asked


def groups_below(model: keras.Model, head: Sequence[keras.Variable]) -> list[list[keras.Variable]]:
    """The weights by depth, from the inputs to the outputs, and those of a head, whatever their
    depths, as the last group.

    Args:
        model: A built model.
        head: Not all of its weights.

    Returns:
        What `layerwise_rates` takes as `groups`.

    Raises:
        ValueError: If a weight is outside the graph of the model.
    """
    of_head = {id(variable) for variable in head}
    body = [variable for variable in _keras.weights_to_train(model) if id(variable) not in of_head]
    numbers = _by_depth(model, body)
    return [
        [v for v, n in zip(body, numbers, strict=True) if n == number]
        for number in range(1 + max(numbers))
    ] + [list(head)]


def group_factors(count: int, decay: float | None, lowest: float | None) -> list[float]:
    """The factor of each group; of the last it is 1."""
    if lowest is None:
        decay = check_factor("decay", decay, most=1.0)
        return [decay ** (count - 1 - number) for number in range(count)]
    lowest = check_factor("lowest", lowest, most=1.0)
    return [lowest ** ((count - 1 - number) / max(count - 1, 1)) for number in range(count)]


def _by_depth(model: keras.Model, variables: Sequence[keras.Variable]) -> list[int]:
    """Depths without gaps: a layer that has nothing to train, such as a Normalization, is none."""
    of_layer = depths(model)
    owners: dict[int, int] = {}
    for layer, own in [
        (model, _keras.own_variables(model)),
        *((node.layer, node.own) for node in nodes_of(model)),
    ]:
        for variable in own:
            if id(layer) in of_layer:
                owners.setdefault(id(variable), of_layer[id(layer)])
    lost = [variable.path for variable in variables if id(variable) not in owners]
    if lost:
        raise ValueError(
            f"{ASKED}: {lost[0]!r} is outside the graph of {model.name!r}, so its depth is not "
            "known. Give `groups` as a list, or "
            "`factors`."
        )
    ranks = {
        depth: rank
        for rank, depth in enumerate(sorted({owners[id(variable)] for variable in variables}))
    }
    return [ranks[owners[id(variable)]] for variable in variables]


def _by_selection(
    model: keras.Model, variables: Sequence[keras.Variable], groups: Sequence[Where]
) -> list[int]:
    found: dict[int, int] = {}
    trained = {id(variable) for variable in variables}
    for number, where in enumerate(groups):
        chosen = [
            variable
            for variable in select(ASKED, model, where).variables
            if id(variable) in trained
        ]
        for variable in chosen:
            if id(variable) in found:
                raise ValueError(
                    f"{ASKED}: {variable.path!r} is in two groups, {groups[found[id(variable)]]!r} "
                    f"and {where!r}."
                )
            found[id(variable)] = number
    lost = [variable.path for variable in variables if id(variable) not in found]
    if lost:
        raise ValueError(
            f"{ASKED}: {', '.join(map(repr, lost[:3]))}{', ...' if len(lost) > 3 else ''} in none "
            f"of the {len(groups)} groups. "
            "Each weight must be in one."
        )
    return [found[id(variable)] for variable in variables]
