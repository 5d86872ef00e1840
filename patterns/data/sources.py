"""The protocol of a source of batches, and the source for each kind of data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import keras

from keras_patterns.backends.loaders import (
    IndexedLoader,
    SteppedLoader,
    gives_examples,
    kind_of,
    open_loader,
)

from .arrays import ArraySource
from .fetched import SteppedSource
from .in_order import IterableLoader, LoaderSource
from .indexed import IndexedSource
from .pydataset import PyDatasetSource
from .rows import as_rows, is_rows
from .streams import RandomStream, Seeding, global_seeding


@runtime_checkable
class BatchSource(Protocol):
    """Batches by step.

    - A step counts from 0 through all passes over the data.
    - A batch is `(x,)`, `(x, y)` or `(x, y, sample_weight)`, each a `keras.tree` structure without
      lists.
    - With `random_access`, `batch(step)` is a pure function of the seed and the step, and
      `batches(start)` can be called for any step at any time. Without, `batches(start)` is read in
      order and from one iterator at a time.
    - Nothing is counted by the source: the caller knows which batches were trained on.
    """

    @property
    def steps_per_pass(self) -> int | None:
        """Steps of a pass over the data, `None` if that is not known."""

    @property
    def random_access(self) -> bool:
        """True if the batch of any step can be had at any time."""

    @property
    def thread_safe(self) -> bool:
        """True if batches may be made in a thread beside the training: a person's code might draw
        at random there.
        """

    @property
    def may_be_collected(self) -> bool:
        """True if batches may be made some steps before they are trained on: a person's code might
        look at the model there.
        """

    def batch(self, step: int) -> tuple:
        """Return the batch of `step`."""

    def batches(self, start: int) -> Iterator[tuple]:
        """Return the batches from step `start` on."""

    def for_train_step(self, batch: tuple) -> Any:
        """Return the batch in the form in which Keras gives it to `train_step`."""

    def fingerprint(self) -> dict:
        """Return what can be said of the data's identity, as JSON."""


def make_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool | str = True,
    class_weight: Mapping[int, float] | None = None,
    seed: int = 0,
    stream: RandomStream | None = None,
    seeding: Seeding = global_seeding,
    verbose: bool = True,
    steps_per_pass: int | None = None,
) -> BatchSource:
    """Return the source of batches for data given as to `model.fit`.

    Args:
        x: inputs: a structure of arrays; or a `keras.utils.PyDataset`, a loader of another library
            (`keras_patterns.backends.loaders`), a generator or another iterable, which give whole
            batches.
        y: targets; only with arrays, and the columns that are targets of a Hugging Face dataset.
            Defaults to `None`.
        sample_weight: weights; only with arrays. Defaults to `None`.
        batch_size: examples of a batch; only with arrays. Defaults to `None`, which is 32.
        shuffle: see `ArraySource` and `PyDatasetSource`. Endless datasets and generators have an
            order of their own. Defaults to `True`.
        class_weight: `{class: weight}`. Defaults to `None`.
        seed: seed of the order. Defaults to `0`.
        stream: random stream of a loader or generator. Defaults to `None`; see `LoaderSource`.
        seeding: of the random states that a `PyDataset` draws from; see `PyDatasetSource`.
        verbose: whether to show that batches of a generator are skipped. Defaults to `True`.
        steps_per_pass: how many batches make a pass over arrays without a `batch_size`. Defaults to
            `None`: as many as it takes.

    Returns:
        The source.

    Raises:
        TypeError: the data is of a kind that is not served.
        ValueError: an argument is out of range, or does not go with this kind of data.
    """
    if is_rows(x):
        return ArraySource(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            shuffle=shuffle,
            class_weight=class_weight,
            seed=seed,
            steps_per_pass=steps_per_pass,
        )
    columns: dict[str, Any] = {}
    if gives_examples(x):
        columns = {
            "y": y,
            "sample_weight": sample_weight,
            "batch_size": batch_size,
            "shuffle": shuffle,
        }
    else:
        _check_whole_batches(x, y, sample_weight, batch_size)
    loader = open_loader(x, **columns)
    if isinstance(loader, IndexedLoader):
        return IndexedSource(
            loader, seed=seed, class_weight=class_weight, seeding=seeding, holder=x
        )
    if isinstance(loader, SteppedLoader):
        return SteppedSource(
            loader, seed=seed, class_weight=class_weight, seeding=seeding, holder=x
        )
    if isinstance(x, keras.utils.PyDataset):
        return PyDatasetSource(
            x, shuffle=shuffle, class_weight=class_weight, seed=seed, seeding=seeding
        )
    loader = loader or IterableLoader(x)
    return LoaderSource(loader, class_weight=class_weight, stream=stream, verbose=verbose)


def reads_in_order(x: Any) -> bool:
    """True if the batches of `x` can only be had in order, each once."""
    return not is_rows(x) and not isinstance(x, keras.utils.PyDataset)


def _check_whole_batches(x: Any, y: Any, sample_weight: Any, batch_size: int | None) -> None:
    """Raises for what is no data, and for an argument that goes with arrays only."""
    kind = kind_of(x) or ("a PyDataset" if isinstance(x, keras.utils.PyDataset) else "a generator")
    is_own = kind == "a generator"
    if is_own and (
        keras.tree.is_nested(x) or not isinstance(x, Iterable) or isinstance(x, (str, bytes))
    ):
        as_rows(x, "x")  # raises, and names the leaf that is no array
    for name, value in (("y", y), ("sample_weight", sample_weight), ("batch_size", batch_size)):
        if value is not None:
            other = "; that of the validation is `validation_batch_size`"
            raise ValueError(
                f"`{name}` goes with arrays only: {kind} gives whole batches. Leave it out"
                f"{other if name == 'batch_size' else ''}."
            )
