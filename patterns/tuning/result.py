"""`TuneResult`: a search, its trials, and what each has left in its folder."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._util.arguments import check_choice, whole_number
from .._util.plots import given_or_new_axes
from .._util.table import format_table, html_table
from .._util.text import short
from ..checkpoint.store import CheckpointStore
from ..run.history import RunHistory
from ..storage.results import SearchFile, TrialRow, as_parameter, numbers, write_result
from .errors import TuningError
from .folder import StudyFolder
from .trial import ERROR, PART

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .opening import SearchArguments

Plot: TypeAlias = Literal["history", "importances", "parallel"]
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class TrialResult:
    """A trial of `kp.tune` and its kin, as it ended or as it stands.

    Attributes:
        number: Of the trial, from 0.
        state: `"complete"`, `"pruned"`, `"failed"`, `"running"` or `"waiting"`.
        value: Its value; of a pruned one the newest report; None if it has none.
        params: Its parameters, by name.
        seed: Of its initial weights and of the order of its data.
        parent: The trial with whose checkpoints it went on; None if it began.
        group: Its place in the search (`"rung"`, `"member"`, ...).
        error: The error that it failed with.
        directory: Its folder.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    seed: int | None
    parent: int | None
    group: dict[str, int]
    error: str | None
    directory: Path

    @property
    def store(self) -> CheckpointStore:
        """The checkpoints of its last run.

        Raises:
            TuningError: If it has saved nothing.
        """
        runs = sorted(self.directory.glob("fit-*"), key=lambda one: int(one.name[4:]))
        if not runs:
            raise TuningError(f"trial {self.number} has saved nothing in {self.directory}.")
        return CheckpointStore(runs[-1])

    @property
    def step(self) -> int:
        """Optimizer steps of its last run that are saved; 0 if there are none."""
        steps = self.store.steps() if self.runs else []
        return steps[-1] if steps else 0

    @property
    def history(self) -> RunHistory:
        """The History of its last run."""
        _, record = self.store.read_record()
        history = RunHistory()
        history.set_state(record.callbacks[RunHistory.__name__])
        history.resumes = list(record.resumed_at)
        return history

    @property
    def runs(self) -> int:
        """The number of runs of `trial.fit` that it has saved."""
        return sum(1 for _ in self.directory.glob("fit-*"))


