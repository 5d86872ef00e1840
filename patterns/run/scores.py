"""The best scores of a run, which tell that a state must be saved for its score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from .._util.metrics import number_in
from ..storage import Entry


class BestScores:
    """The scores of the checkpoints that are kept for their score.

    Args:
        monitor: The metric.
        mode: `"min"` or `"max"`; None where its name does not say and nothing is kept for it.
        keep: How many checkpoints are kept for their score; None for none.
    """

    def __init__(self, monitor: str, mode: str | None, keep: int | None) -> None:
        self.monitor = monitor
        self.mode = mode
        self._keep = keep or 0
        self._best: list[float] = []
        self._was_given = False

    def score(self, logs: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The score of a checkpoint with these metrics; None if they do not have it."""
        if logs is None or self.mode is None or self.monitor not in logs:
            return None
        value = number_in(logs, self.monitor, f"Checkpoint(monitor={self.monitor!r})")
        return {"monitor": self.monitor, "mode": self.mode, "value": value}

    def take_over(self, entries: Iterable[Entry]) -> None:
        """Begins with the scores of the checkpoints that the run has already."""
        scores = [entry.candidate.score for entry in entries]
        self._best = []
        for score in scores:
            if score and (score.monitor, score.mode) == (self.monitor, self.mode):
                self.add(score.value)

    def add(self, value: float) -> None:
        """Counts a checkpoint that is made."""
        self._was_given = True
        if math.isfinite(value):
            self._best = sorted([*self._best, value], reverse=self.mode == "max")[: self._keep]

    def has_place_for(self, logs: Mapping[str, Any], is_expected: bool) -> bool:
        """True if a state with these metrics is one of the best so far.

        Args:
            logs: Of a validation inside an epoch, or of an epoch that ends.
            is_expected: Whether the metric must be among them, if it ever is.

        Raises:
            ValueError: If it must, and is not.
        """
        if not self._keep:
            return False
        score = self.score(logs)
        if score is None:
            if is_expected and not self._was_given:
                raise ValueError(
                    f"Checkpoint(monitor={self.monitor!r}, keep_best={self._keep}): there is no "
                    f"such metric, so that no best would be kept. There are {sorted(logs)}. Name "
                    "one of these."
                )
            return False
        self._was_given = True
        value = score["value"]
        if not math.isfinite(value):
            return False
        # Of equal ones the earlier is the better.
        is_before = [one >= value if self.mode == "max" else one <= value for one in self._best]
        return sum(is_before) < self._keep
