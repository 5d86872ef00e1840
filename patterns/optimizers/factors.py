"""The factor of each variable, in a process and in a configuration."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True, eq=False)
class RateFactors:
    """The factors of a model's variables.

    Attributes:
        variables: In the model's order. They are told apart by what they are: two backbones share
            their paths.
        values: The factor of each.
    """

    variables: tuple[keras.Variable, ...]
    values: tuple[float, ...]

    def by_path(self) -> dict[str, float]:
        """The factors by path; the second variable of a path has `#1` after it."""
        found: dict[str, float] = {}
        seen: Counter[str] = Counter()
        for variable, value in zip(self.variables, self.values, strict=True):
            again = seen[variable.path]
            found[f"{variable.path}#{again}" if again else variable.path] = value
            seen[variable.path] += 1
        return found

    def of(self, variables: Sequence[keras.Variable]) -> tuple[float, ...]:
        """The factor of each of some variables.

        Raises:
            ValueError: If one is not among those of the model.
        """
        known = {
            id(variable): value for variable, value in zip(self.variables, self.values, strict=True)
        }
        strange = [variable.path for variable in variables if id(variable) not in known]
        if strange:
            raise ValueError(
                f"layerwise_rates: {strange[0]!r} has no factor: it was not in the model when the "
                "rates were given, or frozen when "
                "the model was saved to the file that it comes from. Call kp.layerwise_rates when "
                "the model that is trained has "
                "all its layers, and compile it with the result."
            )
        return tuple(known[id(variable)] for variable in variables)


class Rows(list[Any]):
    """Factors in a configuration: `[factor, variables, weights]` for each run of trained variables
    that share a factor.

    They go by order, as Keras's files do with slots, since paths change: that of a Sequential's
    kernel is `sequential/dense/kernel` before it is saved and `dense/kernel` after it is loaded.
    `weights`, the size of the variables, is there to be checked.

    Attributes:
        live: The factors of all variables, frozen ones included, where the configuration has not
            left the process.
    """

    live: RateFactors | None = None


def rows_of(variables: Iterable[keras.Variable], factors: Iterable[float]) -> Rows:
    """The rows of variables that are trained."""
    pairs = zip(variables, factors, strict=True)
    runs = [
        (factor, [v for v, _ in run])
        for factor, run in itertools.groupby(pairs, key=lambda pair: pair[1])
    ]
    return Rows([factor, len(run), sum(math.prod(v.shape) for v in run)] for factor, run in runs)


def matched(rows: Sequence[Sequence[Any]], variables: Sequence[keras.Variable]) -> RateFactors:
    """The inverse of `rows_of`.

    Raises:
        ValueError: If the rows are of other variables.
    """
    values = tuple(factor for factor, count, _ in rows for _ in range(count))
    if len(values) != len(variables) or rows_of(variables, values) != [list(row) for row in rows]:
        raise ValueError(
            f"layerwise_rates: this optimizer was saved with factors for {len(values)} variables "
            "(factor, variables, weights: "
            f"{[list(row) for row in rows]}), and is to train {len(variables)} that are not these. "
            "Call kp.layerwise_rates with "
            "the model that is trained, and compile it with the result."
        )
    return RateFactors(tuple(variables), values)
