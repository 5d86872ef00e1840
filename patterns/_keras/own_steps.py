"""Steps that are counted for each variable, where an optimizer begins with some of its variables
later than with others.

Adam and its kin correct a moment by the number of gradients in it. Keras takes the number of all
steps for that, which is too high for a variable whose slots are fresh; PyTorch counts for each
parameter. The optimizer stays one of its class, which any process can load, so the counting stands
before its methods on the instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from .attributes import replace_attribute, replaced

_NAME = "_own_steps"
# On the way to the update of one variable, and of many at once where the framework has a fused one.
_METHODS = ("update_step", "_parallel_update_step")


def first_steps(optimizer: keras.optimizers.Optimizer) -> dict[int, int]:
    """The number of steps that an optimizer had made when it began with a variable, by its id;
    those of 0 are left out.
    """
    return dict(own.first) if (own := vars(optimizer).get(_NAME)) else {}


def put_first_steps(optimizer: keras.optimizers.Optimizer, steps: Mapping[int, int]) -> bool:
    """Makes the optimizer count for each variable from its first step on.

    Args:
        optimizer: One that computes updates itself, not one that wraps others.
        steps: As `first_steps` gives them.

    Returns:
        Whether they are others than before: a step that is compiled holds the old ones.
    """
    steps = {variable: step for variable, step in steps.items() if step}
    if steps == first_steps(optimizer):
        return False
    own = vars(optimizer).pop(_NAME, None)
    if own:
        own.remove()
    if steps:
        vars(optimizer)[_NAME] = _OwnSteps(optimizer, steps)
    return True


class _OwnSteps:
    """Stands before the methods that compute updates: they see the counter from a variable's first
    step on.
    """

    def __init__(self, optimizer: Any, first: dict[int, int]) -> None:
        self._optimizer, self.first = optimizer, first
        self._restores = [
            replace_attribute(optimizer, name, getattr(self, name.lstrip("_")))
            for name in _METHODS
            if hasattr(optimizer, name)
        ]

    def remove(self) -> None:
        """Gives the optimizer its own methods back."""
        for restore in self._restores:
            restore()

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        with self._counting_from(self._first_of(variable)):
            type(self._optimizer).update_step(self._optimizer, gradient, variable, learning_rate)

    def parallel_update_step(self, grads: Any, variables: Any, learning_rate: Any) -> None:
        """Updates many variables at once, those with the same first step together."""
        optimizer: Any = self._optimizer
        if isinstance(optimizer, keras.optimizers.Nadam):
            # Its fused update moves a product of the momenta of all steps; by one variable after
            # the other it does so once, before.
            keras.optimizers.Nadam._backend_update_step(optimizer, grads, variables, learning_rate)
            return
        of_each = [self._first_of(variable) for variable in variables]
        for first in dict.fromkeys(of_each):
            chosen = [index for index, of_one in enumerate(of_each) if of_one == first]
            arguments = [grads[index] for index in chosen], [variables[index] for index in chosen]
            with self._counting_from(first):
                type(optimizer)._parallel_update_step(optimizer, *arguments, learning_rate)

    def _first_of(self, variable: Any) -> int:
        # On TensorFlow it is the framework's variable, not Keras's.
        trained = self._optimizer._trainable_variables[
            self._optimizer._get_variable_index(variable)
        ]
        return self.first.get(id(trained), 0)

    @contextmanager
    def _counting_from(self, first: int) -> Iterator[None]:
        if not first:
            yield
            return
        optimizer, counter = self._optimizer, self._optimizer._iterations
        # Accumulated steps count once, and the first of them may lie before.
        first -= first % (optimizer.gradient_accumulation_steps or 1)
        with replaced(optimizer, "_iterations", ops.maximum(counter - first, 0)):
            yield
