"""Taking the values of a model's variables off the device, and putting values back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import ml_dtypes
import numpy as np

from keras_patterns.backends import current

from .. import _keras
from .._util.errors import KerasPatternsError
from .names import exchanged_places
from .variables import Role, VariableIndex, find_variables

# What may hold the same integer in another backend's dtype. Seeds are bit patterns, read modulo
# 2**32; counters are numbers.
_INTEGERS = ("int32", "int64", "uint32", "uint64")


class StateMismatchError(KerasPatternsError, ValueError):
    """A checkpoint's variables are not those of the model, as `kp.fit` finds on a resume. Build the
    model as it was, take over what fits by `kp.load_pretrained`, or give another folder.
    """


class CounterOverflowError(StateMismatchError, OverflowError):
    """A counter in a checkpoint is larger than what this backend counts in."""


@contextmanager
def putting_back(name: str) -> Iterator[None]:
    """Names the owner of a state from a checkpoint where putting it back fails.

    Args:
        name: Of the owner.

    Raises:
        StateMismatchError: In the place of any error that is not one of this package.
    """
    try:
        yield
    except KerasPatternsError:
        raise
    except Exception as error:
        raise StateMismatchError(
            f"The state of {name} in the checkpoint cannot be put back: "
            f"{type(error).__name__}: {error}. If {name} is as it was when the checkpoint was "
            "made, go on from another one."
        ) from error


@dataclass(frozen=True)
class VariableRecord:
    """One variable of a checkpoint.

    Attributes:
        value: Its value.
        role: A weight, a metric's or an optimizer's.
        path: Keras's name for it, for people.
        is_frozen: Whether it is a weight that is not trained, but would be if nothing were frozen.
            Not stored.
    """

    value: np.ndarray
    role: Role
    path: str = ""
    is_frozen: bool = False


class Snapshot:
    """Copies all variables of a model into buffers that are kept and used again.

    Fresh memory costs several times the copy itself, and finding the variables costs Python work
    for each: both are done once, and again only when an optimizer has built itself since, or after
    `refresh`.

    Args:
        model: A built Keras model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self.refresh()

    def refresh(self) -> None:
        """Finds the variables anew; to be called when the set of variables may have changed."""
        self.index: VariableIndex = find_variables(self._model)
        self._variables = list(self.index.variables.values())
        frozen = {
            id(weight) for weight in _keras.weights_to_train(self._model) if not weight.trainable
        }
        self.records: dict[str, VariableRecord] = {
            key: VariableRecord(
                value=np.empty(variable.shape, np_dtype(variable)),
                role=self.index.roles[key],
                path=variable.path,
                is_frozen=id(variable) in frozen,
            )
            for key, variable in self.index.variables.items()
        }
        self._buffers = [record.value for record in self.records.values()]
        self._slots = self._count_slots()

    def take(self) -> dict[str, VariableRecord]:
        """Copies the values that the variables have now. The same records are returned, and their
        arrays overwritten, by every call.
        """
        # An optimizer that is used for the first time late in a run builds itself then.
        if self._count_slots() != self._slots:
            self.refresh()
        current().sync(self._model)
        current().to_host(self._variables, self._buffers)
        return self.records

    def _count_slots(self) -> int:
        return sum(len(optimizer.variables) for optimizer in self.index.optimizers.values())


