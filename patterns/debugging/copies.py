"""Examples whose inputs are the same: in both parts of a split, or nearly all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import xxhash

from .examined import Examined
from .finding import Finding
from .outputs import Output

# A matrix for each array of inputs, with a row for each example.
Rows = list[np.ndarray]
# Rows that are compared between training and validation.
_MOST_COMPARED = 50_000
# So many validation examples are compared with their neighbours of these ranks, in so much data.
_NEIGHBOURED, _NEAR, _FAR, _MOST_VALUES = 64, 20, 200, 50_000_000
# Of the examples: what is left is too few to learn from.
_NEARLY_ALL = 0.9


def check_repeated(examined: Examined) -> Iterator[Finding]:
    """Nearly all examples have one input, and not one target: no model can tell them apart."""
    rows = matrices(examined.batch[0])
    if not rows or examined.rows < 50:
        return
    hashes = list(_each_hash(rows))
    ((most, count),) = Counter(hashes).most_common(1)
    same = np.array([one == most for one in hashes])
    if count == len(hashes) or count < _NEARLY_ALL * len(hashes):
        return
    for one in examined.outputs:
        share = _left_open(one, same)
        if share > 0.5:
            yield Finding(
                "constant_input",
                "error",
                f"{count / len(hashes):.0%} of the examples have the same inputs, and "
                f"{share:.0%} of the variance of the targets of {one.named} lies among these: no "
                "model can tell them apart.",
                {"same": count / len(hashes), "left open": share},
                "Look at what the preprocessing does to the data.",
            )


def _left_open(one: Output, same: np.ndarray) -> float:
    """The share of the variance of the targets that lies within some examples."""
    y, classes = one.y, one.classes_of(one.y)
    if classes is not None:
        kinds, places = np.unique(classes, return_inverse=True)
        y = np.eye(len(kinds))[places]
    if len(y) != len(same):
        return 0.0
    flat = y.reshape(len(y), -1).astype("float64")
    within, whole = (float(((part - part.mean(axis=0)) ** 2).sum()) for part in (flat[same], flat))
    return within / whole if whole > 0 else 0.0


def share_among(train: Rows, validation: Rows) -> float:
    """The share of the validation examples whose inputs are among those to train on; 0 if rows
    that are equal need not be copies.
    """
    known = _hashes(train)
    shared = sum(one in known for one in _each_hash(validation))
    share = shared / min(_MOST_COMPARED, len(validation[0]))
    return share if share and _tells_apart(train, known) else 0.0


def are_near_copies(train: Rows, validation: Rows) -> bool:
    """True if most validation examples have one to train on that is far nearer than their other
    neighbours are, as copies with noise have.

    In few dimensions the nearest of many is that near by chance: there the distance grows as fast
    farther out, and nothing is said.
    """
    if not all(one.dtype.kind == "f" or one.dtype == np.uint8 for one in (*train, *validation)):
        return False
    widths = [one.shape[1] for one in train]
    rows = min(_MOST_COMPARED, len(train[0]))
    if rows < 2 * _FAR or rows * sum(widths) > _MOST_VALUES:
        return False
    if widths != [one.shape[1] for one in validation]:
        return False
    distances = _sorted_distances(train, validation, rows)
    nearest, near, far = (distances[:, place] for place in (0, _NEAR - 1, _FAR - 1))
    if not np.isfinite(distances).all() or not (near > 0).all():
        return False
    growth = float(np.median(far / near))
    # Equal ones are counted elsewhere.
    copies = (nearest > 0) & (near > 2.5 * growth * nearest)
    return growth < 2 and bool(copies.mean() > 0.5)


def _sorted_distances(train: Rows, validation: Rows, rows: int) -> np.ndarray:
    """From some validation examples to the first training examples, the shortest first."""
    step = max(1, len(validation[0]) // _NEIGHBOURED)
    picked = [one[::step][:_NEIGHBOURED] for one in validation]
    some = np.concatenate(picked, axis=1, dtype="float64")
    found = []
    for start in range(0, rows, 4_096):
        columns = [one[start : min(start + 4_096, rows)] for one in train]
        others = np.concatenate(columns, axis=1, dtype="float64")
        squares = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * some @ others.T
        found.append(np.sqrt(np.maximum(squares, 0)))
    return np.sort(np.concatenate(found, axis=1), axis=1)


def matrices(x: Any) -> Rows:
    """Inputs as matrices; none if they are no arrays."""
    leaves = keras.tree.flatten(x)
    if not all(isinstance(leaf, np.ndarray) and len(leaf) for leaf in leaves):
        return []
    return [leaf.reshape(len(leaf), -1) for leaf in leaves]


def _tells_apart(rows: Rows, known: set[int]) -> bool:
    """True if rows that are equal are copies. Of a few kinds of rows, all are everywhere: there,
    rows that agree in every other column need not agree in the rest.
    """
    distinct = len(known) / min(_MOST_COMPARED, len(rows[0]))
    if distinct > 0.9:
        return True
    columns = sum(one.shape[1] for one in rows)
    if distinct < 0.1 or columns < 4:
        return False
    return len(_hashes([one[:, ::2] for one in rows])) > 0.99 * len(known)


def _hashes(rows: Rows) -> set[int]:
    return set(_each_hash(rows))


def _each_hash(rows: Rows) -> Iterator[int]:
    kept = [np.ascontiguousarray(one[:_MOST_COMPARED]) for one in rows]
    for row in zip(*kept, strict=True):
        yield xxhash.xxh3_64_intdigest(b"".join(part.tobytes() for part in row))
