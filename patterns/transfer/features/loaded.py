"""The features of data that give whole batches, and their targets."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_patterns.backends.loaders import gives_examples

from ...data import make_source, one_pass
from .constant import check_constant
from .split import SplitModel


def of_batches(
    caller: str, model: keras.Model, split: SplitModel, x: Any, y: Any, batch_size: int
) -> tuple[np.ndarray, Any]:
    """The features of one pass, and the targets; None where there are none.

    Args:
        caller: The function that was called, for messages.
        model: Is cut.
        split: Its parts.
        x: Gives batches, or examples in columns.
        y: The columns of the targets.
        batch_size: Of examples in columns.

    Raises:
        TypeError: If `x` gives no batches.
        ValueError: If a pass has no end, or gives sample weights.
    """
    features: list[np.ndarray] = []
    targets: list[Any] = []
    columns = {"y": y, "batch_size": batch_size} if gives_examples(x) else {"y": y}
    for batch in one_pass(make_source(x, **columns, shuffle=False, verbose=False)):
        if len(batch) == 3:
            raise ValueError(
                f"{caller}: the data give sample weights, which features have no place for. Give "
                "`(x, y)`, and the weights to kp.fit."
            )
        inputs, *rest = batch
        if not features:
            check_constant(caller, model, split, inputs)
        features.append(split.part.predict_on_batch(inputs))
        targets += rest
    joined = keras.tree.map_structure(_joined, *targets) if targets else None
    return np.concatenate(features), joined


def _joined(*parts: Any) -> np.ndarray:
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