def copy_values(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """The values of some variables as fresh arrays, by key."""
    arrays = {
        key: np.empty(variable.shape, np_dtype(variable)) for key, variable in variables.items()
    }
    current().to_host(list(variables.values()), list(arrays.values()))
    return arrays


def put_back(
    variables: Mapping[str, keras.Variable],
    values: Mapping[str, np.ndarray],
    keys: Iterable[str] | None = None,
) -> None:
    """Assigns values by key.

    Args:
        variables: The variables by key.
        values: Arrays of equal shape and dtype by key; integers of another width are converted (see
            `as_dtype`).
        keys: Which keys to assign. Defaults to those that both have.

    Raises:
        StateMismatchError: If a shape or a dtype differs; nothing has been assigned then.
    """
    keys = list(variables.keys() & values.keys() if keys is None else keys)
    wrong = differences({key: variables[key] for key in keys}, values)
    if wrong:
        raise StateMismatchError(_listed("The checkpoint is of another model.", wrong))
    assign({key: variables[key] for key in keys}, values)


def assign(variables: Mapping[str, keras.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Assigns values that fit, by key, to all of some variables.

    Raises:
        CounterOverflowError: As `as_dtype`; nothing has been assigned then.
    """
    # All are converted before any is assigned. Of what fits, only whole numbers may differ in kind,
    # and Keras takes its time to tell the kind of a variable.
    converted = [
        as_dtype(values[key], np_dtype(variable), is_seed(variable))
        if values[key].dtype.kind in "iu"
        else values[key]
        for key, variable in variables.items()
    ]
    current().assign(list(variables.values()), converted)


def refresh_derived_state(model: keras.Model) -> None:
    """Computes anew what layers keep that follows from their weights; to be called once weights
    have been put back.
    """
    for layer in _keras.all_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def differences(variables: Mapping[str, keras.Variable], values: Mapping[str, Any]) -> list[str]:
    """Where values do not fit variables: a line for each key that is missing or whose shape or
    dtype differs.
    """
    lines = []
    for key, variable in variables.items():
        what = _difference(variable, values[key]) if key in values else _MISSING
        if what:
            lines.append(f"{key} ({variable.path}): {what}")
    return lines


_MISSING = "the model has it, the checkpoint has not"


def _difference(variable: keras.Variable, found: Any) -> str:
    shape, dtype = tuple(variable.shape), np_dtype(variable)
    if tuple(found.shape) != shape:
        return f"shape {tuple(found.shape)} in the checkpoint, {shape} in the model"
    if found.dtype == dtype or (found.dtype.name in _INTEGERS and dtype.name in _INTEGERS):
        return ""
    return (
        f"dtype {found.dtype} in the checkpoint, {dtype} in the model; floats are never cast "
        "silently"
    )


def check_fits(
    model: keras.Model, index: VariableIndex, records: Mapping[str, VariableRecord]
) -> None:
    """Raises if the weights in a checkpoint are not exactly those of the model.

    Args:
        model: The model.
        index: Its variables.
        records: Those of the checkpoint, by key.

    Raises:
        StateMismatchError: Naming the first places that differ.
    """
    weights = index.of("weight")
    lines = differences(weights, {key: one.value for key, one in records.items()})
    lines += [
        f"{key}: the checkpoint has it, the model has not"
        for key, one in records.items()
        if one.role == "weight" and key not in index.variables
    ]
    if lines:
        raise StateMismatchError(
            _listed("The checkpoint is of another model.", lines)
            + "\nBuild the model as it was, take over what fits with `kp.load_pretrained`, or give "
            "another folder."
        )
    lines = exchanged_places(model, weights, {key: one.path for key, one in records.items()})
    if lines:
        raise StateMismatchError(
            _listed("Layers have exchanged their places since the checkpoint was written.", lines)
            + "\nIt is put back by place, so that each would get the weights of another one. Build "
            "them in the order that they had, or take the weights over by name with "
            "`kp.load_pretrained`."
        )


def as_dtype(value: np.ndarray, dtype: np.dtype, seed: bool) -> np.ndarray:
    """Converts an integer array to another integer dtype; any other array is returned as it is.

    Backends differ: `iteration` is int32 or int64, the state of a seed generator uint32, int32 or
    int64. A seed is a pattern of 32 bits and is carried as such. A counter is a number; one that
    does not fit is an error.

    Raises:
        CounterOverflowError: If a counter does not fit the dtype.
    """
    if value.dtype == dtype:
        return value
    if seed:
        bits = value.astype(np.int64) & 0xFFFFFFFF
        return (
            bits.astype(np.uint32).view(np.int32).copy()
            if dtype == np.int32
            else bits.astype(dtype)
        )
    limits = np.iinfo(dtype)
    if value.size and (value.min() < limits.min or value.max() > limits.max):
        raise CounterOverflowError(
            f"A counter of {value.max()} does not fit the {dtype} that this backend counts in (at "
            f"most {limits.max})."
        )
    return value.astype(dtype)


def is_seed(variable: keras.Variable) -> bool:
    """True if a variable is the state of a `SeedGenerator`."""
    return variable.name == "seed_generator_state"


def not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """The keys of the arrays that have a NaN or an infinity."""
    # Entered once: it costs more than a look at a small array.
    with np.errstate(all="ignore"):
        return [key for key, array in arrays.items() if not _all_finite(array)]


def all_finite(array: np.ndarray) -> bool:
    """True if no element is NaN or infinite."""
    return not not_finite({"": array})


def _all_finite(array: np.ndarray) -> bool:
    if not array.size or array.dtype.kind in "iub":
        return True
    if array.dtype.char in "fd" and array.flags.c_contiguous:
        flat = array.reshape(-1)
        # One pass, by all cores. Very large numbers may overflow: then the others decide.
        if math.isfinite(np.dot(flat, flat)):
            return True
    # The extremes are found several times faster than a mask of all elements is made; NaN is an
    # extreme.
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def np_dtype(variable: keras.Variable) -> np.dtype:
    """The NumPy dtype of the value that a variable holds; bfloat16 and the 8-bit floats are those
    of ml_dtypes.
    """
    return _dtype_named(current().held_dtype(variable.dtype))


@cache
def _dtype_named(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)


def _listed(what: str, lines: list[str], most: int = 5) -> str:
    more = f"\n  ... and {len(lines) - most} more" if len(lines) > most else ""
    return f"{what} The first differences:\n  " + "\n  ".join(lines[:most]) + more
