"""Rates that differ from layer to layer: the groups of a model's variables, and their factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from .. import _keras
from .._util.arguments import check_number, whole_number
from .depth import depths
from .rate_factors import LayerwiseRates, RateFactors, Rows
from .where import Where, nodes_of, select
from .wrapping import added, resolve

_CALLER = "with_layer_rates"
_DECAY = 0.75


@_keras.quiet_arrays()
def with_layer_rates(
    optimizer: Any,
    model: keras.Model,
    *,
    decay: float | None = None,
    lowest: float | None = None,
    factors: Mapping[Any, float] | Sequence[tuple[Where, float]] | None = None,
    groups: int | Sequence[Where] | None = None,
    learning_rate: Any = None,
) -> keras.optimizers.Optimizer:
    """An optimizer like the given one that trains each layer at a rate of its own: a constant
    factor times the optimizer's rate.

    Each variable is trained as by an optimizer of its own at `factor * learning_rate`, weight decay
    included. But there is one optimizer, of the given one's class, with one `learning_rate`:
    schedules and callbacks move all rates together, and slots, checkpoints, clipping by a global
    norm, moving averages and accumulated gradients are those of the plain optimizer. The factors
    are saved with the model, and stand in the optimizer's attribute `rate_factors`.

    A group is one depth of the model: the layers with weights that equally many precede, a
    normalization with the layer before it.

    Args:
        optimizer: A new optimizer of any class, or its name. It may have a momentum schedule; one
            inside a LossScaleOptimizer is given its factors there.
        model: The model that is to be trained, built, with all its layers. Those that are frozen
            now have factors too.
        decay: By what the rate falls from each group to the one before it; that of the last is the
            optimizer's. In (0, 1]. Defaults to 0.75, if neither `lowest` nor `factors` is given.
        lowest: In place of `decay`, the factor of the first group, in (0, 1]; from there it rises
            in equal ratios to 1.
        factors: In place of both, the factors themselves, above 0, by what `where` selects: a
            mapping such as `{"head": 10.0}`, or a list of pairs. Of what several of them select the
            last one counts; what none does has factor 1.
        groups: A number, for so many groups of equally many depths; or a list of what `where`
            selects, from the inputs to the outputs, which has each weight in one of its parts.
            Defaults to None: one group for each depth.
        learning_rate: A rate or a schedule in place of the optimizer's. Defaults to None: keeps it.

    Returns:
        The new optimizer. The given one is not changed.

    Raises:
        TypeError: If an argument is of the wrong type, or the optimizer is a MultiOptimizer.
        ValueError: If an argument is out of range or contradicts another, the model is not built,
            or the optimizer has been.

    Example:

    >>> import keras, keras_patterns as kp
    >>> layers = [keras.layers.Dense(4, name=name) for name in ("stem", "body", "head")]
    >>> model = keras.Sequential([keras.Input((8,)), *layers])
    >>> optimizer = keras.optimizers.AdamW(1e-3)
    >>> optimizer = kp.optimizers.with_layer_rates(optimizer, model, decay=0.5)
    >>> list(optimizer.rate_factors.values())
    [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    >>> isinstance(optimizer, keras.optimizers.AdamW)
    True

    References:
        J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018,
            arXiv:1801.06146.
        H. Bao, L. Dong, S. Piao, F. Wei, "BEiT: BERT Pre-Training of Image Transformers", 2021,
            arXiv:2106.08254.
    """
    optimizer = resolve(_CALLER, optimizer)
    select(_CALLER, model, [])  # checks the model
    variables = _keras.weights_to_train(model)
    values = _factors(model, variables, decay=decay, lowest=lowest, factors=factors, groups=groups)
    rows = Rows()
    rows.live = RateFactors(tuple(variables), tuple(values))
    return added(optimizer, LayerwiseRates, rows, learning_rate)


def groups_below(model: keras.Model, head: Sequence[keras.Variable]) -> list[list[keras.Variable]]:
    """The weights by depth, from the inputs to the outputs, and those of a head, whatever their
    depths, as the last group.

    Args:
        model: A built model.
        head: Not all of its weights.

    Returns:
        What `with_layer_rates` takes as `groups`.

    Raises:
        ValueError: If a weight is outside the graph of the model.

    Example:

    >>> import keras, keras_patterns as kp
    >>> layers = [keras.layers.Dense(4, name=name) for name in ("stem", "body", "head")]
    >>> model = keras.Sequential([keras.Input((8,)), *layers])
    >>> groups = kp.optimizers.groups_below(model, model.get_layer("head").weights)
    >>> [[weight.name for weight in group] for group in groups]
    [['kernel', 'bias'], ['kernel', 'bias'], ['kernel', 'bias']]
    """
    of_head = {id(variable) for variable in head}
    body = [variable for variable in _keras.weights_to_train(model) if id(variable) not in of_head]
    numbers = _by_depth(model, body)
    return [
        [v for v, n in zip(body, numbers, strict=True) if n == number]
        for number in range(1 + max(numbers))
    ] + [list(head)]


def _factors(
    model: keras.Model,
    variables: Sequence[keras.Variable],
    *,
    decay: float | None,
    lowest: float | None,
    factors: Any,
    groups: int | Sequence[Where] | None,
) -> list[float]:
    """The factor of each variable."""
    given = [
        name
        for name, value in (("decay", decay), ("lowest", lowest), ("factors", factors))
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(
            f"{_CALLER}: `{given[0]}` and `{given[1]}` both say what the factors are. Give one of "
            "them."
        )
    if factors is not None and groups is not None:
        raise ValueError(
            f"{_CALLER}: `groups` goes with `decay` or `lowest`; `factors` selects for itself. "
            "Give one of them."
        )
    if not variables:
        raise ValueError(f"{_CALLER}: {model.name!r} has no weights that can be trained.")
    if factors is not None:
        return _named_factors(model, variables, factors)
    numbers, count = _group_numbers(model, variables, groups)
    of_group = _group_factors(count, decay if given else _DECAY, lowest)
    return [of_group[number] for number in numbers]


def _check_factor(name: str, value: Any, *, most: float = float("inf")) -> float:
    """A factor of the rate, above 0."""
    if value == 0:
        raise ValueError(
            f"{_CALLER}: `{name}` must be greater than 0. Received: {value!r}. What is not to be "
            "trained is frozen instead, by "
            "kp.freeze, which also saves its gradients."
        )
    number = check_number(_CALLER, name, value, above=0.0)
    if number > most:
        raise ValueError(f"{_CALLER}: `{name}` must be at most {most:g}. Received: {value!r}.")
    return number


def _named_factors(
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
            f"{_CALLER}: `factors` must be a mapping from what `where` selects to a factor, or a "
            "list of such pairs, such as "
            f'[("block1_*", 0.1), (head, 10)]. Received: {factors!r}.'
        )
    found: dict[int, float] = {}
    for where, factor in pairs:
        number = _check_factor(f"factors[{where!r}]", factor)
        found.update((id(variable), number) for variable in select(_CALLER, model, where).variables)
    return [found.get(id(variable), 1.0) for variable in variables]


def _group_numbers(
    model: keras.Model, variables: Sequence[keras.Variable], groups: int | Sequence[Where] | None
) -> tuple[list[int], int]:
    """The group of each variable, and how many groups there are."""
    if isinstance(groups, list | tuple):
        return _by_selection(model, variables, groups), len(groups)
    numbers = _by_depth(model, variables)
    count = 1 + max(numbers)
    if groups is None:
        return numbers, count
    asked = whole_number(_CALLER, "groups", groups)
    if asked > count:
        raise ValueError(
            f"{_CALLER}: `groups` must be at most {count}, the depths of {model.name!r}. Received: "
            f"{asked}."
        )
    return [number * asked // count for number in numbers], asked


def _group_factors(count: int, decay: float | None, lowest: float | None) -> list[float]:
    """The factor of each group; of the last it is 1."""
    if lowest is None:
        decay = _check_factor("decay", decay, most=1.0)
        return [decay ** (count - 1 - number) for number in range(count)]
    lowest = _check_factor("lowest", lowest, most=1.0)
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
            f"{_CALLER}: {lost[0]!r} is outside the graph of {model.name!r}, so its depth is not "
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
            for variable in select(_CALLER, model, where).variables
            if id(variable) in trained
        ]
        for variable in chosen:
            if id(variable) in found:
                raise ValueError(
                    f"{_CALLER}: {variable.path!r} is in two groups, "
                    f"{groups[found[id(variable)]]!r} and {where!r}."
                )
            found[id(variable)] = number
    lost = [variable.path for variable in variables if id(variable) not in found]
    if lost:
        raise ValueError(
            f"{_CALLER}: {', '.join(map(repr, lost[:3]))}{', ...' if len(lost) > 3 else ''} in "
            f"none of the {len(groups)} groups. Each weight must be in one."
        )
    return [found[id(variable)] for variable in variables]
