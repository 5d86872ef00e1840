"""A stretch of batches as a Python generator, which every trainer takes."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

Batch = tuple[Any, ...]


def as_generator(batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """Keras looks at the type: an iterator of another kind is no data to it."""
    yield from batches
