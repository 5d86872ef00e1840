"""`kp.batches`: the batches of a run, without training."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from .._util.arguments import whole_number
from ..checkpoint.identity import check_same_run
from ..checkpoint.reading import SoundCheckpoint
from ..checkpoint.store import CheckpointStore
from ..data import make_source
from ..state.item_caller import ItemCaller
from ..storage import StoreError
from .run_data import RunData
from .streams import generator_stream

_CALLER = "kp.batches"


def batches(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    start: int = 0,
    store: str | os.PathLike[str] | CheckpointStore | None = None,
    batch_size: int | None = None,
    shuffle: bool | str = True,
    class_weight: Mapping[int, float] | None = None,
    seed: int | None = None,
) -> Iterator[tuple[int, Any]]:
    """Gives each step from `start` on with the batch that `kp.fit` trains on in it, without end:
    to look at the data, or at the batch of a step that a message names.

    Args:
        x, y, sample_weight: The data of the run, as in `kp.fit`.
        start: The first step, from 0. Defaults to 0.
        store: A `kp.CheckpointStore`, or its folder. The seed, the position of a loader and the
            batches that were left out are those of its newest run. Defaults to None.
        batch_size, shuffle, class_weight: As in `kp.fit`.
        seed: Of the order of the data. Defaults to None: that of `store`. One of the two is
            needed where an order is drawn.

    Yields:
        `(step, batch)`: the batch as `train_step` gets it.

    Raises:
        ValueError: If neither `seed` nor `store` is given, or an argument is out of range.
        kp.ResumeRefusedError: If the data are not those of the run in the store.
        kp.StoreError: If the store holds no checkpoint.

    Example:

    >>> import numpy as np, keras_patterns as kp
    >>> x, y = np.arange(6), np.arange(6) % 2
    >>> step, (inputs, targets) = next(kp.batches(x, y, batch_size=2, seed=0, start=2))
    >>> step, inputs.shape
    (2, (2,))
    """
    start = whole_number(_CALLER, "start", start, least=0)
    if store is not None and not isinstance(store, CheckpointStore):
        store = CheckpointStore(store)
    found = None if store is None else _newest(store)
    if seed is None and found is None:
        raise ValueError(
            f"{_CALLER}: the batches of a step depend on the seed. Say seed=, the one that kp.fit "
            "had or printed, or store=, the folder of the run, which knows it."
        )
    identity = found.record.identity if found else None
    seed = identity.seed if identity and seed is None else seed
    seed = whole_number(_CALLER, "seed", seed, least=0)
    source = make_source(
        x,
        y,
        sample_weight,
        batch_size=batch_size,
        shuffle=shuffle,
        class_weight=class_weight,
        seed=seed,
        stream=generator_stream(x, found),
        seeding=functools.partial(ItemCaller, names_moving=False),
    )
    data = RunData(source)
    if store and found and identity:
        now = replace(identity, seed=seed, data=source.fingerprint())
        check_same_run(identity, now, store.label)
        data.take_over({**found.record.data, "position": None, **_position(store, found, start)})
    return _numbered(data, start)


def _numbered(data: RunData, start: int) -> Iterator[tuple[int, Any]]:
    with closing(data):
        data.open_at(start, sys.maxsize)
        for step in itertools.count(start):
            read = data.read(1)
            if not read:
                return
            yield step, read[0]


def _newest(store: CheckpointStore) -> SoundCheckpoint:
    found = store.find()
    if found is None:
        raise StoreError.empty(store.label)
    return found


def _position(store: CheckpointStore, newest: SoundCheckpoint, start: int) -> dict[str, Any]:
    """The position of a loader in the last checkpoint of the run before `start`, if there is."""
    run = newest.position.run
    before = [one.position.step for one in store.entries() if one.position.run == run]
    before = [step for step in before if step <= start]
    if not before or newest.record.data.get("position") is None:
        return {}
    _, record = store.read_record(max(before))
    return {"position": record.data.get("position")}