@dataclass(frozen=True)
class TuneResult:
    """The outcome of `kp.tune` and its kin: the study of a search, its trials, and their runs.

    Attributes:
        study: The `optuna.Study`, with all that Optuna has for one.
        directory: The folder.
        asked: The search as it was asked for.
    """

    study: Any
    directory: Path
    asked: SearchArguments = field(repr=False)

    @property
    def trials(self) -> list[TrialResult]:
        """All trials, by number."""
        return [self.trial_of(one) for one in self.study.get_trials(deepcopy=False)]

    def trial(self, number: int) -> TrialResult:
        """A trial by its number.

        Raises:
            IndexError: If there is none.
            TypeError: If it is no whole number.
            ValueError: If it is negative.
        """
        trials = self.study.get_trials(deepcopy=False)
        number = whole_number("TuneResult.trial", "number", number, least=0)
        if not number < len(trials):
            raise IndexError(f"there is no trial {number}; there are {len(trials)}, from 0.")
        return self.trial_of(trials[number])

    @property
    def best(self) -> TrialResult:
        """The complete trial with the best value.

        Raises:
            TuningError: If none is complete.
        """
        try:
            return self.trial(self.study.best_trial.number)
        except ValueError:
            raise TuningError(f"no trial in {self.directory} is complete yet.") from None

    def table(self) -> str:
        """The trials as text, the best first."""
        header, rows = self._rows()
        return format_table(header, rows)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return html_table(*self._rows())

    def save(self, directory: str | os.PathLike[str] | None = None) -> Path:
        """Writes the trials into a folder as `search.json`, in the place of an older one.
        `keras-patterns report` shows them.

        Args:
            directory: Made if it does not exist. Defaults to None: that of the search.

        Returns:
            The file.

        Raises:
            StoreError: If another file of that name is there, or the system refuses.
        """
        result = SearchFile(
            name=self.study.study_name,
            monitor=self.asked.monitor,
            direction=self.study.direction.name.lower(),
            trials=[
                TrialRow(
                    number=one.number,
                    state=one.state,
                    value=None if one.value is None else numbers([one.value])[0],
                    params={name: as_parameter(value) for name, value in one.params.items()},
                    error=one.error,
                )
                for one in self.trials
            ],
        )
        return write_result(self.directory if directory is None else directory, result)

    def plot(self, kind: Plot = "history", ax: Axes | None = None) -> Axes:
        """Draws the search.

        Args:
            kind: `"history"`, the values by the trials' numbers, with the best so far;
                `"importances"`, the share that each parameter has in the values, and `"parallel"`,
                a line for each trial across its parameters, both as Optuna draws them.
            ax: The axes to draw in, for `"history"`. Defaults to new ones.

        Raises:
            ImportError: If matplotlib is missing.
            ValueError: If the kind is unknown, or takes no axes.
        """
        check_choice("TuneResult.plot", "kind", kind, ("history", "importances", "parallel"))
        if kind == "history":
            return self._plot_history(given_or_new_axes("TuneResult.plot", ax, (7, 4)))
        if ax is not None:
            raise ValueError(
                f"TuneResult.plot: Optuna makes the axes of kind={kind!r}; leave ax= out."
            )
        return self._plot_by_optuna(kind)

    def _plot_history(self, ax: Axes) -> Axes:
        from matplotlib.ticker import MaxNLocator

        values = {
            state: {
                one.number: one.value
                for one in self.trials
                if one.state == state and one.value is not None
            }
            for state in ("complete", "pruned")
        }
        for state, marker, color in (("complete", "o", "#08306b"), ("pruned", "x", "0.5")):
            if shown := values[state]:
                label = f"{state} ({len(shown)})"
                ax.plot([*shown], [*shown.values()], marker, color=color, label=label)
        better = max if self.study.direction.name == "MAXIMIZE" else min
        best = [*itertools.accumulate(values["complete"].values(), better)]
        ax.step([*values["complete"]], best, where="post", color="#d95f02", label="best so far")
        ax.set(xlabel="trial", ylabel="value")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        ax.legend(frameon=False, fontsize=9)
        return ax

    def _plot_by_optuna(self, kind: Plot) -> Axes:
        import warnings

        from optuna.exceptions import ExperimentalWarning
        from optuna.visualization import matplotlib as drawing

        draw = {
            "importances": drawing.plot_param_importances,
            "parallel": drawing.plot_parallel_coordinate,
        }[kind]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return draw(self.study)

    def trial_of(self, frozen: Any) -> TrialResult:
        """The trial that is one of Optuna's."""
        part = frozen.user_attrs.get(PART, {})
        return TrialResult(
            frozen.number,
            STATES.get(frozen.state.name, frozen.state.name.lower()),
            frozen.value if frozen.state.is_finished() else None,
            dict(frozen.params),
            part.get("seed"),
            part.get("parent"),
            dict(part.get("group", {})),
            frozen.user_attrs.get(ERROR),
            StudyFolder(self.asked.caller, self.directory).trial(frozen.number),
        )

    def _rows(self) -> tuple[list[str], list[list[Any]]]:
        sign = -1 if self.study.direction.name == "MAXIMIZE" else 1
        trials = sorted(
            self.trials,
            key=lambda one: (one.value is None, sign * (one.value or 0.0), one.number),
        )
        names = sorted({name for one in trials for name in one.params})
        groups = sorted({name for one in trials for name in one.group})
        goes_on = any(one.parent is not None for one in trials)
        header = [
            "trial",
            *groups,
            *(["from"] if goes_on else []),
            "value",
            "state",
            "steps",
            *names,
        ]
        rows = [
            [
                one.number,
                *(one.group.get(name, "") for name in groups),
                *(["" if one.parent is None else one.parent] if goes_on else []),
                "" if one.value is None else f"{one.value:.6g}",
                one.state,
                one.step,
                *(short(one.params.get(name, "")) for name in names),
            ]
            for one in trials
        ]
        return header, rows
