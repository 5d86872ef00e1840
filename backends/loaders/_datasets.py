"""Hugging Face datasets: a `Dataset` by index, an `IterableDataset` by its state or by replay.

What an `IterableDataset` is made of is told by names that begin with an underscore; they are true
for datasets 5.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import datasets
import keras
import numpy as np
import xxhash

from ._look import is_batch, same_form, watched_randomness
from .protocol import IndexedLoader, Job, Loader

# Formats whose arrays are the tensors of a backend.
_TENSORS = {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}
_DEFAULT_SIZE = 32
_ROWS_LOOKED_AT = 16
# A seed that a person gives is smaller than what the system draws for one.
_LARGEST_SEED = 2**64
_NUMBER = re.compile("0x[0-9a-f]{1,32}")


def open_loader(
    x: Any,
    kind: str,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    shuffle: bool | str = True,
) -> IndexedLoader | Loader:
    """The adapter of a Hugging Face dataset.

    Args:
        x: The dataset.
        kind: For messages.
        y: The column of the targets, or several in a list, tuple or dict. Defaults to None: a
            batch is a dict of all columns.
        sample_weight: A column. Defaults to None.
        batch_size: Examples of a batch. Defaults to None: 32; of an `IterableDataset` that gives
            batches, as they are.
        shuffle: True for another order in each pass. An `IterableDataset` has its own.

    Raises:
        TypeError: If it is no dataset, but a dict of them.
        ValueError: If a column is not there or holds no arrays, or a shuffle has no seed.
    """
    if isinstance(x, Mapping):
        raise TypeError(
            f"A {type(x).__name__} holds the datasets {', '.join(map(repr, x))}: give one of them, "
            f"x[{next(iter(x), 'train')!r}]."
        )
    if batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size!r}.")
    if shuffle not in (True, False):
        raise ValueError(f"`shuffle` must be True or False with {kind}. Received: {shuffle!r}.")
    columns = _Columns(kind, y, sample_weight)
    if isinstance(x, datasets.IterableDataset):
        return _InOrder(x, kind, columns, batch_size)
    return _ByIndex(x, kind, columns, batch_size or _DEFAULT_SIZE, bool(shuffle))


class _Columns(NamedTuple):
    """Which columns of a batch are its parts."""

    kind: str
    y: Any
    sample_weight: Any

    def split(self, batch: Mapping[str, Any]) -> Any:
        """`(x,)`, `(x, y)` or `(x, y, sample_weight)` of a dict of columns."""
        if self.y is None:
            if self.sample_weight is not None:
                raise ValueError("`sample_weight` needs `y`, the column of the targets.")
            return (self._arrays(batch, list(batch)),)
        taken = [*_names(self.y), *_names(self.sample_weight)]
        rest = [name for name in batch if name not in taken]
        if not rest:
            raise ValueError(f"No column of {self.kind} is left for x: it has {_listed(batch)}.")
        x = self._arrays(batch, rest)
        parts = [x[rest[0]] if len(rest) == 1 else x, self._part(batch, self.y)]
        return (*parts, *(() if self.sample_weight is None else (self._weights(batch),)))

    def _weights(self, batch: Mapping[str, Any]) -> Any:
        return self._part(batch, self.sample_weight)

    def _part(self, batch: Mapping[str, Any], names: Any) -> Any:
        if isinstance(names, Mapping):
            return {key: self._part(batch, name) for key, name in names.items()}
        if isinstance(names, list | tuple):
            return tuple(self._part(batch, name) for name in names)
        return self._arrays(batch, [names])[names]

    def _arrays(self, batch: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
        for name in names:
            if name not in batch:
                raise ValueError(
                    f"{self.kind} has no column {name!r}; its columns are {_listed(batch)}."
                )
        return {name: self._array(name, batch[name]) for name in names}

    def _array(self, name: str, values: Any) -> Any:
        if not isinstance(values, list | np.ndarray):
            return values
        problem = "rows of different lengths, or values that are no numbers"
        try:
            array = np.asarray(values)
        except ValueError:
            array = np.array(None)
        if array.dtype.kind in "US" or (array.size and isinstance(array.flat[0], str | bytes)):
            problem = "text"
        elif array.dtype.kind == "M":
            problem = "dates"
        if array.dtype.kind not in "biufc":
            raise ValueError(
                f"The column {name!r} of {self.kind} holds {problem}, which is no array to train "
                "on. Leave it out (`.remove_columns`), or turn it into numbers of one shape "
                "(`.map`)."
            )
        return array


class _ByIndex:
    """Rows of a map-style dataset."""

    drop_last = False

    def __init__(
        self, dataset: Any, kind: str, columns: _Columns, batch_size: int, shuffle: bool
    ) -> None:
        self.kind, self.batch_size = kind, batch_size
        self.shuffle: bool | None = shuffle
        self.examples = len(dataset)
        self._columns = columns
        self._dataset = _formatted(dataset, dataset.format["type"])
        # A person's own transform may draw at random.
        self.is_pure = dataset.format["type"] != "custom"
        if self.examples:
            with watched_randomness():
                columns.split(self._dataset[[0, self.examples - 1]])

    def draw_order(self, number: int) -> list[np.ndarray]:
        """Raises: the order is not the dataset's own."""
        raise TypeError(f"{self.kind} has no order of its own.")

    def fetch(self, jobs: Iterable[Job], call: Callable[..., Any]) -> Iterator[Any]:
        """The rows of each job."""
        for indices, words in jobs:
            rows = indices.tolist()
            if self.is_pure:
                yield self._columns.split(self._dataset[rows])
            else:
                yield self._columns.split(call(words, lambda rows=rows: self._dataset[rows]))

    def fingerprint(self) -> dict[str, Any]:
        """The columns, and some rows as they are stored: the library's own fingerprint is another
        one after a function that it cannot hash.
        """
        step = max(self.examples // _ROWS_LOOKED_AT, 1)
        rows = self._dataset.with_format("arrow")[list(range(0, self.examples, step))]
        digest = xxhash.xxh3_64_hexdigest(repr(rows.to_pylist()).encode())
        return {
            "kind": "huggingface",
            "columns": sorted(self._dataset.column_names),
            "y": _described(self._columns.y),
            "sample_weight": _described(self._columns.sample_weight),
            "rows": digest,
        }


class _InOrder:
    """Batches of an iterable dataset; a pass is an epoch of its shuffles."""

    steps_per_pass: int | None = None
    is_pure = False
    first_cost = 0.0

    def __init__(self, dataset: Any, kind: str, columns: _Columns, batch_size: int | None) -> None:
        self.kind = kind
        self._columns = columns
        self._parts = list(_parts(dataset._ex_iterable))
        seeds = [part.generator for part in self._parts if hasattr(part, "generator")]
        self._seeds = [_seed_of(kind, generator) for generator in seeds]
        others = [one for one in seeds if type(one.bit_generator) is not np.random.PCG64]
        buffers = [
            part.buffer_size
            for part in self._parts
            if "Buffer" in type(part).__name__ and part.buffer_size > 1
        ]
        self.why_replayed = (
            f"shuffle(buffer_size={buffers[0]:,}) holds examples back"
            if buffers
            # The states of others are not checked by NumPy.
            else "its generator is none of numpy.random.default_rng"
            if others
            else ""
        )
        repeats = [part for part in self._parts if type(part).__name__.startswith("Repeat")]
        self.is_endless = any(part.num_times is None for part in repeats)
        formatting = dataset._formatting
        self._dataset = _formatted(dataset, formatting.format_type if formatting else None)
        self._dataset = self._batched(batch_size)
        self.has_state = not self.why_replayed

    def note_held(self, places: Sequence[str]) -> None:
        """A function that draws from a generator is run again for the examples before a state."""
        if places and not self.why_replayed:
            self.why_replayed = f"it draws from a generator of its own ({places[0]})"
            self.has_state = False

    def open(self, number: int) -> Iterator[Any]:
        """An epoch from its start."""
        self._dataset.set_epoch(number)
        self._dataset.load_state_dict(None)
        return self._running()

    def get_state(self) -> Any:
        """The state of the dataset."""
        return _with_text(self._dataset.state_dict())

    def set_state(self, number: int, state: Any) -> Iterator[Any]:
        """An epoch from a state on."""
        self._dataset.set_epoch(number)
        fresh = _with_text(self._dataset.state_dict())
        if not same_form(fresh, state) or state.get("epoch") != number:
            raise ValueError(
                f"The checkpoint's position is none of {self.kind} that was given, which has one "
                f"like {fresh!r:.200}; the checkpoint holds {state!r:.200}."
            )
        self._dataset.load_state_dict(_with_numbers(state))
        return self._from_state()

    def fingerprint(self) -> dict[str, Any]:
        """The seeds of its shuffles, and the columns."""
        names = self._dataset.column_names
        return {
            "kind": "huggingface, iterable",
            "columns": sorted(names) if names else None,
            "y": _described(self._columns.y),
            "sample_weight": _described(self._columns.sample_weight),
            "seeds": self._seeds,
        }

    def _from_state(self) -> Iterator[Any]:
        batches = self._running()
        try:
            first = next(batches, None)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The checkpoint's position is none of {self.kind} that was given: "
                f"{type(error).__name__}: {error}."
            ) from error
        if first is not None:
            yield first
            yield from batches

    def _running(self) -> Iterator[Any]:
        return map(self._columns.split, iter(self._dataset))

    def _batched(self, batch_size: int | None) -> Any:
        """The dataset, its examples gathered into batches unless they are."""
        dataset = self._dataset
        self.is_batched = is_batched = _gathers(self._parts[0])
        # A buffer is not filled for a look.
        looks = not self.why_replayed
        if looks:
            first, draws = self._first(dataset)
            is_batched = is_batched or (batch_size is None and is_batch(first))
            self.is_batched = is_batched
            if draws:
                self.why_replayed = (
                    f"it draws from the global random numbers of {' and '.join(draws)}"
                )
        if is_batched and batch_size is not None:
            raise ValueError(
                f"{self.kind} gives batches already, so `batch_size={batch_size}` does not go with "
                "it. Leave one out: `batch_size`, or `.batch(...)`."
            )
        if not is_batched:
            dataset = dataset.batch(batch_size or _DEFAULT_SIZE)
        if looks:
            self._columns.split(first if is_batched else self._first(dataset)[0])
        return dataset

    def _first(self, dataset: Any) -> tuple[Any, list[str]]:
        with watched_randomness() as moved:
            for element in dataset:
                return element, moved()
        raise ValueError(f"{self.kind} gives no example: it is empty.")


