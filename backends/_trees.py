"""Trees of arrays as named NumPy arrays, and back; arrays that become tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from ._held import beside

# Memory on such a boundary is read by XLA and TensorFlow where it lies, any other is copied.
_ALIGNMENT = 64


def tree_to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by their paths, for frameworks without trees of their own."""
    arrays: dict[str, np.ndarray] = {}
    for path, leaf in keras.tree.flatten_with_path(tree):
        name = "/".join(map(str, path))
        if name in arrays:
            raise ValueError(
                f"Two leaves of the tree have the path {name!r}. Give one of the keys on the way "
                'to them another name: "/" in a key is read as a step down.'
            )
        arrays[name] = np.array(keras.ops.convert_to_numpy(leaf))
    return arrays


def tree_from_arrays(like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `tree_to_arrays`, with the structure and the kinds of leaf of `like`."""
    leaves = [
        _like(leaf, arrays["/".join(map(str, path))])
        for path, leaf in keras.tree.flatten_with_path(like)
    ]
    return keras.tree.pack_sequence_as(like, leaves)


def _like(leaf: Any, array: np.ndarray) -> Any:
    if keras.ops.is_tensor(leaf):
        return beside(leaf, keras.ops.convert_to_tensor(array))
    return array.copy() if isinstance(leaf, np.ndarray) else type(leaf)(array[()])


def copied_if_kept(arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The arrays, or copies of those that a tensor would share its memory with: whoever changed
    them later would change the tensor.
    """
    # What is computed from an array without axes is none.
    found = map(np.asarray, arrays)
    return [array.copy() if array.ctypes.data % _ALIGNMENT == 0 else array for array in found]
