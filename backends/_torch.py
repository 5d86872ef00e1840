"""Keras on PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import torch

from ._blocks import BlockProgram
from ._errors import is_memory_error
from ._feed import Batch, Batches, Feed, each_leaf
from ._held import StateAccess
from ._measured import Values, assigning_step
from ._spread import ignored_distribution
from ._torch_blocks import TorchBlocks
from ._torch_cuda import CopiedBatches, has_cuda
from ._trees import tree_from_arrays, tree_to_arrays

_DEVICE = re.compile(r"cpu|mps(:0)?|cuda:[0-9]{1,3}")
# cuDNN says of a batch that is too large that it is not supported.
_NO_MEMORY = re.compile(
    "CUDA.*out of memory|CUDNN_STATUS_NOT_SUPPORTED|DefaultCPUAllocator: can't allocate memory"
)
# The state of the CPU's generator, a Mersenne Twister, as torch lays it out: before and since 1.5.
_CPU_BYTES = (5048, 5056)
_WORDS = 624
# What moves beside the variables that it serves, and gives that as a dict.
_WITH_STATE = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.amp.GradScaler)


class TorchBackend:
    """PyTorch has global generators, one on the CPU and one on each device, from which unseeded
    layers draw.
    """

    name = "torch"
    version = torch.__version__
    carries_attribute_optimizers = True
    decays_at_once = True
    step_overhead = 5e-3
    program_cost = 0.5
    fuses_steps = False
    gathers = False
    runs_python = True

    def attributes(self, node: Any) -> Mapping[str, Any]:
        # torch.nn.Module keeps submodules in a dictionary of its own.
        found = dict(vars(node))
        found.update(found.pop("_modules", {}))
        return found

    def held_dtype(self, name: str) -> str:
        return name

    def build(self, model: keras.Model, batch: tuple[Any, ...]) -> None:
        model._symbolic_build(data_batch=batch)

    def prepare(self, model: keras.Model) -> None:
        # Keras 3.15 shows torch a model's variables by their paths, so of several with one path
        # only the last. The gradients of the others are not cleared by zero_grad(), and add up from
        # step to step.
        shown = {id(parameter) for parameter in model.parameters()}
        for index, variable in enumerate(model.trainable_variables):
            if id(variable.value) not in shown:
                model.torch_params[f"{variable.path}#{index}"] = variable.value

    def hold(self, model: keras.Model) -> Callable[[], None]:
        # Keras 3.15 does not register layers as submodules; each is a module all the same.
        modes = [(layer, layer.training) for layer in [model, *model._flatten_layers()]]
        buffers = [(buffer, buffer.clone()) for layer, _ in modes for buffer in layer.buffers()]
        idle = [parameter for parameter in model.parameters() if parameter.grad is None]

        def put_back() -> None:
            for layer, mode in modes:
                layer.training = mode
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            for parameter in idle:
                parameter.grad = None

        return put_back

    def sync(self, model: keras.Model) -> None:
        pass

    def to_host(self, variables: Sequence[keras.Variable], buffers: Sequence[np.ndarray]) -> None:
        for variable, buffer in zip(variables, buffers, strict=True):
            # bfloat16 has no NumPy counterpart in torch: both sides are seen as the integers of the
            # same bits.
            value = variable.value.detach()
            if value.dtype == torch.bfloat16:
                value, buffer = value.view(torch.int16), buffer.view(np.int16)
            torch.from_numpy(buffer).copy_(value, non_blocking=False)

    def assign(self, variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> None:
        # Keras would make two copies, and convert each on the way.
        with torch.no_grad():
            for variable, array in zip(variables, arrays, strict=True):
                value, flags = variable.value, array.flags
                # torch reads only what it could write to. As a rule it can, and asking costs less.
                fits = flags.c_contiguous and flags.writeable
                source = array if fits else np.require(array, requirements=("C", "W"))
                if value.dtype == torch.bfloat16:
                    value, source = value.view(torch.int16), source.view(np.int16)
                value.copy_(torch.from_numpy(source))

    def finite_check(self, variables: Sequence[keras.Variable]) -> Callable[[], np.ndarray]:
        def are_finite() -> np.ndarray:
            flags = [torch.isfinite(variable.value.detach()).all() for variable in variables]
            return torch.stack(flags).cpu().numpy() if flags else np.zeros(0, bool)

        return are_finite

    def spread_blocker(self, model: keras.Model) -> str | None:
        group = torch.distributed
        if not (group.is_available() and group.is_initialized() and group.get_world_size() > 1):
            return ignored_distribution()
        return (
            f"{group.get_world_size()} processes of torch.distributed train together, and each "
            "would train on all examples. Start one process."
        )

    def batch_parts(self) -> int:
        return 1

    def device(self) -> str:
        device = _device_of_keras()
        if device.type == "cuda":
            return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(device)}"
        return f"1 x {device.type}"

    def peak_memory(self) -> int | None:
        device = _device_of_keras()
        return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

    def is_out_of_memory(self, error: BaseException) -> bool:
        return is_memory_error(
            error,
            lambda one: (
                isinstance(one, torch.OutOfMemoryError)
                or (isinstance(one, RuntimeError) and _NO_MEMORY.search(str(one)) is not None)
            ),
        )

    def settings(self) -> dict[str, Any]:
        return {
            "threads": torch.get_num_threads(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        }

    def tree_to_arrays(self, tree: Any) -> dict[str, np.ndarray]:
        return tree_to_arrays(tree)

    def tree_from_arrays(self, like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        return tree_from_arrays(like, arrays)

    def random_state(self) -> dict[str, Any]:
        state = {"cpu": torch.get_rng_state().numpy()}
        if has_cuda():
            state |= {f"cuda:{i}": s.numpy() for i, s in enumerate(torch.cuda.get_rng_state_all())}
        if torch.backends.mps.is_available():
            state["mps"] = torch.mps.get_rng_state().numpy()
        return state

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        for device, value in state.items():
            _check_generator(device, value)
        for device, value in state.items():
            # A device that this machine lacks has no generator to set.
            if device == "cpu":
                torch.set_rng_state(torch.from_numpy(np.array(value)))
            elif device == "mps" and torch.backends.mps.is_available():
                torch.mps.set_rng_state(torch.from_numpy(np.array(value)))
            elif device.startswith("cuda") and int(device[5:]) < torch.cuda.device_count():
                torch.cuda.set_rng_state(torch.from_numpy(np.array(value)), device)

    def set_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    @contextmanager
    def seeded(self, words: np.ndarray) -> Iterator[None]:
        cpu, seed = torch.default_generator, _seed(words)
        has_devices = has_cuda() or torch.backends.mps.is_available()
        outside = cpu.get_state(), self.random_state() if has_devices else {}
        # As torch.manual_seed does, which notes who has called, for devices that are not open yet:
        # that takes longer than to make a batch.
        cpu.manual_seed(seed)
        if has_devices:
            torch.manual_seed(seed)
        try:
            yield
        finally:
            cpu.set_state(outside[0])
            self.set_random_state(outside[1])

    def state_access(self, thing: Any) -> StateAccess | None:
        if isinstance(thing, torch.Generator):
            return StateAccess(
                f"torch.Generator on {thing.device}",
                lambda: thing.get_state().numpy().copy(),
                lambda state: _put_generator(thing, state),
                lambda words: thing.manual_seed(_seed(words)),
            )
        if isinstance(thing, torch.Tensor):
            return StateAccess(
                "torch.Tensor",
                lambda: _to_array(thing),
                lambda state: _put(thing, state),
                is_value=True,
            )
        if isinstance(thing, _WITH_STATE):
            return StateAccess(
                f"torch {type(thing).__name__}",
                lambda: _with_arrays(thing.state_dict()),
                lambda state: _load(thing, state),
                has_fixed_form=False,
            )
        return None

    def is_random_key(self, thing: Any) -> bool:
        return False

    def untold_operations(self, known: Set[int]) -> list[str]:
        return []

    def gradients(
        self, model: keras.Model, batch: tuple[Any, ...]
    ) -> tuple[float, list[np.ndarray | None]]:
        x, y, sample_weight = (keras.tree.map_structure(_to_tensor, part) for part in batch)
        outputs = model(x, training=True)
        # One of before Keras 3.3 has no argument `training`, which this leaves out.
        loss = model._compute_loss(x, y, outputs, sample_weight, training=True)
        weights = [variable.value for variable in model.trainable_variables]
        if not loss.requires_grad:
            return float(loss), [None for _ in weights]
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        return float(loss.detach()), [
            None if one is None else one.detach().float().cpu().numpy() for one in found
        ]

    def gradient_function(
        self, model: keras.Model
    ) -> Callable[[tuple[Any, ...]], tuple[float, list[np.ndarray | None]]]:
        return partial(self.gradients, model)

    def measured_step(
        self, model: keras.Model, fresh: Values, counter: keras.Variable, loss_key: str
    ) -> Callable[..., Any]:
        return assigning_step(model.train_step, fresh, counter, loss_key)

    def feed(
        self,
        batches: Iterable[Batch],
        samples: Sequence[Batch],
        ahead: bool,
        owner: keras.Model,
    ) -> Feed:
        kind = CopiedBatches if keras.ops.zeros(()).is_cuda else Batches
        return kind(batches, each_leaf(_to_tensor), ahead)

    def block_program(
        self, model: keras.Model, sample: Batch, tests: bool = False, each: bool = False
    ) -> BlockProgram:
        return TorchBlocks(model, sample, each_leaf(_to_tensor), tests, each)

    def run_function(
        self, model: keras.Model, function: Callable[..., Any], data: Feed, times: int
    ) -> Any:
        iterator = data.get_torch_dataloader()
        return [function([next(iterator)]) for _ in range(times)][-1]


def _device_of_keras() -> torch.device:
    """Where Keras makes tensors: KERAS_TORCH_DEVICE may say so."""
    device: torch.device = keras.ops.zeros(()).device
    return device


def _put_generator(generator: torch.Generator, state: Any) -> None:
    _check_generator(str(generator.device), state)
    generator.set_state(torch.from_numpy(state.copy()))


def _check_generator(device: str, state: Any) -> None:
    """Raises a ValueError if it is not the state of a device's generator."""
    if not _DEVICE.fullmatch(device):
        raise ValueError(f"torch: {device!r:.60} is no device")
    is_bytes = isinstance(state, np.ndarray) and state.dtype == np.uint8 and state.ndim == 1
    fits = is_bytes and (device != "cpu" or state.nbytes in _CPU_BYTES)
    if fits and device == "cpu":
        # torch 2.13 looks at these one by one, and reads past its table where they do not go
        # together: of what is left, the next word to use is the first.
        left, next_word = state[8:12].view(np.int32)[0], state[16:24].view(np.uint64)[0]
        unused = _WORDS + 1 - int(next_word)
        fits = 0 < left <= _WORDS and int(next_word) <= _WORDS and (left == 1 or left <= unused)
    if not fits:
        raise ValueError(f"torch[{device!r}]: these are not the bytes of a generator's state")


