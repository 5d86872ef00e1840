"""The same predictions, and the same training step, on each backend that is installed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current, installed

from .. import _keras
from .._util.arguments import check_number, whole_number
from .._util.children import last_words, run_child
from .._util.messages import first_line
from .._util.models import check_built
from ..data.rows import as_rows
from ..state.compiled import check_compiled

_CALLER = "assert_same_on_backends"
_CHILD = "keras_patterns.testing.on_backends_child"
_SECONDS = 600
# Differences that a message names.
_NAMED = 10
Values = dict[str, np.ndarray]


def assert_same_on_backends(
    model: keras.Model | Callable[[], keras.Model],
    x: Any,
    y: Any = None,
    *,
    steps: int = 0,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    backends: Sequence[str] | None = None,
) -> None:
    """Asserts that a model predicts the same on each backend, and if asked trains the same way.

    The model is saved to a file. Each backend loads it in a process of its own, on the CPU, with
    the same weights. The process imports the modules in which classes of your own stand, so they
    must be importable: a module of the project, or the test's own, and no notebook.

    Args:
        model: A built model; or a function of a module, without arguments, that returns one, for a
            model that cannot be loaded from a file. It is called in each process, and gets the
            weights of this one.
        x, y: Arrays, in any structure. `y` is needed with `steps` only.
        steps: Steps of training on all of `x` and `y` as one batch, whose losses, and the weights
            after them, are compared too. Defaults to 0.
        rtol, atol: Two numbers a and b are the same if `|a - b|` is at most `atol + rtol * |b|`.
            Default to 1e-4 and 1e-5.
        backends: Names of backends. Defaults to None: all that are installed.

    Raises:
        AssertionError: If a value differs: which, where, by how much and on which backends; if a
            backend cannot run the model; or if fewer than two backends are installed, since nothing
            was compared then.
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, the model is not built, cannot be saved, or with `steps`
            is not compiled or draws random numbers, which differ between backends.

    Example:

    >>> import keras, numpy as np
    >>> from keras_patterns.backends import installed
    >>> from keras_patterns.testing import assert_same_on_backends
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> if len(installed()) > 1:
    ...     assert_same_on_backends(model, np.ones((2, 4), "float32"))
    """
    steps = whole_number(_CALLER, "steps", steps, least=0)
    tolerances = {
        "rtol": check_number(_CALLER, "rtol", rtol),
        "atol": check_number(_CALLER, "atol", atol),
    }
    names = _backends(backends)
    made, builder = _made(model)
    _check(made, y, steps)
    with tempfile.TemporaryDirectory(prefix="keras-patterns-") as folder:
        asked = {
            "folder": folder,
            "steps": steps,
            "builder": builder,
            "classes": _classes(made),
            **_save(made, builder, x, y if steps else None, Path(folder)),
        }
        found = {name: _run(name, asked) for name in names}
    lines = [line for name in names[1:] for line in _differences(found, names[0], name, tolerances)]
    if lines:
        more = [f"... and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
        text = "\n  ".join(lines[:_NAMED] + more)
        raise AssertionError(
            f"{_CALLER}: {made.name!r} is not the same on {', '.join(names)}:\n  {text}\nLook at "
            "layers of your own that ask for the backend or use one framework; pass a part of the "
            "model, keras.Model(model.inputs, layer.output), to find the first layer that differs. "
            "If the numbers are as close as their precision allows, raise `rtol` or `atol`."
        )


def _backends(asked: Sequence[str] | None) -> list[str]:
    """The names, that of the backend of this process first."""
    there = installed()
    if isinstance(asked, str):
        raise TypeError(f"{_CALLER}: `backends` must be a list of names. Received: {asked!r}.")
    missing = [name for name in asked or () if name not in there]
    if missing:
        raise ValueError(
            f"{_CALLER}: `backends` names {missing[0]!r}, and installed are {', '.join(there)}."
        )
    names = sorted(set(there if asked is None else asked))
    if len(names) < 2:
        raise AssertionError(
            f"{_CALLER}: nothing was compared, since there is {', '.join(names) or 'none'} alone. "
            "Install another backend, or skip the test where there is one: "
            "@pytest.mark.skipif(len(keras_patterns.backends.installed()) < 2, reason=...)."
        )
    return sorted(names, key=lambda name: (name != current().name, name))


def _made(model: Any) -> tuple[keras.Model, list[str] | None]:
    """The model, and the way to the function that makes it."""
    if _keras.has_trainer(model) or not callable(model):
        return model, None
    module, name = getattr(model, "__module__", None), getattr(model, "__qualname__", "<")
    if module in (None, "__main__") or "<" in name:
        raise ValueError(
            f"{_CALLER}: the function that makes the model must stand in a module, at its top: "
            f"another process imports it from there. Received: {model!r}."
        )
    return model(), [module, name]


def _check(model: keras.Model, y: Any, steps: int) -> None:
    check_built(_CALLER, model)
    if not steps:
        return
    check_compiled(_CALLER, model)
    if y is None:
        raise ValueError(f"{_CALLER}: steps={steps} needs `y`.")
    drawing = [
        layer.name
        for layer in _keras.all_layers(model)
        if _keras.draws(layer) and getattr(layer, "rate", True)
    ]
    if drawing:
        raise ValueError(
            f"{_CALLER}: {drawing[0]!r} draws random numbers in training, which differ between "
            "backends. Compare predictions only, steps=0, or make the model without it."
        )


def _classes(model: keras.Model) -> list[list[str]]:
    """The modules and names of the classes that are not Keras's."""
    kinds = {type(layer) for layer in (model, *_keras.all_layers(model))}
    found = [[kind.__module__, kind.__qualname__] for kind in kinds]
    return sorted(one for one in found if one[0].partition(".")[0] != "keras")


