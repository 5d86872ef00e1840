"""The state of a History in a checkpoint, checked without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .._util.schema import Count, checked, require, shown

# The names of release 0.1, and what they are called now.
RENAMED = {"steps": "step_logs", "ends": "epoch_end_steps", "rates": "learning_rates"}


class _At(msgspec.Struct):
    step: Count


class _Event(_At):
    kind: str
    text: str


_KINDS: dict[str, Any] = {
    "history": dict[str, list[Any]],
    "epoch": list[Count],
    "step_logs": list[_At],
    "validations": list[_At],
    "epoch_end_steps": list[Count],
    "learning_rates": list[float | None],
    "momentums": list[float | None],
    "events": list[_Event],
}
# All that it keeps beside what Keras does.
KEPT = ("step_logs", "validations", "epoch_end_steps", "learning_rates", "momentums", "events")


def checked_history(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a History by its names of today; SchemaError if it is none."""
    require(isinstance(state, Mapping), "RunHistory", f"expected names, received {shown(state)}")
    found = {RENAMED.get(name, name): value for name, value in state.items()}
    for name, value in found.items():
        require(name in ("history", "epoch", *KEPT), "RunHistory", f"it has no {shown(name)}")
        checked(value, _KINDS.get(name, list[Any]), f"RunHistory.{name}")
    return found
