"""The largest batch that fits: in a child process on a CPU, in this one on other devices."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from keras_patterns.backends import current

from .. import _keras
from .._util.children import last_words, run_child
from .._util.messages import first_line
from ..data.rows import batch_dtype
from ..state import find_variables
from .batch_size_rows import Rows
from .batch_size_speed import StepTimer

# A child that takes longer is ended; what it had shown to fit counts.
_SECONDS = 300
_CHILD = "keras_patterns.debugging.batch_size_child"


@dataclass(frozen=True)
class LargestSize:
    """The largest batch that fits.

    Attributes:
        size: The largest power of two that does, or the number of examples; 0 if not even one does.
        source: `"child"`, `"device"` or `"estimate"`.
        reason: What ended the search, or why there is only an estimate.
        memory: Bytes that training takes beside what a process has at its start, by the size;
            measured in a child, or an estimate. Empty on a device.
    """

    size: int
    source: str
    reason: str
    memory: Mapping[int, int] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        if self.source == "estimate":
            return (
                f"Largest that fits: about {self.size:,}, an estimate from the outputs of the "
                f"layers, without what a step holds for a moment. It was not tried: {self.reason}."
            )
        return f"Largest that fits: {self.size:,}; {self.reason}."


def find_largest(model: keras.Model, rows: Rows, timer: StepTimer, limit: int) -> LargestSize:
    """Looks for it where that does no harm.

    Args:
        model: Built, inside `preserved`.
        rows: Of the data. A batch cannot be larger than these.
        timer: Makes steps of the model in this process, which it does on a device only.
        limit: Bytes that training may take in a child.
    """
    if not current().device().lower().endswith("cpu"):
        return _on_device(rows, timer)
    try:
        return _by_children(model, rows, limit)
    except _NoChildError as error:
        return _estimate(model, rows, limit, str(error))


class _NoChildError(Exception):
    """A child cannot do what this process can; says why."""


def sizes_up_to(most: int, first: int = 1) -> list[int]:
    """Doubles up to the number of examples, which comes last."""
    doubled = [first * 2**power for power in range(max(1, most // first).bit_length())]
    return sorted({*(size for size in doubled if size < most), most})


def _on_device(rows: Rows, timer: StepTimer) -> LargestSize:
    best = 0
    for size in sizes_up_to(rows.examples):
        if not timer.fits(size):
            return LargestSize(best, "device", f"{size:,} was refused by {current().device()}")
        best = size
    return LargestSize(best, "device", "these are all examples")


def _by_children(model: keras.Model, rows: Rows, limit: int) -> LargestSize:
    """A child that has trained on smaller batches may keep memory of theirs, so that the next one
    begins where it ended.
    """
    found = search_in_child(model, rows, limit)
    while 0 < found.size < rows.examples:
        more = search_in_child(model, rows, limit, first=min(2 * found.size, rows.examples))
        if not more.size:
            break
        found = replace(more, memory={**found.memory, **more.memory})
    return found


def search_in_child(model: keras.Model, rows: Rows, limit: int, first: int = 1) -> LargestSize:
    """Makes a child train in batches that double until it is refused memory or dies.

    Args:
        model: Made anew there from its configuration.
        rows: Whose shapes the child trains on, with zeros.
        limit: Bytes that it may take beside what it has after its start.
        first: The first size. Defaults to 1.
    """
    if not sys.platform.startswith("linux"):
        raise _NoChildError(f"{sys.platform} cannot limit the memory of a process")
    try:
        asked = json.dumps(
            {
                "model": keras.saving.serialize_keras_object(model),
                "rows": [_shapes(part) for part in rows.data],
                "sizes": sizes_up_to(rows.examples, first),
                "limit": limit,
            }
        )
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _NoChildError(f"the model has no configuration: {first_line(error)}") from None
    lines, ended = _run_child(asked)
    if "ready" not in lines:
        raise _NoChildError(f"a child process could not make the model: {ended}")
    fitting = [line.split() for line in lines if line.startswith("fits ")]
    memory = {int(size): int(taken) for _, size, taken in fitting}
    best = max(memory, default=0)
    if best == rows.examples:
        return LargestSize(best, "child", "these are all examples", memory)
    return LargestSize(best, "child", f"a child with {limit / 2**20:,.0f} MiB {ended}", memory)


def _run_child(asked: str) -> tuple[list[str], str]:
    """The lines that a child printed, and its end in words."""
    try:
        done = run_child(_CHILD, asked, current().name, _SECONDS)
    except subprocess.TimeoutExpired as late:
        out = late.stdout or b""
        text = out.decode("utf-8", "replace") if isinstance(out, bytes) else out
        return text.splitlines(), f"took longer than {_SECONDS} seconds"
    lines = done.stdout.splitlines()
    said = [line.removeprefix("refused: ") for line in lines if line.startswith("refused: ")]
    if said:
        return lines, f"was refused more ({said[-1]:.100})"
    return lines, f"ended with {done.returncode}: {last_words(done)}"


def _shapes(part: Any) -> Any:
    """A structure of arrays as JSON: dicts stay, tuples are lists, an array is its shape and dtype
    under `"/"`, which no name of an input can be.
    """
    if part is None:
        return None
    if isinstance(part, dict):
        return {name: _shapes(one) for name, one in part.items()}
    if isinstance(part, list | tuple):
        return [_shapes(one) for one in part]
    return {"/": [list(part.shape[1:]), str(batch_dtype(part.dtype))]}


def _estimate(model: keras.Model, rows: Rows, limit: int, reason: str) -> LargestSize:
    """The size at which what is kept for the gradient would fill the limit."""
    seen: list[int] = []
    with ExitStack() as stack:
        for layer in _keras.leaf_layers(model):
            stack.enter_context(_keras.replaced(layer, "call", _counted(layer.call, seen)))
        x = rows.step_batch(1)[0]
        model(keras.tree.map_structure(keras.ops.convert_to_tensor, x), training=False)
    weights = sum(_bytes(one) for one in find_variables(model).of("weight").values())
    # An output and its gradient.
    each = max(1, 2 * sum(seen))
    room = (limit - weights) / each
    best = min(rows.examples, 2 ** int(math.log2(room))) if room >= 1 else 0
    memory = {size: weights + size * each for size in sizes_up_to(rows.examples)}
    return LargestSize(best, "estimate", reason, memory)


def _counted(call: Any, seen: list[int]) -> Any:
    def counting(*arguments: Any, **named: Any) -> Any:
        outputs = call(*arguments, **named)
        seen.extend(_bytes(one) for one in keras.tree.flatten(outputs) if one is not None)
        return outputs

    return counting


def _bytes(tensor: Any) -> int:
    name = keras.backend.standardize_dtype(tensor.dtype)
    bits = int("".join(filter(str.isdigit, name)) or 8)
    return math.prod(tensor.shape) * bits // 8
