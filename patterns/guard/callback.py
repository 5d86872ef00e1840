"""`kp.NonFiniteGuard`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .. import _keras
from .._util.arguments import check_number, whole_number
from .._util.messages import say
from .._util.steps import next_multiple
from ..optimizers.rates import ScaledRates
from ..run.history import add_event
from ..run.hooks import Hook
from ..run.requests import Boundary, Requests, Rewind, RunView, Save, Saving
from ..storage import Position
from .finding import NonFiniteFinding, checked_state, not_finite
from .search import Search
from .watch import NewestLoss, losses

_ROLLED_BACK = "rolled back"


class NonFiniteGuard(Hook):
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
        self.rollback = bool(rollback)
        self.skip_batch = bool(skip_batch)
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
        self._restored: dict[str, Any] | None = None

    @property
    def findings(self) -> list[NonFiniteFinding]:
        """The findings of this run, the oldest first."""
        return self._search.findings

    # The state.

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = ("rollback", "rate_factor", "max_rollbacks", "skip_batch", "every_steps")
        return {name: getattr(self, name) for name in names}

    def get_state(self) -> dict[str, Any]:
        """The findings, the step that a replay looks for, and where it would go back to."""
        target = self._search.rollback_target
        return {
            "findings": [finding.as_json() for finding in self.findings],
            "seeks": self._search.replay_until,
            "point": None if target is None else list(target),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes the state of a checkpoint; `on_restore` decides what becomes of it."""
        self._restored = checked_state(state, self.run.position if self.run else None)

    # What the run calls.

    @property
    def needs_checkpoint(self) -> bool:  # type: ignore[override]
        """To go back, it does."""
        return self.rollback

    @property
    def single_steps(self) -> bool:  # type: ignore[override]
        """While it looks for a step, each is run by itself."""
        return self._search.replay_until is not None

    def on_run_start(self, run: RunView) -> Requests:
        """Checks that it could go back, and looks at what there is."""
        search, is_new = self._search, self._rates is None
        if is_new:
            blocker = run.rewind_blocker() if run.can_replay else None
            if self.rollback and blocker:
                raise ValueError(
                    f"NonFiniteGuard(rollback=True): the run could not go back, since {blocker}. "
                    "Mend that, or say rollback=False to end the run with a report."
                )
            search.open(run)
            self._rates = ScaledRates(run.model)
            if self._lowered and self._rates.scale(1.0, self._factor(self._lowered)):
                run.recompile_step()
        self._loss.note({})
        search.last_checked_step = run.step
        if not run.can_replay:
            return Save()
        self._tell_history(run)
        search.start()
        if self.rollback and search.rollback_target is None:
            search.rollback_target = run.origin
            return None if run.origin else Save()
        return None

    def on_step_logs(self, logs: Mapping[str, Any]) -> None:
        """Keeps the loss, unread."""
        self._loss.note(logs)

    def next_boundary(self, step: int) -> int | None:
        """Every `every_steps` steps; each step, while it looks for one."""
        return step + 1 if self.single_steps else int(next_multiple(step, self.every_steps))

    def on_check(self, step: int) -> Rewind | None:
        """Looks, before anything else is done at a boundary."""
        assert self.run
        if not self.run.can_replay:
            return None
        search, in_loss = self._search, self._loss.is_wrong()
        if search.replay_until is not None:
            return search.replay(in_loss)
        if in_loss:
            return search.begin("the loss is not finite")
        if step >= next_multiple(search.last_checked_step, self.every_steps):
            search.last_checked_step = step
            return search.begin_if(search.variables.wrong())
        return None

    def on_boundary(self, boundary: Boundary) -> Requests:
        """At the end of an epoch, sees to it that there is something to go back to."""
        assert self.run
        if not self.run.can_replay:
            return self._look_at_epoch(boundary)
        ends_epoch = boundary.epoch is not None
        return Save() if ends_epoch and self.rollback and not self.run.plans_saves else None

    def on_trainable_changed(self) -> None:
        """Looks at the optimizer's new variables from here on."""
        self._search.variables.refresh()

    def on_save(self, saving: Saving) -> Rewind | None:
        """Lets nothing become a checkpoint that is not finite; goes back to here from now on."""
        found = self._search.begin_if(self._search.variables.wrong_in(saving.variables))
        if found is None and saving.is_planned:
            self._search.rollback_target = saving.position
        return found

    def required_checkpoints(self) -> Iterable[Position]:
        """Where it would go back to."""
        target = self.rewind_target()
        return [target] if target else []

    def rewind_target(self) -> Position | None:
        """Where it would go back to."""
        return self._search.rollback_target if self.rollback else None

    def on_restore(self, rewound: bool) -> None:
        """Going back, it keeps what it knows: rates are those of the checkpoint, made smaller by
        what was found since.
        """
        state, self._restored = self._restored, None
        if not rewound:
            self._take(state)
            return
        assert self.run
        assert self._rates
        self._search.rollback_target = self.run.position
        before = sum(finding.scaled for finding in state["findings"]) if state else 0
        now = self._factor(self._lowered - before)
        if self._rates.scale(now, self._factor(self._lowered)):
            self.run.recompile_step()

    def on_run_end(self) -> None:
        """Leaves the script's schedules as they were: the next call begins with them."""
        if self._rates and self._rates.scale(1.0, 1.0):
            _keras.recompile_step(self.model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets an earlier run."""
        self._reset()
        super().on_train_begin(logs)

    # Odds and ends.

    @property
    def _lowered(self) -> int:
        return sum(finding.scaled for finding in self.findings)

    def _factor(self, times: int) -> float:
        return float(self.rate_factor**times)

    def _take(self, state: Mapping[str, Any] | None) -> None:
        if state is None:
            return
        search = self._search
        search.findings = state["findings"]
        search.replay_until = state["seeks"]
        search.rollback_target = state["point"]

    def _tell_history(self, run: RunView) -> None:
        history = run.history
        history.events = [event for event in history.events if event["kind"] != _ROLLED_BACK]
        for finding in self.findings:
            add_event(history, _ROLLED_BACK, finding.step, str(finding))

    def _look_at_epoch(self, boundary: Boundary) -> Requests:
        """In plain `model.fit`, which cannot go back in its data: from epoch to epoch."""
        assert self.run
        assert boundary.epoch is not None
        wrong = self._search.variables.wrong()
        in_loss = any(not np.isfinite(loss).all() for loss in losses(boundary.logs))
        if not wrong and not in_loss:
            return Save()
        what = "loss" if in_loss else "weights"
        cause = f"the {what} of epoch {boundary.epoch + 1} is not finite"
        finding = NonFiniteFinding(boundary.step, -1, cause, wrong[0] if wrong else "")
        found = [*self.findings, finding]
        if not self.rollback or len(found) > self.max_rollbacks:
            raise not_finite(f"Training is not finite: {finding}.", found)
        self.findings.append(finding)
        text = (
            f"{finding}. Going on with the state before the epoch, and the rate times "
            f"{self.rate_factor:g}"
        )
        say(f"{text} (rollback {len(found)} of {self.max_rollbacks}).")
        add_event(self.run.history, _ROLLED_BACK, boundary.step, text)
        return Rewind(self.run.position)
