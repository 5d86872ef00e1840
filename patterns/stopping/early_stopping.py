"""`kp.EarlyStopping`: follows a rule, says why it stopped, and gives the best weights back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .._util.arguments import check_choice, whole_number
from .._util.messages import say
from .._util.metrics import number_in, resolve_mode
from .._util.schema import check_like, checked
from ..run.hooks import Hook
from ..run.requests import Boundary, Request, Stop
from ..storage import Position
from .best_weights import BestWeights, InCheckpoint, InMemory
from .logs import is_missing, warn_of_missing
from .rules import Observation, Rule
from .rules_patience import chosen_rule

Unit = Literal["epochs", "steps"]

# What moves while it runs, with what it is at the start.
_MOVING: dict[str, Any] = {
    "wait": 0,
    "best": None,
    "best_epoch": 0,
    "best_step": 0,
    "stopped_epoch": 0,
    "stopped_step": 0,
    "reason": "",
    "_epoch": 0,
    "_observations": 0,
    "_looked_at": 0,
    "_from_step": 0,
    "_best_at": 0,
}


class EarlyStopping(Hook):
    """Stops when a metric no longer improves, or when another rule says so.

    A drop-in for `keras.callbacks.EarlyStopping`: the same arguments mean the same. Beside it: any
    rule, patience in steps, values that are not finite are never the best, the reason is printed
    and stands in `history.events`, and in `kp.fit` its state survives a kill.

    Args:
        monitor: The metric. Defaults to `"val_loss"`.
        min_delta: By more than how much a value must beat the best to be an improvement. Defaults
            to 0.
        patience: How long to wait for an improvement, in epochs that have the metric, or in
            optimizer steps (see `unit`). Defaults to 0.
        verbose: 0 is silent; 1 says why it stopped and which weights were put back. Defaults to 1.
        mode: `"min"`, `"max"`, or `"auto"`, which goes by the metric's name. Defaults to `"auto"`.
        baseline: Waiting begins anew only at an improvement that beats this as well. Defaults to
            None.
        restore_best_weights: Whether the model has the weights of the best value at the end of
            training, be it stopped or not. Until then a checkpoint holds them, where the run has a
            `kp.Checkpoint`, and otherwise the host's memory; never the device. Defaults to False.
        start_from_epoch: The epochs before this one, counted from 0, are not looked at. Defaults to
            0.
        rule: What to go by in place of `patience`, `min_delta` and `baseline`, such as
            `kp.Patience(5) | kp.GeneralizationLoss(3)`. The best value is then the best by the
            rule: by its `min_delta`, and without one, by any difference. Defaults to None.
        unit: `"epochs"` looks at the ends of epochs and counts those. `"steps"` looks after every
            validation, inside epochs as well (`validate_every_steps=` of `kp.fit`), and counts
            optimizer steps. Strips of Prechelt's rules count looks in both. Defaults to `"epochs"`.

    Attributes:
        wait: Epochs (or steps) since the last improvement.
        best: The best value; None before the first finite one.
        best_epoch: Its epoch, from 0.
        best_step: Optimizer steps done at it.
        stopped_epoch: The epoch in which it stopped, from 0; 0 if it has not.
        stopped_step: Optimizer steps done when it stopped; 0 if it has not.
        reason: Why it stopped, in words; empty if it has not.
        best_weights: Where they are until the run ends.

    Raises:
        ValueError: If an argument is out of range, if both a rule and its arguments are given, or
            if the rule is not defined for the mode. In the run: if the first epoch or validation
            that should have the metric does not.
        TypeError: If an argument is of the wrong type.

    Example:

    >>> import keras, numpy as np
    >>> import keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")
    >>> stopping = kp.EarlyStopping("loss", patience=3)
    >>> x, y = np.ones((32, 4)), np.ones((32, 1))
    >>> history = kp.fit(model, x, y, epochs=9, seed=0, verbose=0,
    ...     callbacks=[stopping])  # doctest: +ELLIPSIS
    keras-patterns: stopped after step 4 (epoch 4): loss: no improvement on ... for 3 epochs.
    >>> history.events[0]["kind"], history.events[0]["step"]
    ('stopped', 4)
    """

    wait: int
    best: float | None
    best_epoch: int
    best_step: int
    stopped_epoch: int
    stopped_step: int
    reason: str
    _looked_at: int

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 1,
        mode: Literal["auto", "min", "max"] = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        *,
        rule: Rule | None = None,
        unit: Unit = "epochs",
    ) -> None:
        super().__init__()
        check_choice("EarlyStopping", "unit", unit, ("epochs", "steps"))
        self.monitor = monitor
        self.mode = resolve_mode("EarlyStopping", monitor, mode)
        self.verbose, self.restore_best_weights, self.unit = verbose, restore_best_weights, unit
        self.start_from_epoch = whole_number(
            "EarlyStopping", "start_from_epoch", start_from_epoch, least=0
        )
        self.min_delta = min_delta
        self.patience = patience
        self.baseline = baseline
        self.rule = chosen_rule(rule, min_delta=min_delta, patience=patience, baseline=baseline)
        self.rule.check(self.mode)
        if self.rule.needs_training and not monitor.startswith("val_"):
            raise ValueError(
                f"EarlyStopping(monitor={monitor!r}): the rule compares a metric of the validation "
                "with that of the training; "
                "monitor one whose name begins with val_."
            )
        self.best_weights: BestWeights = InMemory()
        self._begin()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins anew, as Keras's does."""
        super().on_train_begin(logs)
        assert self.run
        self.best_weights = InCheckpoint(self.run) if self.run.has_checkpoints else InMemory()
        self._begin()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch."""
        super().on_epoch_begin(epoch, logs)
        self._epoch = epoch

    def on_boundary(self, boundary: Boundary) -> list[Request]:
        """Looks at the end of an epoch; with `unit="steps"`, at validations inside it, too."""
        if boundary.epoch is not None:
            self._epoch = boundary.epoch
            # Where it stopped inside the epoch, the epoch ends at once, with the validation that it
            # has seen.
            if self.unit == "steps" and self._looked_at == boundary.step:
                return []
            is_expected = not self._is_of_validation or boundary.validation is not None
            return self._look(boundary.step, boundary.logs, is_expected)
        if boundary.validation is None or self.unit != "steps" or not self._is_of_validation:
            return []
        # The metrics of the training are those of the epoch so far.
        logs = boundary.logs if self.rule.needs_training else boundary.validation
        return self._look(boundary.step, logs, is_expected=True)

    def required_checkpoints(self) -> list[Position]:
        """The checkpoint that holds the best weights, if one does."""
        return self.best_weights.required_checkpoints()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Says why it stopped, and puts the best weights back."""
        super().on_train_end(logs)
        if self.reason:
            self._say(
                f"stopped after {_where(self.stopped_step, self.stopped_epoch)}: {self.monitor}: "
                f"{self.reason}"
            )
        if not self.restore_best_weights:
            return
        if self.best is None:
            self._say(f"no finite {self.monitor} was seen; the weights stay as they are")
            return
        at = _where(self.best_step, self.best_epoch, f", {self.monitor} {self.best:.4g}")
        put_back = self.best_weights.put_back(self.model)
        self._say(
            f"weights of {at} put back"
            if put_back
            else f"the weights of {at} were not kept; the weights stay as they are"
        )

    def get_config(self) -> dict[str, Any]:
        """The settings that the script has given."""
        names = ("monitor", "mode", "restore_best_weights", "start_from_epoch", "unit")
        return {**{name: getattr(self, name) for name in names}, "rule": self.rule.get_config()}

    def get_state(self) -> dict[str, Any]:
        """All that moves, the best weights among it."""
        moving = {name: getattr(self, name) for name in _MOVING}
        return {**moving, "rule": self._state, "of": self._kinds(), **self.best_weights.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` gave; a script that monitors another metric, or has other
        rules, begins those anew.
        """
        metric, rule = self._kinds()
        of_metric, of_rule = checked(state["of"], tuple[str, str], "of")
        if of_metric != metric:
            return
        for name, example in _MOVING.items():
            check_like(state[name], example, name)
            setattr(self, name, state[name])
        self.best_weights.set_state(state)
        if of_rule == rule:
            self.rule.check_state(state["rule"])
            self._state = state["rule"]

    def _begin(self) -> None:
        for name, value in _MOVING.items():
            setattr(self, name, value)
        self._state = self.rule.begin()
        self.best_weights.forget()

    @property
    def _is_of_validation(self) -> bool:
        return self.monitor.startswith("val_")

    def _look(self, step: int, logs: Mapping[str, Any], is_expected: bool) -> list[Request]:
        """Looks at the metrics after `step` steps; returns what it asks the run for."""
        if self._epoch < self.start_from_epoch:
            self._from_step = step
            return []
        is_first, self._looked_at = not self._looked_at, step
        # A run that was stopped, and goes on because the script asks for more.
        self.stopped_epoch = 0
        self.stopped_step = 0
        self.reason = ""
        value = self._value(logs, is_expected, is_first)
        if value is None:
            return []
        self._observations += 1
        at = step - self._from_step if self.unit == "steps" else self._observations
        requests = self._keep_if_best(value, step, at)
        observation = Observation(value, at, self._training_value(logs), self.unit)
        self._state, decision = self.rule.observe(self._state, observation, self.mode)
        self.wait = self._state.get("wait", at - self._best_at)
        if not decision.stop:
            return requests
        self.stopped_epoch = self._epoch
        self.stopped_step = step
        self.reason = decision.reason
        return [*requests, Stop(f"{self.monitor}: {self.reason}")]

    def _value(self, logs: Mapping[str, Any], is_expected: bool, is_first: bool) -> float | None:
        """The monitored metric; None where it is missing, and may be."""
        if self.monitor in logs:
            return number_in(logs, self.monitor, self._caller)
        assert self.run
        if is_expected and not self._observations:
            raise is_missing(self.monitor, self.monitor, logs)
        # A validation that is still to come is no fault.
        if is_first and not (self._observations or self.run.has_validation):
            warn_of_missing(self.monitor, self._epoch, logs)
        return None

    def _training_value(self, logs: Mapping[str, Any]) -> float | None:
        """The metric of the training, where the rule compares it with that of the validation."""
        if not self.rule.needs_training:
            return None
        name = self.monitor.removeprefix("val_")
        if name not in logs:
            raise is_missing(self.monitor, name, logs)
        return number_in(logs, name, self._caller)

    @property
    def _caller(self) -> str:
        return f"EarlyStopping(monitor={self.monitor!r})"

    def _keep_if_best(self, value: float, step: int, at: int) -> list[Request]:
        if not self.rule.improves(value, self.best, self.mode):
            return []
        self.best = value
        self.best_epoch = self._epoch
        self.best_step = step
        self._best_at = at
        return self.best_weights.keep(self.model) if self.restore_best_weights else []

    def _kinds(self) -> list[str]:
        return [f"{self.monitor} {self.mode}", f"{self.unit} {self.rule.kind}"]

    def _say(self, text: str) -> None:
        if self.verbose:
            say(f"{text}.")


def _where(step: int, epoch: int, more: str = "") -> str:
    return f"step {step:,} (epoch {epoch + 1}{more})"
