"""What the tests of the store have in common."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_128_hexdigest

from keras_patterns.storage import Position, Tensor

HEAD = b'{\n"checksum": "'


def tensors(arrays: Mapping[str, np.ndarray]) -> list[Tensor]:
    return [Tensor(key, array, f"path/of/{key}") for key, array in arrays.items()]


def some_arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "model/kernel": rng.random((3, 4), np.float32),
        "model/counts": rng.integers(0, 9, (5,)),
        "optimizer/iterations": np.asarray(seed),
        "model/empty": np.empty((0, 3), np.float32),
    }


def at(step: int) -> Position:
    return Position(run=1, step=step, phase=1)


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].dtype == array.dtype.newbyteorder("="), key
        assert found[key].shape == array.shape, key
        assert found[key].tobytes() == np.ascontiguousarray(array, found[key].dtype).tobytes(), key


def a_document(*weights: str, step: int = 1) -> dict[str, Any]:
    """The smallest document of a run, with these weights."""
    contents: dict[str, Any] = {
        "identity": {
            "total_steps": step,
            "steps_per_epoch": 1,
            "seed": 0,
            "data": {},
            "start_mode": "auto",
        },
        "cursor": {"step": step, "todo": [], "logs": None, "ended": False},
        "variables": dict.fromkeys(weights, "weight"),
        "optimizers": {},
        "data": {},
    }
    return {
        name: {"version": 1, "required": True, "content": content}
        for name, content in contents.items()
    }


def listing(directory: Path) -> list[str]:
    """The names in it, less those of the lock."""
    return sorted(name for name in os.listdir(directory) if not name.startswith(".lock"))


def sign(text: str) -> bytes:
    """The manifest with these fields (JSON text of an object), with a right checksum."""
    rest = b'",\n' + text.lstrip()[1:].encode()
    return HEAD + xxh3_128_hexdigest(HEAD + rest).encode() + rest


def fields_of(folder: Path) -> dict[str, Any]:
    fields = json.loads((folder / "manifest.json").read_bytes())
    del fields["checksum"]
    return fields


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that finds what this one finds."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
