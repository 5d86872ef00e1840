"""The best of the checkpoints of a run, by data that the run need not have seen."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal

import keras

from .. import _keras
from .._util.arguments import Fuse, check_fuse
from .._util.messages import say
from .._util.metrics import Mode, resolve_mode
from .._util.models import check_built
from .._util.step_counter import StepCounter
from ..state import (
    Evaluation,
    find_variables,
    is_seed,
    preserved,
    put_back,
    refresh_derived_state,
)
from ..storage import (
    CheckpointFolder,
    MissingCheckpointError,
    StoreError,
)
from .contents import Record
from .evaluating import CheckpointEvaluation, evaluated, evaluation_on
from .reading import entries_by_step, listed, open_folder
from .rows import CheckpointSelection, SelectionRow, best_row

_CALLER = "select_checkpoint"


@_keras.quiet_arrays()
def select_checkpoint(
    store: CheckpointFolder | str | os.PathLike[str],
    model: keras.Model,
    data: Any,
    metric: str = "loss",
    mode: Literal["auto", "min", "max"] = "auto",
    *,
    batch_size: int | None = None,
    steps: Iterable[int] | None = None,
    fuse: Fuse = False,
    verbose: int | str = "auto",
) -> CheckpointSelection:
    """Evaluates the checkpoints of a run, and loads the weights of the best into the model.

    Train longer than is good, keep checkpoints (`kp.Checkpoint(keep_last=20)`), and choose
    afterwards: what is then the best is known, where early stopping must guess. Choose by data of
    their own: the value of the best one is better than what new data will show, as it was picked
    for it.

    All checkpoints are evaluated from the same seeds, and data that shuffle or draw at random are
    the same for each, and in each call. Only weights are loaded, with what else layers hold, such
    as BatchNorm statistics: the optimizer, the running metrics, seeds and global random states are
    as before. If anything fails, or is interrupted, the model is as before.

    Args:
        store: A `kp.CheckpointStore`, or its folder. The newest run in it counts.
        model: A built and compiled model of the same shape, on any backend.
        data: `(x, y)`, `(x, y, sample_weight)`, a `keras.utils.PyDataset`, or another dataset that
            can be gone through again and again: what `validation_data` of `model.fit` takes.
        metric: A name that `model.evaluate` returns. Defaults to `"loss"`.
        mode: Whether less of it is better, `"min"`, or more, `"max"`. Defaults to `"auto"`, which
            goes by the name.
        batch_size: Of arrays. Defaults to None: Keras's 32.
        steps: Which checkpoints, by their steps. Defaults to None: all that are kept.
        fuse: Whether batches of arrays are evaluated in blocks, each of which is one program of the
            device: `"auto"`, where that pays and a comparison finds no difference in any bit; True,
            where it can be had; False, never. Defaults to False. docs/blocks.md says more.
        verbose: Whether to show progress and the outcome: 0, 1 or `"auto"`, which is 1.

    Returns:
        The table: `.rows`, `.best`, `.best_step`; `print` shows it. A damaged checkpoint is named
        in it and left out. A value that is not finite is never the best; of equal ones the earlier
        checkpoint is.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `evaluate` returns no such metric, the name does not say whether less of it
            is better, no value is finite, the model is not built or compiled, or `fuse` is none of
            its values.
        kp.StoreError: If there is no checkpoint, none of a step, or none that is sound.
        kp.StateMismatchError: If the model is another one.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> import keras_patterns as kp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((64, 4)), np.ones((64, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = kp.fit(model, x, y, epochs=3, seed=0, verbose=0,
    ...         callbacks=[kp.Checkpoint(folder)])
    ...     selection = kp.select_checkpoint(folder, model, (x, y), verbose=0)
    >>> [row.step for row in selection.rows], selection.best_step
    ([2, 4, 6], 6)

    References:
        V. Lakshmanan, S. Robinson, M. Munn, "Machine Learning Design Patterns", O'Reilly 2020,
            chapter 4, "Checkpoints".
    """
    selection, record = evaluate_checkpoints(
        _CALLER, store, model, data, metric, mode, batch_size, steps, fuse, verbose
    )
    put_back(_without_seeds(model), record.values)
    refresh_derived_state(model)
    say(
        f"{model.name!r} has the weights of step {selection.best_step:,}, whose {metric} is "
        f"{selection.best.values[metric]:.5g}.",
        verbose=verbose,
    )
    return selection


@_keras.quiet_arrays()
def evaluate_checkpoints(
    caller: str,
    store: CheckpointFolder | str | os.PathLike[str],
    model: keras.Model,
    data: Any,
    metric: str,
    mode: str,
    batch_size: int | None,
    steps: Iterable[int] | None,
    fuse: Fuse,
    verbose: int | str,
) -> tuple[CheckpointSelection, Record]:
    """The table of a selection, and the content of its best checkpoint; the model is as before.

    Args:
        caller: The function that was called, for messages.
        store, model, data, metric, mode, batch_size, steps, fuse, verbose: As in
            `select_checkpoint`.
    """
    better = resolve_mode(caller, metric, mode)
    check_fuse(caller, fuse)
    check_built(caller, model, compiled=True)
    evaluation = evaluation_on(caller, data, batch_size)
    store = open_folder(store)
    wanted = listed(caller, steps)
    return store.again(
        lambda: _ranking(caller, store, wanted, model, evaluation, metric, better, fuse, verbose)
    )


def _ranking(
    caller: str,
    store: CheckpointFolder,
    steps: list[int] | None,
    model: keras.Model,
    evaluation: Evaluation,
    metric: str,
    better: Mode,
    fuse: Fuse,
    verbose: int | str,
) -> tuple[CheckpointSelection, Record]:
    entries = entries_by_step(caller, store, steps)
    rows: list[SelectionRow] = []
    chosen: Record | None = None
    counter = StepCounter(len(entries), 0 if verbose == 0 else "auto")
    evaluate = CheckpointEvaluation(evaluation, fuse, len(entries))
    with preserved(model), counter:
        evaluation.build(model)
        for row, record in evaluated(store, entries, model, evaluate):
            if record and metric not in row.values:
                raise ValueError(
                    f"{caller}: evaluate returns no {metric!r}, but "
                    f"{', '.join(map(repr, row.values))}. Name one of these."
                )
            rows.append(row)
            if record and best_row(rows, metric, better) is row:
                chosen = record
            value = row.values.get(metric, float("nan"))
            counter.update(len(rows), {"step": row.step, metric: value})
    if not rows:
        raise MissingCheckpointError(next(iter(entries.values()))[0].folder)
    best = best_row(rows, metric, better)
    if best is None or chosen is None:
        raise _without_best(caller, store, rows, metric)
    evaluate.say_ways(verbose)
    return CheckpointSelection(metric, better, tuple(rows), best, tuple(evaluate.ways)), chosen


def _without_seeds(model: keras.Model) -> dict[str, keras.Variable]:
    return {
        key: variable
        for key, variable in find_variables(model).of("weight").items()
        if not is_seed(variable)
    }


def _without_best(
    caller: str, store: CheckpointFolder, rows: list[SelectionRow], metric: str
) -> Exception:
    problems = [row.problem for row in rows if row.problem]
    if len(problems) == len(rows):
        lines = "".join(f"\n  {problem}" for problem in problems)
        return StoreError(
            store.label, f"none of its checkpoints is sound:{lines}\nThe model is as before", ""
        )
    return ValueError(
        f"{caller}: {metric!r} is finite at none of the steps "
        f"{[row.step for row in rows if row.values]}. The model is as before. "
        "Look at the data for NaN and infinity, or at an earlier run."
    )
