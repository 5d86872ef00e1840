"""`kp.fit`: `model.fit` as one run that goes on."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import keras

from keras_patterns.backends import current

from .._util.arguments import whole_number
from .._util.messages import say
from ..checkpoint.identity import Identity, describe_callbacks, describe_optimizers
from ..checkpoint.reading import SoundCheckpoint
from ..data import BatchSource, make_source, split_validation
from ..state.callbacks import warn_of_untold
from ..state.variables import find_variables
from . import start_point as resume
from .checkpoint import Checkpoint
from .checks import check_model
from .hooks import DrivenCallback
from .plan import StepPlan
from .run import Run
from .saving import Saver
from .start_point import Beginning
from .streams import generator_stream
from .validation import Validation


def fit(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    batch_size: int | None = None,
    epochs: int | None = None,
    total_steps: int | None = None,
    steps_per_epoch: int | None = None,
    plan: StepPlan | None = None,
    verbose: int | str = "auto",
    callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Collection[int] = 1,
    log_every_steps: int | None = None,
    validate_every_steps: int | None = None,
    seed: int | None = None,
) -> keras.callbacks.History:
    """Trains a compiled model, like `model.fit`, as a run that can be killed at any instant and
    goes on bit for bit.

    It drives `model.fit`: the loop, the progress bar, `train_step` and distribution are Keras's.
    The order of the data is a function of the seed and the step, the same on every backend. With a
    `kp.Checkpoint` among the callbacks, the run is saved, and the same call in a new process goes
    on where the newest checkpoint is. Passes over the data run on across epochs: an epoch is an
    interval of reporting.

    Args:
        model: A compiled Keras model.
        x: Arrays of shape `(examples, ...)` in any structure (dicts, tuples), in memory or
            memory-mapped; or a `keras.utils.PyDataset`; or a generator of batches, which a resume
            runs again up to its step.
        y: Targets, if `x` is arrays.
        batch_size: Examples in a batch, if `x` is arrays. Defaults to 32. The last batch of a pass
            holds what is left.
        epochs: How many epochs. Alone, it means passes over the data, as in Keras. Defaults to 1.
        total_steps: Optimizer steps in all. Two of `total_steps`, `steps_per_epoch`, `epochs` give
            the third.
        steps_per_epoch: Optimizer steps in an epoch.
        plan: A `kp.StepPlan`, in place of these three.
        verbose: As in `model.fit`.
        callbacks: Keras's and ours, mixed freely.
        validation_split: As in `model.fit`: the fraction at the end of the arrays to validate on.
        validation_data: As in `model.fit`.
        shuffle: Whether each pass over the data is in a new order. Defaults to True.
        class_weight: As in `model.fit`.
        sample_weight: As in `model.fit`.
        validation_steps: As in `model.fit`.
        validation_batch_size: As in `model.fit`.
        validation_freq: As in `model.fit`.
        log_every_steps: Read the running metrics at multiples of this many steps too; they stand in
            `history.steps` as one dict for each. Defaults to None: only at the end of an epoch.
        validate_every_steps: Validate at multiples of this many steps too, inside epochs. All
            validations stand in `history.validations`, one dict for each; the running metrics of
            the epoch, and what is trained, stay as they would be without. Defaults to None: only at
            the ends of epochs, by `validation_freq`; `validation_freq=()` leaves those out.
        seed: Of the order of the data. Defaults to None: one is drawn, printed and kept in the
            checkpoint.

    Returns:
        The `History` of the whole run, across kills.

    Raises:
        ValueError: If arguments disagree, or the model is not compiled.
        kp.ResumeRefusedError: If the folder holds a run that this script cannot go on with.
        kp.StateMismatchError: If it holds a run of another model.
        kp.RunInterrupted: If a signal asked the run to stop; its state is saved.

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
    check_model("kp.fit", model)
    callbacks = keras.tree.flatten(callbacks) if callbacks is not None else []
    checkpoint = _only_checkpoint(callbacks)
    if validation_split and validation_data is None:
        (x, y, sample_weight), validation_data = split_validation(
            x, y, sample_weight, validation_split
        )
    validation = None
    if validation_data is not None:
        size = validation_batch_size or batch_size
        validation = Validation(
            validation_data, size, validation_steps, validation_freq, validate_every_steps
        )
    elif validate_every_steps is not None:
        raise ValueError(
            f"kp.fit: validate_every_steps={validate_every_steps!r} needs validation_data= or "
            "validation_split=."
        )
    if log_every_steps is not None:
        log_every_steps = whole_number("kp.fit", "log_every_steps", log_every_steps)
    if checkpoint:
        checkpoint.check_monitor(validates=validation is not None)

    with checkpoint.store.lock() if checkpoint else nullcontext():
        found = checkpoint.find() if checkpoint else None
        goes_on = found if checkpoint and found and resume.may_go_on(checkpoint, found) else None
        seed = _seed(seed, goes_on, silent=verbose == 0)
        source = make_source(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            shuffle=shuffle,
            class_weight=class_weight,
            seed=seed,
            stream=generator_stream(x, goes_on),
            verbose=verbose != 0,
        )
        asked = _plan(plan, total_steps, steps_per_epoch, epochs, source)
        plan = resume.plan_of(goes_on, asked)
        beginning, saver = Beginning(), None
        if checkpoint:
            beginning, saver = _begin(
                checkpoint, found, model, plan, seed, source, callbacks, verbose
            )
            if plan.steps_per_epoch != asked.steps_per_epoch:
                say(
                    f"epochs stay {plan.steps_per_epoch:,} steps long, not "
                    f"{asked.steps_per_epoch:,}."
                )
        run = Run(model, plan, source, validation, callbacks, saver, verbose, log_every_steps)
        return run.execute(beginning)


