"""Where a run begins: at a checkpoint of its folder, with the weights of one, or from nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..checkpoint.contents import Record
from ..checkpoint.identity import Identity, ResumeRefusedError, changes, check_same_run
from ..checkpoint.reading import SoundCheckpoint, not_finite_lines
from ..storage import Position
from .checkpoint import Checkpoint
from .history import RunHistory
from .plan import StepPlan

_START = Position(run=1, step=0)


@dataclass(frozen=True)
class StartPoint:
    """The place where a run begins.

    Attributes:
        record: What to put back, or None for a fresh start.
        position: Of the checkpoint from which it goes on.
        number: The ordinal, in its folder, of the run that begins or goes on.
        start_mode: How that run began: `"auto"`, `"weights"` or `"never"`.
        weights_only: Whether only the weights of `record` are put back.
        messages: For the person, first line first.
        made_with: The versions and processes that made the checkpoint.
        first_step: Where it begins if it does not go on.
    """

    number: int = 1
    start_mode: str = "auto"
    record: Record | None = None
    position: Position = _START
    weights_only: bool = False
    messages: tuple[str, ...] = ()
    made_with: Mapping[str, Any] = field(default_factory=dict)
    first_step: int = 0


def plan_of(found: SoundCheckpoint | None, plan: StepPlan) -> StepPlan:
    """The script's plan, with epochs as long as they were: their numbers must mean one thing
    throughout a History.
    """
    if found is None:
        return plan
    saved = found.record.identity
    same_total = plan.total_steps == saved.total_steps
    if same_total and plan.steps_per_epoch == saved.steps_per_epoch:
        return plan
    return StepPlan(plan.total_steps, saved.steps_per_epoch)


def may_go_on(checkpoint: Checkpoint, found: SoundCheckpoint) -> bool:
    """True if the script asks for the run in the folder, or earlier began it from weights."""
    return checkpoint.resume == "auto" or checkpoint.resume == found.record.start_mode == "weights"


def begin(
    checkpoint: Checkpoint,
    found: SoundCheckpoint | None,
    identity: Identity,
    backend: str,
    first_step: int = 0,
) -> StartPoint:
    """Decides how the run begins.

    Args:
        checkpoint: Says how the script wants to begin, and where.
        found: The newest sound checkpoint, if there is one.
        identity: What the script says.
        backend: What runs now.
        first_step: Where it begins if it does not go on. Defaults to 0.

    Raises:
        ResumeRefusedError: If the script asks for another run than the one in the folder.
    """
    folder = checkpoint.store.label
    if found is None:
        return StartPoint(
            start_mode=checkpoint.resume,
            messages=(
                f"starting from step {first_step:,}; there is no checkpoint in {folder} yet.",
            ),
            first_step=first_step,
        )
    new = StartPoint(found.position.run + 1, checkpoint.resume, first_step=first_step)
    at = f"step {found.position.step:,} of the checkpoint {found.position.folder_name} in {folder}"
    if checkpoint.resume == "never":
        return replace(
            new,
            messages=(
                f"starting from step {first_step:,} beside what {folder} holds, because of "
                'resume="never".',
            ),
        )
    if checkpoint.resume == "weights" and not (
        may_go_on(checkpoint, found) and _is_same_run(found, identity, folder)
    ):
        message = (
            f"starting from step {first_step:,} with the weights at {at}, because of "
            f'resume="weights"{found.fell_back}.'
        )
        messages = (message, *not_finite_lines(checkpoint.store, found.position, found.record))
        return replace(new, record=found.record, weights_only=True, messages=messages)
    start = _go_on(checkpoint, found, identity, backend)
    if first_step and start.position.step != first_step:
        line = "initial_epoch= is for a run that begins; this one goes on where its checkpoint is."
        return replace(start, messages=(*start.messages, line))
    return start


def _go_on(
    checkpoint: Checkpoint, found: SoundCheckpoint, identity: Identity, backend: str
) -> StartPoint:
    folder = checkpoint.store.label
    check_same_run(found.record.identity, identity, folder)
    step, total, saved = found.position.step, identity.total_steps, found.record.identity
    if step > total:
        raise ResumeRefusedError(
            f"The run in {folder} has done {step:,} steps, and the script asks for {total:,} in "
            "all. Ask for no fewer to go on with it, or give Checkpoint another folder to begin a "
            "new run."
        )
    cursor = found.record.cursor
    if cursor.ended and total > saved.total_steps:
        cursor = replace(cursor, ended=False)
    record = replace(found.record, cursor=cursor)
    is_finished = not cursor.todo and (cursor.ended or step == total)
    lines = [f"{line}." for line in changes(saved, identity)]
    saved_on = found.made_with.get("backend", backend)
    if saved_on != backend:
        lines.append(
            f"saved on {saved_on}, going on on {backend}: weights, slots and data go on; random "
            "streams differ."
        )
    where = f"at step {step:,} of {total:,}{found.fell_back}"
    first = (
        f"going on from step {step:,} of {total:,}: the newest checkpoint in "
        f"{folder}{found.fell_back}."
    )
    if is_finished:
        how = f"was stopped {where}{_stopper(record)}" if cursor.ended else f"is finished {where}"
        first = f"the run in {folder} {how}; there is nothing to train."
    lines += not_finite_lines(checkpoint.store, found.position, found.record)
    return StartPoint(
        number=found.position.run,
        start_mode=record.start_mode,
        record=record,
        position=found.position,
        messages=(first, *lines),
        made_with=found.made_with,
    )


def _stopper(record: Record) -> str:
    """Who stopped a run, or why, as its History has it."""
    events = record.callbacks.get(RunHistory.__name__, {}).get("events", [])
    said = [event["text"] for event in events if event["kind"] == "stopped"]
    return f" ({said[-1]})" if said and said[-1] else ""


def _is_same_run(found: SoundCheckpoint, identity: Identity, folder: str) -> bool:
    try:
        check_same_run(found.record.identity, identity, folder)
    except ResumeRefusedError:
        return False
    return True
