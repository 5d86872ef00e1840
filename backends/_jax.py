"""Keras on JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._blocks import BlockProgram
from ._errors import is_memory_error
from ._feed import Batch, Batches, Feed
from ._held import StateAccess
from ._jax_blocks import JaxBlocks, run_function
from ._measured import Values, loss_of
from ._spread import check_divides, parts_of_a_batch, sizes_of
from ._trees import copied_if_kept

if TYPE_CHECKING:
    import keras

# Of values that are put on a device in one call.
_GROUP_BYTES = 64 << 20


@jax.jit
def _are_finite(arrays: list[Any]) -> Any:
    return jax.numpy.array([jax.numpy.isfinite(array).all() for array in arrays], bool)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_array(leaf: Any) -> np.ndarray:
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(leaf: Any, array: np.ndarray) -> Any:
    if _is_key(leaf):
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
    if isinstance(leaf, jax.Array):
        return jax.device_put(copied_if_kept([array])[0], leaf.sharding)
    return array.copy() if isinstance(leaf, np.ndarray) else type(leaf)(array[()])


def _groups(
    variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]
) -> Iterator[list[tuple[keras.Variable, np.ndarray]]]:
    """Variables and their new values, as many as are put on the device in one call. A call for each
    costs more than its bytes; one for all, a second copy of the model on a device that may be full.
    """
    group: list[tuple[keras.Variable, np.ndarray]] = []
    size = 0
    for variable, array in zip(variables, arrays, strict=True):
        if group and size + array.nbytes > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append((variable, array))
        size += array.nbytes
    if group:
        yield group


class JaxBackend:
    """JAX has no global random state, and its trainer holds the training state outside the
    variables during an epoch.
    """

    name = "jax"
    version = jax.__version__
    carries_attribute_optimizers = False
    decays_at_once = False
    step_overhead = 5e-4
    program_cost = 0.2
    fuses_steps = True
    gathers = False
    runs_python = False

    def attributes(self, node: Any) -> Mapping[str, Any]:
        return vars(node)

    def held_dtype(self, name: str) -> str:
        # Unless `jax_enable_x64` is set, JAX holds half the bits of these, and Keras goes on to
        # speak of all.
        is_wide = name.endswith(("64", "128"))
        return jax.dtypes.canonicalize_dtype(name).name if is_wide else name

    def build(self, model: keras.Model, batch: tuple[Any, ...]) -> None:
        model._symbolic_build(data_batch=batch)

    def prepare(self, model: keras.Model) -> None:
        # Keras 3.15 ends a `fit` with use_ema by having a weight and its average share one array,
        # which the next step could not give away twice.
        seen: set[int] = set()
        optimizer = getattr(model, "optimizer", None)
        for variable in [*model.variables, *getattr(optimizer, "variables", ())]:
            if id(variable.value) in seen:
                variable.assign(jax.numpy.copy(variable.value))
            seen.add(id(variable.value))

    def hold(self, model: keras.Model) -> Callable[[], None]:
        return lambda: None

    def sync(self, model: keras.Model) -> None:
        # As `model.jax_state_sync()` does, less its conversions and checks of values that are the
        # variables' own: with thousands of variables they take half as long as copying them. True
        # for Keras 3.15.
        state = getattr(model, "_jax_state", None)
        if not state or model._jax_state_synced:
            return
        for name in (
            "trainable_variables",
            "non_trainable_variables",
            "optimizer_variables",
            "metrics_variables",
        ):
            values = state.get(name)
            if values:
                variables = (
                    model.optimizer.variables
                    if name == "optimizer_variables"
                    else getattr(model, name)
                )
                for variable, value in zip(variables, values, strict=True):
                    variable._direct_assign(value)
        model._jax_state_synced = True

    def to_host(self, variables: Sequence[keras.Variable], buffers: Sequence[np.ndarray]) -> None:
        arrays = [variable.value for variable in variables]
        # Accelerators: every transfer is under way before the first is waited for. On the CPU this
        # would be a copy more.
        if jax.default_backend() != "cpu":
            for array in arrays:
                array.copy_to_host_async()
        for array, buffer in zip(arrays, buffers, strict=True):
            np.copyto(buffer, np.asarray(array), casting="no")

    def assign(self, variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> None:
        for group in _groups(variables, arrays):
            values = jax.device_put(copied_if_kept(array for _, array in group))
            for (variable, _), value in zip(group, jax.block_until_ready(values), strict=True):
                variable.assign(value)

    def finite_check(self, variables: Sequence[keras.Variable]) -> Callable[[], np.ndarray]:
        return lambda: np.asarray(_are_finite([variable.value for variable in variables]))

    def spread_blocker(self, model: keras.Model) -> str | None:
        if jax.process_count() == 1:
            return None
        return (
            f"{jax.process_count()} JAX processes train together, and each would train on all "
            "examples. Start one process; keras.distribution spreads it over the devices of one "
            "host."
        )

    def batch_parts(self) -> int:
        return parts_of_a_batch()

    def device(self) -> str:
        devices = jax.local_devices()
        return f"{len(devices)} x {devices[0].device_kind}"

    def peak_memory(self) -> int | None:
        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    def is_out_of_memory(self, error: BaseException) -> bool:
        return is_memory_error(
            error,
            lambda one: (
                isinstance(one, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(one)
            ),
        )

    def settings(self) -> dict[str, Any]:
        names = ("jax_enable_x64", "jax_default_matmul_precision", "jax_threefry_partitionable")
        return {name: getattr(jax.config, name) for name in names}

    def tree_to_arrays(self, tree: Any) -> dict[str, np.ndarray]:
        paths, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {jax.tree_util.keystr(path): _as_array(leaf) for path, leaf in paths}

    def tree_from_arrays(self, like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: _like(leaf, arrays[jax.tree_util.keystr(path)]), like
        )

    def random_state(self) -> dict[str, Any]:
        return {}

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        pass

    def set_seed(self, seed: int) -> None:
        pass

    def seeded(self, words: np.ndarray) -> AbstractContextManager[None]:
        return nullcontext()

    def state_access(self, thing: Any) -> StateAccess | None:
        return None

    def is_random_key(self, thing: Any) -> bool:
        return _is_key(thing) or (
            isinstance(thing, jax.Array) and thing.dtype == "uint32" and thing.shape == (2,)
        )

    def untold_operations(self, known: Set[int]) -> list[str]:
        return []

    def gradients(
        self, model: keras.Model, batch: tuple[Any, ...]
    ) -> tuple[float, list[np.ndarray | None]]:
        return self.gradient_function(model)(batch)

    def gradient_function(
        self, model: keras.Model
    ) -> Callable[[tuple[Any, ...]], tuple[float, list[np.ndarray | None]]]:
        # As JAXTrainer does; and the penalties are those of this call, not of the last one.
        mode = {"training": True} if model._call_has_training_arg else {}

        def loss_of_weights(weights: Any, others: Any, metrics: Any, data: Any) -> Any:
            x, y, sample_weight = data
            outputs, others, losses = model.stateless_call(
                weights, others, x, return_losses=True, **mode
            )
            model._losses_override = losses
            loss, _ = model.stateless_compute_loss(
                weights,
                others,
                metrics,
                x=x,
                y=y,
                y_pred=outputs,
                sample_weight=sample_weight,
                training=True,
            )
            return loss

        compiled = jax.jit(jax.value_and_grad(loss_of_weights))

        def gradients(batch: tuple[Any, ...]) -> tuple[float, list[np.ndarray | None]]:
            state = [
                [variable.value for variable in variables]
                for variables in (
                    model.trainable_variables,
                    model.non_trainable_variables,
                    model.metrics_variables,
                )
            ]
            before = model._losses_override
            data = jax.tree_util.tree_map(jax.numpy.asarray, batch)
            try:
                loss, found = compiled(*state, data)
            finally:
                model._losses_override = before
            return float(loss), [np.asarray(one) for one in found]

        return gradients

    def measured_step(
        self, model: keras.Model, fresh: Values, counter: keras.Variable, loss_key: str
    ) -> Callable[..., Any]:
        step, values = model.train_step, {id(variable): value for variable, value in fresh}
        place = [id(variable) for variable in model.optimizer.variables].index(id(counter))

        def train_step(state: Any, data: Any) -> tuple[dict[str, Any], Any]:
            trainable, others, optimizer, metrics = state
            metrics = [
                jax.numpy.asarray(values[id(variable)]) if id(variable) in values else value
                for variable, value in zip(model.metrics_variables, metrics, strict=True)
            ]
            logs, state = step((trainable, others, optimizer, metrics), data)
            return {"loss": loss_of(logs, loss_key), "step": optimizer[place]}, state

        return train_step

    def feed(
        self,
        batches: Iterable[Batch],
        samples: Sequence[Batch],
        ahead: bool,
        owner: keras.Model,
    ) -> Feed:
        # Keras moves the next batches to the device while a step runs.
        parts = self.batch_parts()
        if parts == 1:
            return Batches(batches, lambda batch: batch, ahead)

        def divisible(batch: Batch) -> Batch:
            check_divides(sizes_of(batch), parts)
            return batch

        return Batches(batches, divisible, ahead)

    def block_program(
        self, model: keras.Model, sample: Batch, tests: bool = False, each: bool = False
    ) -> BlockProgram:
        return JaxBlocks(model, sample, tests, each)

    def run_function(
        self, model: keras.Model, function: Callable[..., Any], data: Feed, times: int
    ) -> Any:
        return run_function(model, function, data, times)


ADAPTER = JaxBackend()