def _begin(
    checkpoint: Checkpoint,
    found: SoundCheckpoint | None,
    model: keras.Model,
    plan: StepPlan,
    seed: int,
    source: BatchSource,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int | str,
) -> tuple[Beginning, Saver]:
    """Decides where the run begins, and says so."""
    warn_of_untold(callbacks)
    identity = Identity(
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
        seed=seed,
        data=source.fingerprint(),
        optimizers=describe_optimizers(find_variables(model).optimizers),
        callbacks=describe_callbacks(callbacks),
    )
    beginning = resume.begin(checkpoint, found, identity, current().name)
    # A run that begins with nothing to tell says so only where the person wants to see anything.
    if verbose != 0 or beginning.record or (found and found.fell_back):
        for message in beginning.messages:
            say(message)
    return beginning, Saver(checkpoint, model, identity, beginning.run, beginning.begun)


def _plan(
    plan: StepPlan | None,
    total_steps: int | None,
    steps_per_epoch: int | None,
    epochs: int | None,
    source: BatchSource,
) -> StepPlan:
    if plan is None:
        return StepPlan.resolve(total_steps, steps_per_epoch, epochs, source.steps_per_pass)
    if (total_steps, steps_per_epoch, epochs) != (None, None, None):
        raise ValueError(
            "kp.fit: plan= says how many steps there are, so total_steps=, steps_per_epoch= and "
            "epochs= must be left out; received "
            f"plan={plan}, total_steps={total_steps}, steps_per_epoch={steps_per_epoch}, "
            f"epochs={epochs}."
        )
    return plan


def _seed(seed: int | None, goes_on: SoundCheckpoint | None, silent: bool) -> int:
    if seed is not None:
        return whole_number("kp.fit", "seed", seed, least=0)
    if goes_on:
        return goes_on.record.identity.seed
    seed = secrets.randbits(32)
    if not silent:
        say(
            f"seed={seed} was drawn for the order of the data; give it to have the same order in "
            "another run."
        )
    return seed


def _only_checkpoint(callbacks: Sequence[keras.callbacks.Callback]) -> Checkpoint | None:
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "kp.fit: BackupAndRestore would put back another epoch than kp.Checkpoint does. "
                "Leave it out."
            )
    alone = {type(c) for c in callbacks if isinstance(c, DrivenCallback) and c.only_one}
    for kind in (Checkpoint, *alone):
        found = [callback for callback in callbacks if isinstance(callback, kind)]
        if len(found) > 1:
            raise ValueError(
                f"kp.fit: a run has one kp.{kind.__name__}; received {len(found)} of them."
            )
    return next((callback for callback in callbacks if isinstance(callback, Checkpoint)), None)
