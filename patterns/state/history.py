"""What `kp.fit` keeps in a `History`, beside what Keras does."""

from __future__ import annotations

from typing import Any

import keras

# Each a list: `steps` of the running metrics inside epochs and `validations` of those of all
# validations, dicts with their "step"; `ends` of the steps done at the end of each epoch, `rates`
# of the learning rates there; `events` of what changed the course.
KEPT = ("steps", "validations", "ends", "rates", "events")


def prepare(history: keras.callbacks.History) -> None:
    """Gives a History its empty lists; `resumes`, the steps at which processes went on with the
    run, is no part of its state.
    """
    for name in (*KEPT, "resumes"):
        setattr(history, name, [])


def add_event(history: keras.callbacks.History, kind: str, step: int, text: str) -> None:
    """Notes an event.

    Args:
        history: Of the run, be it of `kp.fit` or of plain `model.fit`.
        kind: In a word or two, such as `"stopped"`.
        step: Steps done then.
        text: What happened and why, for people.
    """
    if not hasattr(history, "events"):
        history.events = []
    history.events.append({"kind": kind, "step": step, "text": text})


def as_numbers(logs: dict[str, Any]) -> dict[str, Any]:
    """Metrics as plain numbers, or nested lists of them."""
    return {name: keras.ops.convert_to_numpy(value).tolist() for name, value in logs.items()}
