"""Budgets that reuse work: trials that are promoted, continued, or begun from those of others, with
the state of their optimizers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from .._util.arguments import check_order, check_takes, whole_number
from .errors import TuningError
from .opening import SearchArguments
from .result import TrialResult, TuneResult
from .sampling import random_sampler
from .searching import run_search
from .strategies import Continued, Explore, Population, Rungs, brackets_of, with_parts
from .trial import Trial

Objective: TypeAlias = Callable[[Trial], float | None]


def successive_halving(
    objective: Objective,
    directory: str | os.PathLike[str],
    *,
    n_trials: int,
    min_steps: int,
    max_steps: int,
    factor: int = 2,
    sampler: Any = None,
    direction: Literal["minimize", "maximize"] = "minimize",
    monitor: str = "val_loss",
    storage: Any = None,
    seed: int | None = None,
    workers: int = 1,
    engine: Literal["ray"] | None = None,
    resources_per_worker: Mapping[str, float] | None = None,
    verbose: int | str = "auto",
) -> TuneResult:
    """Trains many trials for a few steps, and the best of them for more, without training any step
    twice.

    All begin with `min_steps`. Of those, one in `factor` goes on to `factor` times as many, with
    its weights, its optimizer and its place in the data; and so on, to `max_steps`. A trial that
    goes on is a new one in the table, with the same parameters (`from` tells which it was). It ends
    equal to one that was trained without a stop. Kills and restarts are as in `kp.tune`.

    Args:
        objective: As in `kp.tune`. It plans for all steps: `trial.fit(model, ...,
            total_steps=trial.total_steps)`. Where the search is to go on, `fit` returns before the
            plan's end.
        directory: As in `kp.tune`.
        n_trials: How many trials begin.
        min_steps: Steps of each of these. The value of a trial is the best that was monitored up to
            there, so it must be validated by then.
        max_steps: Steps of the last ones.
        factor: One in so many goes on. At least 2. Defaults to 2.
        sampler: As in `kp.tune`. Defaults to None: `optuna.samplers.RandomSampler`, as values after
            different numbers of steps would mislead a model of them.
        direction: As in `kp.tune`.
        monitor: As in `kp.tune`.
        storage: As in `kp.tune`.
        seed: As in `kp.tune`.
        workers: As in `kp.tune`. The trials of a rung are shared out; the next rung begins when all
            have ended.
        engine: As in `kp.tune`.
        resources_per_worker: As in `kp.tune`.
        verbose: As in `kp.tune`.

    Returns:
        The `TuneResult`, whose trials have their `"rung"` in `.group`.

    Raises:
        kp.TuningError: As in `kp.tune`; and if the objective plans for fewer steps.
        ValueError: As in `kp.tune`; and if `min_steps` is not below `max_steps`.

    Example:

    >>> import tempfile, keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> def objective(trial):
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    ...     rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    ...     model.compile(keras.optimizers.SGD(rate), "mse")
    ...     trial.fit(model, x, x[:, 0], validation_split=0.5, total_steps=trial.total_steps,
    ...         steps_per_epoch=2, verbose=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = kp.successive_halving(objective, folder, n_trials=2, min_steps=2, max_steps=4,
    ...         seed=0, verbose=0)
    ...     [(trial.group["rung"], trial.step) for trial in result.trials] # doctest: +ELLIPSIS
    keras-patterns: going on from step 2 of 4: ...
    [(0, 2), (0, 2), (1, 4)]

    References:
        K. Jamieson, A. Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
            Optimization", AISTATS 2016, arXiv:1502.07943.
    """
    caller = "kp.successive_halving"
    whole_number(caller, "n_trials", n_trials)
    _check_steps(caller, min_steps, max_steps, factor)
    rungs = Rungs(((n_trials, min_steps),), max_steps, factor, direction == "maximize")
    steps = {"min_steps": min_steps, "max_steps": max_steps, "factor": factor}
    return run_search(
        SearchArguments(
            caller,
            objective,
            directory,
            rungs,
            storage,
            random_sampler if sampler is None else sampler,
            direction=direction,
            monitor=monitor,
            seed=seed,
            verbose=verbose,
            budget={"n_trials": n_trials, **steps},
        ),
        workers,
        engine,
        resources_per_worker,
    )


def hyperband(
    objective: Objective,
    directory: str | os.PathLike[str],
    *,
    min_steps: int,
    max_steps: int,
    factor: int = 3,
    sampler: Any = None,
    direction: Literal["minimize", "maximize"] = "minimize",
    monitor: str = "val_loss",
    storage: Any = None,
    seed: int | None = None,
    workers: int = 1,
    engine: Literal["ray"] | None = None,
    resources_per_worker: Mapping[str, float] | None = None,
    verbose: int | str = "auto",
) -> TuneResult:
    """Successive halvings, from one that begins with many trials of `min_steps` to one of few
    trials that all get `max_steps`, for the case that a few steps tell little.

    Args:
        objective: As in `kp.successive_halving`, as all arguments.
        directory: The folder.
        min_steps: Steps of the shortest trials.
        max_steps: Steps of the longest.
        factor: One in so many goes on. At least 2. Defaults to 3.
        sampler: Defaults to None: `optuna.samplers.RandomSampler`.
        direction: `"minimize"` or `"maximize"`.
        monitor: The metric.
        storage: Of the study.
        seed: Of the search.
        workers: How many processes, or actors.
        engine: `"ray"` has actors of Ray.
        resources_per_worker: What Ray gives each.
        verbose: 0 is silent.

    Returns:
        The `TuneResult`, whose trials have their `"bracket"` and `"rung"` in `.group`.

    Raises:
        kp.TuningError: As in `kp.successive_halving`.
        ValueError: As in `kp.successive_halving`.

    Example:

    >>> from keras_patterns.tuning.strategies import brackets_of
    >>> brackets_of(min_steps=1, max_steps=81, factor=3)
    ((81, 1), (34, 3), (15, 9), (8, 27), (5, 81))

    References:
        L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh, A. Talwalkar, "Hyperband: A Novel
            Bandit-Based Approach to Hyperparameter Optimization", JMLR 18(185), 2018,
            arXiv:1603.06560, algorithm 1.
    """
    caller = "kp.hyperband"
    _check_steps(caller, min_steps, max_steps, factor)
    if min_steps * factor > max_steps:
        raise ValueError(
            f"{caller}: `max_steps` must be at least `min_steps` times `factor`, or there is one "
            f"trial and nothing to choose. Received: {min_steps=}, {max_steps=}, {factor=}."
        )
    brackets = brackets_of(min_steps, max_steps, factor)
    rungs = Rungs(brackets, max_steps, factor, direction == "maximize")
    return run_search(
        SearchArguments(
            caller,
            objective,
            directory,
            rungs,
            storage,
            random_sampler if sampler is None else sampler,
            direction=direction,
            monitor=monitor,
            seed=seed,
            verbose=verbose,
            budget={"min_steps": min_steps, "max_steps": max_steps, "factor": factor},
        ),
        workers,
        engine,
        resources_per_worker,
    )


def population(
    objective: Objective,
    directory: str | os.PathLike[str],
    *,
    size: int,
    total_steps: int,
    exploit_every_steps: int,
    explore: Explore,
    sampler: Any = None,
    direction: Literal["minimize", "maximize"] = "minimize",
    monitor: str = "val_loss",
    storage: Any = None,
    seed: int | None = None,
    workers: int = 1,
    engine: Literal["ray"] | None = None,
    resources_per_worker: Mapping[str, float] | None = None,
    verbose: int | str = "auto",
) -> TuneResult:
    """Trains a population, in which the worst members take over the state of the best and go on
    with other settings (population-based training).

    After every `exploit_every_steps` the worst quarter, by the newest report, take checkpoints of
    members of the best quarter, by hard links, and parameters that `explore` makes of theirs. So a
    parameter follows a schedule over the training. Each part of a member's training is a trial in
    the table.

    Args:
        objective: As in `kp.successive_halving`. Its parameters must be such that a script may
            change when it goes on with a run, as the learning rate and other settings of the
            optimizer; a batch size or an architecture is refused.
        directory: As in `kp.tune`.
        size: Members. At least 2.
        total_steps: Steps of each member.
        exploit_every_steps: Steps between two changes.
        explore: Is given the parameters of the better member and a `np.random.Generator`, and
            returns new ones. They are put into the ranges that the objective asks for.
        sampler: Of the parameters that members begin with. Defaults to None:
            `optuna.samplers.RandomSampler`.
        direction: As in `kp.tune`.
        monitor: As in `kp.tune`.
        storage: As in `kp.tune`.
        seed: As in `kp.tune`; of the changes, too.
        workers: As in `kp.tune`. The members are shared out; between two changes all are waited
            for. Processes must be able to import `explore`, too.
        engine: As in `kp.tune`. Ray sends `explore` to the actors.
        resources_per_worker: As in `kp.tune`.
        verbose: As in `kp.tune`.

    Returns:
        The `TuneResult`, whose trials have their `"generation"` and `"member"` in `.group`.

    Raises:
        kp.TuningError: As in `kp.tune`; and if `explore` returns other parameters than it is given.
        kp.StateMismatchError: If the changed parameters make another model.
        ValueError: If an argument is out of range.

    Example:

    >>> import tempfile, keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> def objective(trial):
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    ...     rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    ...     model.compile(keras.optimizers.SGD(rate), "mse")
    ...     trial.fit(model, x, x[:, 0], validation_split=0.5, total_steps=trial.total_steps,
    ...         steps_per_epoch=2, verbose=0)
    >>> def explore(params, random):
    ...     return {"rate": params["rate"] * random.choice([0.8, 1.25])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = kp.population(objective, folder, size=2, total_steps=4, exploit_every_steps=2,
    ...         explore=explore, seed=0, verbose=0)
    ...     [(*trial.group.values(), trial.step) for trial in result.trials] # doctest: +ELLIPSIS
    keras-patterns: going on from step 2 of 4: ...
    [(0, 0, 2), (0, 1, 2), (1, 0, 4), (1, 1, 4)]

    References:
        M. Jaderberg, V. Dalibard, S. Osindero, W. M. Czarnecki et al., "Population Based Training
            of Neural Networks", 2017, arXiv:1711.09846.
    """
    caller = "kp.population"
    whole_number(caller, "size", size, least=2)
    whole_number(caller, "total_steps", total_steps)
    whole_number(caller, "exploit_every_steps", exploit_every_steps)
    if exploit_every_steps >= total_steps:
        raise ValueError(
            f"{caller}: `exploit_every_steps` must be below `total_steps`, or no member takes over "
            f"the state of another. Received: {exploit_every_steps} and {total_steps}."
        )
    check_takes(caller, "explore", explore, "parameters", "a np.random.Generator")
    members = Population(size, total_steps, exploit_every_steps, explore, direction == "maximize")
    budget = {"size": size, "total_steps": total_steps, "exploit_every_steps": exploit_every_steps}
    return run_search(
        SearchArguments(
            caller,
            objective,
            directory,
            members,
            storage,
            random_sampler if sampler is None else sampler,
            direction=direction,
            monitor=monitor,
            seed=seed,
            verbose=verbose,
            budget=budget,
        ),
        workers,
        engine,
        resources_per_worker,
    )


def continue_trial(result: TuneResult, number: int, total_steps: int) -> TrialResult:
    """Trains a trial that has ended, or was pruned, for more steps, from where it is.

    A new trial of the study goes on with its checkpoints, its parameters and its data, so that it
    ends as a run of so many steps would have. The old one stays as it is. A call that is killed
    goes on when it is made again; after its end it trains nothing.

    Args:
        result: Of the search.
        number: Of the trial.
        total_steps: Optimizer steps that it is to have in all. A plan of fewer is made longer, in
            epochs of the same length.

    Returns:
        The new trial.

    Raises:
        IndexError: If there is no such trial.
        kp.TuningError: If it is still in progress, has done as many steps, or has not one run.
        TypeError: If an argument is of the wrong type.
        ValueError: If `total_steps` is less than 1.

    Example:

    >>> import tempfile, keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> def objective(trial):
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    ...     model.compile(keras.optimizers.SGD(trial.suggest_float("rate", 0.01, 0.1)), "mse")
    ...     trial.fit(model, x, x[:, 0], validation_split=0.5, epochs=3, verbose=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = kp.tune(objective, folder, n_trials=2, seed=0, verbose=0)
    ...     longer = kp.continue_trial(result, result.best.number, total_steps=5)
    ...     longer.step, longer.value < result.trial(longer.parent).value # doctest: +ELLIPSIS
    keras-patterns: going on from step 3 of 5: ...
    (5, True)
    """
    caller = "kp.continue_trial"
    whole_number(caller, "total_steps", total_steps)
    if not isinstance(result, TuneResult):
        raise TypeError(
            f"{caller}: `result` must be what kp.tune or a search of its kind has returned. "
            f"Received: {result!r}."
        )
    trial = result.trial(number)
    if trial.state in ("running", "waiting"):
        raise TuningError(f"{caller}: trial {number} is in progress. Start its search again.")
    if trial.runs != 1:
        raise TuningError(
            f"{caller}: trial {number} has {trial.runs} runs of trial.fit in {trial.directory}, "
            "and only a trial of one can go on."
        )
    strategy = Continued(number, total_steps)
    done = [one for one in with_parts(result.study.trials) if strategy.is_it(one)]
    if not done and trial.step >= total_steps:
        raise TuningError(
            f"{caller}: trial {number} has done {trial.step:,} steps. Ask for more than that; "
            f"received total_steps={total_steps:,}."
        )
    found = run_search(replace(result.asked, strategy=strategy))
    (new,) = [one.number for one in with_parts(found.study.trials) if strategy.is_it(one)]
    return found.trial(new)


def _check_steps(caller: str, min_steps: int, max_steps: int, factor: int) -> None:
    whole_number(caller, "min_steps", min_steps)
    whole_number(caller, "max_steps", max_steps)
    whole_number(caller, "factor", factor, least=2)
    check_order(caller, "min_steps", min_steps, "max_steps", max_steps)
