"""Sparse arrays, read dense a few rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import xxhash


class SparseRows:
    """A sparse array whose rows are given dense, those that are asked for alone.

    A compiled step wants batches of one shape and kind, and a sparse batch has another number of
    entries each time. Entries with the same place are added, as in SciPy.

    Args:
        coordinates: An integer array of shape `(entries, axes)`.
        values: Of shape `(entries,)`.
        shape: Of the whole array, examples first.

    Attributes:
        shape: Of the whole array, examples first.
        dtype: Of its values.

    Example:

    >>> rows = SparseRows(np.array([[0, 1], [2, 0]]), np.array([5.0, 7.0]), (3, 2))
    >>> rows.take(np.array([2, 0])).tolist()
    [[7.0, 0.0], [0.0, 5.0]]
    """

    def __init__(self, coordinates: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> None:
        order = np.argsort(coordinates[:, 0], kind="stable")
        # JAX fills up with entries that lie outside.
        order = order[(coordinates[order] < np.array(shape)).all(axis=1)]
        self.shape = tuple(map(int, shape))
        self.dtype = values.dtype
        self._places = coordinates[order, 1:]
        self._values = values[order]
        self._starts = np.searchsorted(coordinates[order, 0], np.arange(self.shape[0] + 1))

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Returns some rows, dense."""
        starts = self._starts[indices]
        counts = self._starts[np.asarray(indices) + 1] - starts
        row = np.repeat(np.arange(len(counts)), counts)
        entry = np.arange(len(row)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
        dense = np.zeros((len(counts), *self.shape[1:]), self.dtype)
        np.add.at(dense, (row, *self._places[entry].T), self._values[entry])
        return dense

    def digest(self) -> str:
        """Returns a digest of its content."""
        parts = (self._starts, self._places, self._values)
        return xxhash.xxh3_128_hexdigest(b"".join(part.tobytes() for part in parts))


def is_sparse(leaf: Any) -> bool:
    """True for a sparse array of SciPy, TensorFlow or JAX. No framework is imported to see it."""
    module, name = type(leaf).__module__, type(leaf).__name__
    return (
        module.startswith("scipy.sparse")
        or module.startswith("jax.experimental.sparse")
        or (module.startswith("tensorflow.") and name == "SparseTensor")
    )


def sparse_rows(leaf: Any) -> SparseRows | None:
    """The rows of a sparse array; None for a layout that is not served."""
    if hasattr(leaf, "to_bcoo"):
        leaf = leaf.to_bcoo()
    if hasattr(leaf, "tocoo"):  # SciPy
        leaf = leaf.tocoo()
        places = getattr(leaf, "coords", None) or (leaf.row, leaf.col)
        return SparseRows(np.stack(places, axis=-1), np.asarray(leaf.data), leaf.shape)
    values = getattr(leaf, "values", getattr(leaf, "data", None))
    if getattr(leaf, "n_batch", 0) or getattr(leaf, "n_dense", 0) or not hasattr(leaf, "indices"):
        return None
    coordinates = np.asarray(leaf.indices)
    if coordinates.ndim != 2 or coordinates.shape[1] != len(leaf.shape):
        return None
    return SparseRows(coordinates, np.asarray(values), tuple(leaf.shape))
