"""The moving statistics of BatchNormalization, computed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import keras
import numpy as np

from .. import _keras
from ..data import BatchSource, check_pass_ends, data_parts, make_source, one_pass
from ..data.stream import BatchStream
from ..state.item_caller import ItemCaller
from ..state.snapshot import copy_values, np_dtype

# Those that `momentum` moves; the last one only with `renorm`.
_STATISTICS = ("moving_mean", "moving_variance", "moving_stddev")


def layers_with_moving_statistics(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The BatchNormalization layers of a model whose statistics move in training, those inside
    other layers included.
    """
    return [
        one
        for one in _keras.all_layers(model)
        if isinstance(one, keras.layers.BatchNormalization) and one.trainable
    ]


def input_batches(caller: str, data: Any, batch_size: int | None) -> Callable[[], Iterator[Any]]:
    """A function that gives the inputs of one pass over the data, in an order drawn anew, as in
    training.

    Raises:
        ValueError: If nobody knows where a pass ends.
    """
    parts = data_parts(f"{caller}: `data`", data)

    def source() -> BatchSource:
        return make_source(*parts, batch_size=batch_size, seeding=ItemCaller, verbose=False)

    if isinstance(parts[0], Iterator):
        raise ValueError(
            f"{caller}: the length of `data` is not known. Give arrays, or a keras.utils.PyDataset "
            "that has one."
        )
    check_pass_ends(source())

    def inputs() -> Iterator[Any]:
        with closing(BatchStream(one_pass(source()), lambda batch: batch[0])) as batches:
            yield from batches

    return inputs


def recomputed_statistics(
    caller: str,
    layers: Sequence[keras.layers.BatchNormalization],
    model: keras.Model,
    inputs: Callable[[], Iterator[Any]],
) -> dict[int, np.ndarray]:
    """The mean over the batches of each batch's statistics, by the `id` of the variable that is to
    hold it.

    What layers hold otherwise, such as seeds, moves as in training.

    Args:
        caller: The function that was called, for the message.
        layers: Of the model.
        model: With its weights.
        inputs: Gives the batches.

    Raises:
        ValueError: If a statistic is not finite.
    """
    with ExitStack() as stack:
        means = [stack.enter_context(_batch_statistics(layer)) for layer in layers]
        for batch in inputs():
            model(keras.tree.map_structure(keras.ops.convert_to_tensor, batch), training=True)
    found: dict[int, np.ndarray] = {}
    for layer, mean in zip(layers, means, strict=True):
        for name, value in mean.items():
            if not np.isfinite(value).all():
                raise ValueError(
                    f"{caller}: {name} of {layer.path!r} is not finite over `data`. Look for NaN "
                    "and infinity there."
                )
            variable = getattr(layer, name)
            found[id(variable)] = value.astype(np_dtype(variable))
    return found


@contextmanager
def _batch_statistics(layer: keras.layers.BatchNormalization) -> Iterator[dict[str, np.ndarray]]:
    """Yields the means, over the calls of a layer made meanwhile, of each batch's statistics."""
    variables = {
        name: getattr(layer, name) for name in _STATISTICS if getattr(layer, name, None) is not None
    }
    means: dict[str, np.ndarray] = {}
    count = 0
    call = layer.call
    own_call = vars(layer).get("call")
    momentum = layer.momentum

    def listening(*arguments: Any, **how: Any) -> Any:
        nonlocal count
        outputs = call(*arguments, **how)
        count += 1
        for name, value in copy_values(variables).items():
            wide = value.astype(np.float64)
            mean = means.setdefault(name, wide)
            mean += (wide - mean) / count
        return outputs

    # Not through Keras, which would track it. Without momentum, the statistics are the batch's own.
    vars(layer)["call"] = listening
    layer.momentum = 0.0
    try:
        yield means
    finally:
        layer.momentum = momentum
        del vars(layer)["call"]
        if own_call is not None:
            vars(layer)["call"] = own_call
