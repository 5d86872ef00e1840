"""Grain: a `MapDataset` by index, an `IterDataset` and a `DataLoader` by their state.

Public Grain does not say what a dataset is made of; the names that begin with an underscore are
true for Grain 0.2.18, and each is looked for with care: without it less is known beforehand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import grain
import keras
import numpy as np

from ._look import is_batch, same_form, shapes, watched_randomness
from .protocol import Job, Loader, SteppedLoader

# A length above this one is that of data that are repeated without end.
_ENDLESS = 2**40
# Transformations that leave elements out, by the names of their classes.
_SPARSE = ("FilterMapDataset", "FlatMapMapDataset")
# Those of an `IterDataset` that neither add nor leave out.
_ONE_TO_ONE = ("MapIterDataset", "RandomMapIterDataset", "WithOptionsIterDataset")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# What the state of a DataLoader says by `repr`.
_BY_REPR = ("sampler", "data_source")
_WAY_OUT = (
    "Draw in `.random_map(function, seed=...)` (grain.transforms.RandomMap) from the generator "
    "that it is given, or read without: grain.ReadOptions(num_threads=0, "
    "prefetch_buffer_size=0), no `mp_prefetch`, worker_count=0."
)


def open_loader(x: Any, kind: str) -> Loader | SteppedLoader:
    """The adapter of a Grain dataset or loader.

    Raises:
        TypeError: If it is none.
        ValueError: If it gives single examples, or draws from global random states where batches
            are made ahead.
    """
    kind = f"a grain.{_public_name(x)}"
    if isinstance(x, grain.MapDataset):
        with watched_randomness():
            element = _first(kind, (x[index] for index in range(len(x))))
        _check_batch(kind, element)
        is_sparse = any(type(node).__name__ in _SPARSE for node in _nodes(x))
        return _SparseLoader(x, kind) if is_sparse else _MapLoader(x, kind)
    if isinstance(x, grain.IterDataset | grain.DataLoader):
        return _StateLoader(x, kind)
    raise TypeError(
        f"A {type(x).__name__} of Grain gives no batches to train on. Give a grain.MapDataset, "
        "grain.IterDataset or grain.DataLoader: of a data source, "
        "grain.MapDataset.source(x).batch(32); of an iterator, what it was made from."
    )


def _public_name(x: Any) -> str:
    kinds = (grain.MapDataset, grain.IterDataset, grain.DataLoader)
    return next((kind.__name__ for kind in kinds if isinstance(x, kind)), type(x).__name__)


class _MapLoader:
    """`dataset[step]`: a pass is its length, and the next one has the order that Grain gives it."""

    def __init__(self, dataset: Any, kind: str) -> None:
        self.kind = kind
        self._dataset = dataset
        self.steps_per_pass = _known_length(len(dataset))

    def fetch(self, jobs: Iterable[Job], call: Callable[..., Any]) -> Iterator[Any]:
        """Item after item."""
        for (step,), words in jobs:
            batch = call(words, lambda step=int(step): self._dataset[step])
            if batch is None:
                raise ValueError(
                    f"{self.kind} gave None in the place of batch {step}: a transformation leaves "
                    "it out, and the place of a step is not known. Use `.filter` for that, or call "
                    "`.to_iter_dataset()` on the dataset."
                )
            yield batch

    def fingerprint(self) -> dict[str, Any]:
        """The length, and the seeds of shuffles."""
        return _fingerprint(self._dataset, self.steps_per_pass)


class _SparseLoader:
    """A `MapDataset` that leaves elements out: its position is the next index."""

    steps_per_pass: int | None = None
    has_state = True
    why_replayed = ""
    is_pure = False
    first_cost = 0.0

    def __init__(self, dataset: Any, kind: str) -> None:
        self.kind = kind
        self._dataset = dataset
        self._length = len(dataset)
        self.is_endless = _known_length(self._length) is None
        self._next = 0

    def open(self, number: int) -> Iterator[Any]:
        """A pass is one over all indices, as Grain counts them."""
        return self._from(number * self._length, (number + 1) * self._length)

    def get_state(self) -> Any:
        """The next index."""
        return {"next_index": self._next}

    def set_state(self, number: int, state: Any) -> Iterator[Any]:
        """Goes on at an index of the pass."""
        first, end = number * self._length, (number + 1) * self._length
        index = state.get("next_index") if isinstance(state, dict) else None
        if type(index) is not int or not first <= index <= end:
            raise ValueError(
                f"The checkpoint's position is none of {self.kind} of {self._length:,} elements: "
                f"{state!r:.80}."
            )
        return self._from(index, end)

    def fingerprint(self) -> dict[str, Any]:
        """The length, and the seeds of shuffles."""
        return _fingerprint(self._dataset, _known_length(self._length))

    def _from(self, index: int, end: int) -> Iterator[Any]:
        self._next = index
        while self._next < end:
            element = self._dataset[self._next]
            self._next += 1
            if element is not None:
                yield element


class _StateLoader:
    """A dataset that Grain reads in order: an `IterDataset` or a `DataLoader`."""

    first_cost = 0.0

    def __init__(self, dataset: Any, kind: str) -> None:
        self.kind = kind
        self._dataset = dataset
        nodes = list(_nodes(dataset))
        self._reprs: dict[str, str] = {}
        parse_flags_for_workers()
        self._fresh = self._position_of(iter(dataset))
        old = [node.operation for node in nodes if hasattr(node, "operation")]
        self.why_replayed = ""
        if self._fresh is None:
            self.why_replayed = "one of its iterators has no state"
        elif old:
            self.why_replayed = f"{type(old[0]).__name__} is an operation of Grain's old kind"
        self.has_state = not self.why_replayed
        self.is_endless = any(map(_is_repeated, nodes))
        self.steps_per_pass = None if self.is_endless else _length(dataset)
        self._ahead = _read_ahead(nodes)
        self.is_pure = self._ahead is not None
        self._check_first()
        self._open: Any = None

    def note_held(self, places: Sequence[str]) -> None:
        """Raises where threads or processes would draw from generators that the data hold."""
        if places:
            self._note_draws(f"a generator of its own ({places[0]})")

    def open(self, number: int) -> Iterator[Any]:
        """The data from their start."""
        return self._running(iter(self._dataset))

    def get_state(self) -> Any:
        """The state of the iterator."""
        return self._position_of(self._open)

    def set_state(self, number: int, state: Any) -> Iterator[Any]:
        """An iterator with this state."""
        if not same_form(self._fresh, state):
            raise ValueError(
                f"The checkpoint's position is none of these data: {self.kind} with one like "
                f"{self._fresh!r:.200} was given, and the checkpoint holds {state!r:.200}."
            )
        iterator = iter(self._dataset)
        try:
            if isinstance(self._dataset, grain.DataLoader):
                self._check_reprs(state)
                # Grain compares these texts, with the addresses of this process in them.
                state = json.dumps({**state, **self._reprs}).encode()
            iterator.set_state(state)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"The checkpoint's position is none of {self.kind} that was given: {error}."
            ) from error
        return self._running(iterator)

    def fingerprint(self) -> dict[str, Any]:
        """The length, and the seeds of shuffles and samplers."""
        return _fingerprint(self._dataset, self.steps_per_pass)

    def _running(self, iterator: Any) -> Iterator[Any]:
        self._open = iterator
        try:
            for batch in iterator:
                yield keras.tree.map_structure(_own, batch)
        finally:
            _close(iterator)

    def _position_of(self, iterator: Any) -> Any:
        try:
            state = iterator.get_state()
        except NotImplementedError:
            return None
        if not isinstance(state, bytes):
            return state
        state = json.loads(state)
        self._reprs = {name: state[name] for name in _BY_REPR if name in state}
        return {**state, **{name: _ADDRESS.sub("", text) for name, text in self._reprs.items()}}

    def _check_reprs(self, state: Any) -> None:
        for name in _BY_REPR:
            if name in self._fresh and state[name] != self._fresh[name]:
                raise ValueError(
                    f"The {name.replace('_', ' ')} of {self.kind} is {self._fresh[name]}, and was "
                    f"{state[name]!r:.200} in the run of the checkpoint. Make it as it was."
                )

    def _check_first(self) -> None:
        """Makes one batch here, without reading ahead, to see what it is and whether it draws."""
        inner = _without_workers(self._dataset)
        iterator = iter(inner)
        for part in _iterators(iterator):
            if hasattr(part, "_set_prefetch_buffer_size"):
                part._set_prefetch_buffer_size(0)
        with watched_randomness() as moves:
            element = _first(self.kind, iterator)
            draws = moves()
        _close(iterator)
        _check_batch(self.kind, element)
        if draws:
            self._note_draws(f"the global random numbers of {' and '.join(draws)}")

    def _note_draws(self, where: str) -> None:
        if self._ahead:
            raise ValueError(
                f"{self.kind} draws from {where} in {self._ahead}, so that no two runs have the "
                f"same batches. {_WAY_OUT}"
            )
        # A position in the middle of a window or a batch makes some elements again.
        self.why_replayed = self.why_replayed or f"it draws from {where}"
        self.has_state = False


def parse_flags_for_workers() -> None:
    """Workers of Grain read flags of absl, which raise where `absl.app.run` has not parsed the
    command line: they get their defaults.
    """
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _nodes(dataset: Any) -> Iterator[Any]:
    """A dataset and all that it is made from, each once."""
    waiting, seen = [dataset], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        for name in ("_dataset", "_datasets", "_parents"):
            parts = getattr(node, name, None)
            if isinstance(parts, list | tuple):
                waiting += [part for part in parts if _is_dataset(part)]
            elif _is_dataset(parts):
                waiting.append(parts)


def _is_dataset(thing: Any) -> bool:
    return isinstance(thing, grain.MapDataset | grain.IterDataset)


def _iterators(iterator: Any) -> Iterator[Any]:
    waiting = [iterator]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += [part for part in getattr(one, "_parents", ()) if part is not None]
        waiting += [part for part in (getattr(one, "_iterator", None),) if part is not None]


def _own(leaf: Any) -> Any:
    """An array of worker processes, out of the memory that they share: it is freed here, and not
    when the last batch is forgotten.
    """
    is_shared = isinstance(leaf, np.ndarray) and type(leaf) is not np.ndarray
    return np.array(leaf, subok=False) if is_shared else leaf


def _close(iterator: Any) -> None:
    """Ends the threads and processes of an iterator, where it has an end for them."""
    iterator = getattr(iterator, "_iterator", iterator)
    if hasattr(iterator, "close"):
        iterator.close()


def _is_worker(node: Any) -> bool:
    return type(node).__name__.startswith("ProcessPrefetch")


def _without_workers(dataset: Any) -> Any:
    """The part that a worker process reads, to be read here; all of it if there are none."""
    workers = list(filter(_is_worker, _nodes(dataset)))
    return workers[0]._parents[0] if workers else dataset


def _read_ahead(nodes: list[Any]) -> str | None:
    """Where batches are made before they are asked for; None if they are not."""
    if any(map(_is_worker, nodes)):
        return "worker processes"
    options = [getattr(node, "_read_options", None) for node in nodes]
    if any(one and one.num_threads and one.prefetch_buffer_size for one in options):
        return "threads that read ahead"
    threads = any("ThreadPrefetch" in type(node).__name__ for node in nodes)
    return "threads that read ahead" if threads else None


def _is_repeated(node: Any) -> bool:
    """True if a part of a pipeline has no end."""
    if isinstance(node, grain.MapDataset):
        return _known_length(len(node)) is None
    sampler = getattr(node, "_sampler", None)
    if isinstance(node, grain.DataLoader):
        return getattr(sampler, "_num_epochs", 1) is None
    return "Repeat" in type(node).__name__ and getattr(node, "_num_epochs", 1) is None


def _known_length(length: int) -> int | None:
    return length if length < _ENDLESS else None


def _length(dataset: Any) -> int | None:
    """Batches of a pass, where only functions are applied to a `MapDataset`."""
    node = dataset
    while type(node).__name__ in _ONE_TO_ONE:
        node = node._parents[0]
    if type(node).__name__ != "PrefetchIterDataset":
        return None
    inner = node._parents[0]
    if any(type(part).__name__ in _SPARSE for part in _nodes(inner)):
        return None
    return len(inner)


def _fingerprint(dataset: Any, length: int | None) -> dict[str, Any]:
    seeds = [
        getattr(part, name)
        for node in _nodes(dataset)
        for part in (node, getattr(node, "_sampler", None))
        for name in ("_seed",)
        if isinstance(getattr(part, name, None), int | np.integer)
    ]
    return {"kind": "grain", "steps": length, "seeds": sorted({int(seed) for seed in seeds})}


def _first(kind: str, elements: Iterable[Any]) -> Any:
    for element in elements:
        if element is not None:
            return element
    raise ValueError(f"{kind} gives no batch: it is empty.")


def _check_batch(kind: str, element: Any) -> None:
    if not is_batch(element):
        raise ValueError(
            f"{kind} gives single examples, not batches: the arrays of an element have the shapes "
            f"{shapes(element)}. Call `.batch(32)` on it (grain.transforms.Batch in a DataLoader)."
        )
