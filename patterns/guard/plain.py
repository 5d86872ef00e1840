"""The guard in plain `model.fit`, which cannot go back in the data: from epoch to epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .._util.messages import say
from ..optimizers.rates import ScaledRates
from ..state.history import add_event
from ..state.snapshot import copy_values, put_back
from ..state.variables import find_variables
from .finding import Finding, NonFiniteError
from .watch import Variables

if TYPE_CHECKING:
    from .callback import NonFiniteGuard


class EpochGuard:
    """Keeps the state of the end of the last sound epoch on the host, and puts it back after one
    that is not.

    Args:
        model: In training.
        guard: Whose arguments it follows.
    """

    def __init__(self, model: keras.Model, guard: NonFiniteGuard) -> None:
        self._model, self._guard = model, guard
        self._variables, self._rates = Variables(model), ScaledRates(model)
        self._kept = self._copy()

    def end_epoch(self, epoch: int, step: int, logs: dict[str, Any]) -> None:
        """Looks at what an epoch has left."""
        wrong = self._variables.wrong()
        in_loss = not np.isfinite(np.asarray(logs.get("loss", 0.0), "float64")).all()
        if not wrong and not in_loss:
            self._kept = self._copy()
            return
        guard = self._guard
        name = wrong[0] if wrong else ""
        finding = Finding(
            step,
            -1,
            f"the {'loss' if in_loss else 'weights'} of epoch {epoch + 1} is not finite",
            name,
        )
        if not guard.rollback or len(guard.findings) >= guard.max_rollbacks:
            raise NonFiniteError(f"Training is not finite: {finding}.", [*guard.findings, finding])
        guard.findings.append(finding)
        put_back(find_variables(self._model).of("weight", "optimizer"), self._kept, self._kept)
        if self._rates.scale(guard.rate_factor, guard.rate_factor ** len(guard.findings)):
            self._model.make_train_function(force=True)
        self._kept = self._copy()
        text = (
            f"{finding}. Going on with the state before the epoch, and the rate times "
            f"{guard.rate_factor:g}"
        )
        say(f"{text} (rollback {len(guard.findings)} of {guard.max_rollbacks}).")
        add_event(self._model.history, "rolled back", step, text)

    def _copy(self) -> dict[str, np.ndarray]:
        return copy_values(find_variables(self._model).of("weight", "optimizer"))
