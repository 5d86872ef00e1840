"""Launches and copies of PyTorch on a CUDA device that do not wait for Python."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import keras
import torch

from ._feed import Batch, Batches

_BLOCKS_ON_THE_WAY = 2


class OfDevice:
    """Holds events or graphs of a device. A process that is forked, such as a worker of a
    DataLoader, aborts when it frees these, so there they are kept.
    """

    _alive: ClassVar[weakref.WeakSet[OfDevice]] = weakref.WeakSet()
    _kept: ClassVar[list[OfDevice]] = []

    def __init__(self) -> None:
        self._alive.add(self)

    @classmethod
    def before_fork(cls) -> None:
        """Keeps all in the child."""
        cls._kept.extend(cls._alive)

    @classmethod
    def after_fork(cls) -> None:
        """In the parent they go when they are not used."""
        cls._kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=OfDevice.before_fork, after_in_parent=OfDevice.after_fork)


class Launches(OfDevice):
    """A graph of operations, made again for each batch by one launch of the device, where that can
    be had, and by a launch for each operation elsewhere.

    Args:
        graph: The operations. They move tensors in place.
        leaves: The tensors of a batch.
        each: Whether what each batch gave is returned, with a new first axis.
    """

    def __init__(self, graph: Callable[..., Any], leaves: list[torch.Tensor], each: bool) -> None:
        super().__init__()
        self._each = each
        self._is_on_cuda = any(leaf.is_cuda for leaf in leaves)
        self._on_the_way: deque[Any] = deque()
        # Its constants are read by each launch where they lie, on the host too.
        self._graph = graph
        self._launch = (_captured(graph, leaves) if self._is_on_cuda else None) or graph

    def run(self, columns: list[tuple[torch.Tensor, ...]], count: int) -> Any:
        """Runs the first `count` batches of a block; returns what the last one gave, or each.

        Args:
            columns: For each tensor of a batch, that of each batch.
            count: At least one.
        """
        if len(self._on_the_way) == _BLOCKS_ON_THE_WAY:
            self._on_the_way.popleft().synchronize()
        logs: Any = None
        kept = []
        for index in range(count):
            logs = self._launch(*(column[index] for column in columns))
            if self._each:
                # The next launch writes to where these lie.
                kept.append(keras.tree.map_structure(torch.clone, logs))
        if kept:
            logs = keras.tree.map_structure(lambda *leaves: torch.stack(leaves), *kept)
        if not self._is_on_cuda:
            return logs
        self._on_the_way.append(torch.cuda.current_stream().record_event())
        return logs if kept else keras.tree.map_structure(torch.clone, logs)


def _captured(graph: Callable[..., Any], leaves: list[torch.Tensor]) -> Callable[..., Any] | None:
    """The operations as one launch; None if one of them waits for the device."""
    places = [leaf.clone() for leaf in leaves]
    program = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    try:
        # A thread that makes batches may copy them meanwhile.
        with torch.cuda.graph(program, capture_error_mode="thread_local"):
            logs = graph(*places)
    except RuntimeError:
        return None
    finally:
        # Where the capture fails at its end, PyTorch stays on the stream of the capture.
        torch.cuda.set_stream(stream)

    def launch(*leaves: torch.Tensor) -> Any:
        for place, leaf in zip(places, leaves, strict=True):
            place.copy_(leaf)
        program.replay()
        return logs

    return launch


class CopiedBatches(Batches):
    """Batches that are copied to a CUDA device beside its computing.

    On the stream of the computing a copy would begin when all steps that were launched have ended,
    and who asks for it would wait for them.

    Args:
        batches: As for `Batches`.
        convert: Makes tensors of a batch, on the device.
        ahead: As for `Batches`.
    """

    def __init__(
        self, batches: Iterable[Batch], convert: Callable[[Batch], Batch], ahead: bool
    ) -> None:
        stream = torch.cuda.Stream()

        def copied(batch: Batch) -> Batch:
            with torch.cuda.stream(stream):
                tensors = convert(batch)
            stream.synchronize()
            return tensors

        super().__init__(batches, copied, ahead)

    def get_torch_dataloader(self) -> Iterator[Batch]:
        """The batches."""
        return _copied_here(self.get_jax_iterator())


def _copied_here(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches once more copied, on the stream of the computing, which takes microseconds.

    The memory of the first copies may be written over as soon as they are gone, so they stay until
    the second ones are made. (`Tensor.record_stream` would see to that too, but a process that is
    forked, such as a worker of a DataLoader, aborts when it frees such a tensor.)
    """
    read = _Read()
    try:
        for batch in batches:
            here = keras.tree.map_structure(_copy, batch)
            read.until(torch.cuda.current_stream().record_event(), batch)
            del batch
            yield here
            read.let_go()
    finally:
        if has_cuda():
            read.wait()


class _Read(OfDevice):
    """Batches that are kept until an event has come."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[tuple[torch.cuda.Event, Batch]] = deque()

    def until(self, event: torch.cuda.Event, batch: Batch) -> None:
        """Keeps a batch."""
        self._waiting.append((event, batch))

    def let_go(self) -> None:
        """Forgets those whose event has come."""
        while self._waiting and self._waiting[0][0].query():
            self._waiting.popleft()

    def wait(self) -> None:
        """Waits for the last event."""
        if self._waiting:
            self._waiting[-1][0].synchronize()


def _copy(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, torch.Tensor) and leaf.is_cuda else leaf


def has_cuda() -> bool:
    """True if this process has CUDA devices. One that was forked after they were opened, such as a
    worker of a DataLoader, cannot use them; torch.manual_seed asks in the same way.
    """
    return torch.cuda.is_available() and not torch.cuda._is_in_bad_fork()
