"""Structures of arrays whose first axis counts the examples."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import xxhash

from .order import Permutation
from .sparse import SparseRows, is_sparse, sparse_rows

# An array of so many bytes is read whole for its digest, of a larger one so many bytes of rows.
_DIGEST_BYTES = 16 * 2**20
_DIGEST_ROWS = 1024


def is_rows(data: Any) -> bool:
    """Return whether `data` is a structure of arrays, as Keras understands it (`None` is one)."""
    return all(leaf is None or _is_arraylike(leaf) for leaf in keras.tree.flatten(data))


def as_rows(data: Any, name: str, *, sparse: bool = False) -> Any:
    """Return a structure of arrays as NumPy arrays, lists as tuples; memory maps stay as they are.

    Args:
        data: any `keras.tree` structure of NumPy arrays, memory maps, tensors of the backend,
            pandas DataFrames or Series, or what else converts itself by `__array__`. A `None`
            stays.
        name: the argument's name, for messages.
        sparse: whether sparse arrays are taken. Defaults to `False`.

    Returns:
        The same structure with NumPy arrays, and `SparseRows` for sparse ones.

    Raises:
        TypeError: a leaf is no array of numbers or text, or is ragged, or sparse in a way that is
            not served.
        ValueError: a leaf has no axis of examples.

    Example:

    >>> as_rows({"a": [np.ones((2, 3)), None]}, "x")["a"][0].shape
    (2, 3)
    """
    data = keras.tree.lists_to_tuples(data)
    flat = [_as_array(leaf, place, sparse) for place, leaf in named_leaves(data, name)]
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


def take(array: np.ndarray | SparseRows, indices: np.ndarray) -> np.ndarray:
    """Return a dense copy of some rows, floats in Keras's `floatx`; the only rows that are read."""
    if isinstance(array, SparseRows):
        rows = array.take(indices)
    else:
        rows = np.take(np.asarray(array), indices, axis=0)
    return rows.astype(batch_dtype(rows.dtype), copy=False)


def each_array(function: Callable[..., Any], *structures: Any) -> Any:
    """The outcome of a function for each array of a structure, or for
    those at one place of several; a None stays.
    """
    return keras.tree.map_structure(
        lambda *leaves: None if leaves[0] is None else function(*leaves), *structures
    )


def on_host(leaf: Any) -> np.ndarray:
    """A tensor, on whichever device, or what NumPy takes, as an array."""
    return np.asarray(keras.ops.convert_to_numpy(leaf) if keras.ops.is_tensor(leaf) else leaf)


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


def dense_batch(batch: Any, origin: str) -> Any:
    """Return a batch with its sparse arrays made dense, as a compiled step wants them.

    Args:
        batch: a structure of arrays.
        origin: the dataset or generator that gave it, for messages.

    Raises:
        TypeError: an array is ragged, or sparse in a way that is not served.
    """
    leaves = keras.tree.flatten(batch)
    if not any(map(_is_sparse_or_ragged, leaves)):
        return batch

    def dense(leaf: Any) -> Any:
        if not _is_sparse_or_ragged(leaf):
            return leaf
        rows = _as_array(leaf, f"a batch of {origin}", sparse=True)
        return take(rows, np.arange(rows.shape[0]))

    return keras.tree.map_structure(dense, batch)


def is_flat(batch: Any) -> bool:
    """True of a tuple or list of dense arrays alone."""
    return type(batch) in (tuple, list) and all(
        type(leaf) is np.ndarray or (hasattr(leaf, "shape") and not _is_sparse_or_ragged(leaf))
        for leaf in batch
    )


def digest(array: np.ndarray | SparseRows) -> str:
    """Return a digest of an array's content, the same for an array in memory and on disk.

    An array of up to 16 MiB is read whole. Of a larger one, rows are read at fixed places, the
    first and the last one among them: 1024, or fewer if those are more than 16 MiB.

    Args:
        array: of any dtype, at least one row.

    Returns:
        32 hexadecimal digits (XXH3, 128 bits).
    """
    if isinstance(array, SparseRows):
        return array.digest()
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


def is_in_memory(array: Any) -> bool:
    """Return whether `array` is one of numbers that no file holds."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
        return False
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap):
            return False
        owner = owner.base
    return not isinstance(owner, mmap.mmap)


def batch_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that an array has in a batch."""
    if dtype.name.startswith(("float", "bfloat")):
        return np.dtype(keras.config.floatx())
    return dtype.newbyteorder("=")


def _is_arraylike(leaf: Any) -> bool:
    return hasattr(leaf, "__array__") or keras.ops.is_tensor(leaf) or _is_sparse_or_ragged(leaf)


def _is_sparse_or_ragged(leaf: Any) -> bool:
    module, name = type(leaf).__module__, type(leaf).__name__
    return (
        is_sparse(leaf)
        or (module.startswith("tensorflow.") and name == "RaggedTensor")
        or getattr(leaf, "is_sparse", False) is True
    )


def _as_array(leaf: Any, place: str, sparse: bool) -> Any:
    if leaf is None:
        return None
    if sparse and is_sparse(leaf) and (rows := sparse_rows(leaf)) is not None:
        return rows
    if not _is_arraylike(leaf) or _is_sparse_or_ragged(leaf):
        fault = "is sparse or ragged" if _is_arraylike(leaf) else "is no array"
        raise TypeError(
            f"`{place}` {fault}. Expected a NumPy array, a memory map, a tensor or a pandas object "
            f"(or a dict, tuple or list of them). Received: {type(leaf).__module__}."
            f"{type(leaf).__qualname__}. Convert it ({_conversion(leaf)}), or give a "
            "`keras.utils.PyDataset` that converts each batch."
        )
    array = _dense_array(leaf)
    if array.ndim == 0:
        raise ValueError(
            f"`{place}` must have an axis of examples. Received: an array of shape ()."
        )
    check_values(array, place)
    return array


def check_values(leaf: Any, place: str) -> None:
    """Raise TypeError if an array of NumPy or pandas holds neither numbers nor text."""
    array = _dense_array(leaf) if hasattr(leaf, "iloc") else leaf
    if not isinstance(array, np.ndarray) or not (array.dtype.kind in "OMm" or array.dtype.names):
        return
    others = (type(item).__name__ for item in array.flat if not isinstance(item, str | bytes))
    if other := next(others, None):
        raise TypeError(
            f"`{place}` is no array of numbers. Expected numbers, or text for a model that takes "
            f"text. Received: {other} in an array of dtype {array.dtype}. Convert it, such as by "
            "`.astype('float32')`; rows of different lengths are padded first "
            "(`keras.utils.pad_sequences`)."
        )


def _conversion(leaf: Any) -> str:
    """The call that makes an array of a leaf, or of the list that it is part of."""
    for method in ("to_tensor", "to_dense", "toarray", "todense"):
        if hasattr(leaf, method):
            return f"`.{method}()`"
    return "`np.array(...)`"


def _dense_array(leaf: Any) -> np.ndarray:
    if isinstance(leaf, np.ndarray):
        return leaf
    if keras.ops.is_tensor(leaf):
        return np.asarray(keras.ops.convert_to_numpy(leaf))
    if hasattr(leaf, "iloc"):  # pandas, which is not imported for the sake of a type check
        return leaf.to_numpy() if leaf.ndim == 2 else leaf.to_numpy()[:, np.newaxis]
    return np.asarray(leaf)
