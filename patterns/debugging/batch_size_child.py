"""The child process that trains in larger and larger batches until it is refused memory. It reads
one line of JSON and prints the sizes that fit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current


def main() -> None:
    """Prints `ready` once the model is made and the limit set, then `fits`, the size and
    the bytes that it took, for every size that fits."""
    # Imported here: other systems have no such module.
    import resource

    asked = json.load(sys.stdin)
    model = keras.saving.deserialize_keras_object(asked["model"])
    _train(model, asked["rows"], 1)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + asked["limit"]
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    print("ready", flush=True)
    at_start = _from_status("VmRSS")
    for size in asked["sizes"]:
        # The peak from here on: that of the imports may be higher.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        try:
            _train(model, asked["rows"], size)
        except Exception as error:
            print(f"refused: {type(error).__name__}", flush=True)
            # A device that was refused memory may not end in order.
            break
        print(f"fits {size} {max(0, _from_status('VmHWM') - at_start)}", flush=True)


def _from_status(name: str) -> int:
    """Bytes, from a line of the kernel's account of this process."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (one for one in text.splitlines() if one.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _train(model: keras.Model, rows: list[Any], size: int) -> None:
    batch = [_zeros(part, size) for part in rows]
    while batch[-1] is None:
        batch.pop()
    model.train_on_batch(*batch)


def _zeros(part: Any, size: int) -> Any:
    if part is None:
        return None
    if isinstance(part, list):
        return tuple(_zeros(one, size) for one in part)
    if "/" in part:
        shape, dtype = part["/"]
        return np.zeros((size, *shape), dtype)
    return {name: _zeros(one, size) for name, one in part.items()}


if __name__ == "__main__":
    current()
    main()
