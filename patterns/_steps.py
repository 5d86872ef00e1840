"""Steps in tensors."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def whole_steps(step: Any) -> Any:
    """The step as a tensor of whole numbers."""
    step = ops.convert_to_tensor(step)
    return step if keras.backend.standardize_dtype(step.dtype) in ("int32", "int64") else ops.cast(step, "int32")
