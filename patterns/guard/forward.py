"""Where in a model a batch first makes something that is not finite."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from .. import _keras
from ..data.rows import on_host
from ..state.preservation import preserved
from ..state.variables import find_variables


def explain(model: keras.Model, batch: tuple[Any, ...], examples: Sequence[int]) -> str:
    """Runs a batch through a model layer by layer, and leaves the model as it was.

    Args:
        model: A built model, in the state before the batch.
        batch: `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
        examples: Which examples it holds, if that is known.

    Returns:
        What is not finite first, as a sentence without its end; empty if all is finite.
    """
    wrong = wrong_in_batch(batch, examples)
    if wrong:
        return wrong
    try:
        with preserved(model):
            return _forward(model, *(*batch, None, None)[:3])
    except Exception as error:
        # A train_step of its own may never call the model as a whole.
        return (
            "what is not finite first is not known, since the model could not be called by itself "
            f"({error})"
        )


def wrong_in_batch(batch: tuple[Any, ...], examples: Sequence[int]) -> str:
    """Says what is not finite in the data of a batch; arguments and result are those of
    `explain`.
    """
    parts = zip(("x", "y", "sample_weight"), batch, strict=False)
    return next(filter(None, (_wrong_in_data(name, part, examples) for name, part in parts)), "")


def broken_rows(batch: tuple[Any, ...]) -> list[int]:
    """The rows of a batch in which any of its data is not finite."""
    return sorted({int(row) for leaf in keras.tree.flatten(batch) for row in _broken(leaf)})


def _broken(leaf: Any) -> np.ndarray:
    array = on_host(leaf)
    if leaf is None or array.dtype.kind not in "fV":
        return np.zeros(0, int)
    return np.flatnonzero(~np.isfinite(array.astype("float64")).reshape(len(array), -1).all(axis=1))


def _wrong_in_data(name: str, data: Any, examples: Sequence[int]) -> str:
    for path, leaf in keras.tree.flatten_with_path(data):
        rows = _broken(leaf)
        if len(rows):
            where = [examples[row] if len(examples) else int(row) for row in rows[:5]]
            what = "example" if len(examples) else "row of the batch"
            more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            return (
                f"{'/'.join(map(str, (name, *path)))} is not finite in {what} "
                f"{', '.join(map(str, where))}{more}"
            )
    return ""


def _forward(model: keras.Model, x: Any, y: Any, sample_weight: Any) -> str:
    x, y, sample_weight = (
        keras.tree.map_structure(_as_tensor, part) for part in (x, y, sample_weight)
    )
    found: list[str] = []
    keys = {id(variable): key for key, variable in find_variables(model).variables.items()}
    with ExitStack() as stack:
        for layer in _keras.leaf_layers(model):
            places = {
                keys[id(weight)].rpartition("/")[0]
                for weight in layer.weights
                if id(weight) in keys
            }
            stack.enter_context(
                _listened(layer, _described(layer, min(places, default="")), found.append)
            )
        outputs = model(x, training=True)
    if found:
        return found[0]
    if not _finite(outputs):
        return "the output of the model is not finite, and that of each of its layers is"
    loss = _keras.computed_loss(model, x, y, outputs, sample_weight, training=True)
    return (
        ""
        if _finite(loss)
        else "the outputs of the model are finite, and the loss that is computed of them is not"
    )


@contextmanager
def _listened(layer: keras.Layer, name: str, tell: Callable[[str], Any]) -> Iterator[None]:
    """Within it, a layer tells if what it gives is not finite."""
    call = layer.call

    def listening(*arguments: Any, **more: Any) -> Any:
        # Before the call, which may move statistics.
        weights = ", ".join(weight.name for weight in layer.weights if not _finite(weight.value))
        outputs = call(*arguments, **more)
        if not _finite(outputs):
            sizes = [
                float(np.abs(_as_array(leaf)).max(initial=0))
                for leaf in _tensors((arguments, more))
            ]
            if weights:
                tell(f"{weights} of {name} is not finite before the step")
            elif np.isfinite(sizes).all():
                largest = max(sizes, default=0.0)
                tell(
                    f"the output of {name}, in {layer.compute_dtype}, is not finite; its input is, "
                    f"at most {largest:.3g}"
                )
            else:
                # What comes in has been converted already.
                tell(
                    f"the input of {name} is not finite, and no layer made it so: it is too large "
                    f"for {layer.compute_dtype}"
                )
        return outputs

    with _keras.replaced(layer, "call", listening):
        yield


def _described(layer: keras.Layer, place: str) -> str:
    """A layer in words that are the same in every process: automatic names count how many were made
    before.
    """
    kind = type(layer).__name__
    named = re.sub(r"_\d+$", "", layer.name) not in _keras.automatic_names([layer])
    text = f"the layer {layer.name!r} ({kind})" if named else f"a layer {kind}"
    return f"{text} at {place}" if place else text


def _as_tensor(leaf: Any) -> Any:
    return None if leaf is None else keras.ops.convert_to_tensor(leaf)


def _tensors(data: Any) -> list[Any]:
    return [
        leaf
        for leaf in keras.tree.flatten(data)
        if keras.ops.is_tensor(leaf) and "float" in _dtype(leaf)
    ]


def _dtype(leaf: Any) -> str:
    return str(keras.backend.standardize_dtype(leaf.dtype))


def _as_array(leaf: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(leaf, "float32")))


def _finite(data: Any) -> bool:
    try:
        return all(np.isfinite(_as_array(leaf)).all() for leaf in _tensors(data))
    except Exception:
        # Inside a loop that a framework traces there are no values yet; the layer around it has
        # them.
        return True
