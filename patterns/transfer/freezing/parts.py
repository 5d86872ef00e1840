"""`kp.freeze` and `kp.unfreeze`."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import keras

from ... import _keras
from ..._util.arguments import check_choice
from ...optimizers.rebuild import rebuild_optimizer
from ...optimizers.where import Where, select
from .trained import Trained, without_batch_norms

Frozen: TypeAlias = Literal["frozen", "adapt"]
Thawed: TypeAlias = Literal["train", "frozen", "adapt"]


def freeze(model: keras.Model, where: Where = "*", *, batch_norm: Frozen = "frozen") -> None:
    """Stops the training of a part of a model: no gradients are computed for it, and the optimizer
    keeps no slots for it.

    It works before `compile` and after it, and on a model that was trained: the optimizer goes on,
    with its counter, its rate and the slots of what is still trained. (In Keras, changing
    `trainable` after `compile` raises on JAX and does nothing on TensorFlow; a new optimizer
    forgets its moments.)

    Args:
        model: A built model.
        where: What to freeze: a glob on paths (`"block5_*"`, `"*/bias"`), a layer or a variable, a
            function of a layer, a depth (`0` is the first layer with weights, `slice(-2)` all but
            the last two), or a list of these. Defaults to `"*"`: everything, as for a backbone on
            which another model is to be built.
        batch_norm: What the BatchNormalization layers among it do: `"frozen"`, they run in
            inference mode; `"adapt"`, their statistics follow the new data, while gamma and beta
            stay. Defaults to `"frozen"`.

    Raises:
        TypeError: If `model` is no model, or `where` is of no such type.
        ValueError: If `where` selects nothing (near names are listed), the model is not built, or
            nothing would be left to train in a compiled model; nothing is changed then.

    Example:

    >>> import keras, keras_patterns as kp
    >>> layers = [keras.layers.Dense(4, name="body"), keras.layers.BatchNormalization(),
    ...     keras.layers.Dense(2, name="head")]
    >>> model = keras.Sequential([keras.Input((3,)), *layers])
    >>> kp.freeze(model, slice(-1))
    >>> [variable.path.split("/", 1)[1] for variable in model.trainable_variables]
    ['head/kernel', 'head/bias']

    References:
        V. Lakshmanan, S. Robinson, M. Munn, "Machine Learning Design Patterns", O'Reilly 2020,
            chapter 4, "Transfer Learning".
    """
    asked = "kp.freeze"
    check_choice(asked, "batch_norm", batch_norm, get_args(Frozen))
    selection = select(asked, model, where)
    after = Trained.of(model).without(selection, adapt=batch_norm == "adapt")
    if model.compiled and not after.variables:
        raise ValueError(
            f"{asked}: {where!r} is all of {model.name!r} that is trained, and a compiled model "
            "with nothing to train cannot be "
            "fitted. Leave a part out, or kp.unfreeze one first."
        )
    _train(model, after)


def unfreeze(model: keras.Model, where: Where = "*", *, batch_norm: Thawed = "train") -> None:
    """Makes a frozen part of a model trainable again: the opposite of `kp.freeze`.

    The optimizer goes on, as there; the slots of what is thawed begin fresh.

    Args:
        model: A built model.
        where: What to thaw, as in `kp.freeze`. Defaults to `"*"`: everything.
        batch_norm: What the BatchNormalization layers among it do: `"train"`, as any other layer;
            `"frozen"`, they stay in inference mode, as Keras advises where the new data are few;
            `"adapt"`, their statistics follow the data, while gamma and beta stay. Defaults to
            `"train"`.

    Raises:
        TypeError: If `model` is no model, or `where` is of no such type.
        ValueError: If `where` selects nothing (near names are listed), or nothing in it that a
            layer could train; nothing is changed then.

    Example:

    >>> import keras, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="body"),
    ...     keras.layers.Dense(2, name="head")])
    >>> kp.freeze(model, "body")
    >>> kp.unfreeze(model, "body/kernel")
    >>> [variable.name for variable in model.trainable_variables]
    ['kernel', 'kernel', 'bias']
    """
    asked = "kp.unfreeze"
    check_choice(asked, "batch_norm", batch_norm, get_args(Thawed))
    _train(model, thawed(asked, model, Trained.of(model), where, batch_norm))


def thawed(
    asked: str, model: keras.Model, before: Trained, where: Where, batch_norm: Thawed
) -> Trained:
    """The trained part of a model once some of it is thawed, by the arguments of `unfreeze`."""
    selection = select(asked, model, where)
    if not selection.weights:
        raise ValueError(
            f"{asked}: {where!r} selects nothing in {model.name!r} that could be trained: its "
            "layers have no weights."
        )
    if batch_norm == "train":
        return before.and_also(selection)
    return before.without(selection, adapt=batch_norm == "adapt").and_also(
        without_batch_norms(selection)
    )


def _train(model: keras.Model, trained: Trained) -> None:
    """Makes a model and its optimizer train something else; what cannot be trained changes
    nothing.
    """
    before = Trained.of(model)
    trained.put_into(model)
    try:
        rebuild_optimizer(model)
        # Penalties of frozen weights are no part of the loss.
        _keras.recompile_tests(model)
    except ValueError:
        before.put_into(model)
        raise
