"""One worker of a search: it takes trials, and brings each to its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar, Protocol

from keras_patterns.backends import current

from .. import _keras
from .._util.messages import first_line, say
from .._util.text import short
from ..checkpoint.identity import ResumeRefusedError
from ..data.streams import stream_words
from ..state.randomness import get_random_state, set_random_state
from ..state.snapshot import StateMismatchError
from ..storage import StoreError, StoreInUseError
from .errors import TuningError, storage_errors
from .folder import StudyFolder, copy_runs
from .trial import ERROR, PART, TAKEN_OVER, Part, Trial

# The purpose of the words of a seed.
_SEED = 0x747269
STOPPED = "keras_patterns:stopped"
# Between two looks for a trial where others have all that there are.
_WAIT_SECONDS = 0.25
# They say that the script or the disk is not as it was, and nothing of the trial.
_MISFITS = (ResumeRefusedError, StateMismatchError)
_KEEPS = (TuningError, StoreError, *_MISFITS)


def seed_of(seed: int, number: int) -> int:
    """The seed of a trial: a whole number below 2**32."""
    return int(stream_words(seed, _SEED, number)[0])


@dataclass(frozen=True)
class Wanted:
    """A trial that is to begin.

    Attributes:
        params: Its parameters; None leaves them to the sampler.
        parent: See `Part`, as the rest.
    """

    params: Mapping[str, Any] | None = None
    parent: int | None = None
    until: int | None = None
    extends: bool = False
    total_steps: int | None = None
    group: Mapping[str, int] = field(default_factory=dict)


class Strategy(Protocol):
    """Says what is tried, and for how long, from the trials so far.

    Attributes:
        waits: Whether a worker that finds no trial waits for those of others, by which there may
            be more.
    """

    waits: ClassVar[bool]

    @property
    def count(self) -> int | None:
        """The most trials that there are to be in all; None if nobody knows."""

    def next(self, trials: Sequence[Any], seed: int) -> Wanted | None:
        """The next trial, or None if there is none, or none before others have ended.

        Args:
            trials: Those of the study that have started, by number, as Optuna's `FrozenTrial`.
            seed: Of the search.
        """


@dataclass(frozen=True)
class NewTrials:
    """So many trials, of which the sampler says the parameters; None for as many as there is time
    for.
    """

    n_trials: int | None
    waits: ClassVar[bool] = False

    @property
    def count(self) -> int | None:
        """As many as there are to be."""
        return self.n_trials

    def next(self, trials: Sequence[Any], seed: int) -> Wanted | None:
        """One more, if there are fewer. Those that go on with another one are no new ones."""
        new = [one for one in trials if one.user_attrs.get(PART, {}).get("parent") is None]
        limits = [self.n_trials, _points_of_grid(new)]
        return None if any(one is not None and len(new) >= one for one in limits) else Wanted()


def _points_of_grid(trials: Sequence[Any]) -> int | None:
    """The number of points, where the sampler goes through a grid: it would begin again with
    points that other workers have under way.
    """
    spaces = [one.system_attrs["search_space"] for one in trials if "grid_id" in one.system_attrs]
    return math.prod(len(values) for values in spaces[0].values()) if spaces else None


def part_of(trial: Any) -> Part:
    """The part that one of Optuna's trials has in its search."""
    return Part(**trial.user_attrs[PART])


