"""Keras on JAX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._feed import Batch, Batches

if TYPE_CHECKING:
    import keras


class JaxBackend:
    """JAX has no global random state, and its trainer holds the training state outside the variables during an epoch."""

    name = "jax"
    carries_attribute_optimizers = False
    fuses_steps = True

    def attributes(self, node: Any) -> Mapping[str, Any]:
        return vars(node)

    def build(self, model: keras.Model, batch: tuple[Any, ...]) -> None:
        model._symbolic_build(data_batch=batch)

    def prepare(self, model: keras.Model) -> None:
        pass

    def sync(self, model: keras.Model) -> None:
        model.jax_state_sync()

    def to_host(self, variables: Sequence[keras.Variable], buffers: Sequence[np.ndarray]) -> None:
        arrays = [variable.value for variable in variables]
        # Accelerators: every transfer is under way before the first is waited for. On the CPU this would be a copy more.
        if jax.default_backend() != "cpu":
            for array in arrays:
                array.copy_to_host_async()
        for array, buffer in zip(arrays, buffers, strict=True):
            np.copyto(buffer, np.asarray(array), casting="no")

    def random_state(self) -> dict[str, Any]:
        return {}

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        pass

    def feed(self, batches: Iterable[Batch], samples: Sequence[Batch], ahead: bool) -> Any:
        return Batches(batches, lambda batch: batch)


ADAPTER = JaxBackend()
