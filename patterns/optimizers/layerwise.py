"""Giving an optimizer rates that differ from layer to layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from .. import _keras
from ..select.where import Where, select
from .factors import RateFactors, Rows
from .groups import ASKED, group_factors, group_numbers, named_factors
from .layerwise_class import with_factors

_DECAY = 0.75


def layerwise_rates(
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
        optimizer: A new optimizer of any class, or its name. It may be one of `kp.one_cycle`; one
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
    >>> optimizer = kp.layerwise_rates(keras.optimizers.AdamW(1e-3), model, decay=0.5)
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
    optimizer = _checked(optimizer)
    given = [
        name
        for name, value in (("decay", decay), ("lowest", lowest), ("factors", factors))
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(
            f"{ASKED}: `{given[0]}` and `{given[1]}` both say what the factors are. Give one of "
            "them."
        )
    if factors is not None and groups is not None:
        raise ValueError(
            f"{ASKED}: `groups` goes with `decay` or `lowest`; `factors` selects for itself. Give "
            "one of them."
        )
    select(ASKED, model, [])  # checks the model
    variables = _keras.weights_to_train(model)
    if not variables:
        raise ValueError(f"{ASKED}: {model.name!r} has no weights that can be trained.")
    if factors is not None:
        values = named_factors(model, variables, factors)
    else:
        numbers, count = group_numbers(model, variables, groups)
        of_group = group_factors(count, _DECAY if not given else decay, lowest)
        values = [of_group[number] for number in numbers]
    rows = Rows()
    rows.live = RateFactors(tuple(variables), tuple(values))
    return _given(optimizer, rows, learning_rate)


def _given(
    optimizer: keras.optimizers.Optimizer, rows: Rows, rate: Any
) -> keras.optimizers.Optimizer:
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return with_factors(optimizer, rows, rate)
    return type(optimizer)(
        with_factors(optimizer.inner_optimizer, rows, rate),
        initial_scale=optimizer.initial_scale,
        dynamic_growth_steps=optimizer.dynamic_growth_steps,
        name=optimizer.name,
    )


def _checked(given: Any) -> keras.optimizers.Optimizer:
    """An optimizer, by its name too; Keras does not know all of its own by theirs."""
    kinds = vars(keras.optimizers)
    by_name = {
        name.lower(): kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and not name.startswith("_")
    }
    named = isinstance(given, str) and given.lower() in by_name
    optimizer = by_name[given.lower()]() if named else keras.optimizers.get(given)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        raise TypeError(
            f"{ASKED}: a MultiOptimizer has no rate of its own to multiply. Give one optimizer for "
            "all layers, or give each of its "
            "optimizers factors before they are put together."
        )
    if optimizer.built:
        raise ValueError(
            f"{ASKED}: {optimizer.name!r} has been built, and what it has gathered would be lost. "
            "Give a new one."
        )
    return optimizer
