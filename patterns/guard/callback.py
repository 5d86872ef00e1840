"""`kp.NonFiniteGuard`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .._util.arguments import check_number, whole_number
from .._util.steps import next_multiple
from ..optimizers.rates import ScaledRates
from ..run.hooks import DrivenCallback
from ..state.history import add_event
from ..storage import Position
from .finding import Finding
from .plain import EpochGuard
from .search import Search
from .watch import NewestLoss

_ROLLED_BACK = "rolled back"


class NonFiniteGuard(DrivenCallback):
    """Goes back to the last sound checkpoint when a loss or a weight is not finite, and goes on
    without what did it.

    In `kp.fit` the loss that each step computes anyway stays on the device, and is looked at every
    `every_steps` steps, before each validation, at the end of each epoch and before each
    checkpoint; weights and slots are looked at with it. No checkpoint is ever made of what is not
    finite. When something is, the run goes back, trains again step by step to where it first
    appears, names the step, the batch, the examples in it, the layer and the variable, goes back
    once more, and goes on with a lower rate and without the batch. All of this is a function of the
    steps: a run that is killed meanwhile ends as one that is not.

    In plain `model.fit` it looks at the end of each epoch, and goes back to the end of the last
    sound one, with a lower rate. There, list it before a `kp.Checkpoint`.

    An example that is broken for good would come again in each pass: where the data are arrays,
    every batch that holds one is left out. A callback that sets the rate itself, such as
    `LearningRateScheduler`, has the last word on it. At the end of the run, the script's schedule
    is the optimizer's again; a rate without a schedule stays lowered.

    Under a `LossScaleOptimizer`, gradients that overflow are part of its work: weights and losses
    alone are looked at.

    Args:
        rollback: Whether to go back; needs a `kp.Checkpoint`, and data that can be taken up at any
            step (arrays, or a PyDataset without an `on_epoch_end`). Otherwise training ends with
            `kp.NonFiniteError` at once. Defaults to True.
        rate_factor: By what each rollback multiplies the learning rate, schedules included; above
            0, at most 1. Defaults to 0.5.
        max_rollbacks: After how many rollbacks the next finding ends the run with
            `kp.NonFiniteError`. Defaults to 3.
        skip_batch: Whether to leave out the batch of the step that was found, and later ones with
            the same broken examples; those after them move up. Defaults to True.
        every_steps: How often to look between the other boundaries. Defaults to 500.

    Attributes:
        findings: What was found in this run, the oldest first; each has `.step`, `.batch`,
            `.examples`, `.cause` and `.variable`, and can be printed.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range; at the start of the run, if it could not go back.

    Example:

    >>> import tempfile, keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> y = x.sum(1)
    >>> y[17] = np.nan
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> guard = kp.NonFiniteGuard()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = kp.fit(model, x, y, batch_size=8, epochs=1, seed=0, verbose=0,
    ...         callbacks=[guard, kp.Checkpoint(folder)])
    keras-patterns: ...
    >>> guard.findings[0].cause
    'y is not finite in example 17'

    References:
        A. Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022,
            arXiv:2204.02311, section 5.1: going back
        to before a spike, and skipping its batches.
    """

    only_one = True

    def __init__(
        self,
        rollback: bool = True,
        rate_factor: float = 0.5,
        max_rollbacks: int = 3,
        skip_batch: bool = True,
        every_steps: int = 500,
    ) -> None:
        super().__init__()
        where = "NonFiniteGuard"
        self.rollback, self.skip_batch = bool(rollback), bool(skip_batch)
        self.rate_factor = check_number(
            where, "rate_factor", rate_factor, above=0.0, below=1.0 + 1e-9
        )
        self.max_rollbacks = whole_number(where, "max_rollbacks", max_rollbacks, least=0)
        self.every_steps = whole_number(where, "every_steps", every_steps)
        self._reset()

    def _reset(self) -> None:
        self._search = Search(self.rollback, self.rate_factor, self.max_rollbacks, self.skip_batch)
        self._loss = NewestLoss()
        self._rates: ScaledRates | None = None
        self._plain: EpochGuard | None = None

    @property
    def findings(self) -> list[Finding]:
        """What was found in this run, the oldest first."""
        return self._search.findings

    # The state.

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = ("rollback", "rate_factor", "max_rollbacks", "skip_batch", "every_steps")
        return {name: getattr(self, name) for name in names}

    def get_state(self) -> dict[str, Any]:
        """What was found, whether it is looking for a step, and where it would go back to."""
        point = None if self._search.point is None else list(self._search.point)
        return {
            "findings": [finding.as_json() for finding in self.findings],
            "seeks": self._search.seeks,
            "point": point,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` gave."""
        self._search.findings = [Finding.from_json(fields) for fields in state["findings"]]
        self._search.seeks = state["seeks"]
        self._search.point = None if state["point"] is None else Position(*state["point"])

    # What the driver calls.

    @property
    def needs_checkpoint(self) -> bool:  # type: ignore[override]
        """To go back, it does."""
        return self.rollback

    @property
    def single_steps(self) -> bool:  # type: ignore[override]
        """While it looks for a step, each is run by itself."""
        return self._search.seeks is not None

    def begins(self) -> None:
        """Checks that it could go back, and looks at what there is."""
        assert self.run
        if self._rates is None:
            if self.rollback and self.run.rewinds:
                raise ValueError(
                    "NonFiniteGuard(rollback=True): the run could not go back, since "
                    f"{self.run.rewinds}. Mend that, or say "
                    "rollback=False to end the run with a report."
                )
            self._search.open(self.model, self.run)
            self._search.below_bar = self.params["verbose"] not in (0, 2)
            self._rates = ScaledRates(self.model)
            if self._lowered and self._rates.scale(1.0, self._factor(self._lowered)):
                self.run.recompile()
            if self.rollback and self._search.point is None:
                self._search.point = self.run.origin or self.run.save_now()
        self._loss.note({})
        self._search.looked = self.run.step
        self._tell_history()
        self._search.go_on()

    def note_step(self, step: int, logs: Mapping[str, Any]) -> None:
        """Keeps the loss, unread."""
        self._loss.note(logs)

    def next_boundary(self, step: int) -> float:
        """Every `every_steps` steps; each step, while it looks for one."""
        return step + 1 if self._search.seeks is not None else next_multiple(step, self.every_steps)

    def at_boundary(self) -> None:
        """Looks."""
        assert self.run
        search, in_loss = self._search, self._loss.is_wrong()
        if search.seeks is not None:
            search.seek(in_loss)
        elif in_loss:
            search.begin("the loss is not finite")
        elif self.run.step >= next_multiple(search.looked, self.every_steps):
            search.looked = self.run.step
            search.begin_if(search.variables.wrong())

    def retrained(self) -> None:
        """Looks at the optimizer's new variables from here on."""
        self._search.variables.refresh()

    def check(self, variables: Mapping[str, np.ndarray], roles: Mapping[str, str]) -> None:
        """Lets nothing become a checkpoint that is not finite."""
        self._search.begin_if(self._search.variables.wrong_in(variables, roles))

    def saved(self, position: Position) -> None:
        """From now on it goes back to here."""
        self._search.point = position

    def needs(self) -> Iterable[Position]:
        """Where it would go back to."""
        return [self._search.point] if self._search.point and self.rollback else []

    def rolled_back(self, state: dict[str, Any] | None, position: Position) -> None:
        """What it knows, it keeps; rates are what they were in the checkpoint, and made smaller by
        what was found since.
        """
        self._search.point = position
        assert self.run
        assert self._rates
        before = sum(fields["scaled"] for fields in state["findings"]) if state else 0
        if self._rates.scale(self._factor(self._lowered - before), self._factor(self._lowered)):
            self.run.recompile()

    def ends(self) -> None:
        """Leaves the script's schedules as they were: the next call begins with them."""
        if self._rates and self._rates.scale(1.0, 1.0):
            self.model.train_function = None

    # What Keras calls.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets an earlier run."""
        super().on_train_begin(logs)
        self._reset()
        if self.run is None:
            self._plain = EpochGuard(self.model, self)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks, in plain `model.fit`; in `kp.fit`, sees to it that there is something to go back
        to.
        """
        if self.run is None:
            assert self._plain
            self._plain.end_epoch(epoch, self.step, logs or {})
        elif self.rollback and not self.run.plans_saves:
            self.run.save_here()

    # Odds and ends.

    @property
    def _lowered(self) -> int:
        return sum(finding.scaled for finding in self.findings)

    def _factor(self, times: int) -> float:
        return float(self.rate_factor**times)

    def _tell_history(self) -> None:
        history = self.model.history
        history.events = [event for event in history.events if event["kind"] != _ROLLED_BACK]
        for finding in self.findings:
            add_event(history, _ROLLED_BACK, finding.step, str(finding))
