"""The steps of a model as a graph of PyTorch's operations, without the Python between them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ._blocks import Block, CannotFuseError
from ._feed import Batch, Feed, NoFeed
from ._torch_cuda import Launches
from ._torch_values import values_on_device

# Operations that hand a value over to Python, which may decide by it what comes next, or whose
# result has a shape that depends on values.
_READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
_READING_TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
# Methods of a tensor that do so without an operation.
_READING_METHODS = ("numpy", "tolist", "__array__", "__dlpack__")


class TorchBlocks:
    """The operations of one `train_step` or `test_step`, noted while it ran, and made again for
    each batch.

    Args:
        model: Compiled and built. It makes two steps while they are noted: put it back, and what
            its layers hold.
        sample: A batch, as tensors.
        to_tensors: Makes tensors of a batch.
        tests: Whether it is `test_step`. Defaults to False.
        each: Whether the logs of each step are given. Defaults to False: those of the last one.

    Raises:
        CannotFuseError: If the operations of one step are not those of another.
    """

    kind = "graph"
    rooms: tuple[int, ...] = ()
    is_outdated = False

    def __init__(
        self,
        model: keras.Model,
        sample: Batch,
        to_tensors: Callable[[Batch], Batch],
        tests: bool = False,
        each: bool = False,
    ) -> None:
        if model.run_eagerly:
            raise CannotFuseError("the model runs eagerly")
        if model.jit_compile:
            raise CannotFuseError("jit_compile has its own program")
        self.feed: Feed = _LoadedFeed() if tests else NoFeed()
        self._step_function = model.test_function if tests else model.train_function
        if tests:
            model.eval()
        self._to_tensors = to_tensors
        leaves = [leaf for leaf in keras.tree.flatten(to_tensors(sample)) if leaf is not None]

        def step(*leaves: torch.Tensor) -> Any:
            rest = iter(leaves)
            batch = keras.tree.map_structure(
                lambda leaf: None if leaf is None else next(rest), sample
            )
            if not tests:
                return model.train_step(batch)
            with torch.no_grad():
                return model.test_step(batch)

        graph, again = _noted(step, leaves), _noted(step, leaves)
        if graph.code != again.code:
            raise CannotFuseError("a step does something else than the one before it")
        with torch.no_grad():
            self._launches = Launches(graph, leaves, each)

    def function(self, take: Callable[[], Block | Batch | int | None]) -> Callable[[Any], Any]:
        def run(data: Iterator[Any]) -> Any:
            next_one = take()
            if next_one is None:
                return self._step_function(data)
            if not isinstance(next_one, Block):
                return self._step_function([self._to_tensors(next_one)])
            batches = keras.tree.flatten(self._to_tensors(next_one.batches))
            columns = [leaf.unbind() for leaf in batches if leaf is not None]
            with torch.no_grad():
                return self._launches.run(columns, next_one.count)

        return run

    def compilation(self, block: Block) -> None:
        """The graph is run as it was noted."""


class _LoadedFeed(NoFeed):
    """Stands in for the data of `evaluate`, and draws from the global generator as they do: the
    DataLoader that Keras makes of arrays draws a seed when it is begun.
    """

    def get_torch_dataloader(self) -> Any:
        """Numbers, as many as are asked for."""
        return torch.utils.data.DataLoader(range(2**62), batch_size=None)


class _NoReads(TorchDispatchMode):
    """Refuses operations that hand a value over to Python.

    Attributes:
        has_refused: Whether it has refused one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_refused = False

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        if function in _READS or any(tag in function.tags for tag in _READING_TAGS):
            self.has_refused = True
            raise CannotFuseError("a read")
        return function(*arguments, **(named or {}))


class _NoReadingMethods(TorchFunctionMode):
    """Refuses methods that hand the values of a tensor over to Python.

    Args:
        mode: Is told that one was refused.
    """

    def __init__(self, mode: _NoReads) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") in _READING_METHODS:
            self._mode.has_refused = True
            raise CannotFuseError("a read")
        return function(*arguments, **(named or {}))


def _noted(step: Callable[..., Any], leaves: list[torch.Tensor]) -> torch.fx.GraphModule:
    before = random.getstate(), str(np.random.get_state(legacy=False))
    mode = _NoReads()
    try:
        with values_on_device(), mode, _NoReadingMethods(mode):
            graph = make_fx(step, tracing_mode="real")(*leaves)
    except Exception as error:
        if mode.has_refused:
            raise CannotFuseError(
                "the step reads a value on the host (a seed, a condition, the rate of a schedule), "
                "which may decide what it does"
            ) from error
        text = str(error).partition("\n")[0]
        raise CannotFuseError(f"the step cannot be noted: {text}") from error
    if before != (random.getstate(), str(np.random.get_state(legacy=False))):
        raise CannotFuseError("the step draws from Python's or NumPy's global generator")
    return graph
