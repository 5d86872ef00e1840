"""Where the weights of the best step are held until the run ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import keras
import numpy as np

from keras_patterns.backends import current

from .._util.schema import checked
from .._util.warn import warn
from ..run.requests import Request, RunView, Save
from ..state.snapshot import StateMismatchError, np_dtype
from ..storage import Position, StoreError, SystemRefusalError


class BestWeights(Protocol):
    """The place where a callback such as `kp.EarlyStopping` keeps the best weights."""

    def keep(self, model: keras.Model) -> list[Request]:
        """Holds the weights that the model has now, in place of those before.

        Returns:
            What the run is to be asked for.
        """

    def put_back(self, model: keras.Model) -> bool:
        """Gives the model the weights that are held; False where none are."""

    def forget(self) -> None:
        """Lets go of what is held; a run begins."""

    def required_checkpoints(self) -> list[Position]:
        """The checkpoints without which the state is of no use."""

    def get_state(self) -> dict[str, Any]:
        """The values that a checkpoint is to carry. They must not change later."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `get_state`."""


class InMemory:
    """Holds the best weights of a callback such as `kp.EarlyStopping` on the host, as NumPy arrays
    in buffers that are used again; no second model is on the device.
    """

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] | None = None
        self._lent = False

    def keep(self, model: keras.Model) -> list[Request]:
        """Copies the weights off the device."""
        weights = model.weights
        # A checkpoint that is being written in the background may still read the arrays that it was
        # given.
        if self._arrays is None or self._lent:
            self._arrays = [np.empty(weight.shape, np_dtype(weight)) for weight in weights]
            self._lent = False
        current().sync(model)
        current().to_host(weights, self._arrays)
        return []

    def put_back(self, model: keras.Model) -> bool:
        """Copies the weights to the device."""
        if self._arrays is None:
            return False
        weights = model.weights
        wanted = [(tuple(weight.shape), np_dtype(weight)) for weight in weights]
        if wanted != [(array.shape, array.dtype) for array in self._arrays]:
            raise StateMismatchError(
                "The best weights that were kept are not those of this model: their number, "
                "shapes or dtypes differ."
            )
        for weight, array in zip(weights, self._arrays, strict=True):
            weight.assign(array)
        return True

    def forget(self) -> None:
        """Lets go of the arrays."""
        self._arrays = None

    def required_checkpoints(self) -> list[Position]:
        """None."""
        return []

    def get_state(self) -> dict[str, Any]:
        """The arrays, in the order of `model.weights`; None if there are none."""
        self._lent = True
        return {"weights": self._arrays}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes the arrays, which stay the caller's."""
        self._arrays = checked(state.get("weights"), list[np.ndarray] | None, "weights")
        self._lent = True


class InCheckpoint:
    """The best weights in a checkpoint of the run, which stays as long as it is the best: nothing
    is held in memory.

    Args:
        run: A run of `kp.fit` with a `kp.Checkpoint`.
    """

    def __init__(self, run: RunView) -> None:
        self._run = run
        self._position: Position | None = None

    def keep(self, model: keras.Model) -> list[Request]:
        """Asks for a checkpoint here."""
        self._position = self._run.position
        return [Save()]

    def put_back(self, model: keras.Model) -> bool:
        """Reads them from the checkpoint; warns, and leaves the model as it is, if that is
        damaged."""
        if self._position is None:
            return False
        try:
            self._run.restore_weights(self._position)
        except SystemRefusalError:
            # They are there: another start of the script puts them back.
            raise
        except StoreError as error:
            warn(
                f"The best weights cannot be read, and the model keeps those that it has: {error}",
            )
            return False
        return True

    def forget(self) -> None:
        """Lets go of the checkpoint."""
        self._position = None

    def required_checkpoints(self) -> list[Position]:
        """The checkpoint."""
        return [self._position] if self._position else []

    def get_state(self) -> dict[str, Any]:
        """Which checkpoint it is."""
        return {"checkpoint": None if self._position is None else list(self._position)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `get_state`."""
        self._position = Position.in_state(state.get("checkpoint"), self._run.position)
