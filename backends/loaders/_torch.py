"""PyTorch's DataLoader, and torchdata's, which is one."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
import xxhash
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
    get_worker_info,
)

from .. import current
from .._feed import each_leaf
from .._torch import ADAPTER as TORCH
from .protocol import IndexedLoader, Job, Loader

_LIBRARIES = ("torch.", "torchdata.")
# A tensor of so many bytes is read whole for its digest, of a larger one so many rows.
_DIGEST_BYTES = 16 * 2**20
_DIGEST_ROWS = 1024


def open_loader(x: Any, kind: str) -> Loader | IndexedLoader:
    """The adapter of a DataLoader.

    Args:
        x: Of a class of `torch.utils.data`.
        kind: For messages.

    Raises:
        TypeError: If it gives no batches.
        ValueError: If its batches cannot be found again.
    """
    if not isinstance(x, DataLoader):
        raise TypeError(
            f"kp.fit: {_name(x)} is no loader of batches. Wrap a dataset in one: "
            "torch.utils.data.DataLoader(dataset, batch_size=32, shuffle=True)."
        )
    if getattr(x, "next_iter_state", None) is not None:
        raise ValueError(
            f"kp.fit: this {_name(x)} was given a state by load_state_dict, and kp.fit keeps the "
            "place in the data itself. Give a loader without one."
        )
    blocker = _index_blocker(x)
    if blocker is None:
        return MapLoader(x, kind)
    return ReplayedLoader(x, kind, blocker)


def _loss(loader: DataLoader, why: str) -> str:
    """The reason why a DataLoader cannot be run again, with the way out; empty if it can."""
    if loader.num_workers > 1 and not getattr(loader, "in_order", True):
        return (
            f"{why}, and in_order=False gives its batches as the workers happen to finish them. "
            "Leave in_order out"
        )
    if loader.persistent_workers and loader._iterator is not None:
        return f"{why}, and its workers have begun. Give a new loader"
    return ""


def renewer(x: Any) -> Callable[[], Any]:
    """A function that gives a DataLoader whose workers begin anew each time: those that persist
    would go on from where they are.
    """
    if not getattr(x, "persistent_workers", False):
        return lambda: x
    anew = copy.copy(x)
    # The class forbids it once it is made.
    vars(anew).update(persistent_workers=False, _iterator=None)
    return lambda: anew


def _index_blocker(loader: DataLoader) -> str | None:
    """Why a batch cannot be had by the places of its examples; None if it can."""
    # A class that does more in __iter__ than torch's own.
    iterates = next(base for base in type(loader).__mro__ if "__iter__" in vars(base))
    if not iterates.__module__.startswith(_LIBRARIES):
        return f"{iterates.__name__} has an __iter__ of its own"
    if isinstance(loader.dataset, IterableDataset):
        return f"{_name(loader.dataset)} is an IterableDataset"
    return "batch_size is None" if loader.batch_sampler is None else None


class MapLoader:
    """The batches of a DataLoader over a dataset whose examples have places.

    The dataset, the workers and what makes a batch of examples are the loader's. The order is that
    of its sampler, but each pass is drawn anew from (seed, pass). A batch is made with all random
    states seeded by (seed, step), by whichever worker.

    Args:
        loader: With a batch sampler.
        kind: For messages.

    Attributes:
        holder: The objects whose code makes a batch.
        order_holder: Those that draw an order.
    """

    def __init__(self, loader: DataLoader, kind: str) -> None:
        self.kind = kind
        self._loader = loader
        batches: Any = loader.batch_sampler
        sampler: Any = getattr(batches, "sampler", None)
        self.order_holder = [batches, loader.sampler]
        own_collate = loader.collate_fn is default_collate
        self.holder = loader.dataset if own_collate else [loader.dataset, loader.collate_fn]
        self.is_pure = loader.num_workers > 0
        # The code of other datasets may look at the model.
        is_plain = own_collate and type(loader.dataset) is TensorDataset
        self.may_be_collected = self.is_pure or is_plain
        self.shuffle = _shuffles(sampler) if type(batches) is BatchSampler else None
        self.batch_size = getattr(batches, "batch_size", None) or 1
        self.drop_last = bool(getattr(batches, "drop_last", False))
        self.examples = len(loader.dataset if self.shuffle is None else sampler.data_source)

    def draw_order(self, number: int) -> list[np.ndarray]:
        """The examples of each batch of a pass, from the global random states and those of the
        samplers' own generators.

        Raises:
            ValueError: If the sampler gives anything but places.
        """
        batches: Any = self._loader.batch_sampler
        for sampler in (batches, getattr(batches, "sampler", None)):
            if sampler is not None and hasattr(sampler, "set_epoch"):
                sampler.set_epoch(number)
        # Seeded from NumPy: the run may know nothing of torch.
        with TORCH.seeded(np.random.randint(2**32, size=4, dtype=np.uint32)):
            order = [np.asarray(batch) for batch in batches]
        for batch in order:
            if batch.ndim != 1 or batch.dtype.kind not in "iu":
                raise ValueError(
                    f"{_name(batches)} gave {batch.tolist()!r:.60}; expected lists of whole "
                    "numbers, the places of examples. Let the dataset hold its keys in a list, and "
                    "the sampler give their places."
                )
        return [batch.astype(np.int64) for batch in order]

    def fetch(self, jobs: Iterable[Job], call: Callable[..., Any]) -> Iterator[Any]:
        """The batch of each job."""
        loader = self._loader
        items = _Items(loader.dataset, loader.collate_fn, call)
        if not loader.num_workers and not loader.pin_memory:
            return map(_for_backend, map(items.__getitem__, jobs))
        chosen = {
            "num_workers": loader.num_workers,
            "pin_memory": loader.pin_memory,
            "timeout": loader.timeout,
        }
        if loader.pin_memory and loader.pin_memory_device:
            chosen["pin_memory_device"] = loader.pin_memory_device
        if loader.num_workers:
            chosen |= {
                "worker_init_fn": _WorkerStart(loader.dataset, loader.worker_init_fn),
                "multiprocessing_context": loader.multiprocessing_context,
                "prefetch_factor": loader.prefetch_factor,
            }
        with warnings.catch_warnings():
            # The person has been told, where the loader was made, that it has many workers.
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            # One of its own generators, so that the seed of its workers is not drawn from the
            # global one.
            batches = iter(
                DataLoader(
                    items,
                    batch_size=None,
                    sampler=jobs,
                    collate_fn=_as_it_is,
                    generator=torch.Generator(),
                    **chosen,
                )
            )
        return _Fetched(batches)

    def fingerprint(self) -> dict[str, Any]:
        """The classes of what makes the batches, and the content of a TensorDataset."""
        loader = self._loader
        said: dict[str, Any] = {"kind": self.kind, "dataset": _name(loader.dataset)}
        if self.shuffle is None:
            said["sampler"] = _name(getattr(loader.batch_sampler, "sampler", loader.batch_sampler))
        if isinstance(loader.dataset, TensorDataset):
            said["tensors"] = [_digest(tensor) for tensor in loader.dataset.tensors]
        return said


class ReplayedLoader:
    """A DataLoader that can only be run again.

    Args:
        loader: Whose batches have no index.
        kind: For messages.
        why: It can only be run again.
    """

    has_state = False
    is_endless = False
    is_pure = False
    first_cost = 0.0

    def __init__(self, loader: DataLoader, kind: str, why: str) -> None:
        self.kind, self.why_replayed = kind, why
        self._loader = loader
        self.why_lost = _loss(loader, why)
        try:
            self.steps_per_pass = len(loader) or None
        except (TypeError, NotImplementedError):
            self.steps_per_pass = None

    def open(self, number: int) -> Iterator[Any]:
        """The batches of the next pass."""
        if current().name == TORCH.name:
            return iter(self._loader)
        return self._beside_another_framework()

    def _beside_another_framework(self) -> Iterator[Any]:
        """The batches, drawn in a stream of torch's generators that begins where NumPy's stands:
        the run keeps that one, and does not know of torch.
        """
        words = np.random.randint(2**32, size=4, dtype=np.uint32)
        with TORCH.seeded(words):
            batches = iter(self._loader)
            inside = TORCH.random_state()
        while True:
            with _torch_at(inside):
                batch = next(batches, _END)
                inside = TORCH.random_state()
            if batch is _END:
                return
            yield _for_backend(batch)

    def get_state(self) -> Any:
        """Raises: there is none."""
        raise TypeError(f"{self.kind} has no position.")

    def set_state(self, number: int, state: Any) -> Iterator[Any]:
        """Raises: there is none."""
        raise ValueError(f"{self.kind} ({self.why_replayed}) has no position to be put back.")

    def fingerprint(self) -> dict[str, Any]:
        """The classes, and what decides over the batches of an IterableDataset."""
        loader = self._loader
        return {
            "kind": self.kind,
            "dataset": _name(loader.dataset),
            "batch_size": loader.batch_size,
            "drop_last": loader.drop_last,
            # Each worker has examples of its own, and draws from generators of its own.
            "num_workers": loader.num_workers,
        }


class _Items:
    """Whole batches, by job; what they draw is seeded by it."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any], call: Callable) -> None:
        self._dataset, self._collate, self._call = dataset, collate, call

    def __getitem__(self, job: Job) -> Any:
        indices, words = job

        def make() -> Any:
            # As torch's own fetcher does.
            together = getattr(self._dataset, "__getitems__", None)
            places = indices.tolist()
            if together:
                return self._collate(together(places))
            return self._collate([self._dataset[place] for place in places])

        # `call` may know nothing of torch.
        with TORCH.seeded(words):
            return self._call(words, make)


