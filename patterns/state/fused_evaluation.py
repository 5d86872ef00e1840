"""Evaluating a model on arrays in blocks of batches that are one program."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import Block, BlockProgram, CannotFuseError, current

from ..data import ArraySource
from ..data.stacked import FEWEST_STEPS, indexed_block, most_steps
from .preservation import preserved
from .programs import has_test_program, kept_test_program, made_program, own_method, trying
from .randomness import get_random_state
from .snapshot import copy_values
from .values import digest
from .variables import find_variables

Logs = dict[str, Any]


class EvaluationInterrupted(Exception):
    """Leaves `model.evaluate`."""


@dataclass(frozen=True)
class BlockTerms:
    """The terms on which an evaluation is run in blocks.

    Attributes:
        seconds: That a batch takes at most.
        is_worth_it: Tells whether it is worth a compilation that each evaluation has so many fewer
            calls.
        gives_up: Whether blocks that take longer than single batches are given up.
        needs_new: Whether the model must not have been evaluated before, since somebody may have
            changed what its test step does.
        note: Is told which way was chosen, and why.
    """

    seconds: float
    is_worth_it: Callable[[int], bool]
    gives_up: bool
    needs_new: bool
    note: Callable[[str, str], None]


class FusedEvaluation:
    """Evaluates a model on arrays in blocks. The first time it is done both ways, from the same
    state: if any bit differs, it is done one batch after the other from then on.

    Args:
        arguments: `x`, `y` and `sample_weight` of `evaluate`, arrays.
        batch_size: Likewise.
        steps: Likewise.
        terms: On which there are blocks.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        batch_size: int | None,
        steps: int | None,
        terms: BlockTerms,
    ) -> None:
        self._arrays = [value for value in arguments.values() if value is not None]
        self._arguments = {**arguments, "batch_size": batch_size, "steps_per_pass": steps}
        self._steps = steps
        self._terms = terms
        # Not held: what is compiled anew is to be the only one.
        self._function: Callable[[], Any] = lambda: None
        self._batches: _Batches | None = None
        self._one_by_one = math.inf
        self._is_usable = False

    def __call__(
        self, model: keras.Model, evaluate: Callable[[Any], Logs], callbacks: Any, silent: Any
    ) -> Logs:
        """The metrics by name.

        Args:
            model: To be evaluated.
            evaluate: Does it one batch after the other, and tells these callbacks.
            callbacks: Are told of it.
            silent: Tells nobody.
        """
        is_new = model.test_function is None
        model.make_test_function()
        if self._function() is not model.test_function:
            self._function = weakref.ref(model.test_function)
            self._is_usable = is_new or not self._terms.needs_new or has_test_program(model)
            return self._both_ways(model, evaluate, callbacks, silent)
        if self._batches is None:
            return evaluate(callbacks)
        began = time.perf_counter()
        logs = self._batches.evaluate(model, callbacks)
        if self._terms.gives_up and time.perf_counter() - began > self._one_by_one:
            self._stay("blocks took longer")
        # Once is enough.
        self._one_by_one = math.inf
        return logs

    def _both_ways(
        self, model: keras.Model, evaluate: Callable[[Any], Logs], callbacks: Any, silent: Any
    ) -> Logs:
        current().sync(model)
        try:
            batches, fused = self._tried(model, silent)
        except CannotFuseError as error:
            self._stay(str(error))
            return evaluate(callbacks)
        began = time.perf_counter()
        logs = evaluate(callbacks)
        self._one_by_one = time.perf_counter() - began
        stepwise = _outcome(model, logs)
        wrong = [name for name in stepwise if stepwise[name] != fused.get(name)]
        if wrong:
            self._stay(f"a block is not equal to its batches: {wrong[0]} is another one")
        else:
            self._batches = batches
            self._terms.note("in blocks", f"each is one program ({batches.kind})")
        return logs

    def _tried(self, model: keras.Model, silent: Any) -> tuple[_Batches, Mapping[str, bytes]]:
        """The blocks, and the outcome of an evaluation by them; the model stays as it is."""
        if reason := self._blocker(model):
            raise CannotFuseError(reason)
        with trying(model, EvaluationInterrupted) as own:
            source = ArraySource(**self._arguments, shuffle=False)
            sample = source.step_batch(0)
            batches = _Batches(source, self._steps, most_steps(sample, self._terms.seconds))
            saved = batches.count - batches.calls
            if saved < batches.calls * (FEWEST_STEPS - 1):
                raise CannotFuseError("there are so few batches, or they are so large")
            if not self._terms.is_worth_it(saved):
                raise CannotFuseError("so few are left that a program would not pay")
            batches.program = kept_test_program(
                model, sample, lambda: made_program(model, sample, own, tests=True)
            )
            with preserved(model):
                return batches, _outcome(model, batches.evaluate(model, silent))
        raise AssertionError

    def _blocker(self, model: keras.Model) -> str:
        """Why there can be no blocks; empty if there can."""
        if keras.distribution.distribution() is not None:
            return "the model or its batches are spread over devices"
        if model.steps_per_execution != 1:
            return "steps_per_execution says how many batches run together"
        if name := own_method(model, "evaluate", "get_metrics_result", "reset_metrics"):
            return f"the model's own {name} would be called more often"
        if not all(type(leaf) is np.ndarray for leaf in keras.tree.flatten(self._arrays)):
            return "the data are no NumPy arrays"
        if not self._is_usable:
            return "a callback may have changed what an evaluation does meanwhile"
        return ""

    def _stay(self, reason: str) -> None:
        self._batches = None
        self._terms.note("one by one", reason)


