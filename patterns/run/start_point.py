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
from .open_plan import OpenPlan, Plan, is_open
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
        changed: What the script says otherwise than the checkpoint, a line each.
        first_step: Where it begins if it does not go on.
    """

    number: int = 1
    start_mode: str = "auto"
    record: Record | None = None
    position: Position = _START
    weights_only: bool = False
    messages: tuple[str, ...] = ()
    made_with: Mapping[str, Any] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    first_step: int = 0


def plan_of(found: SoundCheckpoint | None, plan: Plan) -> Plan:
    """The script's plan, with epochs as long as they were: their numbers must mean one thing
    throughout a History.
    """
    if found is None:
        return plan
    saved = found.record.identity
    if saved.steps_per_epoch is None:
        if not is_open(plan) and found.position.step > plan.steps_per_epoch:
            raise ResumeRefusedError(
                f"The run has done {found.position.step:,} steps of its first epoch, a pass over "
                f"data of unknown length, and the script says {plan.steps_per_epoch:,} steps an "
                "epoch. Leave steps_per_epoch= and total_steps= out to go on with it."
            )
        return plan
    if isinstance(plan, OpenPlan):
        if plan.is_open:
            plan.learn(saved.steps_per_epoch)
        return plan
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
    if found is None:
        where = f"; there is no checkpoint in {checkpoint.store.label} yet"
        new = StartPoint(start_mode=checkpoint.resume, first_step=first_step)
        return replace(new, messages=(f"starting from step {first_step:,}{where}.",))
    goes_on = may_go_on(checkpoint, found)
    if goes_on and checkpoint.resume == "weights":
        goes_on = _is_same_run(found, identity, checkpoint.store.label)
    if not goes_on:
        return _begin_beside(checkpoint, found, first_step)
    start = _go_on(checkpoint, found, identity, backend)
    if first_step and start.position.step != first_step:
        line = "initial_epoch= is for a run that begins; this one goes on where its checkpoint is."
        return replace(start, messages=(*start.messages, line))
    return start


def _begin_beside(checkpoint: Checkpoint, found: SoundCheckpoint, first_step: int) -> StartPoint:
    """A new run beside what the folder holds, from nothing or from its newest weights."""
    folder, at = checkpoint.store.label, found.position
    new = StartPoint(at.run + 1, checkpoint.resume, first_step=first_step)
    first = f"starting from step {first_step:,}"
    if checkpoint.resume == "never":
        return replace(
            new, messages=(f'{first} beside what {folder} holds, because of resume="never".',)
        )
    message = (
        f"{first} with the weights at step {at.step:,} of the checkpoint {at.folder_name} in "
        f'{folder}, because of resume="weights"{found.fell_back}.'
    )
    messages = (message, *not_finite_lines(checkpoint.store, at, found.record))
    return replace(new, record=found.record, weights_only=True, messages=messages)


def _go_on(
    checkpoint: Checkpoint, found: SoundCheckpoint, identity: Identity, backend: str
) -> StartPoint:
    folder = checkpoint.store.label
    check_same_run(found.record.identity, identity, folder)
    step, total, saved = found.position.step, identity.total_steps, found.record.identity
    if total is not None and step > total:
        raise ResumeRefusedError(
            f"The run in {folder} has done {step:,} steps, and the script asks for {total:,} in "
            "all. Ask for no fewer to go on with it, or give Checkpoint another folder to begin a "
            "new run."
        )
    cursor = found.record.cursor
    was = saved.total_steps
    if cursor.ended and total is not None and was is not None and total > was:
        cursor = replace(cursor, ended=False)
    record = replace(found.record, cursor=cursor)
    lines = [f"{line}." for line in changes(saved, identity)]
    saved_on = found.made_with.get("backend", backend)
    if saved_on != backend:
        lines.append(
            f"saved on {saved_on}, continued on {backend}: weights, slots and data go on; random "
            "streams differ."
        )
    messages = [_headline(folder, record, total, found.fell_back), *lines]
    messages += not_finite_lines(checkpoint.store, found.position, record)
    return StartPoint(
        number=found.position.run,
        start_mode=record.start_mode,
        record=record,
        position=found.position,
        messages=tuple(messages),
        made_with=found.made_with,
        changed=tuple(lines),
    )


def _headline(folder: str, record: Record, total: int | None, fell_back: str) -> str:
    """Where a run goes on, or that it has come to its end."""
    cursor = record.cursor
    where = f"step {cursor.step:,}" + ("" if total is None else f" of {total:,}")
    if cursor.todo or not (cursor.ended or cursor.step == total):
        return f"going on from {where}: the newest checkpoint in {folder}{fell_back}."
    how = "was stopped" if cursor.ended else "is finished"
    why = _stopper(record) if cursor.ended else ""
    return f"the run in {folder} {how} at {where}{fell_back}{why}; there is nothing to train."


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
