"""Seeds, rates and conditions of a step on PyTorch, which Keras reads on the host, left on the
device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from keras.src.backend.torch import core as keras_core
from keras.src.backend.torch import random as keras_random
from keras.src.random.seed_generator import draw_seed

from ._torch_cond import both_branches

_LIBRARY = torch.library.Library("keras_patterns", "FRAGMENT")
_FORM = "int[] size, ScalarType dtype, Device device"


def _generator(seed: torch.Tensor, device: Any) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(int(seed) & 0xFFFFFFFF)


def _rand(seed: Any, size: Any, dtype: Any, device: Any) -> torch.Tensor:
    return torch.rand(size, generator=_generator(seed, device), dtype=dtype, device=device)


def _normal(seed: Any, mean: Any, spread: Any, size: Any, dtype: Any, device: Any) -> torch.Tensor:
    generator = _generator(seed, device)
    return torch.normal(mean, spread, size, generator=generator, dtype=dtype, device=device)


def _randint(seed: Any, low: Any, high: Any, size: Any, dtype: Any, device: Any) -> torch.Tensor:
    generator = _generator(seed, device)
    return torch.randint(low, high, size, generator=generator, dtype=dtype, device=device)


def _bernoulli(seed: Any, chances: torch.Tensor) -> torch.Tensor:
    return torch.bernoulli(chances, generator=_generator(seed, chances.device))


def _add_scaled(those: Any, others: Any, scale: torch.Tensor) -> None:
    if not scale.is_cuda:
        torch._foreach_add_(those, others, alpha=scale.item())
        return
    # A number would be waited for. The same bits: the product of the scale and one is exact.
    for one, other in zip(those, others, strict=True):
        one.addcmul_(other, scale)


for _name, _arguments, _function in (
    ("rand", _FORM, _rand),
    ("normal", f"float mean, float spread, {_FORM}", _normal),
    ("randint", f"int low, int high, {_FORM}", _randint),
    ("bernoulli", "Tensor chances", _bernoulli),
):
    _LIBRARY.define(f"{_name}(Tensor seed, {_arguments}) -> Tensor")
    _LIBRARY.impl(_name, _function, "CompositeExplicitAutograd")

_LIBRARY.define("add_scaled_(Tensor(a!)[] those, Tensor[] others, Tensor scale) -> ()")
_LIBRARY.impl("add_scaled_", _add_scaled, "CompositeExplicitAutograd")

_OPERATIONS: Any = torch.ops.keras_patterns


class _Seed:
    """Stands in for a generator that was seeded by a tensor."""

    def __init__(self, seed: torch.Tensor) -> None:
        self.tensor = seed


class _Torch:
    """PyTorch for Keras's random functions, which takes a `_Seed` for a generator."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def rand(size: Any, *, generator: _Seed, device: Any, dtype: Any = None) -> torch.Tensor:
        dtype = dtype or torch.get_default_dtype()
        return _OPERATIONS.rand(generator.tensor, size, dtype, torch.device(device))

    @staticmethod
    def normal(
        mean: Any, spread: Any, *, size: Any, generator: _Seed, dtype: Any, device: Any
    ) -> torch.Tensor:
        form = size, dtype, torch.device(device)
        return _OPERATIONS.normal(generator.tensor, mean, spread, *form)

    @staticmethod
    def randint(
        *, low: Any, high: Any, size: Any, generator: _Seed, dtype: Any, device: Any
    ) -> torch.Tensor:
        form = size, dtype, torch.device(device)
        return _OPERATIONS.randint(generator.tensor, low, high, *form)

    @staticmethod
    def bernoulli(chances: torch.Tensor, *, generator: _Seed) -> torch.Tensor:
        return _OPERATIONS.bernoulli(generator.tensor, chances)


def _foreach_add_(those: Any, others: Any, *, alpha: Any = 1) -> None:
    """The same as PyTorch's, which makes a number of a rate that is a tensor."""
    if isinstance(alpha, torch.Tensor):
        _OPERATIONS.add_scaled_(those, others, alpha)
    else:
        _USUAL_ADD(those, others, alpha=alpha)


_USUAL_ADD = torch._foreach_add_


@contextmanager
def values_on_device() -> Iterator[None]:
    """Within it, seeds, rates and conditions stay on the device: Keras's random functions and
    optimizers call operations that take them as tensors, and give the same bits. What has no such
    operation reads them as before.

    Nothing public tells Keras to. True for Keras 3.15.
    """
    module: Any = keras_random
    usual = module.torch, module.torch_seed_generator, keras_core.cond
    module.torch = _Torch()
    module.torch_seed_generator = lambda seed: _Seed(sum(draw_seed(seed)))
    torch._foreach_add_ = _foreach_add_
    keras_core.cond = both_branches
    try:
        yield
    finally:
        module.torch, module.torch_seed_generator, keras_core.cond = usual
        torch._foreach_add_ = _USUAL_ADD
