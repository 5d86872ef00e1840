"""Ready plans for `kp.GradualUnfreeze`."""

from __future__ import annotations

import keras

from ..._util.arguments import whole_number
from ...optimizers.depth import depths
from ...optimizers.where import Where


def last_layers_first(model: keras.Model, every: int) -> dict[int, Where]:
    """Thaws a layer every so many steps, from the last but one to the first; the last one, the
    head, is trained from the start.

    Args:
        model: A built model.
        every: Steps between two layers.

    Returns:
        Stages for `kp.GradualUnfreeze`. Its last key is the step at which everything is trained:
        plan more than that.

    Raises:
        TypeError: If `every` is no whole number.
        ValueError: If it is below 1, or the model has but one layer with weights.

    Example:

    >>> import keras, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(2) for _ in range(3))])
    >>> kp.last_layers_first(model, every=100)
    {100: 1, 200: 0}

    References:
        J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL
            2018, arXiv:1801.06146.
    """
    asked = "kp.last_layers_first"
    every = whole_number(asked, "every", every)
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(f"{asked}: `model` must be a built Keras model. Received: {model!r}.")
    deepest = max(depths(model).values(), default=0)
    if not deepest:
        raise ValueError(
            f"{asked}: {model.name!r} has fewer than two layers with weights, so there is nothing "
            "to thaw after its head."
        )
    return {every * number: deepest - number for number in range(1, deepest + 1)}


def head_then_all(head_steps: int) -> dict[int, Where]:
    """Trains the last layer with weights alone, the head, and then everything.

    Args:
        head_steps: Steps of the head alone.

    Returns:
        Stages for `kp.GradualUnfreeze`.

    Raises:
        TypeError: If `head_steps` is no whole number.
        ValueError: If it is below 1.

    Example:

    >>> import keras_patterns as kp
    >>> kp.head_then_all(200)
    {200: slice(None, -1, None)}

    References:
        J. Howard, S. Gugger, "fastai: A Layered API for Deep Learning", Information 2020,
            arXiv:2002.04688 (`fine_tune`).
    """
    return {whole_number("kp.head_then_all", "head_steps", head_steps): slice(-1)}
