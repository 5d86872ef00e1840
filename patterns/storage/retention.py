"""The choice of the checkpoints to keep: a pure function of their positions and scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .._util.arguments import whole_number
from .manifest import Position, Score


class Candidate(NamedTuple):
    """The facts by which it is decided whether a checkpoint stays."""

    position: Position
    score: Score | None = None
    needs: tuple[Position, ...] = ()


@dataclass(frozen=True)
class Retention:
    """The checkpoints of a run to keep; one stays if any of the rules says so.

    A checkpoint from before a validation stays only while it is the newest. What one that stays
    needs, stays too.

    Args:
        keep_last: how many of the newest; None keeps all. Defaults to 3.
        keep_best: how many of the best by their score; None for none. Defaults to None.
        keep_every_steps: each whose step is a multiple of it; None for none. Defaults to None.

    Raises:
        TypeError: an argument is neither None nor a whole number.
        ValueError: it is less than 1.

    Example:

    >>> steps = [Candidate(Position(1, step)) for step in (10, 20, 30, 40)]
    >>> kept = Retention(keep_last=1, keep_every_steps=20).kept(steps)
    >>> sorted(position.step for position in kept)
    [20, 40]
    """

    keep_last: int | None = 3
    keep_best: int | None = None
    keep_every_steps: int | None = None

    def __post_init__(self) -> None:
        """Checks the arguments."""
        for name, value in vars(self).items():
            if value is not None:
                whole_number("Checkpoint", name, value)

    def kept(self, candidates: Iterable[Candidate]) -> set[Position]:
        """The positions to keep, of the candidates of one run."""
        ordered = sorted((candidate.position, candidate) for candidate in candidates)
        newest = [position for position, _ in ordered[-1:]]
        complete = [candidate for position, candidate in ordered if position.phase == 1]
        positions = [candidate.position for candidate in complete]
        last = positions[-self.keep_last :] if self.keep_last else positions
        best = [candidate.position for candidate in ranked(complete)[: self.keep_best or 0]]
        every = self.keep_every_steps
        milestones = [position for position in positions if every and position.step % every == 0]
        return _with_needs(
            {*newest, *last, *best, *milestones},
            {candidate.position: candidate for _, candidate in ordered},
        )


def _with_needs(kept: set[Position], candidates: Mapping[Position, Candidate]) -> set[Position]:
    waiting = list(kept)
    while waiting:
        more = {needed for needed in candidates[waiting.pop()].needs if needed in candidates} - kept
        kept |= more
        waiting += more
    return kept


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates with a finite score, the best first and of equal ones the earlier.

    Only those count that were scored by the same metric and mode as the newest.
    """
    scored = [(c.position, c.score, c) for c in candidates if c.score is not None]
    finite = sorted(row for row in scored if math.isfinite(row[1].value))
    if not finite:
        return []
    _, newest, _ = finite[-1]
    sign = 1.0 if newest.mode == "min" else -1.0
    alike = [row for row in finite if row[1][:2] == newest[:2]]
    return [candidate for _, _, candidate in sorted(alike, key=lambda row: sign * row[1].value)]
