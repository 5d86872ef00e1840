"""The child process in which one backend computes what `assert_same_on_backends` compares. It reads
one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from ..state.variables import find_variables


def main() -> None:
    """Writes predictions, losses and weights to a file that bears the backend's name."""
    asked = json.load(sys.stdin)
    folder = Path(asked["folder"])
    with np.load(folder / "data.npz", allow_pickle=False) as file:
        arrays = [file[name] for name in file.files]
    x, y = (_filled(asked[part], arrays) for part in ("x", "y"))
    model = _model(asked, folder)
    found: dict[str, Any] = dict(_named("output", model.predict(x, verbose=0)))
    for step in range(asked["steps"]):
        logs = model.train_on_batch(x, y, return_dict=True)
        found[f"loss of step {step + 1}"] = np.asarray(logs["loss"])
    if asked["steps"]:
        weights = find_variables(model).of("weight")
        for key, one in weights.items():
            found[f"weight {key} after training"] = keras.ops.convert_to_numpy(one.value)
    np.savez(folder / f"{current().name}.npz", **found)


def _model(asked: dict[str, Any], folder: Path) -> keras.Model:
    path = folder / asked["model"]
    if asked["builder"]:
        model = _imported(*asked["builder"])()
        model.load_weights(path)
        return model
    known = {name: _imported(module, name) for module, name in asked["classes"]}
    return keras.saving.load_model(path, custom_objects=known, compile=asked["steps"] > 0)


def _imported(module: str, name: str) -> Any:
    return reduce(getattr, name.split("."), importlib.import_module(module))


def _filled(structure: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(structure, dict):
        return {name: _filled(one, arrays) for name, one in structure.items()}
    if isinstance(structure, list):
        return tuple(_filled(one, arrays) for one in structure)
    return None if structure is None else arrays[structure]


def _named(name: str, outputs: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a structure by their places in it."""
    if isinstance(outputs, dict | list | tuple):
        items = outputs.items() if isinstance(outputs, dict) else enumerate(outputs)
        for key, one in items:
            yield from _named(f"{name}/{key}", one)
    else:
        yield name, np.asarray(outputs)


if __name__ == "__main__":
    current()
    main()