class _WorkerStart:
    """Shows a worker the person's own dataset, and starts it as they asked."""

    def __init__(self, dataset: Any, init: Callable[[int], None] | None) -> None:
        self._dataset, self._init = dataset, init

    def __call__(self, worker: int) -> None:
        # The class forbids it, for every worker has its copy; `self._dataset` is that copy.
        object.__setattr__(get_worker_info(), "dataset", self._dataset)
        if self._init is not None:
            self._init(worker)


class _Fetched(Iterator[Any]):
    """The batches of workers; `close` ends them."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def __next__(self) -> Any:
        return _for_backend(next(self._batches))

    def close(self) -> None:
        """Ends the workers, who live as long as their iterator."""
        self._batches = iter(())


def _shuffles(sampler: Any) -> bool | None:
    """The order of a sampler of torch's, as `IndexedLoader.shuffle` says it."""
    if type(sampler) is SequentialSampler:
        return False
    if type(sampler) is not RandomSampler or sampler.replacement:
        return None
    return True if sampler.num_samples == len(sampler.data_source) else None


def _for_backend(batch: Any) -> Any:
    """Tensors on torch; elsewhere NumPy arrays, as Keras makes them."""
    return batch if current().name == TORCH.name else _in_numpy(batch)


def _to_numpy(leaf: Any) -> Any:
    return np.asarray(leaf.cpu()) if isinstance(leaf, torch.Tensor) else leaf


_in_numpy = each_leaf(_to_numpy)


@contextlib.contextmanager
def _torch_at(state: dict[str, Any]) -> Iterator[None]:
    outside = TORCH.random_state()
    TORCH.set_random_state(state)
    try:
        yield
    finally:
        TORCH.set_random_state(outside)


def _digest(tensor: torch.Tensor) -> list[Any]:
    rows = tensor.detach()
    if rows.nbytes > _DIGEST_BYTES:
        rows = rows[torch.linspace(0, len(rows) - 1, min(_DIGEST_ROWS, len(rows))).long()]
    data = rows.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return [str(tensor.dtype), list(tensor.shape), xxhash.xxh3_128_hexdigest(data)]


def _as_it_is(batch: Any) -> Any:
    return batch


def _name(thing: Any) -> str:
    return type(thing).__name__


_END: Any = object()
