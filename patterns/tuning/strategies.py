"""Strategies: which trial is next, and from whose checkpoints it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ..data.streams import stream_words
from .errors import TuningError
from .search import Wanted, part_of
from .trial import PART

Explore: TypeAlias = Callable[[dict[str, Any], np.random.Generator], Mapping[str, Any]]

# The purpose of the words of a seed.
_EXPLORE = 0x706274
# Of a population, the part that is replaced, and the part that it is replaced by.
_QUARTER = 4


@dataclass(frozen=True)
class Rungs:
    """Trials that are trained for few steps, of which the best go on.

    Attributes:
        brackets: For each, how many trials begin, and for how many steps each.
        max_steps: Of a trial.
        factor: One in so many goes on, for so many times the steps.
        maximizes: Whether more is better.
    """

    brackets: tuple[tuple[int, int], ...]
    max_steps: int
    factor: int
    maximizes: bool
    waits: ClassVar[bool] = True

    @property
    def count(self) -> int:
        """Those of all rungs."""
        return sum(count for bracket in self.brackets for count, _ in self._rungs(*bracket))

    def next(self, trials: Sequence[Any], seed: int) -> Wanted | None:
        """The next trial of the first bracket that is not at its end."""
        for number, (count, steps) in enumerate(self.brackets):
            of_bracket = {} if len(self.brackets) == 1 else {"bracket": number}
            own = [one for one in with_parts(trials) if _is_in(one, of_bracket)]
            wanted, is_open = self._next_in(count, steps, own)
            if wanted is not None:
                return replace(wanted, group={**of_bracket, **wanted.group})
            if is_open:
                return None
        return None

    def _next_in(self, count: int, steps: int, trials: Sequence[Any]) -> tuple[Wanted | None, bool]:
        """The next trial of a bracket, and whether it waits for others."""
        best: list[Any] = []
        for rung, (size, until) in enumerate(self._rungs(count, steps)):
            own = [one for one in trials if _is_in(one, {"rung": rung})]
            wanted = Wanted(until=until, total_steps=self.max_steps, group={"rung": rung})
            if rung == 0 and len(own) < size:
                return wanted, False
            promoted = {part_of(one).parent for one in own}
            for one in best[:size]:
                if one.number not in promoted:
                    return replace(wanted, params=one.params, parent=one.number), False
            if any(not one.state.is_finished() for one in own):
                return None, True
            best = _best_first(own, self.maximizes)
        return None, False

    def _rungs(self, count: int, steps: int) -> Iterator[tuple[int, int]]:
        """For each rung of a bracket, how many trials it has, and the step after which they end."""
        while steps < self.max_steps:
            yield count, steps
            count, steps = max(count // self.factor, 1), steps * self.factor
        yield count, self.max_steps


@dataclass(frozen=True)
class Continued:
    """One trial that goes on.

    Attributes:
        number: Of the trial.
        total_steps: After which it ends.
    """

    number: int
    total_steps: int
    waits: ClassVar[bool] = False
    count: ClassVar[None] = None

    def next(self, trials: Sequence[Any], seed: int) -> Wanted | None:
        """The one trial, unless it has been."""
        if any(self.is_it(one) for one in with_parts(trials)):
            return None
        planned = part_of(trials[self.number]).total_steps
        return Wanted(
            params=trials[self.number].params,
            parent=self.number,
            until=self.total_steps,
            extends=True,
            total_steps=None if planned is None else max(planned, self.total_steps),
        )

    def is_it(self, trial: Any) -> bool:
        """True of the trial that goes on so."""
        part = part_of(trial)
        return part.extends and (part.parent, part.until) == (self.number, self.total_steps)


@dataclass(frozen=True)
class Population:
    """Trials that train side by side; the worst go on with the state of the best, and other
    settings.

    Attributes:
        size: How many.
        total_steps: Of each.
        every: Steps between two such changes.
        explore: Gives the settings.
        maximizes: Whether more is better.
    """

    size: int
    total_steps: int
    every: int
    explore: Explore
    maximizes: bool
    waits: ClassVar[bool] = True

    @property
    def count(self) -> int:
        """Those of all generations."""
        return self.size * self._generations

    @property
    def _generations(self) -> int:
        return math.ceil(self.total_steps / self.every)

    def next(self, trials: Sequence[Any], seed: int) -> Wanted | None:
        """The next member of the first generation that is not complete."""
        before: list[Any] = []
        for generation in range(self._generations):
            own = [one for one in with_parts(trials) if _is_in(one, {"generation": generation})]
            there = {part_of(one).group["member"]: one for one in own}
            for member in range(self.size):
                if member not in there:
                    wanted = Wanted(
                        until=min((generation + 1) * self.every, self.total_steps),
                        total_steps=self.total_steps,
                        group={"generation": generation, "member": member},
                    )
                    return self._begin_from(before, wanted, seed) if before else wanted
            if any(not one.state.is_finished() for one in own):
                return None
            before = own
        return None

    def _begin_from(self, before: Sequence[Any], wanted: Wanted, seed: int) -> Wanted:
        ranked = _best_first(before, self.maximizes, newest=True)
        if not ranked:
            raise TuningError(
                "kp.population: every member has failed, so that none can go on; see "
                "result.table(). Mend the objective, and give the search a new folder."
            )
        few = max(1, self.size // _QUARTER)
        generation, member = wanted.group["generation"], wanted.group["member"]
        own = next((one for one in ranked if part_of(one).group["member"] == member), None)
        if own is not None and own not in ranked[self.size - few :]:
            return replace(wanted, params=own.params, parent=own.number)
        words = stream_words(seed, _EXPLORE, generation, member)
        random = np.random.default_rng(np.random.SeedSequence(words.tolist()))
        better = ranked[: min(few, len(ranked))]
        chosen = better[int(random.integers(len(better)))]
        params = _explored(self.explore, chosen, random)
        return replace(wanted, params=params, parent=chosen.number)


def _explored(explore: Explore, trial: Any, random: np.random.Generator) -> dict[str, Any]:
    """Settings near those of a trial, within the ranges that it has asked for."""
    given = explore(dict(trial.params), random)
    if not isinstance(given, Mapping) or given.keys() != trial.params.keys():
        raise TuningError(
            "kp.population: `explore` must return a dict of the parameters that it was given, "
            f"{', '.join(trial.params)}. It returned: {given!r}."
        )
    return {name: _within(name, trial.distributions[name], value) for name, value in given.items()}


def _within(name: str, distribution: Any, value: Any) -> Any:
    if not hasattr(distribution, "low"):
        if value not in distribution.choices:
            raise TuningError(
                f"kp.population: `explore` must return for {name!r} one of its choices, "
                f"{distribution.choices}. It returned: {value!r}."
            )
        return value
    if isinstance(value, bool) or not (isinstance(value, Real) and math.isfinite(value)):
        raise TuningError(
            f"kp.population: `explore` must return for {name!r} a finite number, which is put "
            f"between {distribution.low} and {distribution.high}. It returned: {value!r}."
        )
    inside = min(max(value, distribution.low), distribution.high)
    if isinstance(distribution.low, int):
        step = distribution.step or 1
        return distribution.low + round((inside - distribution.low) / step) * step
    return float(inside)


def with_parts(trials: Sequence[Any]) -> list[Any]:
    return [one for one in trials if PART in one.user_attrs]


def _is_in(trial: Any, group: Mapping[str, int]) -> bool:
    return group.items() <= part_of(trial).group.items()


def _best_first(trials: Sequence[Any], maximizes: bool, newest: bool = False) -> list[Any]:
    """The complete ones by their values, or by their newest reports where they have any."""

    def key(trial: Any) -> tuple[float, int]:
        reports = trial.intermediate_values if newest else {}
        value = reports[max(reports)] if reports else trial.value
        value = math.inf if value != value else -value if maximizes else value
        return value, trial.number

    return sorted((one for one in trials if one.state.name == "COMPLETE"), key=key)


def brackets_of(min_steps: int, max_steps: int, factor: int) -> tuple[tuple[int, int], ...]:
    """For each bracket of Hyperband, how many trials begin, and for how many steps each."""
    last = 0
    while min_steps * factor ** (last + 1) <= max_steps:
        last += 1
    return tuple(
        (-(-(last + 1) * factor**one // (one + 1)), max_steps // factor**one)
        for one in range(last, -1, -1)
    )
