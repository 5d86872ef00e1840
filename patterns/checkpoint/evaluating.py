"""Evaluating checkpoints on the same data: batch by batch, or in blocks that are one program."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import keras

from .._util.arguments import Fuse
from .._util.messages import say
from ..data import evaluate_arguments
from ..state import (
    Evaluation,
    copy_values,
    find_variables,
    get_random_state,
    is_seed,
    put_back,
    set_random_state,
)
from ..state.fused_evaluation import BlockTerms, FusedEvaluation
from ..state.programs import own_method, pays
from ..storage import (
    CheckpointFolder,
    Entry,
    MissingCheckpointError,
    StoreError,
    SystemRefusalError,
)
from .contents import Record
from .reading import read_first_sound
from .restore import restore_weights
from .rows import SelectionRow

_ONE_BY_ONE = "one by one"


def evaluation_on(caller: str, data: Any, batch_size: int | None) -> Evaluation:
    """The evaluation of a model on data that each checkpoint gets.

    Args:
        caller: The function that was called, for messages.
        data, batch_size: As in `kp.select_checkpoint`.
    """
    if isinstance(data, Iterator):
        raise TypeError(
            f"{caller}: `data` is a {type(data).__name__}, which gives its batches once, and each "
            "checkpoint needs them. Give arrays, a keras.utils.PyDataset or another dataset that "
            "can be gone through again."
        )
    return Evaluation(evaluate_arguments(f"{caller}: `data`", data), batch_size)


class CheckpointEvaluation:
    """Evaluates a model, into which one checkpoint after the other is loaded.

    The first one is evaluated batch by batch, which compiles that. Where blocks can be had and pay,
    the second one is evaluated both ways, and those after it in blocks if no bit was different.

    Args:
        evaluation: Of the data.
        asked: `fuse` of the caller.
        count: How many checkpoints there are.

    Attributes:
        ways: The ways that were chosen, as dicts: the `"step"` of the checkpoint, the `"way"`, and
            `"why"`.
    """

    def __init__(self, evaluation: Evaluation, asked: Fuse, count: int) -> None:
        self._evaluation = evaluation
        self._asked = asked
        self._left = count
        self._step = 0
        self._is_decided = asked is False
        self._fused: FusedEvaluation | None = None
        self.ways: list[dict[str, Any]] = []

    def __call__(self, model: keras.Model, step: int) -> dict[str, Any]:
        """The metrics by name.

        Args:
            model: With the weights of a checkpoint.
            step: Of the checkpoint.
        """
        self._step = step
        self._left -= 1
        if self._fused is not None:
            silent = keras.callbacks.CallbackList()
            return self._fused(model, lambda _: self._one_by_one(model), silent, silent)
        if self._is_decided:
            return self._one_by_one(model)
        self._is_decided = True
        if own_method(model, "evaluate"):
            # It may take no callbacks.
            self._note(_ONE_BY_ONE, "the model's own evaluate would be called more often")
            return self._one_by_one(model)
        watch = _Stopwatch()
        values = self._one_by_one(model, callbacks=watch)
        self._choose(watch)
        return values

    def say_ways(self, verbose: int | str) -> None:
        """Says where blocks were asked for and cannot be had."""
        for one in self.ways:
            if self._asked is True and one["way"] == _ONE_BY_ONE:
                say(f"checkpoints are evaluated batch by batch: {one['why']}.", verbose=verbose)

    def _choose(self, watch: _Stopwatch) -> None:
        terms = BlockTerms(
            watch.seconds,
            lambda calls: self._asked is True or pays(self._left * calls, watch.seconds),
            gives_up=self._asked == "auto",
            needs_new=False,
            note=self._note,
        )
        self._fused = self._evaluation.in_blocks(terms)
        if self._fused is None:
            self._note(_ONE_BY_ONE, "the data are no arrays")

    def _one_by_one(self, model: keras.Model, **settings: Any) -> dict[str, Any]:
        return self._evaluation(model, number=0, **settings)

    def _note(self, way: str, why: str) -> None:
        self.ways.append({"step": self._step, "way": way, "why": why})


def evaluated(
    store: CheckpointFolder,
    entries: dict[int, list[Entry]],
    model: keras.Model,
    evaluate: CheckpointEvaluation,
) -> Iterator[tuple[SelectionRow, Record | None]]:
    """Evaluates one checkpoint after the other, each from the seeds and random states that there
    were.

    Args:
        store: Of the checkpoints.
        entries: The checkpoints of each step.
        model: Holds what was evaluated last.
        evaluate: Does it.
    """
    seeds = {
        key: variable
        for key, variable in find_variables(model).of("weight").items()
        if is_seed(variable)
    }
    initial_seeds = copy_values(seeds)
    random_state = get_random_state()
    for step, candidates in entries.items():
        try:
            record = read_first_sound(store, candidates)
        except MissingCheckpointError:
            continue
        except SystemRefusalError:
            raise
        except StoreError as error:
            yield SelectionRow(step, problem=str(error)), None
            continue
        restore_weights(model, record)
        put_back(seeds, initial_seeds)
        set_random_state(random_state)
        values = evaluate(model, step)
        yield SelectionRow(step, {name: float(value) for name, value in values.items()}), record
    # Those that the first evaluation has made are not among what is put back.
    model.reset_metrics()


class _Stopwatch(keras.callbacks.CallbackList):
    """Times the batches of an evaluation but the first one, which compiles.

    Attributes:
        seconds: That one takes; 0 if there is no other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._begins: list[float] = []

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._begins.append(time.perf_counter())

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        timed = self._begins[1:]
        if timed:
            self.seconds = (time.perf_counter() - timed[0]) / len(timed)
