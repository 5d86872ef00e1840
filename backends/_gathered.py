"""Batches as the places of their examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


class Gathered:
    """Batches of arrays that lie in memory, as the places of their examples: the framework takes
    them out by itself.

    Args:
        arrays: A structure of NumPy arrays, examples first, each of `dtypes` in a batch.
        dtypes: The same structure of NumPy dtypes.

    Attributes:
        arrays: The arrays.
        dtypes: The dtypes.
        places: The examples of each batch, int64 arrays; read in order, once.
        take: Makes the examples at some places, in the shape of these, of what the framework holds
            of the arrays; None before it holds them.
    """

    def __init__(self, arrays: Any, dtypes: Any) -> None:
        self.arrays = arrays
        self.dtypes = dtypes
        self.places: Iterable[np.ndarray] = ()
        self.take: Callable[[Any], Any] | None = None
