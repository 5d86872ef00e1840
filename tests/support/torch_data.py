"""What a PyTorch DataLoader of `loaders.py` is made of."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loaders import BATCH, EXAMPLES, arrays
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    WeightedRandomSampler,
    default_collate,
    get_worker_info,
)


class Shaken(Dataset):
    """Examples with noise from every generator that there is."""

    def __init__(self) -> None:
        self.x, self.y = map(torch.from_numpy, arrays())
        self.rng = np.random.default_rng(5)
        self.generator = torch.Generator()

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = random.random() + np.random.normal() + self.rng.normal() + torch.rand(1)
        return self.x[place] + drawn + torch.rand(6, generator=self.generator), self.y[place]


class Streamed(IterableDataset):
    """The same examples in order, shared out among the workers."""

    def __init__(self, batch_size: int | None = None) -> None:
        self.examples = Shaken()
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        examples = (self.examples[place] for place in range(first, EXAMPLES, step))
        if self.batch_size is None:
            yield from examples
        else:
            for batch in zip(*[examples] * self.batch_size, strict=True):
                yield default_collate(batch)


class ByLength(Sampler):
    """Batches of neighbours, in an order drawn from the global states."""

    def __len__(self) -> int:
        return EXAMPLES // BATCH

    def __iter__(self) -> Iterator[list[int]]:
        starts = list(range(0, EXAMPLES, BATCH))
        random.shuffle(starts)
        for start in starts:
            yield list(range(start, start + BATCH))


class Restless(RandomSampler):
    """A sampler of the person's own, with a generator that it keeps."""


def mixed(examples: list[Any]) -> Any:
    """A collate function that draws."""
    x, y = default_collate(examples)
    return x + torch.rand(1) + random.random(), y


def shuffled(workers: int | None = None, **arguments: Any) -> DataLoader:
    """A DataLoader over `Shaken`.

    Args:
        workers: Defaults to None: none in the first process, two in those that go on.
        **arguments: Of DataLoader; in place of `batch_size` and `shuffle`, if any are given.
    """
    if workers is None:
        workers = 2 if len(Path("processes").read_text(encoding="utf-8")) > 1 else 0
    order = arguments or {"batch_size": BATCH, "shuffle": True}
    return DataLoader(Shaken(), num_workers=workers, **order)


def weighted() -> DataLoader:
    """Drawn by weights, with a generator of the sampler's own."""
    weights = np.linspace(1, 4, EXAMPLES).tolist()
    sampler = WeightedRandomSampler(weights, EXAMPLES, generator=torch.Generator())
    return shuffled(0, batch_size=BATCH, sampler=sampler)


def own_samplers() -> DataLoader:
    """A sampler of the person's own in a batch sampler of torch's."""
    sampler = Restless(range(EXAMPLES), generator=torch.Generator())
    return shuffled(0, batch_sampler=BatchSampler(sampler, BATCH, drop_last=True))


def stateful() -> Any:
    """That of torchdata."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(Shaken(), batch_size=BATCH, shuffle=True)
