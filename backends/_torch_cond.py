"""`keras.ops.cond` on PyTorch without a look at the condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import torch
from torch.utils._python_dispatch import TorchDispatchMode


def both_branches(condition: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]) -> Any:
    """Runs both branches, and chooses by the condition among what they return and what they write.

    Args:
        condition: A number or a tensor of one.
        if_true: A function without arguments.
        if_false: The same.
    """
    if isinstance(condition, keras.Variable):
        condition = condition.value
    if not isinstance(condition, torch.Tensor):
        return if_true() if condition else if_false()
    chosen = condition.bool()
    with _Written() as by_true:
        true = if_true()
    after_true = by_true.take_back()
    with _Written() as by_false:
        false = if_false()
    with torch.no_grad():
        for key, tensor in {**by_true.tensors, **by_false.tensors}.items():
            # One that a branch does not write is as it was there.
            of_true = after_true.get(key, by_false.before.get(key))
            tensor.copy_(torch.where(chosen, of_true, tensor))

    def choose(one: Any, other: Any) -> Any:
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            return torch.where(chosen, one, other)
        return one

    return keras.tree.map_structure(choose, _values(true), _values(false))


class _Written(TorchDispatchMode):
    """Keeps what operations write to, as it was before.

    Attributes:
        tensors: By their place in memory.
        before: Their values before the first write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[Any, torch.Tensor] = {}
        self.before: dict[Any, torch.Tensor] = {}

    def take_back(self) -> dict[Any, torch.Tensor]:
        """Puts the values back; returns those that were written, by place."""
        with torch.no_grad():
            written = {key: tensor.clone() for key, tensor in self.tensors.items()}
            # Of tensors that overlap, the first write comes last.
            for key in reversed(self.tensors):
                self.tensors[key].copy_(self.before[key])
        return written

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        named = named or {}
        for position, form in enumerate(function._schema.arguments):
            if form.alias_info is not None and form.alias_info.is_write:
                given = named.get(form.name)
                if position < len(arguments):
                    given = arguments[position]
                for tensor in given if isinstance(given, list | tuple) else [given]:
                    self._note(tensor)
        return function(*arguments, **named)

    def _note(self, tensor: Any) -> None:
        if isinstance(tensor, torch.Tensor):
            key = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
            if key not in self.tensors:
                self.before[key] = tensor.clone()
                self.tensors[key] = tensor


def _values(tree: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: leaf.value if isinstance(leaf, keras.Variable) else leaf, tree
    )