class Search:
    """A worker.

    Args:
        caller: The public function, for messages.
        folder: Of the search.
        study: Optuna's.
        objective: Of the search.
        strategy: Says which trials there are.
        seed: Of the search.
        monitor: The metric that is reported.
        prunes: Whether there is a pruner.
        catch: Errors of the objective that end the trial and not the search.
        verbose: 0 is silent.

    Attributes:
        strategy: As given, as the rest.
    """

    def __init__(
        self,
        caller: str,
        folder: StudyFolder,
        study: Any,
        objective: Callable[[Trial], float | None],
        strategy: Strategy,
        seed: int,
        monitor: str,
        prunes: bool,
        catch: tuple[type[Exception], ...] = (),
        verbose: int | str = "auto",
    ) -> None:
        self.folder, self.study = folder, study
        self._caller, self._objective, self.strategy = caller, objective, strategy
        self.seed, self.monitor, self._prunes = seed, monitor, prunes
        self._catch, self.verbose = catch, verbose
        # A sampler that has been through its whole space asks for it, and an objective may.
        study.stop = partial(study.set_user_attr, STOPPED, True)

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Takes trials as long as there are any, or may be when others have ended theirs.

        Args:
            goes_on: Whether another one is to be taken. Defaults to always.
        """
        while goes_on():
            with ExitStack() as held:
                trial = self._take(held)
                if trial is not None:
                    self._evaluate(trial)
                    continue
            if not (self.strategy.waits and self.has_more()):
                return
            time.sleep(_WAIT_SECONDS)

    def has_more(self) -> bool:
        """True if there is a trial to begin, or one that has not ended."""
        trials = self.study.get_trials(deepcopy=False)
        started = [one for one in trials if one.state.name != "WAITING"]
        is_open = any(not one.state.is_finished() for one in started)
        is_stopped = bool(self.study.user_attrs.get(STOPPED))
        return is_open or (not is_stopped and self.strategy.next(started, self.seed) is not None)

    def _take(self, held: ExitStack) -> Any:
        """A trial that nobody else has: one that was left, or a new one; None if there is none."""
        from optuna.trial import TrialState

        with self.folder.lock(), storage_errors("hand out a trial"):
            trials = self.study.get_trials(deepcopy=False)
            for one in trials:
                if one.state == TrialState.RUNNING and self._hold(one.number, held):
                    if self._state(one.number) == TrialState.RUNNING:
                        return self._taken_over(one, trials)
                    held.close()
            started = [one for one in trials if one.state != TrialState.WAITING]
            wanted = self.strategy.next(started, self.seed)
            if wanted is None or self.study.user_attrs.get(STOPPED):
                return None
            if wanted.params is not None and len(started) == len(trials):
                self.study.enqueue_trial(
                    dict(wanted.params), user_attrs={PART: self._part(wanted, trials, len(trials))}
                )
            trial = self.study.ask()
            if not self._hold(trial.number, held):
                raise TuningError(
                    f"{self._caller}: trial {trial.number} has just started, and another process "
                    f"has its folder, {self.folder.trial(trial.number)}. End that process, and "
                    "start the script again."
                )
            if PART not in trial.user_attrs:
                trial.set_user_attr(PART, self._part(wanted, trials, trial.number))
            return trial

    def _taken_over(self, frozen: Any, trials: Sequence[Any]) -> Any:
        """A trial that another process has left in its middle."""
        import optuna

        # Optuna has no public way to go on with one.
        trial = optuna.Trial(self.study, frozen._trial_id)
        if PART not in trial.user_attrs:
            # Killed before it had one. What it is to be follows from the trials before it.
            before = [one for one in trials if one.number < frozen.number]
            trial.set_user_attr(
                PART,
                self._part(
                    self.strategy.next(before, self.seed) or Wanted(), trials, frozen.number
                ),
            )
        times = trial.user_attrs.get(TAKEN_OVER, 0) + 1
        trial.set_user_attr(TAKEN_OVER, times)
        return trial

    def _hold(self, number: int, held: ExitStack) -> bool:
        try:
            held.enter_context(self.folder.lock_trial(number))
        except StoreInUseError:
            return False
        return True

    def _state(self, number: int) -> Any:
        return self.study.get_trials(deepcopy=False)[number].state

    def _part(self, wanted: Wanted, trials: Sequence[Any], number: int) -> dict[str, Any]:
        """The part of a trial in the search, as JSON."""
        parent = wanted.parent
        # What goes on with the checkpoints of another trial has its data, in its order.
        seed = seed_of(self.seed, number) if parent is None else part_of(trials[parent]).seed
        return asdict(
            Part(
                seed,
                parent,
                wanted.until,
                wanted.extends,
                wanted.total_steps,
                dict(wanted.group),
            )
        )

    def _evaluate(self, asked: Any) -> None:
        from optuna import TrialPruned
        from optuna.trial import TrialState

        part = part_of(asked)
        self._say(f"trial {asked.number} {_beginning(asked, part)}.")
        folder = self.folder.trial(asked.number)
        if part.parent is not None:
            copy_runs(self.folder.trial(part.parent), folder)
        trial = Trial(
            asked,
            folder,
            part,
            self.monitor,
            self.study.direction.name == "MAXIMIZE",
            self._prunes,
            partial(self.folder.check_trial, self.study.study_name, asked.number, part.seed),
        )
        trial.check()
        try:
            with _random_states(part.seed):
                value = trial.result(self._objective(trial))
        except TrialPruned as error:
            self._tell(trial, None, TrialState.PRUNED, str(error) or "pruned")
        except Exception as error:
            error.add_note(f"in trial {trial.number} of {self.folder.path}")
            if isinstance(error, _KEEPS) and not (
                isinstance(error, _MISFITS) and self._is_changed(trial, part)
            ):
                raise
            self._fail(trial, first_line(error))
            if not isinstance(error, self._catch):
                raise
        else:
            if math.isnan(value):
                self._fail(trial, "its value is NaN")
            elif value == (math.inf if trial.maximizes else -math.inf):
                self._fail(trial, f"its value is {value:g}, better than any that could be")
            else:
                self._tell(trial, value, TrialState.COMPLETE, f"ended with {value:.6g}")

    def _is_changed(self, trial: Trial, part: Part) -> bool:
        """True if a trial goes on from another one with other parameters than that had, which its
        checkpoints may not fit. The parameters of a trial never change, so it can never go on.
        """
        if part.parent is None:
            return False
        parent = self.study.get_trials(deepcopy=False)[part.parent]
        return any(parent.params.get(name) != value for name, value in trial.params.items())

    def _fail(self, trial: Trial, why: str) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr(ERROR, why)
        self._tell(trial, None, TrialState.FAIL, f"failed: {why}")

    def _tell(self, trial: Trial, value: float | None, state: Any, said: str) -> None:
        with storage_errors("take the end of a trial"):
            self.study.tell(trial.optuna, value, state)
            self._say(f"trial {trial.number}{_in_brackets(trial.params)} {said}; {self._best()}")

    def _say(self, text: str) -> None:
        say(text, verbose=self.verbose)

    def _best(self) -> str:
        try:
            best = self.study.best_trial
        except ValueError:
            return "none has a value yet."
        return f"the best is trial {best.number} with {best.value:.6g}."


def _in_brackets(params: Mapping[str, Any]) -> str:
    named = ", ".join(f"{name}={short(value)}" for name, value in params.items())
    return named and f" ({named})"


def _beginning(trial: Any, part: Part) -> str:
    if TAKEN_OVER in trial.user_attrs:
        return "was left in its middle; it goes on"
    return "begins" if part.parent is None else f"goes on from trial {part.parent}"


@contextmanager
def _random_states(seed: int) -> Iterator[None]:
    """Within it, the global random states are those of `set_random_seed`; after it they are as
    before.
    """
    before = get_random_state()
    try:
        with _keras.random_seed_set(seed):
            current().set_seed(seed)
            yield
    finally:
        set_random_state(before)


def until(seconds: float | None) -> Callable[[], bool]:
    """A function that tells whether there is time left, of so many seconds from now on."""
    if seconds is None:
        return lambda: True
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end