class _Batches:
    """The batches of an evaluation, block by block.

    Args:
        source: Makes them.
        steps: How many there are. Defaults to a pass over the source.
        most: The most of a block.

    Attributes:
        count: How many batches there are.
        calls: How many blocks, and batches of another size.
        program: Runs a block. Set before the first evaluation.
    """

    program: BlockProgram

    def __init__(self, source: ArraySource, steps: int | None, most: int) -> None:
        self._source, self._most = source, most
        self.count = min(steps or source.steps_per_pass, source.steps_per_pass)
        self._size = source.batch_length(0)
        alike = self.count - (source.batch_length(self.count - 1) != self._size)
        self.calls = math.ceil(alike / most) + self.count - alike

    @property
    def kind(self) -> str:
        """The way in which the program was made."""
        return self.program.kind

    def evaluate(self, model: keras.Model, callbacks: Any) -> Logs:
        """The metrics by name."""
        blocks = self._blocks()
        # Keras begins data that it has read to their end anew, for which PyTorch draws a number.
        is_whole = self.count == self._source.steps_per_pass
        self.program.feed.num_batches = self.calls if is_whole else None
        one_by_one = model.test_function
        model.test_function = stand_in = self.program.function(lambda: next(blocks, None))
        try:
            return model.evaluate(
                self.program.feed,
                steps=self.calls,
                callbacks=callbacks,
                return_dict=True,
                verbose=0,
            )
        finally:
            # Not where the model was compiled anew meanwhile.
            if model.test_function is stand_in:
                model.test_function = one_by_one

    def _blocks(self) -> Iterator[Any]:
        step = 0
        while step < self.count:
            numbers = range(step, min(step + self._most, self.count))
            block = indexed_block(self._source, numbers, self._size, self.program.rooms)
            step += block.count if isinstance(block, Block) else 1
            yield block


def _outcome(model: keras.Model, logs: Mapping[str, Any]) -> dict[str, bytes]:
    """The metrics of an evaluation, and the state that it leaves behind, as bytes."""
    current().sync(model)
    values = copy_values(find_variables(model).of("weight", "metric"))
    return {
        "the state of a random generator": digest(get_random_state()).encode(),
        **{name: value.tobytes() for name, value in values.items()},
        **{f"the metric {name!r}": repr(value).encode() for name, value in logs.items()},
    }
