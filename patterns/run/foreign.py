"""State beside the model that a run moves: carried where it can be, else named at the start."""

from __future__ import annotations

import random
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .._util.warn import warn
from ..state.callbacks import named
from ..state.held import HeldStates, access_to, states_of
from ..state.snapshot import StateMismatchError
from ..state.values import MovingValues, digest
from ..state.variables import VariableIndex, find_variables
from ..state.walk import Node, walk

_ADVICE = (
    "To draw at random in a step, use keras.random with a keras.random.SeedGenerator that the "
    "layer keeps; to count, use a weight of the layer that is not trainable."
)
_PYTHON_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
# The step that each model was last compiled with while it was watched, and what was found. The step
# holds the model, which would live for ever if it were held here.
_TRACED: WeakKeyDictionary[keras.Model, tuple[weakref.ref[Any] | None, list[str]]] = (
    WeakKeyDictionary()
)


class NoForeignState:
    """A run that is not saved has nothing to carry."""

    def begin(self, index: VariableIndex | None) -> None:
        """Nothing is named."""

    def states(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, states: Mapping[str, Any]) -> None:
        """Nothing was saved."""

    def forget_variables(self) -> None:
        """None are known."""

    def watching(self) -> AbstractContextManager[None]:
        """Nothing is named."""
        return nullcontext()


