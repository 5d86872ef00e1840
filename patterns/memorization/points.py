"""Points of a box: a grid, Sobol's sequence, at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from .._util.arguments import check_choice, check_number, check_order, whole_number

Sampling = Literal["grid", "sobol", "random"]


def checked_domain(caller: str, domain: Any) -> np.ndarray:
    """The lowest and the highest number of each dimension, of shape `(dimensions, 2)`."""
    is_list = isinstance(domain, Sequence | np.ndarray) and not isinstance(domain, str)
    if not is_list or not all(np.shape(one) == (2,) for one in domain) or not len(domain):
        raise TypeError(
            f"{caller}: `domain` must be the lowest and the highest number of each dimension, such "
            f"as [(0, 1), (-5, 5)]. Received: {domain!r}."
        )
    for number, (low, high) in enumerate(domain):
        name = f"domain[{number}]"
        for value in (low, high):
            check_number(caller, name, value, least=-np.inf)
        check_order(caller, f"{name}[0]", float(low), f"{name}[1]", float(high))
    return np.array(domain, "float64")


def make_points(
    caller: str, domain: np.ndarray, points: Any, sampling: str, seed: int
) -> np.ndarray:
    """Points of a box, of shape `(points, dimensions)`, by the arguments of `kp.tabulate`."""
    check_choice(caller, "sampling", sampling, get_args(Sampling))
    low, high = domain.T
    if sampling == "grid":
        counts = (
            list(points) if isinstance(points, Sequence | np.ndarray) else [points] * len(domain)
        )
        if len(counts) != len(domain):
            raise ValueError(
                f"{caller}: `points` must be a number, or one for each of the {len(domain)} "
                f"dimensions. Received: {points!r}."
            )
        axes = [
            np.linspace(bounds[0], bounds[1], whole_number(caller, "points", count, least=2))
            for bounds, count in zip(domain, counts, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(domain))
    count = whole_number(caller, "points", points)
    if sampling == "random":
        seed = whole_number(caller, "seed", seed, least=0)
        return np.random.default_rng(seed).uniform(low, high, (count, len(domain)))
    return low + (high - low) * _sobol(count, len(domain))


def _sobol(count: int, dimensions: int) -> np.ndarray:
    """The first points of Sobol's sequence in [0, 1), the point 0 the first of them."""
    try:
        from scipy.stats import qmc
    except ImportError as error:
        raise ImportError(
            'kp.tabulate: sampling="sobol" needs SciPy, which is missing: pip install scipy.'
        ) from error
    # All of a power of 2: SciPy warns of other numbers.
    found = qmc.Sobol(dimensions, scramble=False).random_base2((count - 1).bit_length())
    return np.asarray(found[:count])
