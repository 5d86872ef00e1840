"""The items of a PyDataset, made ahead by threads or processes, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from .streams import Seeding

# What to make: an index, and the words that seed the random states meanwhile.
Job = tuple[int, np.ndarray]


def fetch_in_order(
    dataset: keras.utils.PyDataset,
    jobs: Iterable[Job],
    seeding: Seeding,
    fetch: Callable[[Job], Any],
) -> Generator[Any]:
    """Yield the item of each job, in the order of the jobs.

    The dataset's `workers`, `use_multiprocessing` and `max_queue_size` are honoured as in Keras.
    Processes start in the way that `multiprocessing` is set to, with a copy of the dataset.

    Args:
        dataset: the dataset.
        jobs: what to make; may be endless.
        seeding: seeds what an item draws from, in a process of its own.
        fetch: makes an item here.

    Yields:
        The items.
    """
    workers = dataset.workers
    processes = dataset.use_multiprocessing
    ahead = max(1, dataset.max_queue_size)
    if workers > 0 and processes:
        pool = ProcessPoolExecutor(workers, initializer=_install, initargs=(dataset, seeding))
        return _ordered(pool, _fetch_here, jobs, ahead)
    if workers > 1:
        return _ordered(ThreadPoolExecutor(workers), lambda job: dataset[job[0]], jobs, ahead)
    return (fetch(job) for job in jobs)


def _ordered(
    pool: Executor, make: Callable[[Job], Any], jobs: Iterable[Job], ahead: int
) -> Generator[Any]:
    pending: deque[Future] = deque()
    try:
        for job in jobs:
            pending.append(pool.submit(make, job))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_installed: Any = None  # the dataset of a worker process
_call: Any = None  # seeds what its items draw from


def _install(dataset: keras.utils.PyDataset, seeding: Seeding) -> None:
    global _installed, _call
    _installed, _call = dataset, seeding(dataset)


def _fetch_here(job: Job) -> Any:
    index, words = job
    return _call(words, lambda: _installed[index])
