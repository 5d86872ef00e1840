"""`kp.tune`: a search by Optuna, in which every trial is a run that goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

from .._util.arguments import check_choice, check_number, whole_number
from .actors import check_actors, run_actors
from .live import live_trials
from .opening import SearchArguments, open_search
from .result import TuneResult
from .search import NewTrials, until
from .trial import Trial
from .workers import check_workers, run_workers

_CALLER = "kp.tune"


def tune(
    objective: Callable[[Trial], float | None],
    directory: str | os.PathLike[str],
    *,
    storage: Any = None,
    n_trials: int | None = None,
    timeout: float | None = None,
    sampler: Any = None,
    pruner: Any = None,
    direction: Literal["minimize", "maximize"] = "minimize",
    monitor: str = "val_loss",
    seed: int | None = None,
    workers: int = 1,
    engine: Literal["ray"] | None = None,
    resources_per_worker: Mapping[str, float] | None = None,
    catch: type[Exception] | tuple[type[Exception], ...] = (),
    verbose: int | str = "auto",
) -> TuneResult:
    """Searches for the best parameters with Optuna, so that no trial is lost or begun again.

    The same script, started again after a kill, goes on: trials that were in progress go on from
    their checkpoints, and new ones begin until there are `n_trials` in all. Started again after the
    end, it has nothing to train. Several scripts may work on one folder at the same time.

    Each choice of the sampler is seeded by the seed, the trial's number and the parameter, so that
    it does not matter which process makes it, or after how many kills.

    Args:
        objective: Takes a `kp.Trial`, asks it for parameters, trains by `trial.fit`, and returns
            the value of the trial, or None for the best value of `monitor`.
        directory: The folder of the search, with a folder for each trial. Made if it does not
            exist.
        storage: Where Optuna keeps the study: a URL, such as `"sqlite:///study.db"`, or an Optuna
            storage. Defaults to None: a journal in the folder.
        n_trials: How many trials the study is to have in all, those of earlier starts included.
            Defaults to None: as many as there is time for.
        timeout: Seconds after which this call begins no other trial. Defaults to None.
        sampler: An Optuna sampler, or a function of `seed=` that makes one, such as its class.
            Defaults to None: `optuna.samplers.TPESampler`.
        pruner: An Optuna pruner. Defaults to None: no trial is pruned.
        direction: `"minimize"` or `"maximize"`. Defaults to `"minimize"`.
        monitor: The metric that trials report, with the step. Defaults to `"val_loss"`.
        seed: Of the sampler, and of the trials' weights and data. Defaults to None: the one that
            the study has; in a new one that of `keras.utils.set_random_seed`, or a drawn one.
        workers: How many processes. The objective must be importable then. Defaults to 1: this one.
        engine: `"ray"` has actors of Ray (the extra `ray`) as workers, on all machines of the
            cluster that this process is connected to; of the one that `RAY_ADDRESS` or `ray start`
            names; or else of a new one on this machine, which ends with the search. The folder must
            be on storage that these machines share. Defaults to None: processes.
        resources_per_worker: What Ray gives each worker, such as `{"CPU": 4, "GPU": 1}`. Defaults
            to None: one CPU, and no GPU.
        catch: Errors of the objective after which the search goes on. Their trials fail, as in
            `optuna.Study.optimize`. Defaults to none: an error fails its trial and ends the search.
        verbose: Defaults to `"auto"`: a table of the trials on a terminal and in a notebook, of
            other workers' too; in a file, a line where a trial begins and ends. 2 writes these
            lines anywhere; 0 is silent.

    Returns:
        The `TuneResult`: `.best`, `.table()`, `.plot()`, and the `.study` of Optuna's.

    Raises:
        kp.TuningError: If the folder or the storage is that of another search, or cannot be
            reached. Every trial is kept.
        kp.RunInterrupted: If a signal asked a trial to stop; its state is saved.
        ImportError: If Optuna is missing, or the engine.
        TypeError: If an argument is of the wrong type.
        ValueError: If one is out of range, the sampler cannot be seeded, or workers cannot import
            the objective.

    Example:

    >>> import tempfile, keras, numpy as np, keras_patterns as kp
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> def objective(trial):
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    ...     rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    ...     model.compile(keras.optimizers.SGD(rate), "mse")
    ...     trial.fit(model, x, x[:, 0], validation_split=0.5, epochs=3, verbose=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = kp.tune(objective, folder, n_trials=3, seed=0, verbose=0)
    ...     len(result.trials), result.best.store.steps()
    (3, [2, 3])

    References:
        T. Akiba, S. Sano, T. Yanase, T. Ohta, M. Koyama, "Optuna: A Next-generation Hyperparameter
            Optimization Framework", KDD 2019, arXiv:1907.10902.
        V. Lakshmanan, S. Robinson, M. Munn, "Machine Learning Design Patterns", O'Reilly 2020,
            chapter 4, "Hyperparameter Tuning".
    """
    if n_trials is None and timeout is None:
        raise ValueError(
            f"{_CALLER}: say n_trials=, timeout= or both; without them the search has no end."
        )
    if n_trials is not None:
        whole_number(_CALLER, "n_trials", n_trials)
    if timeout is not None:
        check_number(_CALLER, "timeout", timeout, above=0.0)
    asked = SearchArguments(
        _CALLER,
        objective,
        directory,
        NewTrials(n_trials),
        storage,
        sampler,
        pruner,
        direction,
        monitor,
        seed,
        catch if isinstance(catch, tuple) else (catch,),
        verbose,
    )
    return run_search(asked, workers, engine, resources_per_worker, timeout)


def run_search(
    asked: SearchArguments,
    workers: int = 1,
    engine: str | None = None,
    resources_per_worker: Mapping[str, float] | None = None,
    timeout: float | None = None,
) -> TuneResult:
    """Brings a search to its end; returns what has come of it.

    Args:
        asked: The search.
        workers: As in `tune`, as the rest.
        engine: Starts the workers.
        resources_per_worker: What it gives each.
        timeout: Seconds after which no other trial begins.
    """
    whole_number(asked.caller, "workers", workers)
    if engine is not None:
        check_choice(asked.caller, "engine", engine, ("ray",))
        check_actors(asked, resources_per_worker)
    elif resources_per_worker is not None:
        raise ValueError(
            f'{asked.caller}: resources_per_worker= is for engine="ray"; leave it out.'
        )
    elif workers > 1:
        check_workers(asked)
    search = open_search(asked)
    result = TuneResult(search.study, search.folder.path, asked)
    with live_trials(search, result) as starts_workers:
        if engine is not None:
            run_actors(asked, workers, timeout, resources_per_worker, search)
        elif workers > 1:
            run_workers(asked, workers, timeout, search, starts_workers)
        else:
            search.run(until(timeout))
    return result
