"""Looking for what is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_patterns.backends import current

from ..state.snapshot import VariableRecord, not_finite
from ..state.variables import find_variables


class NewestLoss:
    """The logs of the newest step, left on the device.

    Its loss is the mean since the epoch began: once one is not finite, all later ones of the epoch
    are not, so the newest tells of them all.
    """

    def __init__(self) -> None:
        self._logs: Mapping[str, Any] = {}

    def note(self, logs: Mapping[str, Any]) -> None:
        """Keeps the logs of a step, without looking at them."""
        self._logs = logs

    def is_wrong(self) -> bool:
        """True if the loss is not finite. Waits for the device, and forgets."""
        logs, self._logs = self._logs, {}
        return any(not np.isfinite(loss).all() for loss in losses(logs))


def losses(logs: Mapping[str, Any]) -> list[np.ndarray]:
    """The losses among logs: `loss`, or where a step of one's own gives none, all that are named
    for one, such as `d_loss`.
    """
    names = ["loss"] if "loss" in logs else [name for name in logs if name.endswith("loss")]
    return [np.asarray(keras.ops.convert_to_numpy(logs[name]), "float64") for name in names]


class Variables:
    """The weights and the optimizer's state of a model, less what is not finite from the start (a
    mask, for instance).

    Args:
        model: A built model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._ignored: set[str] = set()
        self.refresh()
        self._ignored = set(self.wrong())

    def refresh(self) -> None:
        """Finds the variables anew, those of the optimizer being others now."""
        self._floats = self._find()
        self._check = current().finite_check(list(self._floats.values()))

    def wrong(self) -> list[str]:
        """The keys of those that are not finite now, in the model's order. Waits for the device."""
        current().sync(self._model)
        return [
            key
            for key, fine in zip(self._floats, self._check(), strict=True)
            if not fine and key not in self._ignored
        ]

    def _find(self) -> dict[str, keras.Variable]:
        found = find_variables(self._model).of("weight", "optimizer")
        order = {id(variable): place for place, variable in enumerate(self._model.variables)}
        ordered = sorted(found.items(), key=lambda item: order.get(id(item[1]), len(order)))
        return {
            key: variable
            for key, variable in ordered
            if "float" in keras.backend.standardize_dtype(variable.dtype)
        }

    def wrong_in(self, records: Mapping[str, VariableRecord]) -> list[str]:
        """The same for values that are on the host."""
        return not_finite(
            {
                key: record.value
                for key, record in records.items()
                if record.role != "metric" and key not in self._ignored
            }
        )
