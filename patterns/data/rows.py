"""Structures of arrays whose first axis counts the examples."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import xxhash

from .order import Permutation

# An array of so many bytes is read whole for its digest, of a larger one so many bytes of rows.
_DIGEST_BYTES = 16 * 2**20
_DIGEST_ROWS = 1024


def is_rows(data: Any) -> bool:
    """Return whether `data` is a structure of arrays, as Keras understands it (`None` is one)."""
    return all(leaf is None or _is_arraylike(leaf) for leaf in keras.tree.flatten(data))


def as_rows(data: Any, name: str) -> Any:
    """Return a structure of arrays as NumPy arrays, lists as tuples; memory maps stay as they are.

    Args:
        data: any `keras.tree` structure of NumPy arrays, memory maps, tensors of the backend,
            pandas DataFrames or Series, or what else converts itself by `__array__`. A `None`
            stays.
        name: the argument's name, for messages.

    Returns:
        The same structure with NumPy arrays.

    Raises:
        TypeError: a leaf is no array, or is sparse or ragged.
        ValueError: a leaf has no axis of examples.

    Example:

    >>> as_rows({"a": [np.ones((2, 3)), None]}, "x")["a"][0].shape
    (2, 3)
    """
    data = keras.tree.lists_to_tuples(data)
    flat = [_as_array(leaf, place) for place, leaf in named_leaves(data, name)]
    return keras.tree.pack_sequence_as(data, flat)


def named_leaves(data: Any, name: str) -> list[tuple[str, Any]]:
    """Return the leaves of a structure with their places, such as `("x/image", array)`."""
    return [
        ("/".join(map(str, (name, *path))), leaf)
        for path, leaf in keras.tree.flatten_with_path(data)
    ]


def count_examples(**arguments: Any) -> int:
    """Return the length that all arrays of all arguments share.

    Raises:
        ValueError: there is no array, no example, or they differ; names each length.
    """
    sizes = {
        place: leaf.shape[0]
        for name, data in arguments.items()
        for place, leaf in named_leaves(data, name)
        if leaf is not None
    }
    if not sizes:
        raise ValueError("the data holds no array. Received: x=None.")
    if len(set(sizes.values())) > 1:
        lengths = ", ".join(f"`{place}` has {size}" for place, size in sizes.items())
        raise ValueError(f"all arrays must hold the same number of examples. Received: {lengths}.")
    examples = next(iter(sizes.values()))
    if examples == 0:
        raise ValueError(f"the data holds no example. Received: {next(iter(sizes))} of length 0.")
    return examples


def take(array: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return a copy of some rows, floats in Keras's `floatx`; the only rows that are read."""
    rows = np.take(np.asarray(array), indices, axis=0)
    return rows.astype(_batch_dtype(rows.dtype), copy=False)


def describe(data: Any, name: str) -> dict[str, dict | None]:
    """Return what can be said of each array, as JSON: its shape, dtype and a digest.

    Args:
        data: a structure as `as_rows` returns it.
        name: the argument's name.

    Returns:
        `{place: {"shape": ..., "dtype": ..., "digest": ...}}`; `None` for a leaf `None`.
    """
    return {
        place: None
        if leaf is None
        else {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "digest": digest(leaf)}
        for place, leaf in named_leaves(data, name)
    }


def digest(array: np.ndarray) -> str:
    """Return a digest of an array's content, the same for an array in memory and on disk.

    An array of up to 16 MiB is read whole. Of a larger one, rows are read at fixed places, the
    first and the last one among them: 1024, or fewer if those are more than 16 MiB.

    Args:
        array: of any dtype, at least one row.

    Returns:
        32 hexadecimal digits (XXH3, 128 bits).
    """
    rows = np.asarray(array)
    if rows.nbytes > _DIGEST_BYTES:
        rows = rows[_sample(len(rows), rows.nbytes)]
    if rows.dtype.hasobject or rows.dtype.kind == "T":
        # The bytes of such an array are addresses; strings are what Keras lets through.
        return xxhash.xxh3_128_hexdigest("\0".join(map(str, rows.ravel().tolist())).encode())
    return xxhash.xxh3_128_hexdigest(rows.tobytes())


def _sample(count: int, nbytes: int) -> np.ndarray:
    within = min(_DIGEST_ROWS, max(2, _DIGEST_BYTES * count // nbytes), count)
    sample = Permutation(count, seed=0)(np.arange(within))
    return np.union1d(sample[2:], [0, count - 1])


def _batch_dtype(dtype: np.dtype) -> np.dtype:
    if dtype.name.startswith(("float", "bfloat")):
        return np.dtype(keras.config.floatx())
    return dtype.newbyteorder("=")


def _is_arraylike(leaf: Any) -> bool:
    return hasattr(leaf, "__array__") or keras.ops.is_tensor(leaf) or _is_sparse_or_ragged(leaf)


def _is_sparse_or_ragged(leaf: Any) -> bool:
    module = type(leaf).__module__
    return (
        module.startswith(("scipy.sparse", "jax.experimental.sparse"))
        or (module.startswith("tensorflow.") and type(leaf).__name__ in _TENSORFLOW_NOT_DENSE)
        or getattr(leaf, "is_sparse", False) is True
    )


_TENSORFLOW_NOT_DENSE = ("SparseTensor", "RaggedTensor")


def _as_array(leaf: Any, place: str) -> np.ndarray | None:
    if leaf is None:
        return None
    if not _is_arraylike(leaf) or _is_sparse_or_ragged(leaf):
        fault = "is sparse or ragged" if _is_arraylike(leaf) else "is no array"
        raise TypeError(
            f"`{place}` {fault}. Expected a NumPy array, a memory map, a tensor or a pandas object "
            f"(or a dict, tuple or list of them). Received: {type(leaf).__module__}."
            f"{type(leaf).__qualname__}. Convert it, or give a `keras.utils.PyDataset` that "
            "converts each batch."
        )
    array = _dense_array(leaf)
    if array.ndim == 0:
        raise ValueError(
            f"`{place}` must have an axis of examples. Received: an array of shape ()."
        )
    return array


def _dense_array(leaf: Any) -> np.ndarray:
    if isinstance(leaf, np.ndarray):
        return leaf
    if keras.ops.is_tensor(leaf):
        return np.asarray(keras.ops.convert_to_numpy(leaf))
    if hasattr(leaf, "iloc"):  # pandas, which is not imported for the sake of a type check
        return leaf.to_numpy() if leaf.ndim == 2 else leaf.to_numpy()[:, np.newaxis]
    return np.asarray(leaf)
