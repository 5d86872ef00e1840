"""Points of a box: a grid, Sobol's sequence, at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from .._util.arguments import check_choice, check_number, check_order, whole_number

Sampling = Literal["grid", "sobol", "random"]

_BITS = 52
# Of each dimension after the first, from S. Joe's and F. Y. Kuo's file new-joe-kuo-6.21201: the
# coefficients of a primitive polynomial as a number, and the first direction numbers, as many as
# its degree.
_SOBOL = (
    (0, (1,)),
    (1, (1, 3)),
    (1, (1, 3, 1)),
    (2, (1, 1, 1)),
    (1, (1, 1, 3, 3)),
    (4, (1, 3, 5, 13)),
    (2, (1, 1, 5, 5, 17)),
    (4, (1, 1, 5, 5, 5)),
    (7, (1, 1, 7, 11, 19)),
    (11, (1, 1, 5, 1, 1)),
    (13, (1, 1, 1, 3, 11)),
    (14, (1, 3, 5, 5, 31)),
    (1, (1, 3, 3, 9, 7, 49)),
    (13, (1, 1, 1, 15, 21, 21)),
    (16, (1, 3, 1, 13, 27, 49)),
    (19, (1, 1, 1, 15, 7, 5)),
    (22, (1, 3, 1, 15, 13, 25)),
    (25, (1, 1, 5, 5, 19, 61)),
    (1, (1, 3, 7, 11, 23, 15, 103)),
    (4, (1, 3, 7, 13, 13, 15, 69)),
)


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
        counts = list(points) if isinstance(points, Sequence) else [points] * len(domain)
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
    if len(domain) > len(_SOBOL) + 1:
        raise ValueError(
            f"{caller}: Sobol's sequence is known here for up to {len(_SOBOL) + 1} dimensions. "
            f'Received: {len(domain)}. Give sampling="random".'
        )
    return low + (high - low) * sobol(count, len(domain))


def sobol(count: int, dimensions: int) -> np.ndarray:
    """The first points of Sobol's sequence in [0, 1), the point 0 the first of them.

    Example:

    >>> sobol(4, 2).tolist()
    [[0.0, 0.0], [0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]
    """
    # In the order of a Gray code each point differs from the last by one direction.
    steps = np.arange(count, dtype="uint64")
    gray = steps ^ (steps >> np.uint64(1))
    found = np.zeros((count, dimensions), "uint64")
    for dimension in range(dimensions):
        for bit, direction in enumerate(_directions(dimension, max(count - 1, 0).bit_length())):
            chosen = (gray >> np.uint64(bit)) & np.uint64(1)
            found[:, dimension] ^= chosen * np.uint64(direction)
    return found / 2.0**_BITS


def _directions(dimension: int, bits: int) -> list[int]:
    if not dimension:
        return [1 << (_BITS - 1 - bit) for bit in range(bits)]
    polynomial, first = _SOBOL[dimension - 1]
    degree = len(first)
    found = [number << (_BITS - 1 - bit) for bit, number in enumerate(first)]
    for bit in range(degree, bits):
        new = found[bit - degree] ^ (found[bit - degree] >> degree)
        for power in range(1, degree):
            if polynomial >> (degree - 1 - power) & 1:
                new ^= found[bit - power]
        found.append(new)
    return found[:bits]