class ForeignState:
    """The random generators, raw variables, tables and counters that Keras does not track.

    Args:
        caller: The public function, for messages.
        model: In training.
        callbacks: Of the person.
        data: What the model is trained on.
        validation_data: What it is validated on, or the function that does so.
    """

    def __init__(
        self,
        caller: str,
        model: keras.Model,
        callbacks: Iterable[keras.callbacks.Callback],
        data: Any,
        validation_data: Any,
    ) -> None:
        self._caller = caller
        self._model = model
        self._data = data
        roots = {"model": model}
        roots |= {f"callbacks/{name}": one for name, one in named(callbacks).items()}
        self._held = HeldStates({**roots, "validation_data": validation_data}, self._known)
        self._values = MovingValues(self._held.nodes, self._is_watched)

    def begin(self, index: VariableIndex | None) -> None:
        """Takes note of what there is, once everything is built; names what cannot be carried.

        Args:
            index: Where the variables of the model stand; None where that is to be found.
        """
        nodes = self._held.begin(None if index is None else _saved_variables(index))
        self._values.begin(nodes)
        traced = self._model.train_function
        lines = [*self._in_model(nodes), *self._in_threads(), *self._unreadable(nodes)]
        if traced is not None and self._is_traced:
            step, found = _TRACED.get(self._model, (None, []))
            if step is not None and step() is traced:
                lines += found
            else:
                # What it was compiled with was not seen.
                _keras.recompile_step(self._model)
        self._warn(lines)

    def states(self) -> dict[str, Any]:
        """The state of everything that can be carried."""
        nodes, found = self._held.look()
        return {"objects": states_of(found), "values": self._values.states(nodes)}

    def restore(self, states: Mapping[str, Any]) -> None:
        """Puts back what `states` gave.

        Raises:
            StateMismatchError: If a part does not fit.
        """
        parts = [states.get(name, {}) for name in ("objects", "values")]
        if not all(isinstance(part, Mapping) for part in parts):
            raise StateMismatchError(
                "The section 'held' of the checkpoint must hold 'objects' and 'values' by place. "
                f"Received: {states!r:.80}"
            )
        nodes = self._held.restore(parts[0])
        self._values.restore(parts[1], nodes)

    def forget_variables(self) -> None:
        """The variables of the model have changed."""
        self._held.forget_known()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it, what a step draws or moves while it is traced is named, before it runs.

        To be entered for each call of `fit`: a function that JAX has compiled once is not traced
        anew, so each needs one of its own.
        """
        if not self._is_traced:
            yield
            return
        model = self._model
        step = model.train_step
        # Emptied at the end: what a framework has compiled keeps the function as long as the model
        # lives, and must not keep the data and callbacks of this run.
        traced = [self._traced]

        def train_step(*arguments: Any, **named_arguments: Any) -> Any:
            if not traced:
                return step(*arguments, **named_arguments)
            return traced[0](lambda: step(*arguments, **named_arguments))

        restore = _keras.replace_attribute(model, "train_step", train_step)
        try:
            yield
        finally:
            traced.clear()
            restore()
            if model.train_function is not None and model in _TRACED:
                _TRACED[model] = (weakref.ref(model.train_function), _TRACED[model][1])

    def _traced(self, trace: Callable[[], Any]) -> Any:
        """Traces the step, and names what moves meanwhile."""
        values = MovingValues(self._held.nodes, _is_in_model, counts_new=False)
        values.begin()
        before = self._python_generators()
        result = trace()
        # The first step may build metrics.
        after, known = self._python_generators(), self._known_in_step()
        drawn = [place for place in after if after[place] != before.get(place, after[place])]
        lines = [f"{place}: moves only where the step is traced" for place in values.moved()]
        lines += [f"{place}: drawn from only where the step is traced" for place in drawn]
        lines += [f"{one}: its state is out of reach" for one in current().untold_operations(known)]
        _TRACED[self._model] = (None, lines)
        self._warn(lines)
        return result

    def _known_in_step(self) -> set[int]:
        """The framework's own variables that are saved."""
        held = [thing for thing, _ in self._held.find().values()]
        variables = [thing for thing in held if isinstance(thing, keras.Variable)]
        values = map(_keras.raw_value, [*self._known(), *variables])
        inner = [getattr(thing, "state", None) for thing in held]
        return {id(one) for one in [*values, *held, *inner]}

    def _python_generators(self) -> dict[str, str]:
        """The states of the generators in the model whose code is Python's, each as a text."""
        return {
            place: digest(access.get())
            for place, (thing, access) in self._held.find().items()
            if place.startswith("model/") and isinstance(thing, _PYTHON_GENERATORS)
        }

    @property
    def _is_traced(self) -> bool:
        model = self._model
        if not model.compiled or model.run_eagerly:
            return False
        return not current().runs_python

    def _known(self) -> list[keras.Variable]:
        return _saved_variables(find_variables(self._model))

    def _is_watched(self, node: Node) -> bool:
        # A compiled step has run its Python code once: see `_traced`.
        if _is_in_model(node):
            return not self._is_traced
        # The state of a callback is its own to tell; the functions of Keras's cannot.
        in_callback = node.place.startswith("callbacks/")
        return not in_callback or isinstance(node.owner, types.FunctionType)

    def _in_model(self, nodes: list[Node]) -> list[str]:
        """The parts of the model that a compiled step takes for constants."""
        if not self._model.compiled:
            return []
        if self._is_traced:
            return [
                f"{node.place}: a key is a constant of the compiled step, which draws the same "
                "numbers each time"
                for node in nodes
                if _is_in_model(node) and node.is_own and current().is_random_key(node.value)
            ]
        if self._model.jit_compile and current().runs_python:
            return [
                f"{place} ({access.kind}): in a compiled step"
                for place, (_, access) in self._held.find().items()
                if place.startswith("model/")
            ]
        return []

    def _in_threads(self) -> list[str]:
        """The generators of a dataset from which its threads draw in any order."""
        data = self._data
        if not isinstance(data, keras.utils.PyDataset) or data.workers <= 1:
            return []
        if data.use_multiprocessing:
            return []
        found = HeldStates({"x": data}).find()
        return [
            f"{place} ({access.kind}): threads draw from it in any order; give workers=1, or "
            "use_multiprocessing=True"
            for place, (_, access) in found.items()
            if access.seed
        ]

    def _unreadable(self, nodes: list[Node]) -> list[str]:
        """Random generators whose state cannot be read, or has no place of its own."""
        lines = []
        for node in [*nodes, *walk({"x": self._data})]:
            thing = node.value
            if isinstance(thing, random.SystemRandom):
                lines.append(f"{node.place}: draws from the operating system")
            elif isinstance(thing, _PYTHON_GENERATORS) and not access_to(thing):
                lines.append(f"{node.place}: a generator whose state is not known here")
            elif "{" in node.place and node.place[:2] != "x/" and _needs_place(thing):
                lines.append(f"{node.place}: stands in a set, which has no order")
        return lines

    def _warn(self, lines: list[str]) -> None:
        if lines:
            more = f"\n  ... and {len(lines) - 10} more" if len(lines) > 10 else ""
            warn(
                f"{self._caller}: a resumed run will differ from one that was not killed, since a "
                "checkpoint cannot carry:\n  " + "\n  ".join(lines[:10]) + f"{more}\n{_ADVICE}",
            )


def _saved_variables(index: VariableIndex) -> list[keras.Variable]:
    """The variables that a checkpoint of the model holds."""
    seed = _keras.global_seed_variable()
    return [*index.variables.values(), *([] if seed is None else [seed])]


def _is_in_model(node: Node) -> bool:
    return node.place.startswith("model/")


def _needs_place(thing: Any) -> bool:
    access = access_to(thing)
    return access is not None and not (access.is_value or isinstance(thing, keras.Variable))
