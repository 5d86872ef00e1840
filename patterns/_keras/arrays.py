"""Keras's conversions of variables and tensors to NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_arrays() -> Iterator[None]:
    """Within it, one warning of NumPy's about Keras's own code is neither shown nor raised: the
    `__array__` of Keras's variables and of PyTorch's tensors knows no `copy=`. A person who makes
    warnings errors could not train otherwise. True for Keras 3.15.

    A function that has it as a decorator runs within it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore",
            "__array__ implementation doesn't accept a copy keyword",
            DeprecationWarning,
            r"keras\.src\.",
        )
        yield
