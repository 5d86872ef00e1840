"""`kp.preflight`: a model and its data are looked at before they are trained."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import keras

from .. import _keras
from .._util.arguments import whole_number
from .._util.messages import say
from ..data import data_parts
from .checks import look
from .examined import examine
from .finding import Findings, check_kinds, ranked

_CALLER = "kp.preflight"


@_keras.quiet_arrays()
def preflight(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    validation_data: Any = None,
    validation_split: float = 0.0,
    sample_weight: Any = None,
    total_steps: int | None = None,
    checks: Collection[str] | None = None,
    skip: Collection[str] | None = None,
) -> Findings:
    """Looks for what would keep a model from learning, without training it.

    It judges by values on up to 512 examples and by settings, in at most six forward passes and
    one gradient. Afterwards model, optimizer, metrics and random states are as before, bit for bit,
    also if it is interrupted. A model that was not built is built. A generator has given its first
    batches: give the training a new one.

    Args:
        model: A compiled model.
        x, y, sample_weight, validation_data, validation_split: As in `kp.fit`.
        total_steps: Steps of the training that follows, by which a schedule of the learning rate
            is judged. Defaults to None: many.
        checks: The kinds of finding to look for. Defaults to None: all of them.
        skip: Kinds to leave out. Defaults to None.

    Returns:
        The findings, causes before symptoms: a list with `.worst`, `.raise_if("error")`, and a
        table to be shown. docs/debugging.md explains each kind.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, or the model is not compiled.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> found = kp.preflight(model, x, np.arange(64) % 3)
    >>> found[0].kind, found[0].severity
    ('output_activation', 'error')

    References:
        J. Cao et al., "DeepFD: Automated Fault Diagnosis and Localization for Deep Learning
            Programs", ICSE 2022, whose faulty programs it was measured on.
    """
    if total_steps is not None:
        whole_number(_CALLER, "total_steps", total_steps)
    examined = examine(
        _CALLER, model, x, y, sample_weight, validation_data, validation_split, total_steps
    )
    wanted, left_out = check_kinds(_CALLER, "checks", checks), check_kinds(_CALLER, "skip", skip)
    return ranked(
        one
        for one in look(examined, wanted)
        if (one.kind in wanted or checks is None) and one.kind not in left_out
    )


def before_fit(
    caller: str,
    model: keras.Model,
    verbose: int | str,
    total_steps: int | None,
    x: Any,
    y: Any,
    sample_weight: Any,
    validation_data: Any,
    validation_split: float,
) -> None:
    """A preflight of `kp.fit`, which says what it finds.

    Args:
        caller: The public function, for messages.
        model, verbose: Of `kp.fit`.
        total_steps: Of the run, if they are known.
        x, y, sample_weight, validation_data, validation_split: Of `kp.fit`.

    Raises:
        PreflightError: If it finds an error.
        ValueError: If it would take batches from the training.
    """
    for data in (x, *data_parts("validation_data", validation_data)[:1]):
        if isinstance(data, Iterator):
            raise ValueError(
                f"{caller}: preflight=True would take the first batches of a generator from the "
                "training. Call kp.preflight with another one before."
            )
    found = preflight(
        model,
        x,
        y,
        sample_weight=sample_weight,
        validation_data=validation_data,
        validation_split=validation_split,
        total_steps=total_steps,
    )
    found.raise_if("error")
    for one in found:
        say(f"preflight: {one}", verbose=verbose)