def _seed(words: np.ndarray) -> int:
    return int(words[0]) | int(words[1]) << 32


def _to_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().copy()
    return tensor.numpy().copy()


def _with_arrays(state: Any) -> Any:
    """A state of PyTorch's with arrays in the place of tensors, copied."""
    if isinstance(state, torch.Tensor):
        # Which holds every number of bfloat16, that NumPy does not have.
        return _to_array(state.float() if state.dtype == torch.bfloat16 else state)
    if isinstance(state, Mapping):
        return {key: _with_arrays(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_with_arrays(value) for value in state)
    return state


def _with_tensors(state: Any) -> Any:
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state.copy())
    if isinstance(state, Mapping):
        return {key: _with_tensors(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_with_tensors(value) for value in state)
    return state


def _load(thing: Any, state: Any) -> None:
    try:
        thing.load_state_dict(_with_tensors(state))
    except (AttributeError, LookupError) as error:
        raise ValueError(f"{type(thing).__name__}.load_state_dict fails: {error!r}") from error


def _put(tensor: torch.Tensor, array: np.ndarray) -> None:
    value = torch.from_numpy(array.copy())
    with torch.no_grad():
        tensor.copy_(value.view(torch.bfloat16) if tensor.dtype == torch.bfloat16 else value)


def _to_tensor(array: Any) -> Any:
    return None if array is None else keras.ops.convert_to_tensor(array)


ADAPTER = TorchBackend()
