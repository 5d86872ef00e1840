"""A model that can learn: it memorises a batch, has no fault that shows, and all of it is trained.

Each leaves the model, its optimizer, its metrics and the random states as they were, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np

from .. import _keras
from .._util.arguments import check_number, whole_number
from .._util.models import check_built
from ..data.rows import each_array
from ..debugging import Examined, PreflightError, examine, overfit_batch, preflight, take_sample
from ..state.preservation import preserved
from ..state.variables import find_variables

# Variables that a message names.
_NAMED = 10


def assert_overfits_batch(
    model: keras.Model | Callable[[], keras.Model],
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 8,
    steps: int = 300,
    **arguments: Any,
) -> None:
    """Asserts that a model memorises a small batch: that 95 % of the loss it began with is gone.

    A model that cannot do this will not learn from all the data either. Dropout and augmentation
    are off meanwhile. Where it fails, it is tried at other learning rates, and the error says what
    they would do.

    Args:
        model: A compiled model, or a function without arguments that returns a new one.
        x, y: As in `kp.fit`.
        batch_size: Examples in the batch, if `x` is arrays. Defaults to 8.
        steps: At most, for each rate. Defaults to 300.
        **arguments: The other arguments of `kp.overfit_batch`.

    Raises:
        AssertionError: If the batch is not memorised: with the verdict, the evidence, the thing to
            try and a table of layers, as in `kp.overfit_batch`.
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, or the model is not compiled.

    Example:

    >>> import keras, numpy as np
    >>> from keras_patterns.testing import assert_overfits_batch
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> assert_overfits_batch(model, x, x.sum(1))
    """
    if not _keras.has_trainer(model) and callable(model):
        model = model()
    found = overfit_batch(model, x, y, batch_size=batch_size, steps=steps, **arguments)
    if found.verdict != "memorised":
        raise AssertionError(
            f"assert_overfits_batch: in {steps} steps the model has not memorised one batch.\n"
            f"{found!r}"
        )


def assert_preflight_clean(
    model: keras.Model, x: Any, y: Any = None, *, severity: str = "warning", **arguments: Any
) -> None:
    """Asserts that `kp.preflight` finds nothing that would keep a model from learning.

    Args:
        model: A compiled model.
        x, y: As in `kp.fit`.
        severity: The least that fails: `"error"`, `"warning"` or `"note"`. Defaults to
            `"warning"`.
        **arguments: The other arguments of `kp.preflight`, such as `validation_data=`, or `skip=`
            with the kinds that are meant to be so.

    Raises:
        AssertionError: With each finding and its remedy.
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, or the model is not compiled.

    Example:

    >>> import keras, numpy as np
    >>> from keras_patterns.testing import assert_preflight_clean
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> try:
    ...     assert_preflight_clean(model, x, np.arange(64) % 3)
    ... except AssertionError as error:
    ...     print(str(error)[:64])
    assert_preflight_clean: The model will not learn well:
    error, ou
    """
    try:
        preflight(model, x, y, **arguments).raise_if(severity)  # type: ignore[arg-type]  # checked
    except PreflightError as error:
        raise AssertionError(f"assert_preflight_clean: {error}") from None


@_keras.quiet_arrays()
def assert_trains_every_variable(
    model: keras.Model, x: Any, y: Any = None, *, sample_weight: Any = None
) -> None:
    """Asserts that the loss has a finite gradient, not zero, for each trainable variable.

    It is that of one batch of at most 512 examples in training mode, at the weights of now. Behind
    weights that start as zeros, such as a factor of LoRA or the scale of a residual branch, there
    is none yet: train such a model for a step or two before.

    Args:
        model: A compiled model.
        x, y, sample_weight: As in `kp.fit`.

    Raises:
        AssertionError: Naming the variables without a gradient, or with one that is not finite, by
            their keys in checkpoints and their paths in Keras; or that nothing is trainable.
        TypeError: If an argument is of the wrong type.
        ValueError: If the model is not compiled, or cannot be trained on the data.

    Example:

    >>> import keras, numpy as np
    >>> from keras_patterns.testing import assert_trains_every_variable
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, use_bias=False),
    ...     keras.layers.Lambda(keras.ops.round), keras.layers.Dense(1, name="last")])
    >>> model.compile("sgd", "mse")
    >>> try:
    ...     assert_trains_every_variable(model, np.ones((8, 4)), np.ones((8, 1)))
    ... except AssertionError as error:
    ...     print(str(error).splitlines()[1].split()[0])
    layers/0/kernel
    """
    caller = "assert_trains_every_variable"
    examined = examine(caller, model, x, y, sample_weight, None, 0.0)
    if examined.is_built and not model.trainable_variables:
        raise AssertionError(f"{caller}: no variable of {model.name!r} is trainable; kp.unfreeze.")
    found = examined.gradients
    if found is None:
        raise ValueError(
            f"{caller}: there is no gradient of {model.name!r} on these data: "
            f"{examined.problem or 'labels or ids are out of range'}. kp.preflight says more."
        )
    faults = list(_faults(model, found[1]))
    if faults:
        more = [f"... and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
        raise AssertionError(
            "\n  ".join(
                [
                    f"{caller}: {len(faults)} of {len(model.trainable_variables)} trainable "
                    f"variables are not trained:",
                    *faults[:_NAMED],
                    *more,
                ]
            )
            + "\nLook for a layer whose output is not used, a step without a derivative (round, "
            "argmax, a comparison, stop_gradient), units that are dead for all examples, and "
            "weights behind others that start as zeros."
        )


def _faults(model: keras.Model, gradients: list[np.ndarray | None]) -> Iterator[str]:
    """A line for each trainable variable that is not trained."""
    keys = {id(one): key for key, one in find_variables(model).variables.items()}
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if gradient is None or not np.any(gradient):
            what = "the gradient is 0"
        elif not np.isfinite(gradient).all():
            what = "the gradient is not finite"
        else:
            continue
        shape = " x ".join(map(str, variable.shape)) or "a number"
        yield f"{keys.get(id(variable), '?')} ({variable.path}, {shape}): {what}"


@_keras.quiet_arrays()
def assert_no_leak_across_batch(
    model: keras.Model, x: Any, *, batch_size: int = 8, tolerance: float = 1e-5
) -> None:
    """Asserts that the output of a row does not depend on the other rows of its batch, in
    inference.

    Some rows of a batch are replaced by other rows of `x`, in such sets that each row is kept once
    while any other is replaced; the outputs of those that are kept must not move.

    Args:
        model: A built model; it need not be compiled.
        x: As in `kp.fit`: rows of which not all are equal.
        batch_size: The rows of the batch, at least 2, unless the model fixes it. Defaults to 8.
        tolerance: By how much an output may move, relative to the largest. Defaults to 1e-5.

    Raises:
        AssertionError: Naming the row that moves the most, and by how much.
        TypeError: If an argument is of the wrong type.
        ValueError: If the model is not built, or there are no two rows that differ.

    Example:

    >>> import keras, numpy as np
    >>> from keras_patterns.testing import assert_no_leak_across_batch
    >>> inputs = keras.Input((4,))
    >>> centred = inputs - keras.ops.mean(inputs, axis=0)
    >>> try:
    ...     assert_no_leak_across_batch(keras.Model(inputs, centred), np.eye(4))
    ... except AssertionError as error:
    ...     print(str(error)[:64])
    assert_no_leak_across_batch: the outputs of 4 of 4 rows move whe
    """
    caller = "assert_no_leak_across_batch"
    check_built(caller, model)
    wanted = whole_number(caller, "batch_size", batch_size, least=2)
    tolerance = check_number(caller, "tolerance", tolerance)
    sample = take_sample(x, None, None)
    size = Examined(model, sample).batch_size(wanted)
    batch = sample.cut(0, size)[0]
    places = np.arange(size) + (size if sample.rows >= 2 * size else 1)
    others = each_array(lambda leaf: leaf[places % len(leaf)], sample.x)
    pairs = zip(keras.tree.flatten(batch), keras.tree.flatten(others), strict=True)
    if all(one is None or np.array_equal(one, other, equal_nan=False) for one, other in pairs):
        raise ValueError(f"{caller}: all rows of `x` are equal. Give some that differ.")
    moves = _moves(caller, model, batch, others, size)
    moved = int((moves > tolerance).sum())
    if moved:
        raise AssertionError(
            f"{caller}: the outputs of {moved} of {size} rows move when other rows of the batch "
            f"are replaced, in inference; that of row {moves.argmax()} the most, by "
            f"{moves.max():.2g} of the largest output.\nLook for a reshape, a transpose, a mean, a "
            "sort or a softmax along the first axis, and for a BatchNormalization that is called "
            "with training=True."
        )


def _moves(caller: str, model: keras.Model, batch: Any, others: Any, size: int) -> np.ndarray:
    """By how much each row's output moves at most when others are replaced, relative to the
    largest output.
    """
    before = _outputs(caller, model, batch, size)
    moves = np.zeros(size)
    for bit in range((size - 1).bit_length()):
        for side in (0, 1):
            kept = (np.arange(size) >> bit) & 1 == side
            mixed = each_array(partial(_mixed, kept), batch, others)
            after = _outputs(caller, model, mixed, size)
            for one, other in zip(before, after, strict=True):
                moves[kept] = np.maximum(moves, _distances(one, other))[kept]
    return moves


def _outputs(caller: str, model: keras.Model, x: Any, size: int) -> list[np.ndarray]:
    # Within, so that what draws at random draws the same each time.
    with preserved(model):
        outputs = model(each_array(keras.ops.convert_to_tensor, x), training=False)
        leaves = [keras.ops.convert_to_numpy(one) for one in keras.tree.flatten(outputs)]
    for leaf in leaves:
        if leaf.ndim == 0 or len(leaf) != size:
            raise AssertionError(
                f"{caller}: {size} rows give an output of shape {leaf.shape}: it mixes rows.\nLook "
                "for a mean, a sum or a reshape that includes the first axis."
            )
    return [leaf.reshape(size, -1).astype("float64") for leaf in leaves]


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The largest difference of each row, relative to the largest value; NaN is equal to NaN."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    apart[(one == other) | (np.isnan(one) & np.isnan(other))] = 0.0
    apart[np.isnan(apart)] = np.inf
    largest = np.abs(one[np.isfinite(one)]).max(initial=0.0) or 1.0
    return apart.max(axis=1, initial=0.0) / largest


def _mixed(kept: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.where(kept.reshape(-1, *[1] * (one.ndim - 1)), one, other)
