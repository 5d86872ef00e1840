"""Checks of layers that do one thing in training and another in inference."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from .. import _keras
from ..state.preservation import preserved
from .examined import Examined
from .finding import Finding
from .observed import LayerView, as_array, rms


def check_modes(examined: Examined) -> Iterator[Finding]:
    """Layers that do in inference what they should do in training, or the other way round."""
    for view in examined.views:
        layer = view.layer
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        if view.training and (is_norm or _keras.draws(layer)):
            yield Finding(
                "train_mode",
                "warning" if is_norm else "note",
                f"{view.name} runs in training mode in inference too.",
                {},
                "Do not call it with training=True.",
            )
        yield from _not_rescaled(examined, view)
        if is_norm and layer.trainable and not 0 <= layer.momentum < 0.9999:
            yield Finding(
                "train_mode",
                "error",
                f"{view.name} has a momentum of {layer.momentum:g}: the statistics that inference "
                "uses never follow the data.",
                {"momentum": float(layer.momentum)},
                "Use a momentum of 0.9 to 0.99.",
            )
        elif is_norm and layer.trainable:
            yield from _slow_statistics(view, examined.total_steps)


def _not_rescaled(examined: Examined, view: LayerView) -> Iterator[Finding]:
    """A layer of one's own that drops some of its input in training, and makes up for it in neither
    mode: what follows it is given more in inference.
    """
    layer, given = view.layer, view.input
    is_own = not type(layer).__module__.startswith("keras.")
    if not (is_own and _keras.draws(layer) and given is not None) or view.is_weighted:
        return
    if given.shape != view.output.shape or given.dtype.kind != "f":
        return
    scale, unlike = _scale_of_draws(examined.model, layer, given[:64])
    if abs(scale - 1) > 0.1 and unlike < 0.3:
        # What is masked there is to be told from the rest.
        of_inputs = any(np.array_equal(given, x) for x in keras.tree.flatten(examined.batch[0]))
        yield Finding(
            "train_mode",
            "note" if of_inputs else "warning",
            f"What {view.name} gives in training is {scale:.2f} times what it gives in inference, "
            "in the mean over its draws.",
            {"scale": scale},
            "Divide by the share that is kept, in training.",
        )


def _scale_of_draws(
    model: keras.Model, layer: keras.Layer, given: np.ndarray
) -> tuple[float, float]:
    """The factor from what a layer gives in inference to the mean of what it gives in training, and
    how unlike they are but for it.
    """
    try:
        with preserved(model):
            x = keras.ops.convert_to_tensor(given)
            still, *drawn = (
                as_array(layer(x, training=training)) for training in [False] + 32 * [True]
            )
    except Exception:
        # It knows no mode, or wants more than an input.
        return 1.0, 1.0
    mean, size = np.mean(drawn, axis=0), float(np.square(still).sum())
    scale = float((mean * still).sum()) / size if size else 1.0
    return scale, rms(mean - scale * still) / max(rms(mean), 1e-12)


def check_lone(examined: Examined, batch_size: int) -> Iterator[Finding]:
    """A BatchNormalization that sees one value of each unit: less its mean, that is 0."""
    if batch_size > 1:
        return
    for view in examined.views:
        layer = view.layer
        if not isinstance(layer, keras.layers.BatchNormalization) or not layer.trainable:
            continue
        if view.input is not None and view.input[0].size == view.input.shape[layer.axis]:
            yield Finding(
                "train_mode",
                "error",
                f"{view.name} is trained on batches of one: less the mean of its batch, every "
                "value is 0, and training gives the same for all examples.",
                {"batch size": batch_size},
                "Use a batch_size of 8 or more, or LayerNormalization.",
            )


def _slow_statistics(view: LayerView, steps: int | None) -> Iterator[Finding]:
    """Statistics that stay nearer to their start than to the data until training ends."""
    layer = view.layer
    # The share of the start that is left.
    left = layer.momentum**steps if steps else 0.0
    if left < 0.5 or view.input is None or layer.axis not in (-1, view.input.ndim - 1):
        return
    values = view.input.reshape(-1, view.input.shape[-1])
    mean = keras.ops.convert_to_numpy(layer.moving_mean.value)
    off = float((np.abs(values.mean(axis=0) - mean) / (values.std(axis=0) + 1e-6)).max())
    # No value of the data lies where the statistics are.
    if off > 3:
        yield Finding(
            "train_mode",
            "warning",
            f"{view.name} has a momentum of {layer.momentum:g}, and the training {steps} steps: "
            f"{left:.0%} of the statistics that inference uses are still those of the start, "
            f"{off:.3g} standard deviations off the data.",
            {"left": left, "off": off},
            "Use a momentum of 0.5 to 0.9, or train for longer.",
        )


def as_in_training(views: list[LayerView]) -> list[LayerView]:
    """The layers before the first BatchNormalization that has not seen the data yet: in inference
    it gives what training never does.
    """
    for number, view in enumerate(views):
        layer = view.layer
        is_norm = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        if not is_norm or view.input is None or layer.axis not in (-1, view.input.ndim - 1):
            continue
        mean, variance = (
            keras.ops.convert_to_numpy(one.value)
            for one in (layer.moving_mean, layer.moving_variance)
        )
        if rms((view.input - mean) / np.sqrt(variance + layer.epsilon)) > 10:
            return views[:number]
    return views
