"""Batches that `keras.distribution` spreads over devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras


def parts_of_a_batch() -> int:
    """The number of parts in which `keras.distribution` cuts the examples of a batch."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    axis = distribution.get_data_layout((1,)).axes[0]
    return 1 if axis is None else int(mesh.shape[list(mesh.axis_names).index(axis)])


def sizes_of(batch: Any) -> set[int]:
    """The number of examples in each array of a batch."""
    return {int(leaf.shape[0]) for leaf in keras.tree.flatten(batch) if leaf is not None}


def check_divides(sizes: Iterable[int], parts: int) -> None:
    """Raises if arrays of so many examples cannot be cut into equal parts."""
    for size in sizes:
        if size % parts:
            raise ValueError(
                f"a batch of {size} examples cannot be shared evenly by {parts} devices. Give "
                f"batches that {parts} divides, or unset keras.distribution."
            )


def ignored_distribution() -> str | None:
    """For frameworks on which Keras 3.15 pays no heed to `keras.distribution`: says so where one
    is set.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or distribution.device_mesh.devices.size == 1:
        return None
    return (
        f"keras.distribution is set to {distribution!r}, and Keras would train on one device all "
        "the same on this backend. Unset it: keras.distribution.set_distribution(None)."
    )
