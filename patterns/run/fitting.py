"""`kp.fit`: `model.fit` as one run that goes on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import keras

from .._util.arguments import Fuse, check_fuse, whole_number
from ..data import BatchSource, LoaderSource, split_validation
from ..debugging import before_fit, steps_asked
from .checks import check_epochs, check_model, flat_callbacks, limited
from .history import RunHistory
from .keras_fit import train_by_fit
from .open_plan import OpenPlan, Plan
from .opening import RunArguments, open_run
from .plan import StepPlan
from .validation import NoValidation, Validation

_CALLER = "kp.fit"


def fit(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    verbose: int | str = "auto",
    callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool | str = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Collection[int] = 1,
    *,
    total_steps: int | None = None,
    plan: StepPlan | None = None,
    log_every_steps: int | None = None,
    validate_every_steps: int | None = None,
    seed: int | None = None,
    fuse: Fuse = False,
    preflight: bool = False,
) -> RunHistory:
    """Trains a compiled model, like `model.fit`, as a run that can be killed at any instant and
    goes on bit for bit.

    It drives `model.fit`: the loop, `train_step` and distribution are Keras's.
    The order of the data is a function of the seed and the step, the same on every backend. With a
    `kp.Checkpoint` among the callbacks, the run is saved, and the same call in a new process goes
    on where the newest checkpoint is. Passes over the data run on across epochs: an epoch is an
    interval of reporting.

    All arguments of `model.fit` stand in its order, before those of its own; docs/model-fit.md says
    of each where it differs.

    Args:
        model: A compiled Keras model.
        x: Arrays of shape `(examples, ...)` in any structure (dicts, tuples), in memory or
            memory-mapped, dense or sparse; or a `keras.utils.PyDataset`; or a loader of batches: a
            `tf.data.Dataset`, a PyTorch `DataLoader`, a Grain dataset or loader; or a Hugging Face
            dataset of examples; or a generator or another iterable of batches. A line says how a
            resume finds its place: by index, by a saved position, or by running the data again up
            to its step.
        y: Targets, if `x` is arrays; the name of a column, or a list of them, if it is a Hugging
            Face dataset.
        batch_size: Examples in a batch, if `x` is arrays or gives examples. Defaults to 32; with
            `steps_per_epoch` alone, to what makes an epoch one pass, as in Keras. The last batch of
            a pass holds what is left.
        epochs: How many epochs; with `initial_epoch`, the number of the last one. Alone, it means
            passes over the data, as in Keras; where nobody knows how long a pass is, the first one
            is an epoch, and those after it are as long. Defaults to 1.
        verbose: As in `model.fit`.
        callbacks: Keras's and ours, mixed freely.
        validation_split: As in `model.fit`: the fraction at the end of the arrays to validate on.
        validation_data: As in `model.fit`.
        shuffle: Whether each pass over the data is in a new order; `"batch"` shuffles within
            batches only. Defaults to True.
        class_weight: As in `model.fit`.
        sample_weight: As in `model.fit`.
        initial_epoch: The epoch, from 0, at which a run that begins here begins: epochs and steps
            count from there, and so does the order of the data. A generator begins with its first
            batch. A run that goes on from a checkpoint begins where that is. Defaults to 0.
        steps_per_epoch: Optimizer steps in an epoch.
        validation_steps: As in `model.fit`.
        validation_batch_size: As in `model.fit`.
        validation_freq: As in `model.fit`.
        total_steps: Optimizer steps in all. Two of `total_steps`, `steps_per_epoch`, `epochs` give
            the third.
        plan: A `kp.StepPlan`, in place of these three.
        log_every_steps: Read the running metrics at multiples of this many steps too; they stand in
            `history.step_logs` as one dict for each. Defaults to None: only at the end of an epoch.
        validate_every_steps: Validate at multiples of this many steps too, inside epochs. All
            validations stand in `history.validations`, one dict for each; the running metrics of
            the epoch, and what is trained, stay as they would be without. Defaults to None: only at
            the ends of epochs, by `validation_freq`; `validation_freq=()` leaves those out.
        seed: Of the order of the data. Defaults to None: the one that
            `keras.utils.set_random_seed` was called with; where it was not, one is drawn and
            printed. It is kept in the checkpoint, and a resume takes it from there.
        fuse: Whether steps are run in blocks, each of which is one program of the device: `"auto"`,
            where that pays and a comparison at the start finds no difference in any bit; True,
            where it can be had; False, never. Defaults to False. docs/blocks.md says more.
        preflight: Whether `kp.preflight` looks at model and data first. Its warnings and notes are
            shown, and its errors raised. Defaults to False. A generator is refused, since it would
            lose its first batches.

    Returns:
        The `kp.RunHistory` of the whole run, across kills.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If arguments disagree, or the model is not compiled.
        kp.PreflightError: If `preflight` finds an error.
        kp.ResumeRefusedError: If the folder holds a run that this script cannot go on with.
        kp.StateMismatchError: If it holds a run of another model.
        kp.StoreInUseError: If another run writes to it.
        kp.NonFiniteError: If a `kp.NonFiniteGuard` finds no way around a value that is not finite.
        kp.RunInterrupted: If a signal asked the run to stop; its state is saved.
        kp.DataExhaustedError: If the data end before the place at which a run goes on, or have no
            batch.

    Warns:
        UserWarning: If the data end before the plan does. The run ends with them, saved.

    Example:

    >>> import keras, numpy as np
    >>> import keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> history = kp.fit(model, np.ones((64, 4)), np.ones((64, 1)), total_steps=10, epochs=5,
    ...     seed=0, verbose=0)
    >>> len(history.history["loss"])
    5

    References:
        V. Lakshmanan, S. Robinson, M. Munn, "Machine Learning Design Patterns", O'Reilly 2020,
            chapter 4.
    """
    data = (x, y, sample_weight, validation_data, validation_split)
    length = (plan, total_steps, steps_per_epoch, epochs or 1, batch_size)
    check_call(model, fuse, preflight, verbose, length, *data)
    (x, y, sample_weight), validation_data = _split(*data)
    asked = RunArguments(
        caller=_CALLER,
        model=model,
        data={
            "x": x,
            "y": y,
            "sample_weight": sample_weight,
            "batch_size": batch_size,
            "shuffle": shuffle,
            "class_weight": class_weight,
            # As in Keras, which knows neither of the other two.
            "steps_per_pass": None if total_steps or plan else steps_per_epoch,
        },
        make_plan=partial(_plan, plan, total_steps, steps_per_epoch, epochs, verbose),
        callbacks=flat_callbacks(_CALLER, callbacks),
        validation=_validation(
            validation_data,
            _validation_batch_size(validation_batch_size, batch_size),
            validation_steps,
            validation_freq,
            validate_every_steps,
        ),
        log_every=log_every_steps,
        seed=seed,
        verbose=verbose,
        initial_epoch=check_epochs(_CALLER, epochs, initial_epoch, steps_per_epoch),
    )
    with ExitStack() as until_end:
        return train_by_fit(*open_run(asked, until_end), verbose, fuse)


# What says how long a run is, and the data, in the order in which `check_call` is given them.
LENGTH = ("plan", "total_steps", "steps_per_epoch", "epochs", "batch_size")
DATA = ("x", "y", "sample_weight", "validation_data", "validation_split")


def check_call(
    model: keras.Model,
    fuse: Fuse,
    preflight: bool,
    verbose: int | str,
    length: tuple[Any, ...],
    *data: Any,
) -> None:
    """The first that `fit` does; the command `preflight` puts its own in this place.

    The preflight comes first: it says more about what the other check refuses.
    """
    check_fuse(_CALLER, fuse)
    if not isinstance(preflight, bool):
        raise TypeError(f"{_CALLER}: `preflight` must be True or False. Received: {preflight!r}.")
    if preflight:
        asked = dict(zip((*LENGTH, *DATA), (*length, *data), strict=True))
        total_steps = steps_asked(asked.pop("x"), asked)
        before_fit(_CALLER, model, verbose, total_steps, *data)
    check_model(_CALLER, model, obeys_limits=True)


def _split(
    x: Any, y: Any, sample_weight: Any, validation_data: Any, validation_split: float
) -> tuple[Any, Any]:
    """The data to train on, and those to validate on."""
    if validation_split and validation_data is None:
        return split_validation(x, y, sample_weight, validation_split)
    return (x, y, sample_weight), validation_data


def _plan(
    plan: StepPlan | None,
    total_steps: int | None,
    steps_per_epoch: int | None,
    epochs: int | None,
    verbose: int | str,
    source: BatchSource,
) -> Plan:
    is_unknown = isinstance(source, LoaderSource) and source.is_of_unknown_length
    if is_unknown and plan is None and total_steps is None and steps_per_epoch is None:
        return limited(OpenPlan(1 if epochs is None else epochs), verbose)
    if plan is None:
        plan = StepPlan.resolve(total_steps, steps_per_epoch, epochs, source.steps_per_pass)
    elif (total_steps, steps_per_epoch, epochs) != (None, None, None):
        raise ValueError(
            "kp.fit: plan= says how many steps there are, so total_steps=, steps_per_epoch= and "
            "epochs= must be left out; received "
            f"plan={plan}, total_steps={total_steps}, steps_per_epoch={steps_per_epoch}, "
            f"epochs={epochs}."
        )
    return limited(plan, verbose)


def _validation_batch_size(own: int | None, of_training: int | None) -> int | None:
    return of_training if own is None else whole_number(_CALLER, "validation_batch_size", own)


def _validation(
    data: Any,
    batch_size: int | None,
    steps: int | None,
    frequency: int | Collection[int],
    every_steps: int | None,
) -> Validation | NoValidation:
    if data is not None:
        return Validation(data, batch_size, steps, frequency, every_steps)
    if every_steps is None:
        return NoValidation()
    raise ValueError(
        f"kp.fit: validate_every_steps={every_steps!r} needs validation_data= or validation_split=."
    )
