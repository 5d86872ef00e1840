"""`kp.preflight`: a model and its data are looked at before they are trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import keras

from .. import _keras
from .._util.arguments import whole_number
from .._util.messages import say
from ..data import data_parts, split_validation
from ..state.compiled import check_compiled
from . import architecture, dependence, inputs, targets
from .examined import Examined
from .finding import Finding, Findings, check_kinds, ranked
from .sample import take_sample

_CALLER = "kp.preflight"
Check = Callable[[Examined], Iterator[Finding]]

# Where one of these is found, the framework's own refusal says no more.
_EXPLAIN_REFUSALS = {"index_range", "label_range", "output_width", "loss_mismatch", "frozen"}

# Each check, with the kinds that it can find.
CHECKS: tuple[tuple[Check, str], ...] = (
    (inputs.check_inputs, "constant_input input_scale"),
    (inputs.check_target_scale, "target_scale"),
    (inputs.check_classes, "imbalance"),
    (inputs.check_split, "ordered_split validation_leak"),
    (targets.check_targets, "label_range output_width loss_mismatch"),
    (targets.check_activation, "output_activation logits"),
    (targets.check_loss, "loss_mismatch"),
    (targets.check_percentages, "loss_mismatch"),
    (targets.check_sign, "negated_loss"),
    (targets.check_broadcast, "broadcast"),
    (architecture.check_ids, "index_range"),
    (architecture.check_frozen, "frozen"),
    (architecture.check_start, "symmetric_init"),
    (architecture.check_modes, "train_mode"),
    (architecture.check_regularisation, "over_regularised"),
    (architecture.check_rates, "negated_loss lr_low"),
    (architecture.check_linear, "missing_nonlinearity hidden_activation"),
    (dependence.check_leak, "batch_leak"),
    (dependence.check_ignored, "ignored_input"),
    (dependence.check_look_ahead, "look_ahead"),
    (architecture.check_width, "capacity"),
    (architecture.check_flow, "dead_units saturated exploding vanishing"),
    (architecture.check_gradient, "no_gradient"),
    (inputs.check_finite, "non_finite"),
)


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


def examine(
    caller: str,
    model: keras.Model,
    x: Any,
    y: Any,
    sample_weight: Any,
    validation_data: Any,
    validation_split: float,
    total_steps: int | None = None,
) -> Examined:
    """Takes a sample of the data, and builds the model.

    Args:
        caller: The public function, for messages.
        model, x, y, sample_weight, validation_data, validation_split, total_steps: As in
            `preflight`.
    """
    check_compiled(caller, model)
    if validation_split and validation_data is None:
        # For its checks of the fraction.
        split_validation(x, y, sample_weight, validation_split)
    validation = None
    if validation_data is not None:
        validation = take_sample(*(*data_parts("validation_data", validation_data), None, None)[:3])
    split = validation_split if validation_data is None else 0.0
    examined = Examined(model, take_sample(x, y, sample_weight), validation, split, total_steps)
    examined.build()
    return examined


def look(
    examined: Examined, wanted: Collection[str] = (), class_weight: Any = None
) -> Iterator[Finding]:
    """All findings of the checks that can find something wanted, in no order.

    Args:
        examined: The model and its data.
        wanted: Kinds; all if empty.
        class_weight: As in `kp.fit`: who weights the classes knows that they are uneven.
    """
    is_explained = False
    for check, kinds in CHECKS:
        if class_weight is not None and kinds == "imbalance":
            continue
        if not wanted or not set(kinds.split()).isdisjoint(wanted):
            for one in check(examined):
                is_explained |= one.kind in _EXPLAIN_REFUSALS and one.severity == "error"
                yield one
    if examined.problem and not is_explained:
        yield Finding(
            "shapes",
            "error",
            f"The model cannot be trained on these data: {examined.problem}",
            {},
            "Compare the shapes and dtypes of x and y with those of the model.",
        )
