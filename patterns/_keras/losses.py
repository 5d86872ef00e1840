"""The losses of a compiled model, as Keras resolves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras


class ResolvedLoss(NamedTuple):
    """One loss of a model.

    Attributes:
        path: The way to its output in the structure of the outputs.
        function: Gives the loss of `(targets, outputs)`.
        name: That of Keras's own function; empty for one of a person's own.
        from_logits: Whether it expects logits; None if it knows no such thing.
        weight: Its factor in the sum of the losses.
        ignored: The label of targets that do not count; None if there is none.
    """

    path: tuple[Any, ...]
    function: Any
    name: str
    from_logits: bool | None
    weight: float
    ignored: int | None


def resolved_losses(model: keras.Model, x: Any, y: Any, outputs: Any) -> list[ResolvedLoss]:
    """The losses that `compile` was given, one for each output that has one; else the model's own
    `compute_loss`, where there is one output; none where it computes its loss otherwise. Which
    function a name stands for has no public answer.

    Args:
        model: A compiled model.
        x: Inputs, for a `compute_loss` that looks at them.
        y: Targets.
        outputs: Of the model, for these targets.
    """
    compiled = getattr(model, "_compile_loss", None)
    if compiled is None:
        is_own = type(model).compute_loss is not keras.Model.compute_loss
        has_one = not isinstance(y, list | tuple | dict) and not isinstance(
            outputs, list | tuple | dict
        )

        def loss(y: Any, outputs: Any) -> Any:
            return computed_loss(model, x, y, outputs, None, training=False)

        return [ResolvedLoss((), loss, "", None, 1.0, None)] if is_own and has_one else []
    if not compiled.built:
        compiled.build(y, outputs)
    return [
        ResolvedLoss(
            tuple(one.path),
            one.loss,
            *_known(one.loss),
            _weight(one.loss_weights),
            getattr(one.loss, "ignore_class", None),
        )
        for one in compiled._flat_losses
    ]


def computed_loss(
    model: keras.Model, x: Any, y: Any, outputs: Any, sample_weight: Any, training: bool
) -> Any:
    """The loss by the `compute_loss` of a model, as its `fit` calls it: one that a person wrote
    before Keras 3.3 has no argument `training`, and no public name leaves it out.
    """
    return model._compute_loss(x, y, outputs, sample_weight=sample_weight, training=training)


def _weight(given: Any) -> float:
    return 1.0 if given is None else float(given)


def _known(loss: Any) -> tuple[str, bool | None]:
    function = getattr(loss, "fn", loss)
    overrides = isinstance(loss, keras.losses.Loss) and not type(loss).__module__.startswith(
        "keras."
    )
    is_theirs = getattr(function, "__module__", "").startswith("keras.") and not overrides
    settings: Mapping[str, Any] = getattr(loss, "_fn_kwargs", {})
    name = getattr(function, "__name__", "") if is_theirs else ""
    if "crossentropy" not in name:
        return name, None
    return name, bool(settings.get("from_logits", False))
