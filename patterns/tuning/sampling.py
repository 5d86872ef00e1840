"""Samplers whose choice for a trial is a function of the seed, the trial and what is known then."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from ..data.streams import stream_words

# Purposes of the words of a seed.
_MADE, _TRIAL = 0x73616D, 0x73616E

Sampler: TypeAlias = Any
Source: TypeAlias = np.random.RandomState | np.random.Generator | random.Random


def make_sampler(caller: str, sampler: Sampler | Callable[..., Sampler] | None, seed: int) -> Any:
    """The sampler of a search.

    Args:
        caller: The public function, for messages.
        sampler: An Optuna sampler; a function of `seed=` that makes one, such as its class; or None
            for `TPESampler`.
        seed: Of the search.

    Raises:
        TypeError: If it is neither.
        ValueError: If it cannot be seeded.
    """
    from optuna.samplers import BaseSampler, TPESampler

    if isinstance(sampler, BaseSampler):
        if not list(_random_sources(sampler)):
            raise ValueError(
                f"{caller}: `sampler` cannot be seeded: {type(sampler).__name__} holds no random "
                "state (np.random.RandomState, np.random.Generator or random.Random). Give a "
                "function of seed= that makes the sampler."
            )
        return SeededSampler(sampler, seed)
    make = TPESampler if sampler is None else sampler
    if not callable(make):
        raise TypeError(
            f"{caller}: `sampler` must be an Optuna sampler or a function of seed= that makes one. "
            f"Received: {sampler!r}."
        )
    try:
        made = make(seed=int(stream_words(seed, _MADE)[0]))
    except TypeError as error:
        raise ValueError(
            f"{caller}: `sampler` cannot be seeded: {make!r} does not take seed= ({error})."
        ) from error
    if not isinstance(made, BaseSampler):
        raise TypeError(f"{caller}: `sampler` must make an Optuna sampler. It made: {made!r}.")
    return SeededSampler(made, seed)


def random_sampler(seed: int) -> Sampler:
    """Optuna's `RandomSampler`."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


class SeededSampler:
    """An Optuna sampler that is seeded anew before each of its choices, by the seed, the number of
    the trial and the name of the parameter.

    So a choice depends neither on the worker that makes it nor on the choices that a process has
    made before: a trial that is taken over between two of its parameters gets those that it would
    have had.

    Args:
        sampler: Optuna's.
        seed: Of the search.
    """

    def __init__(self, sampler: Sampler, seed: int) -> None:
        self.sampler = sampler
        self._seed = seed

    def __str__(self) -> str:
        return type(self.sampler).__name__

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """As in Optuna's `BaseSampler`."""
        return dict(self.sampler.infer_relative_search_space(study, trial))

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> Any:
        """As in Optuna's `BaseSampler`."""
        self._reseed(trial.number, "relative")
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        """As in Optuna's `BaseSampler`."""
        self._reseed(trial.number, f"parameter {name}")
        return self.sampler.sample_independent(study, trial, name, distribution)

    def before_trial(self, study: Any, trial: Any) -> None:
        """As in Optuna's `BaseSampler`."""
        self._reseed(trial.number, "before")
        self.sampler.before_trial(study, trial)

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
        """As in Optuna's `BaseSampler`."""
        self._reseed(trial.number, "after")
        self.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Nothing: it is seeded before each choice."""

    def _reseed(self, number: int, purpose: str) -> None:
        words = stream_words(self._seed, _TRIAL, number, zlib.crc32(purpose.encode()))
        for source in _random_sources(self.sampler):
            if isinstance(source, np.random.RandomState):
                source.seed(words)
            elif isinstance(source, np.random.Generator):
                bits = source.bit_generator
                bits.state = type(bits)(np.random.SeedSequence(words.tolist())).state
            else:
                source.seed(words.tobytes())


def _random_sources(thing: Any) -> Iterator[Source]:
    """The random states that a sampler holds, and those of samplers inside it."""
    for value in list(vars(thing).values()):
        values = value.values() if isinstance(value, Mapping) else [value]
        for one in values:
            lazy = getattr(one, "rng", None)
            if isinstance(one, Source):
                yield one
            elif isinstance(lazy, Source):
                yield lazy
            elif hasattr(one, "sample_independent") and not isinstance(one, type):
                yield from _random_sources(one)
