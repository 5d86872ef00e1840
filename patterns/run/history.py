"""`kp.RunHistory`: a History that also knows what happened inside epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from .._util.warn import warn
from .history_state import KEPT, RENAMED, checked_history

if TYPE_CHECKING:
    import pandas


class RunHistory(keras.callbacks.History):
    """The return value of `kp.fit`: Keras's `History`, across kills.

    Attributes:
        history: As in Keras: a list for each metric, with a value for each epoch.
        epoch: As in Keras: the epochs, from 0.
        step_logs: The running metrics inside epochs (`log_every_steps=`), a dict each, with its
            `"step"`.
        validations: The metrics of all validations, a dict each, with its `"step"`.
        epoch_end_steps: Optimizer steps done at the end of each epoch.
        learning_rates: The learning rate at the end of each epoch; None where there is no one rate.
        momentums: The momentum there; None where it has no schedule.
        events: Changes of the course (`"stopped"`, `"rolled back"`, `"thawed"`), dicts of `"kind"`,
            `"step"` and `"text"`.
        resumes: The steps at which other processes went on with the run.
        ways: The way in which this process ran its steps, where `kp.fit(fuse=)` let it choose:
            dicts of `"step"`, the first one, of `"way"`, `"one by one"` or `"in blocks"`, and of
            `"why"`. All ways give the same bits, so checkpoints do not hold them.

    Example:

    >>> import keras, numpy as np, keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x = np.ones((64, 4))
    >>> history = kp.fit(model, x, x[:, 0], total_steps=4, epochs=2, seed=0, verbose=0,
    ...     log_every_steps=1)
    >>> [row["step"] for row in history.step_logs], history.epoch_end_steps
    ([1, 3], [2, 4])
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.step_logs: list[dict[str, Any]] = []
        self.validations: list[dict[str, Any]] = []
        self.epoch_end_steps: list[int] = []
        self.learning_rates: list[float | None] = []
        self.momentums: list[float | None] = []
        self.events: list[dict[str, Any]] = []
        self.resumes: list[int] = []
        self.ways: list[dict[str, Any]] = []

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each epoch: its `epoch`, `step`, `learning_rate` and metrics; a
        metric that an epoch lacks is missing there.

        Raises:
            ModuleNotFoundError: If pandas is not installed.
        """
        import pandas

        columns = {
            "epoch": self.epoch,
            "step": self.epoch_end_steps,
            "learning_rate": self.learning_rates,
        }
        table = pandas.DataFrame(columns)
        by_step = pandas.DataFrame(self.validations).set_index("step") if self.validations else None
        for name, values in self.history.items():
            if len(values) == len(table):
                table[name] = values
            elif by_step is not None and name in by_step:
                table[name] = by_step[name].reindex(table["step"]).to_numpy()
        return table

    def last_logs(self) -> dict[str, Any]:
        """The metrics of the newest epoch; those of a validation only where it had one."""
        rows = self.validations[-1:] if self.epoch_end_steps else []
        validated = {
            name for row in rows if row["step"] == self.epoch_end_steps[-1] for name in row
        }
        return {
            name: values[-1]
            for name, values in self.history.items()
            if values and (len(values) == len(self.epoch) or name in validated)
        }

    def get_state(self) -> dict[str, Any]:
        """All of it, but for the steps at which processes went on."""
        return {name: getattr(self, name) for name in ("history", "epoch", *KEPT)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` gave, now or in release 0.1."""
        self.momentums = []
        for name, value in checked_history(state).items():
            setattr(self, name, value)
        # Those of the epochs that a checkpoint without momentums has.
        unknown = len(self.epoch_end_steps) - len(self.momentums)
        self.momentums = [*[None] * unknown, *self.momentums]


def _renamed(old: str, new: str) -> property:
    def get(history: RunHistory) -> Any:
        warn(
            f"history.{old} is called history.{new} now, and goes in release 0.3.",
            DeprecationWarning,
        )
        return getattr(history, new)

    return property(get, doc=f"The old name of `{new}`.")


for _old, _new in RENAMED.items():
    setattr(RunHistory, _old, _renamed(_old, _new))


def add_event(history: keras.callbacks.History, kind: str, step: int, text: str) -> None:
    """Notes an event.

    Args:
        history: Of the run, be it of `kp.fit` or of plain `model.fit`.
        kind: In a word or two, such as `"stopped"`.
        step: Steps done then.
        text: For people: the change, and its reason.
    """
    if not hasattr(history, "events"):
        history.events = []
    history.events.append({"kind": kind, "step": step, "text": text})


def as_numbers(logs: dict[str, Any]) -> dict[str, Any]:
    """Metrics as plain numbers, or nested lists of them."""
    return {name: keras.ops.convert_to_numpy(value).tolist() for name, value in logs.items()}
