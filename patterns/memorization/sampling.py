"""`kp.tabulate`: the values of a function on points of its domain."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._util.arguments import whole_number
from .._util.display import Shown
from .._util.messages import say
from .._util.paths import bound_path
from .._util.progress import Progress, duration
from ..data.rows import on_host
from ..storage import StoreError
from .kept import KeptValues
from .points import Sampling, checked_domain, make_points

_CALLER = "kp.tabulate"
# How far a value may be from the one that is computed again, as a fraction of the largest: machines
# differ in the last bits, other functions by more.
_SAME = 1e-6


def tabulate(
    function: Callable[[np.ndarray], Any],
    domain: Sequence[tuple[float, float]],
    points: int | Sequence[int],
    *,
    sampling: Sampling = "grid",
    seed: int = 0,
    batch_size: int | None = None,
    path: str | os.PathLike[str] | None = None,
    verbose: int | str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Computes a function on points of a box, to be memorised by a net.

    With `path`, each value is in the file as soon as it is computed: the same call goes on after a
    kill where it was, and a finished table is read. The first point is then computed once more, to
    see that the function is still the one that the file is of.

    Args:
        function: Is given a point as an array of shape `(dimensions,)`, and gives a number, or an
            array of one shape for all points.
        domain: The lowest and the highest number of each dimension.
        points: For a grid, the points along each dimension, or a number for all; otherwise, the
            number of points in all. Sobol's sequence fills a box best by a power of 2.
        sampling: `"grid"`; `"sobol"`, which fills many dimensions evenly (by SciPy); or
            `"random"`. Defaults to `"grid"`.
        seed: Of random points. Defaults to 0.
        batch_size: So many points are given at once, as an array of shape `(points, dimensions)`,
            and the function gives an array whose first axis counts them; the last call has what is
            left. Defaults to None: a point at a time.
        path: A file for the values. It grows by a line for each point. Defaults to None: in memory
            alone.
        verbose: 0 is silent; otherwise there is a progress bar. Defaults to `"auto"`.

    Returns:
        The points, of shape `(points, dimensions)`, and the values, of shape `(points, ...)`; both
        of 64-bit floats. A grid counts its last dimension fastest.

    Raises:
        ImportError: If SciPy is missing, with `sampling="sobol"`.
        TypeError: If an argument is of the wrong type, or a value of the function is no real
            number.
        ValueError: If an argument is out of range, or the function gives a number that is not
            finite, or arrays of different shapes; the values before it are in the file.
        kp.StoreError: If the file is of other points or of another function, damaged, or in use, or
            the system refuses.

    Example:

    >>> import keras_patterns as kp
    >>> x, y = kp.tabulate(lambda point: point[0] * point[1], [(0, 1), (2, 4)], (2, 3), verbose=0)
    >>> x.tolist()
    [[0.0, 2.0], [0.0, 3.0], [0.0, 4.0], [1.0, 2.0], [1.0, 3.0], [1.0, 4.0]]
    >>> y.tolist()
    [0.0, 0.0, 0.0, 2.0, 3.0, 4.0]

    References:
        S. Joe, F. Y. Kuo, "Constructing Sobol sequences with better two-dimensional projections",
            SIAM Journal on Scientific Computing 30, 2008, doi:10.1137/070709359.
    """
    if not callable(function):
        raise TypeError(f"{_CALLER}: `function` must be a function. Received: {function!r}.")
    size = 1 if batch_size is None else whole_number(_CALLER, "batch_size", batch_size)
    where = make_points(_CALLER, checked_domain(_CALLER, domain), points, sampling, seed)
    kept = KeptValues(None if path is None else bound_path(path), where)

    def values_of(rows: np.ndarray) -> list[np.ndarray]:
        # A function may change what it is given.
        given = rows.copy()
        found = [function(given[0])] if batch_size is None else function(given)
        return _checked(rows, found, kept.values)

    shown = Shown(verbose)
    began = time.monotonic()
    try:
        with kept.opened():
            if kept.values:
                _check_same(path, values_of(where[:1])[0], kept.values)
                said = f"{len(kept.values):,} of {len(where):,} values are in {path}"
                say(f"tabulate: {said}.", verbose=verbose)
            for start in range(len(kept.values), len(where), size):
                kept.add(values_of(where[start : start + size]))
                if shown.is_due(time.monotonic()):
                    shown.show(lambda: _progress(len(kept.values), len(where), began))
            shown.finish(_progress(len(where), len(where), began))
    finally:
        shown.close()
    return where, np.stack(kept.values)


def _checked(rows: np.ndarray, found: Any, before: list[np.ndarray]) -> list[np.ndarray]:
    """The values of some points as arrays of 64-bit floats, of one shape and finite."""
    # Copies: a function may give the same work array each time.
    values = [np.array(on_host(one)) for one in found]
    if len(values) != len(rows):
        raise ValueError(
            f"{_CALLER}: the function was given {len(rows)} points, and gave {len(values)} values. "
            "It must give a value for each (batch_size= says that it takes many at once)."
        )
    shape = (before or values)[0].shape
    for point, value in zip(rows, values, strict=True):
        if value.shape != shape:
            raise ValueError(
                f"{_CALLER}: the function gives an array of shape {value.shape} at "
                f"{point.tolist()}, and of shape {shape} before. All must be of one shape."
            )
        if value.dtype.kind not in "fiub":
            raise TypeError(
                f"{_CALLER}: the function gives {value.dtype} at {point.tolist()}. A table holds "
                "real numbers; give the parts of a complex one as two numbers."
            )
        if not np.isfinite(value).all():
            raise ValueError(
                f"{_CALLER}: the function is not finite at {point.tolist()}: {value.tolist()}. "
                "Choose a domain on which it is."
            )
    return [value.astype("float64") for value in values]


def _check_same(path: Any, now: np.ndarray, kept: list[np.ndarray]) -> None:
    largest = max(np.max(np.abs(one), initial=0.0) for one in kept)
    is_same = now.shape == kept[0].shape and np.all(np.abs(now - kept[0]) <= _SAME * largest)
    if not is_same:
        raise StoreError(
            path,
            f"is of another function: at the first point it has {kept[0].tolist()}, and the "
            f"function gives {now.tolist()}",
            "Give another `path`, or delete the file, and the table is computed anew.",
        )


def _progress(done: int, total: int, began: float) -> Progress:
    return Progress(
        "Tabulating", done, total, (duration(time.monotonic() - began),), is_last=done == total
    )
