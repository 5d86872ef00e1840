"""Opening a run: its folder, its data, its plan, and where it begins; the one place that wires."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_patterns.backends import current

from .. import _keras
from .._util.arguments import whole_number
from .._util.messages import say
from ..checkpoint.identity import Identity, describe_callbacks, describe_optimizers
from ..checkpoint.model_settings import describe_model
from ..checkpoint.reading import SoundCheckpoint
from ..data import BatchSource, LoaderSource, make_source
from ..state.callbacks import warn_of_untold
from ..state.item_caller import ItemCaller
from ..state.randomness import drawn_seed
from ..state.variables import find_variables
from . import start_point
from .callback_list import RunCallbacks
from .carried import CarriedState
from .checkpoint import Checkpoint
from .checkpoints import Checkpoints, NoCheckpoints
from .checks import check_processes
from .driver import Driver
from .foreign import ForeignState, NoForeignState
from .hooks import Hook
from .open_plan import Plan, is_open, known_steps
from .parts import Parts
from .progress import RunProgress
from .restore import Restorer
from .run_data import RunData
from .signals import StopRequests
from .start_point import StartPoint
from .streams import generator_stream
from .timeline import Timeline
from .tracked import Tracked
from .trainable import TrainedPart, sets_trainable
from .validation import NoValidation, Validation
from .view import DrivenRun


@dataclass
class RunArguments:
    """A run as it was asked for.

    Attributes:
        caller: The public function, for messages.
        model: To be trained.
        data: The arguments of `make_source`.
        make_plan: Gives the plan, once the data are known.
        callbacks: Keras's and hooks.
        validation: How it is validated.
        log_every: At multiples of how many steps the running metrics are kept, if at all.
        seed: Of the order of the data; None takes that of the run that goes on, or that of
            `keras.utils.set_random_seed`, or draws one.
        verbose: As in `model.fit`.
        initial_epoch: The epoch at which a run that begins here begins.
        tracked: What else is carried.
        data_must_last: Whether data that end before the plan does are an error.
    """

    caller: str
    model: keras.Model
    data: Mapping[str, Any]
    make_plan: Callable[[BatchSource], Plan]
    callbacks: Sequence[keras.callbacks.Callback]
    validation: Validation | NoValidation = field(default_factory=NoValidation)
    log_every: int | None = None
    seed: int | None = None
    verbose: int | str = "auto"
    initial_epoch: int = 0
    tracked: Tracked = field(default_factory=Tracked)
    data_must_last: bool = False

    def __post_init__(self) -> None:
        if self.log_every is not None:
            self.log_every = whole_number(self.caller, "log_every_steps", self.log_every)
        self.checkpoint = _only_checkpoint(self.caller, self.callbacks)
        if self.checkpoint:
            self.checkpoint.check_monitor(validates=self.validation.exists)


def open_run(asked: RunArguments, until_end: ExitStack) -> tuple[Driver, StartPoint]:
    """Opens a run.

    Args:
        asked: The run.
        until_end: Is given all that must be closed when the run ends.

    Returns:
        Its driver, still without an engine, and where it begins.

    Raises:
        ResumeRefusedError: If the folder holds a run that this script cannot go on with.
    """
    check_processes(asked.caller, asked.model)
    until_end.enter_context(_keras.quiet_arrays())
    checkpoint, found = asked.checkpoint, None
    if checkpoint:
        until_end.enter_context(checkpoint.store.lock())
        found = checkpoint.find()
    goes_on = found if checkpoint and found and start_point.may_go_on(checkpoint, found) else None
    seed, seed_from = _seed(asked, goes_on)
    source = make_source(
        **asked.data,
        seed=seed,
        stream=generator_stream(asked.data["x"], goes_on),
        seeding=functools.partial(ItemCaller, names_moving=checkpoint is not None),
        verbose=asked.verbose != 0,
    )
    wanted = asked.make_plan(source)
    plan = start_point.plan_of(goes_on, wanted)
    start = StartPoint(first_step=_first_step(asked, plan, source))
    checkpoints: Checkpoints | NoCheckpoints = NoCheckpoints()
    if checkpoint:
        if goes_on:
            checkpoint.check_not_finished(asked.caller, asked.model, plan.total_steps)
        identity = _identity(asked, plan, source, seed, seed_from)
        start, checkpoints = _begin(asked, checkpoint, found, identity, start.first_step, source)
        if plan.steps_per_epoch != wanted.steps_per_epoch:
            say(f"epochs stay {plan.steps_per_epoch:,} steps long, not {wanted.steps_per_epoch:,}.")
    return _wire(asked, plan, source, checkpoints, until_end), start


def _wire(
    asked: RunArguments,
    plan: Plan,
    source: BatchSource,
    checkpoints: Checkpoints | NoCheckpoints,
    until_end: ExitStack,
) -> Driver:
    callbacks = RunCallbacks(
        asked.callbacks,
        asked.model,
        RunProgress(plan, asked.verbose),
        verbose=asked.verbose,
        epochs=plan.epochs,
        steps=None if is_open(plan) else plan.steps_per_epoch,
    )
    until_end.callback(callbacks.shut_down)
    data = RunData(source, keeps_positions=checkpoints.exist, stops_after_pass=is_open(plan))
    until_end.callback(data.close)
    carried = CarriedState(asked.model)
    foreign = _foreign(asked) if checkpoints.exist else NoForeignState()
    restorer = Restorer(
        asked.model,
        lambda step: plan.total_steps - step,
        TrainedPart(asked.model, callbacks.hooks, data, plan),
        data,
        callbacks,
        asked.validation.skip_to,
        checkpoints,
        carried,
        asked.tracked.restore,
        foreign.begin,
        foreign.restore,
        until_end,
    )
    parts = Parts(
        asked.model,
        plan,
        data,
        callbacks,
        asked.validation,
        checkpoints,
        Timeline(plan, asked.validation, checkpoints, callbacks.hooks, asked.log_every),
        StopRequests(checkpoints.exist and checkpoints.handle_signals),
        carried,
        restorer,
        asked.tracked.state,
        foreign,
        asked.data_must_last,
    )
    driver = Driver(parts)
    until_end.enter_context(callbacks.driven_by(DrivenRun(driver)))
    until_end.enter_context(checkpoints)
    until_end.enter_context(driver.signals)
    return driver


def _foreign(asked: RunArguments) -> ForeignState:
    return ForeignState(
        asked.caller, asked.model, asked.callbacks, asked.data["x"], asked.validation.holder
    )


def _identity(
    asked: RunArguments, plan: Plan, source: BatchSource, seed: int, seed_from: str
) -> Identity:
    return Identity(
        total_steps=known_steps(plan),
        steps_per_epoch=None if is_open(plan) else plan.steps_per_epoch,
        seed=seed,
        data=source.fingerprint(),
        optimizers=describe_optimizers(find_variables(asked.model).optimizers),
        callbacks=describe_callbacks(asked.callbacks),
        seed_from=seed_from,
        model=describe_model(asked.model, any(map(sets_trainable, asked.callbacks))),
        validation=asked.validation.describe(),
    )


def _first_step(asked: RunArguments, plan: Plan, source: BatchSource) -> int:
    """The step at which a run that begins here begins."""
    epoch = asked.initial_epoch
    if not epoch:
        return 0
    if is_open(plan):
        raise ValueError(
            f"{asked.caller}: initial_epoch={epoch} is a number of steps only where an epoch has "
            "one, and nobody knows how many batches a pass over these data has. Say "
            "steps_per_epoch=."
        )
    if epoch >= plan.epochs:
        say(
            f"initial_epoch={epoch}, and there are {plan.epochs} epochs: nothing to train.",
            verbose=asked.verbose,
        )
    step = plan.end_of(min(epoch, plan.epochs) - 1)
    if isinstance(source, LoaderSource):
        source.begin_at(step)
    return step


def _begin(
    asked: RunArguments,
    checkpoint: Checkpoint,
    found: SoundCheckpoint | None,
    identity: Identity,
    first_step: int,
    source: BatchSource,
) -> tuple[StartPoint, Checkpoints]:
    """Decides where the run begins, and says so."""
    found_again = getattr(source, "found_again", None)
    how_found_again = [f"the data will be found again {found_again}."] if found_again else []
    warn_of_untold(asked.callbacks)
    start = start_point.begin(checkpoint, found, identity, current().name, first_step)
    # A run that begins with nothing to tell says so only where the person wants to see anything.
    if asked.verbose != 0 or start.record or (found and found.fell_back):
        for message in (*start.messages, *how_found_again):
            say(message)
    return start, Checkpoints(checkpoint, asked.model, identity, start.number, start.start_mode)


def _seed(asked: RunArguments, goes_on: SoundCheckpoint | None) -> tuple[int, str]:
    """The seed of the order of the data, and where it comes from."""
    # Also where it is not wanted: the next one must be the same whether this run begins or goes on.
    seed = drawn_seed()
    if asked.seed is not None:
        return whole_number(asked.caller, "seed", asked.seed, least=0), "seed="
    called_with = _keras.random_seed()
    if goes_on:
        saved = goes_on.record.identity
        # Another value of set_random_seed asks for another order, and the resume is refused.
        if saved.seed_from != "set_random_seed" or called_with in (None, saved.seed):
            return saved.seed, saved.seed_from
    if called_with is not None:
        return called_with, "set_random_seed"
    if asked.verbose != 0:
        say(
            f"seed={seed} was drawn for the order of the data; give it to have the same order in "
            "another run."
        )
    return seed, "drawn"


def _only_checkpoint(
    caller: str, callbacks: Sequence[keras.callbacks.Callback]
) -> Checkpoint | None:
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                f"{caller}: BackupAndRestore would put back another epoch than kp.Checkpoint does. "
                "Leave it out."
            )
    alone: set[type] = {type(one) for one in callbacks if isinstance(one, Hook) and one.only_one}
    for kind in [Checkpoint, *alone]:
        found = [callback for callback in callbacks if isinstance(callback, kind)]
        if len(found) > 1:
            raise ValueError(
                f"{caller}: a run has one kp.{kind.__name__}; received {len(found)} of them."
            )
    return next((one for one in callbacks if isinstance(one, Checkpoint)), None)
