"""`Tracker`: a place that keeps the curves of runs, as a run sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

Status = Literal["FINISHED", "KILLED", "FAILED"]


class RunEvent(NamedTuple):
    """A change in the course of a run.

    Attributes:
        kind: In a word or two, such as `"stopped"`.
        text: For people.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Row:
    """All that a run has to say of one step.

    Attributes:
        step: Optimizer steps done.
        time: When that was, in seconds since 1970.
        metrics: Numbers by name; any may be NaN or infinite.
        events: Changes in the course of the run there.
    """

    step: int
    time: float
    metrics: Mapping[str, float]
    events: tuple[RunEvent, ...] = ()


@dataclass(frozen=True)
class TrackedRun:
    """A run, for a tracker that is to open it.

    Attributes:
        id: The same in all processes of the run, and of no other run. Letters, digits and hyphens.
        name: For people.
        settings: What the script says of the run, under dotted names: texts, numbers, None.
    """

    id: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class Tracker(Protocol):
    """A place that keeps the curves of runs; `kp.trackers.Tracking` sends them there.

    All methods are called in one thread beside the training. What they raise never ends the run: it
    is said in a line, and at the next checkpoint `open` is called again.

    Example:

    >>> import json, os
    >>> class JsonLines:
    ...     def __init__(self, folder):
    ...         self.folder = folder
    ...     def open(self, run):
    ...         self.path = os.path.join(self.folder, run.id + ".jsonl")
    ...         with open(self.path, "a+") as file:
    ...             file.seek(0)
    ...             return max((json.loads(line)["step"] for line in file), default=-1)
    ...     def send(self, rows):
    ...         lines = [json.dumps({"step": row.step, **row.metrics}) + "\\n" for row in rows]
    ...         with open(self.path, "a") as file:
    ...             file.write("".join(lines))
    ...     def rewind(self, step):
    ...         return False
    ...     def close(self, status):
    ...         pass
    """

    def open(self, run: TrackedRun) -> int | None:
        """Begins a run, or goes on with the one of this id, and takes its settings.

        Returns:
            The last step of which it has a row for certain, -1 if it has none. None if it cannot
            tell: then it is asked to `rewind` to the last step that a checkpoint knows was sent,
            and where it cannot, rows may come twice after a kill.
        """

    def send(self, rows: Sequence[Row]) -> None:
        """Takes rows, in the order of their steps, each later than all before."""

    def rewind(self, step: int) -> bool:
        """Drops the rows after a step, since the run has gone back there. False if it cannot: then
        rows of these steps are not sent again.
        """

    def close(self, status: Status) -> None:
        """Ends the run for this process. One that was `"KILLED"` or has `"FAILED"` may be opened
        again.
        """
