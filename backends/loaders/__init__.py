"""Loaders of other libraries, each behind one of two short Protocols. None is imported before data
of its kind are given.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from .protocol import IndexedLoader, Job, Loader, NativeBatches, SteppedLoader

__all__ = [
    "IndexedLoader",
    "Job",
    "Loader",
    "NativeBatches",
    "SteppedLoader",
    "gives_examples",
    "keras_reads",
    "kind_of",
    "open_loader",
    "renewer",
]


class _Kind(NamedTuple):
    name: str  # for people
    adapter: str  # a module of this package
    gives_examples: bool = False  # columns and a batch size are chosen by the caller
    keras_reads_it: bool = True  # in `model.evaluate`, on every backend


_HUGGING_FACE = _Kind(
    "a Hugging Face dataset", "_datasets", gives_examples=True, keras_reads_it=False
)
# By the module in which a class of the library lies.
_KINDS = {
    "tensorflow.python.data": _Kind("a tf.data.Dataset", "_tensorflow"),
    "torch.utils.data": _Kind("a PyTorch DataLoader", "_torch"),
    "torchdata.stateful_dataloader": _Kind("a PyTorch DataLoader", "_torch"),
    "grain._src": _Kind("a Grain loader", "_grain", keras_reads_it=False),
    # A person's own module may be named "datasets", too.
    "datasets.arrow_dataset": _HUGGING_FACE,
    "datasets.iterable_dataset": _HUGGING_FACE,
    "datasets.dataset_dict": _HUGGING_FACE,
}


def kind_of(x: Any) -> str | None:
    """Which library's loader `x` is, for people; None if it is none."""
    found = _found(x)
    return found and found.name


def gives_examples(x: Any) -> bool:
    """True if the caller chooses the columns of `x` and the size of its batches."""
    found = _found(x)
    return found is not None and found.gives_examples


def keras_reads(x: Any) -> bool:
    """False for a library's loader that is to be read here, where Keras evaluates on it."""
    found = _found(x)
    return found is None or found.keras_reads_it


def open_loader(x: Any, **asked: Any) -> Loader | IndexedLoader | SteppedLoader | None:
    """The adapter of a library's loader; None if `x` is none.

    Args:
        x: Anything.
        **asked: The columns `y` and `sample_weight`, `batch_size` and `shuffle`, where `x` gives
            examples.

    Raises:
        ValueError: If the loader cannot be found again after a kill; names what stands in the way,
            and the way out. Also for an argument that does not go with it.
        TypeError: If it is something of that library that gives no batches.
    """
    found = _found(x)
    if found is None:
        return None
    adapter = importlib.import_module(f".{found.adapter}", __name__)
    return adapter.open_loader(x, found.name, **asked)


def renewer(x: Any) -> Callable[[], Any]:
    """A function that gives a loader as it is when nobody has gone through it yet: each time it is
    gone through, it depends on the random states alone.
    """
    found = _found(x)
    adapter: Any = found and importlib.import_module(f".{found.adapter}", __name__)
    return adapter.renewer(x) if hasattr(adapter, "renewer") else lambda: x


def _found(x: Any) -> _Kind | None:
    # The nearest class counts: an iterable dataset of Hugging Face derives from PyTorch's, too.
    for parent in type(x).__mro__:
        for prefix, found in _KINDS.items():
            if f"{parent.__module__}.".startswith(f"{prefix}."):
                return found
    return None
