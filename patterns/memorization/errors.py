"""The error of a model on each example of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from ..data.rows import as_rows, count_examples, describe, named_leaves, on_host, take
from ..state import copy_values, find_variables, put_back

ErrorFunction = Callable[[Any, Any], Any]

# Of more inputs than so many, an example's are not told.
_MOST_INPUTS = 16


class Table:
    """The examples that a model is to memorise.

    Args:
        caller: The function that was called, for messages.
        x: Inputs: arrays, in the structure that the model takes.
        y: Targets: arrays, in the structure of the outputs.
        relative: Whether errors are fractions of the range of each array of targets.
        error: In place of the absolute difference, a function of targets and outputs. Defaults to
            None.

    Attributes:
        x: Inputs.
        examples: The number of examples.

    Raises:
        TypeError: If `x` or `y` is no structure of arrays of numbers.
        ValueError: If they differ in length, or a target is not finite.
    """

    def __init__(
        self,
        caller: str,
        x: Any,
        y: Any,
        relative: bool = False,
        error: ErrorFunction | None = None,
    ) -> None:
        self._caller = caller
        self.x = as_rows(x, "x")
        self._y = as_rows(y, "y")
        self.examples = count_examples(x=self.x, y=self._y)
        self._error = error
        self._targets: dict[str, np.ndarray] = dict(named_leaves(self._y, "y"))
        for name, target in self._targets.items():
            self._check_finite(name, target)
        self._scales = [
            self._range(name, target) if relative else 1.0 for name, target in self._targets.items()
        ]

    def describe(self) -> dict[str, Any]:
        """The shape, dtype and digest of each array, as JSON."""
        return {**describe(self.x, "x"), **describe(self._y, "y")}

    def check_shapes(self, model: keras.Model, size: int) -> None:
        """Raises ValueError if the outputs of a built model cannot be compared with the targets.

        Args:
            model: Its outputs are only computed where a function compares them.
            size: Examples that are computed at once.
        """
        if self._error is not None and model.built:
            rows = np.arange(min(size, self.examples))
            with _unmoved(model):
                self._compared(rows, self._outputs(model, rows, size))
        elif model.built:
            inputs = keras.tree.map_structure(
                lambda one: keras.KerasTensor(one.shape, take(one, np.arange(1)).dtype), self.x
            )
            outputs = keras.tree.flatten(model.compute_output_spec(inputs))
            self._check_shapes([one.shape for one in outputs])

    def errors(self, model: keras.Model, size: int) -> np.ndarray:
        """The largest error of each example, of shape `(examples,)`; infinity where an output is
        not finite.

        Args:
            model: Built.
            size: Examples that are computed at once.
        """
        found = np.empty(self.examples)
        with _unmoved(model):
            for start in range(0, self.examples, size):
                rows = np.arange(start, min(start + size, self.examples))
                outputs = self._outputs(model, rows, size)
                found[rows] = self._compared(rows, outputs).max(axis=1)
        return found

    def worst(
        self, model: keras.Model, errors: np.ndarray, size: int, most: int = 5
    ) -> list[dict[str, Any]]:
        """The examples with the largest errors, the largest first, in words and numbers.

        Args:
            model: As in `errors`.
            errors: What that gave.
            size: As there.
            most: How many, at most. Defaults to 5.
        """
        rows = np.argsort(-errors, kind="stable")[: min(most, size)]
        with _unmoved(model):
            outputs = self._outputs(model, rows, size)
        places = self._compared(rows, outputs).argmax(axis=1)
        flat = keras.tree.flatten(outputs)
        return [
            {
                "example": int(row),
                "error": float(errors[row]),
                **self._told(int(row), [one[index] for one in flat], int(place)),
            }
            for index, (row, place) in enumerate(zip(rows, places, strict=True))
        ]

    def _outputs(self, model: keras.Model, rows: np.ndarray, size: int) -> Any:
        """The outputs for some examples. All batches are of one size, for which the model is
        compiled once: the last one is filled up.
        """
        filled = np.resize(rows, min(size, self.examples))
        inputs = keras.tree.map_structure(lambda one: take(one, filled), self.x)
        outputs = model.predict_on_batch(inputs)
        return keras.tree.map_structure(lambda one: np.asarray(one)[: len(rows)], outputs)

    def _compared(self, rows: np.ndarray, outputs: Any) -> np.ndarray:
        """The error of each number of some examples, of shape `(examples, numbers)`."""
        if self._error is not None:
            targets = keras.tree.map_structure(lambda one: np.asarray(one[rows]), self._y)
            errors = self._by_function(targets, outputs, len(rows))
        else:
            flat = keras.tree.flatten(outputs)
            self._check_shapes([one.shape for one in flat])
            pairs = zip(self._targets.values(), flat, self._scales, strict=True)
            parts = [
                np.abs(output.reshape(len(rows), -1) - _flat(target, rows)) / scale
                for target, output, scale in pairs
            ]
            errors = np.concatenate(parts, axis=1)
        return np.where(np.isfinite(errors), errors, np.inf)

    def _by_function(self, targets: Any, outputs: Any, examples: int) -> np.ndarray:
        assert self._error
        given = on_host(self._error(targets, outputs))
        if given.dtype.kind not in "biuf" or given.shape[:1] != (examples,):
            raise ValueError(
                f"{self._caller}: `error` must give real numbers for each example, an array of "
                f"shape ({examples}, ...) for {examples} examples. Received: {given.dtype} of "
                f"shape {given.shape}. Don't average over examples."
            )
        if (given < 0).any():
            raise ValueError(
                f"{self._caller}: `error` gave {given.min():.3g}, and an error below 0 would be "
                "within each tolerance. Give the absolute value."
            )
        return given.astype("float64").reshape(examples, -1)

    def _check_shapes(self, outputs: list[Any]) -> None:
        if len(self._targets) != len(outputs):
            raise ValueError(
                f"{self._caller}: the model has {len(outputs)} outputs, and `y` "
                f"{len(self._targets)} arrays. Give a target for each output, in the same "
                "structure."
            )
        for (name, target), output in zip(self._targets.items(), outputs, strict=True):
            # Keras takes targets of (n,) for outputs of (n, 1).
            shapes = [[size for size in shape[1:] if size != 1] for shape in (target.shape, output)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"{self._caller}: `{name}` has the shape {(None, *target.shape[1:])}, and the "
                    f"output {(None, *output[1:])}, so there is no difference between them. Give "
                    "targets of the shape of the output (classes as one-hot rows), or `error=`, a "
                    "function of targets and outputs."
                )

    def _told(self, row: int, outputs: list[np.ndarray], place: int) -> dict[str, Any]:
        """Where an error is: in which target, and what stands there."""
        inputs = keras.tree.flatten(self.x)
        is_short = len(inputs) == 1 and inputs[0][row].size <= _MOST_INPUTS
        told: dict[str, Any] = {"inputs": _flat(inputs[0], [row])[0].tolist() if is_short else None}
        if self._error is not None:
            return {**told, "place": f"y[{row}]", "target": None, "output": None}
        for (name, target), output in zip(self._targets.items(), outputs, strict=True):
            count = target[row].size
            if place < count:
                at = ", ".join(map(str, (row, *np.unravel_index(place, target.shape[1:]))))
                value = float(output.flat[place])
                told |= {
                    "place": f"{name}[{at}]",
                    "target": float(target[row].flat[place]),
                    "output": value if np.isfinite(value) else None,
                }
                return told
            place -= count
        raise IndexError(place)

    def _check_finite(self, name: str, target: np.ndarray) -> None:
        if target.dtype.kind not in "biuf":
            raise TypeError(
                f"{self._caller}: `{name}` must hold real numbers. Received: {target.dtype}."
            )
        wrong = np.flatnonzero(~np.isfinite(target).reshape(len(target), -1).all(axis=1))
        if len(wrong):
            raise ValueError(
                f"{self._caller}: `{name}` is not finite in {len(wrong):,} of {len(target):,} "
                f"examples, the first of which is number {wrong[0]}. No model can be within a "
                "tolerance of them; leave them out."
            )

    def _range(self, name: str, target: np.ndarray) -> float:
        found = float(np.max(target)) - float(np.min(target))
        if not found:
            raise ValueError(
                f"{self._caller}: `{name}` is {target.flat[0]} everywhere, so there is no range "
                "that an error could be relative to. Give relative=False."
            )
        return found


@contextmanager
def _unmoved(model: keras.Model) -> Iterator[None]:
    """Puts back what inference moves, such as the state of a recurrent layer."""
    weights = find_variables(model).of("weight")
    moving = {key: variable for key, variable in weights.items() if not variable.trainable}
    values = copy_values(moving)
    try:
        yield
    finally:
        put_back(moving, values)


def _flat(array: np.ndarray, rows: Any) -> np.ndarray:
    return np.asarray(array[rows], "float64").reshape(len(rows), -1)