def _formatted(dataset: Any, kind: str | None) -> Any:
    """The dataset with arrays for columns: NumPy's, or tensors of the backend at work."""
    if kind in ("numpy", "custom") or _TENSORS.get(str(kind)) == keras.backend.backend():
        return dataset
    if isinstance(dataset, datasets.IterableDataset):
        return dataset.with_format("numpy")
    return dataset.with_format("numpy", columns=dataset.format["columns"])


def _parts(ex_iterable: Any) -> Iterator[Any]:
    """The parts of an iterable dataset, from its end to its sources."""
    waiting = [ex_iterable]
    while waiting:
        part = waiting.pop(0)
        yield part
        waiting += [part.ex_iterable] if hasattr(part, "ex_iterable") else []
        waiting += getattr(part, "ex_iterables", ())


def _gathers(part: Any) -> bool:
    """True of the end of what `.batch` returns."""
    function = getattr(part, "function", None)
    name = getattr(getattr(function, "func", function), "__name__", "")
    return name.startswith("_batch_") and type(part).__name__ == "MappedExamplesIterable"


def _seed_of(kind: str, generator: Any) -> str:
    """The seed of a shuffle, as text."""
    sequence = getattr(generator.bit_generator, "seed_seq", None)
    seed = getattr(sequence, "entropy", None)
    if not isinstance(seed, int) or seed >= _LARGEST_SEED:
        raise ValueError(
            f"{kind} is shuffled without a seed, so that a run that goes on could not find its "
            "place. Give one: `.shuffle(seed=...)`."
        )
    return str(seed)


def _with_text(state: Any) -> Any:
    """A state with its large whole numbers as text: not every JSON keeps 128 bits."""
    if isinstance(state, dict):
        return {key: _with_text(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_with_text(value) for value in state]
    is_large = isinstance(state, int) and not isinstance(state, bool) and abs(state) >= 2**53
    return hex(state) if is_large else state


def _with_numbers(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {key: _with_numbers(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_with_numbers(value) for value in state]
    is_number = isinstance(state, str) and _NUMBER.fullmatch(state)
    return int(state, 16) if is_number else state


def _names(part: Any) -> list[str]:
    """The columns that a part names."""
    if part is None:
        return []
    if isinstance(part, Mapping):
        part = tuple(part.values())
    if isinstance(part, list | tuple):
        return [name for one in part for name in _names(one)]
    if not isinstance(part, str):
        raise TypeError(
            "With a Hugging Face dataset, `y` and `sample_weight` are names of its columns. "
            f"Received: a {type(part).__name__}."
        )
    return [part]


def _described(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {str(key): _described(name) for key, name in part.items()}
    return [_described(name) for name in part] if isinstance(part, list | tuple) else part


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(repr, names))