def _save(
    model: keras.Model, builder: list[str] | None, x: Any, y: Any, folder: Path
) -> dict[str, Any]:
    """Writes the model and the data; returns their structures."""
    name = "model.weights.h5" if builder else "model.keras"
    try:
        model.save_weights(folder / name) if builder else model.save(folder / name)
    except Exception as error:
        raise ValueError(
            f"{_CALLER}: {model.name!r} cannot be saved: {first_line(error)}. Give a function that "
            "makes it."
        ) from error
    arrays: list[np.ndarray] = []
    structures = {
        part: _structure(as_rows(one, part), arrays) for part, one in (("x", x), ("y", y))
    }
    np.savez(folder / "data.npz", *arrays)
    return {"model": name, **structures}


def _structure(part: Any, arrays: list[np.ndarray]) -> Any:
    """A structure with the number of each array in its place."""
    if part is None:
        return None
    if isinstance(part, dict):
        return {name: _structure(one, arrays) for name, one in part.items()}
    if isinstance(part, list | tuple):
        return [_structure(one, arrays) for one in part]
    arrays.append(np.asarray(part))
    return len(arrays) - 1


def _run(name: str, asked: dict[str, Any]) -> Values:
    """The values that a backend computes."""
    try:
        done = run_child(_CHILD, json.dumps(asked), name, _SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError(
            f"{_CALLER}: {name} took longer than {_SECONDS} seconds. Give fewer examples."
        ) from None
    path = Path(asked["folder"]) / f"{name}.npz"
    if done.returncode or not path.exists():
        sys.stderr.write(done.stderr)
        raise AssertionError(
            f"{_CALLER}: {name} cannot run the model: {last_words(done)}\nWhere it cannot be "
            "loaded, let its classes stand in a module, or give a function of a module that makes "
            "it."
        )
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _differences(
    found: dict[str, Values], first: str, other: str, tolerances: dict[str, float]
) -> Iterator[str]:
    expected, values = found[first], found[other]
    for key in sorted(expected.keys() ^ values.keys()):
        yield f"{key}: only on {first if key in expected else other}"
    for key in expected.keys() & values.keys():
        a, b = expected[key], values[key]
        if a.shape != b.shape:
            yield f"{key}: of shape {list(a.shape)} on {first}, {list(b.shape)} on {other}"
            continue
        far = ~np.isclose(b, a, **tolerances, equal_nan=True)
        if far.any():
            by = np.where(far, np.abs(a.astype("float64") - b.astype("float64")), -1.0)
            place = np.unravel_index(np.argmax(np.nan_to_num(by, nan=np.inf)), by.shape)
            index = [int(one) for one in place]
            yield (
                f"{key}: {int(far.sum())} of {a.size} values differ between {first} and {other}, "
                f"most of all at {index}: {a[place]:.6g} and {b[place]:.6g}"
            )
